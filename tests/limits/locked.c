/*
 * Where the kernel's help differs: with all memory locked (mlockall) purging does not zero pages, and calloc must know;
 * and where there are transparent huge pages, zones do not take part.
 */
#include "cadastre.h"
#include "limits/memory.h"
#include "misuse/child.h"

#define HUGE_PAGES "/sys/kernel/mm/transparent_hugepage/enabled"

static void dirty_then_calloc(size_t size) {
    static unsigned char *blocks[64 << 10];
    size_t count = mem_bound(48 * MIB) / size;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < count; i++) {
            blocks[i] = calloc(1, size);
            check(blocks[i], "no memory");
            for (size_t j = 0; j < size; j++)
                check(blocks[i][j] == 0, "round %d: calloc gave a byte that is not 0", round);
            memset(blocks[i], 0xff, size);
        }
        for (size_t i = 0; i < count; i++)
            free(blocks[i]);
    }
}

static void every_category(void) {
    dirty_then_calloc(800);
    dirty_then_calloc(9000);
    dirty_then_calloc(100000);
    dirty_then_calloc(5 << 20);
}

static void locked_from_main_on(void) {
    free(malloc(100));
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        skip_case("mlockall is not allowed here: %s", strerror(errno));
    every_category();
    expect_silence();
}

static void locked_later(void) {
    every_category();
    if (mlockall(MCL_CURRENT) != 0)
        skip_case("mlockall is not allowed here: %s", strerror(errno));
    every_category();
    munlockall();
    every_category();
    expect_silence();
}

/* The flags of the mapping that holds `address`, from smaps; "" if it is in none. */
static const char *mapping_flags(uintptr_t address) {
    static char line[512];
    FILE *smaps = fopen("/proc/self/smaps", "r");
    unsigned long low, high;
    int inside = 0;
    while (fgets(line, sizeof line, smaps)) {
        if (sscanf(line, "%lx-%lx ", &low, &high) == 2)
            inside = low <= address && address < high;
        if (inside && strncmp(line, "VmFlags:", 8) == 0)
            break;
        line[0] = '\0';
    }
    fclose(smaps);
    return line;
}

static void zones_without_huge_pages(void) {
    if (access(HUGE_PAGES, F_OK) != 0)
        skip_case("the kernel has no transparent huge pages");
    void *tiny = malloc(100), *small = malloc(5000);
    check(strstr(mapping_flags((uintptr_t)tiny), " nh"), "a TINY zone takes huge pages");
    check(strstr(mapping_flags((uintptr_t)small), " nh"), "a SMALL zone takes huge pages");
    free(tiny);
    free(small);
}

/* Of what lies between aligned blocks nothing becomes resident, whoever asks for it. */
static void aligned_blocks_only(void) {
    enum { BLOCKS = 16 };
    void *blocks[BLOCKS];
    int huge = access(HUGE_PAGES, F_OK) == 0;
    free(malloc(100));
    void *before = aligned_alloc(MIB, 100);
    check(before && (!huge || strstr(mapping_flags((uintptr_t)before), " nh")), "an aligned block takes a huge page");
    if (mlockall(MCL_FUTURE) != 0)
        skip_case("mlockall is not allowed here: %s", strerror(errno));
    size_t resident_before = resident();
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = aligned_alloc(MIB, 100);
        check(blocks[i] && (uintptr_t)blocks[i] % MIB == 0, "no block");
    }
    check(resident() < resident_before + BLOCKS * MIB / 2, "%zu KiB more are resident for %d blocks",
          (resident() - resident_before) / KIB, BLOCKS);
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    free(before);
    munlockall();
    expect_silence();
}

static const struct test_case cases[] = {
    {"calloc gives zeros with all memory locked from the start", locked_from_main_on},
    {"calloc gives zeros with memory locked later, and unlocked", locked_later},
    {"zones do not take huge pages", zones_without_huge_pages},
    {"nor does what lies between aligned blocks, nor is it locked", aligned_blocks_only},
};

MAIN_OF_CASES(cases)
