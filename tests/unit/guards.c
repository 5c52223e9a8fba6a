/*
 * What the library keeps for itself lies between pages that cannot be touched, wherever the kernel puts it among LARGE
 * blocks: zone headers, metadata and the thread caches in it, leaves of the directory, tables of the debugging modes.
 */
#include "arenas.h"
#include "cadastre.h"
#include "history.h"
#include "ledger.h"
#include "metadata.h"
#include "os.h"
#include "quarantine.h"
#include "stacks.h"
#include "tap.h"
#include "tcaches.h"

#include <pthread.h>

#define THREADS 40
#define BLOCKS  60

/* Whether the kernel may write there for us, what stands there already. */
static bool is_writable(uintptr_t address) {
    static int pipes[2] = {-1, -1};
    if (pipes[0] < 0 && pipe(pipes) != 0)
        return true;
    void *byte = (void *)address;
    return write(pipes[1], byte, 1) == 1 && read(pipes[0], byte, 1) == 1;
}

static size_t structures, exposed;

static void look_at(const char *what, uintptr_t start, uintptr_t end) {
    bool before = is_writable(start - 1), behind = end != 0 && is_writable(end);
    structures++;
    if ((before || behind) && exposed++ == 0)
        diag("%s at %zx can be reached %s", what, (size_t)start, before ? "from below" : "from above");
}

/* Small blocks, LARGE ones, and a cache: so that all kinds of mappings come to lie side by side. */
static void *fill(void *barrier) {
    static _Atomic unsigned numbers;
    unsigned number = add_relaxed(&numbers, 1);
    for (unsigned i = 0; i < BLOCKS; i++) {
        cadastre_malloc(66000 + (i + number) % 7 * 8192);
        cadastre_malloc(1 + (i * 997 + number * 31) % SMALL_MAX);
    }
    pthread_barrier_wait(barrier);
    return NULL;
}

static void run_threads(void) {
    pthread_t threads[THREADS];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, fill, &barrier);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static size_t look_at_zones(void) {
    size_t zones = 0;
    for (unsigned i = 0; i < arenas_count(); i++) {
        struct zone_view zone = {0};
        while ((zone = arena_next_zone(arenas_at(i), zone.start + zone.size)).start != 0) {
            look_at("the header of a zone", (uintptr_t)zone_of((const void *)zone.start), 0);
            zones++;
        }
    }
    return zones;
}

/* Each is in one of the chunks. */
static bool is_metadata(const void *memory, size_t size) {
    size_t chunk_size;
    for (const char *chunk = NULL; (chunk = metadata_next_chunk(chunk, &chunk_size)) != NULL;)
        if ((const char *)memory > chunk && (const char *)memory + size <= chunk + chunk_size)
            return true;
    return false;
}

static size_t look_at_caches(void) {
    size_t size, outgoing, caches = 0, outside = 0;
    for (const struct tcache *cache = NULL; (cache = tcaches_look_up(cache, &size, &outgoing)) != NULL; caches++)
        outside += !is_metadata(cache, size) || (uintptr_t)cache % os_page_size() != 0;
    return outside == 0 ? caches : 0;
}

static size_t look_at_chunks(void) {
    size_t size, chunks = 0;
    for (const void *chunk = NULL; (chunk = metadata_next_chunk(chunk, &size)) != NULL; chunks++)
        look_at("metadata", (uintptr_t)chunk, (uintptr_t)chunk + size);
    return chunks;
}

static void look_at_table(const char *what, const void *memory, size_t size) {
    if (memory == NULL)
        exposed++;
    look_at(what, (uintptr_t)memory, (uintptr_t)memory + size);
}

static void look_at_tables(void) {
    const void *memory;
    size_t size, held;
    uintptr_t pc = 4711;
    history_boot(1000);
    memory = history_memory(&size);
    look_at_table("the history", memory, size);
    quarantine_boot(MIB);
    memory = quarantine_memory(&size, &held);
    look_at_table("the quarantine", memory, size);
    for (uintptr_t i = 1; i <= 200000; i++)
        ledger_put((struct ledger_entry){.address = 16 * i});
    for (unsigned n = 0; n < LEDGER_PIECES; n++) {
        memory = ledger_memory(n, &size);
        look_at_table("the ledger", memory, size);
    }
    stacks_intern(&pc, 1);
    memory = stacks_memory(0, &size);
    look_at_table("the table of stacks", memory, size);
    memory = stacks_memory(1, &size);
    look_at_table("the depot of stacks", memory, size);
}

int main(void) {
    size_t size;
    run_threads();
    size_t zones = look_at_zones(), chunks = look_at_chunks(), caches = look_at_caches();
    const struct leaf *leaf;
    for (uintptr_t slot = 0; (leaf = directory_next_leaf(&slot, &size)) != NULL;)
        look_at("a leaf of the directory", (uintptr_t)leaf, (uintptr_t)leaf + size);
    look_at_tables();
    ok(zones > 4 && caches >= THREADS, "%zu zones; %zu thread caches, each whole pages of metadata", zones, caches);
    ok(chunks < THREADS / 4, "few mappings: %zu pieces of metadata", chunks);
    ok(exposed == 0, "none of %zu structures can be reached from a neighbouring mapping", structures);
    return tap_done();
}
