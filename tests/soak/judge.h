/*
 * What a soak looks like from outside: samples taken while all its threads rest, written as CSV, and the verdict over
 * them. In phases that are equal, equal work leaves equal memory: what grows from cycle to cycle is a leak, or a
 * fragmentation without end.
 */
#ifndef SOAK_JUDGE_H
#define SOAK_JUDGE_H

#include "cadastre.h"
#include "limits/memory.h"
#include "tap.h"

enum {
    CYCLES_MIN = 12,   /* that a verdict takes, of which the first quarter only finds its level */
    CYCLES_MAX = 2000, /* that it can take */
    PHASES_MAX = 8
};

/* The contract: retained <= max(RETAINED_MIN + min(held by LARGE, RETAINED_LARGE_MAX), held / RETAINED_DIVISOR). */
#define RETAINED_MIN       (16 * MIB)
#define RETAINED_LARGE_MAX (24 * MIB)
#define RETAINED_DIVISOR   8

/* What must not drift by more than a tenth, and what is always allowed: of addresses so much as the library keeps. Of
 * mappings it is what five minutes were seen to need, with room: they still rose then, by 9 a cycle and 430 between the
 * thirds. A rise that goes on fails in an hour. */
enum figure { RESIDENT, MAPPINGS, ADDRESSES, FRAGMENTED, FIGURES };

static const struct {
    const char *name;
    size_t allowance;
} figures[FIGURES] = {{"resident memory", 3 * MIB},
                      {"the number of mappings", 500},
                      {"what is mapped", 256 * MIB},
                      {"fragmentation", 2 * MIB}};

/* In bytes, but for the mappings. */
struct sample {
    size_t of[FIGURES]; /* [FRAGMENTED]: what slabs in use have free, which the contract does not bound */
    size_t live;        /* as requested */
    size_t held;        /* live blocks whole, and what threads' caches hold: what the contract goes by */
    size_t held_by_large;
    size_t retained; /* or kept by threads, of LARGE */
};

static struct {
    FILE *csv; /* NULL: none wanted */
    size_t samples, broken, cycles;
    struct sample worst;                        /* of those that broke the contract, ... */
    size_t excess;                              /* ... by so much */
    struct sample kept[CYCLES_MAX][PHASES_MAX]; /* the last of each phase */
} judge;

/* To be called before the first cycle. false: CSV cannot be written to `path` (NULL: none is wanted). */
static int judge_start(const char *path) {
    memset(judge.kept, 0xff, sizeof judge.kept); /* resident from the start */
    if (path == NULL)
        return 1;
    judge.csv = fopen(path, "w");
    return judge.csv != NULL && setvbuf(judge.csv, NULL, _IOLBF, 0) == 0 &&
           fputs("seconds,cycle,phase,resident,mappings,mapped,fragmented,live,retained,bound\n", judge.csv) >= 0;
}

static size_t retained_bound(const struct sample *sample) {
    size_t part = sample->held / RETAINED_DIVISOR;
    size_t large = sample->held_by_large < RETAINED_LARGE_MAX ? sample->held_by_large : RETAINED_LARGE_MAX;
    return part > RETAINED_MIN + large ? part : RETAINED_MIN + large;
}

/* While no other thread works. */
static struct sample judge_sample(double seconds, size_t phase, const char *name) {
    struct cadastre_stats stats;
    struct sample now = {.of = {[RESIDENT] = resident(), [MAPPINGS] = mappings()}};
    cadastre_stats(&stats, sizeof stats);
    const struct cadastre_memory *memory = &stats.mapped;
    now.of[ADDRESSES] = memory->total;
    now.of[FRAGMENTED] = memory->free + memory->tails;
    now.live = memory->live;
    now.held = memory->live + memory->rounding + memory->caches + memory->outgoing + memory->retired;
    now.held_by_large = stats.large_bytes + memory->retired;
    now.retained = memory->retained + memory->retired;
    size_t bound = retained_bound(&now);
    judge.samples++;
    if (now.retained > bound) {
        judge.broken++;
        if (now.retained - bound > judge.excess) {
            judge.excess = now.retained - bound;
            judge.worst = now;
        }
    }
    judge.kept[judge.cycles][phase] = now;
    if (judge.csv != NULL)
        fprintf(judge.csv, "%.2f,%zu,%s,%zu,%zu,%zu,%zu,%zu,%zu,%zu\n", seconds, judge.cycles, name, now.of[RESIDENT],
                now.of[MAPPINGS], now.of[ADDRESSES], now.of[FRAGMENTED], now.live, now.retained, bound);
    return now;
}

static int compare_sizes(const void *a, const void *b) {
    size_t left = *(const size_t *)a, right = *(const size_t *)b;
    return left < right ? -1 : left > right;
}

/* Of one figure of one phase, over the cycles [from, to). */
static size_t median(enum figure figure, size_t phase, size_t from, size_t to) {
    static size_t values[CYCLES_MAX];
    for (size_t i = from; i < to; i++)
        values[i - from] = judge.kept[i][phase].of[figure];
    qsort(values, to - from, sizeof *values, compare_sizes);
    return values[(to - from) / 2];
}

/* The first third of the other cycles against the last, phase by phase: what grows for ever does so in most, while one
 * may be higher by chance. */
static void judge_drift(enum figure figure, const char *const *phases, size_t count) {
    size_t warm = judge.cycles / 4, third = (judge.cycles - warm) / 3;
    size_t grown = 0;
    for (size_t phase = 0; phase < count; phase++) {
        size_t early = median(figure, phase, warm, warm + third);
        size_t late = median(figure, phase, judge.cycles - third, judge.cycles);
        diag("%s, %s: %zu, then %zu", figures[figure].name, phases[phase], early, late);
        grown += late > early + early / 10 + figures[figure].allowance;
    }
    ok(grown * 2 <= count, "%s: no drift between equal phases of %zu cycles", figures[figure].name, judge.cycles);
}

static void judge_pass_verdict(const char *const *phases, size_t count) {
    if (ok(judge.cycles >= CYCLES_MIN, "enough cycles for a verdict: %zu", judge.cycles))
        for (enum figure figure = 0; figure < FIGURES; figure++)
            judge_drift(figure, phases, count);
    if (!ok(judge.broken == 0, "the retention contract holds in %zu samples", judge.samples))
        diag("broken in %zu, worst with %zu KiB retained, %zu KiB held", judge.broken, judge.worst.retained / KIB,
             judge.worst.held / KIB);
    if (judge.csv != NULL)
        fclose(judge.csv);
}

#endif
