/*
 * Every system call of a scenario is refused in turn: no crash, NULL with ENOMEM at most, contents kept, the heap valid
 * and usable afterwards.
 */
#include "arenas.h"
#include "cadastre.h"
#include "large.h"
#include "os.h"
#include "tap.h"
#include <errno.h>

#define BLOCKS 300

static unsigned char *blocks[BLOCKS];
static size_t sizes[BLOCKS];
static size_t damaged, wrong_errno, refused;

static size_t size_of(size_t i, size_t round) {
    static const size_t base[] = {24, 500, 1024, 5000, 40000, 65536, 70000, 300000, 5000000};
    return base[(i + round) % 9] + i % 7;
}

static void note_refusal(void) {
    refused++;
    wrong_errno += errno != ENOMEM;
}

static void fill(size_t i) {
    blocks[i][0] = (unsigned char)i;
    blocks[i][sizes[i] - 1] = (unsigned char)i;
}

static void *scenario(void *unused) {
    (void)unused;
    for (size_t i = 0; i < BLOCKS; i++) {
        errno = 0;
        sizes[i] = size_of(i, 0);
        blocks[i] = i % 5 == 0 ? cadastre_aligned_alloc(256, sizes[i]) : cadastre_calloc(1, sizes[i]);
        if (blocks[i] == NULL)
            note_refusal();
        else
            fill(i);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        errno = 0;
        if (blocks[i] == NULL)
            continue;
        size_t size = size_of(i, 3);
        unsigned char *moved = cadastre_realloc(blocks[i], size);
        if (moved == NULL) {
            note_refusal();
            damaged += size < sizes[i]; /* never fails */
        } else {
            damaged += moved[0] != (unsigned char)i;
            blocks[i] = moved;
            sizes[i] = size;
            fill(i);
        }
        damaged += blocks[i][sizes[i] - 1] != (unsigned char)i;
    }
    for (size_t i = 0; i < BLOCKS; i++)
        cadastre_free(blocks[i]);
    arenas_purge_all();
    return NULL;
}

static bool heap_is_valid(void) {
    bool valid = large_is_valid();
    for (unsigned i = 0; i < arenas_count(); i++)
        valid &= arena_is_valid(arenas_at(i));
    return valid;
}

int main(void) {
    size_t invalid = 0, unusable = 0, k = 0, quiet = 0;
    /* Until three runs in a row made fewer calls than it takes to fail. */
    for (; quiet < 3 && k < 5000; k++) {
        refused = 0;
        os_fail_after((long)k);
        scenario(NULL);
        quiet = os_fail_pending() ? quiet + 1 : 0;
        os_fail_after(-1);
        invalid += !heap_is_valid();
        void *after = cadastre_malloc(1000000);
        unusable += after == NULL;
        cadastre_free(after);
    }
    diag("%zu calls refused in turn", k);
    ok(k > 20 && quiet == 3, "every call of the scenario was refused once");
    ok(damaged == 0, "contents are kept, and a smaller realloc never fails");
    ok(wrong_errno == 0, "a refused request says ENOMEM");
    ok(invalid == 0, "the heap is valid after each");
    ok(unusable == 0, "and gives memory again");
    return tap_done();
}
