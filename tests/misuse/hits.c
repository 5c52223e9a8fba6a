/*
 * malloc and free in a signal handler that has interrupted a hit: where no slow path is needed, neither in the handler
 * nor outside of it, and so no lock that would tell. Undefined all the same; what it comes to here is that hardly any
 * block gets a second owner, and that nothing hangs. It may also come to the end that slow paths come to.
 */
#include "cadastre.h"
#include "misuse/child.h"
#include "threads/random.h"

#include <sys/time.h>

enum { SIGNALS = 4000, WRONG_MAX = SIGNALS / 50, HELD = 20, PERIOD_US = 50 };

struct slot {
    uint64_t *block;
    uint64_t tag;
};

static struct slot mine[HELD], handlers[HELD]; /* the loop's, and the handler's */
static volatile sig_atomic_t signals, wrong;
static volatile size_t size;
static uint64_t tags;

static void take(struct slot *slot) {
    slot->block = malloc(size);
    slot->tag = ++tags << 1 | (slot >= handlers && slot < handlers + HELD);
    if (slot->block)
        *slot->block = slot->tag;
    else
        wrong++;
}

static void give(struct slot *slot) {
    uint64_t *block = slot->block;
    slot->block = NULL;
    if (block && *block != slot->tag)
        wrong++;
    free(block);
}

/* Takes and gives by turns: more than it gives, then less. */
static void on_timer(int signal) {
    static struct rng rng = {7};
    (void)signal;
    size_t taking = signals / 16 % 2 ? 3 : 1;
    for (int i = 0; i < 4; i++) {
        struct slot *slot = &handlers[rng_next(&rng) % HELD];
        if (slot->block)
            give(slot);
        if (rng_next(&rng) % 4 < taking)
            take(slot);
    }
    signals++;
}

static void interrupt(size_t of_size, size_t stocked) {
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, PERIOD_US}, {0, PERIOD_US}}, never = {0};
    struct rng rng = rng_stream(3, 0);
    static void *stock[1000];
    size = of_size;
    for (size_t i = 0; i < stocked; i++)
        stock[i] = malloc(size);
    for (size_t i = 0; i < stocked; i++)
        free(stock[i]);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    while (signals < SIGNALS) {
        struct slot *slot = &mine[rng_next(&rng) % HELD];
        if (slot->block)
            give(slot);
        else
            take(slot);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    check(wrong <= WRONG_MAX, "%d times a block had two owners", (int)wrong);
}

static void tiny(void) {
    interrupt(72, 900);
}

static void small(void) {
    interrupt(1100, 120);
}

static const struct test_case cases[] = {
    {"TINY blocks", tiny},
    {"SMALL blocks", small},
};

/* A case ends well, or as in tests/misuse/signal.c: what a hit has lost makes slow paths necessary, sooner or later. */
static void ends_well(const char *name) {
    const struct outcome *outcome = run_case(name, NULL, NULL);
    int ended = outcome->status == 0;
    int aborted = WIFSIGNALED(outcome->status) && WTERMSIG(outcome->status) == SIGABRT &&
                  matches(outcome->errors, "*cadastre: malloc or free was called from a signal handler *\n");
    if (!ok(ended || aborted, "%s in a handler that has interrupted hits", name))
        diag("wait status 0x%x, standard error: %s", outcome->status, outcome->errors);
}

int main(int argc, char **argv) {
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    for (size_t i = 0; i < COUNT(cases); i++)
        ends_well(cases[i].name);
    return tap_done();
}
