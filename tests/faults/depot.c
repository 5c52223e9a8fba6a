/*
 * The depot of call stacks has no room for one more, or the kernel gives it no memory: every report that prints stacks
 * says how many calls have none, and why; and no other does.
 */
#include "cadastre.h"
#include "debug/cases.h"
#include "faults/kernel.h"
#include "leaks.h"
#include "stacks.h"

#define FULL    "# calls have no stack, as the depot is full: 1048576 stacks in # bytes"
#define REFUSED "# calls have no stack, as the kernel gave no memory"

static uintptr_t recorded = 1;

static void record_until(bool (*is_so)(void)) {
    while (!is_so()) {
        stacks_intern(&recorded, 1);
        recorded++;
    }
}

static bool is_full(void) {
    return stacks_total().beyond > 0;
}

static bool is_refused(void) {
    return stacks_total().refused > 1;
}

/* The first line that begins with a number and says that calls have no stack, or "". */
static const char *statistics_say(void) {
    static char text[64 << 10];
    int file = memfd_create("statistics", 0);
    check(file >= 0 && cadastre_stats_print(file, CADASTRE_TEXT) == 0, "no statistics");
    text[pread(file, text, sizeof text - 1, 0)] = '\0';
    close(file);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
        if (matches(line, "# call* no stack, *"))
            return line;
    return "";
}

/* A double free and a leak; `missing`: what is said of stacks, or NULL. The blocks have stacks only if they may. */
static void reports_say(const char *missing, bool have_stacks) {
    void *volatile lost = cadastre_malloc(4321);
    void *block = opaque(cadastre_malloc(100));
    cadastre_free(block);
    cadastre_free(block);
    expect("free(0x@): double free: block of 100 bytes, arena #");
    check((expect_who("called", this_thread(), NULL) > 0) == have_stacks, "the second free has a stack, or none");
    check((expect_who("given back", this_thread(), NULL) > 0) == have_stacks, "the first free has a stack, or none");
    if (missing != NULL)
        expect("  %s", missing);
    expect_no_more();

    leaks_report();
    expect("leak: 4321 bytes in 1 block, at 0x@*");
    const char *line;
    while ((line = error_line()) != NULL && matches(line, "cadastre:     *"))
        error_taken(line);
    if (missing != NULL)
        expect("leaks: %s", missing);
    expect("leaks: 4321 bytes in 1 block*");
    expect_no_more();

    check(matches(statistics_say(), missing == NULL ? "" : missing), "statistics say: %s", statistics_say());
    cadastre_free(lost);
}

static void all_have_theirs(void) {
    reports_say(NULL, true);
}

static void full(void) {
    record_until(is_full);
    reports_say(FULL, false);
}

static void refused(void) {
    kernel_refuse(KERNEL_MMAP, 1, SIZE_MAX);
    record_until(is_refused);
    kernel_give_again();
    reports_say(REFUSED, true);
}

static const struct debug_case cases[] = {
    {{"all calls have their stacks: nothing is said", all_have_theirs}, {"CADASTRE_STACKS=4"}, .errors = NULL},
    {{"the depot is full: misuse, leaks and statistics say so", full}, {"CADASTRE_STACKS=4"}, .errors = NULL},
    {{"the same where only reports have stacks", full}, {"CADASTRE_CANARIES=1"}, .errors = NULL},
    {{"the kernel gives no memory for a while: they say that", refused}, {"CADASTRE_STACKS=4"}, .errors = NULL},
};

MAIN_OF_DEBUG_CASES(cases)
