/*
 * CADASTRE_ABORT=1, and FtMallocErrorAbort whatever its value: the first misuse writes its line, then aborts.
 * CADASTRE_ABORT=0 changes nothing.
 */
#include "cadastre.h"
#include "misuse/child.h"

#include <malloc.h>

static char static_bytes[64];

static void double_free(void) {
    void *block = malloc(42);
    free(block);
    free(opaque(block));
}

static void interior_free(void) {
    char *block = malloc(42);
    free(opaque(block + 16));
}

static void foreign_free(void) {
    free(opaque(static_bytes));
}

static void freed_realloc(void) {
    void *block = malloc(42);
    free(block);
    if (realloc(opaque(block), 100))
        _exit(1);
}

static void large_interior_free(void) {
    char *block = malloc(1 << 20);
    free(opaque(block + 4096));
}

static void freed_usable_size(void) {
    void *block = malloc(42);
    free(block);
    if (malloc_usable_size(opaque(block)) != 0)
        _exit(1);
}

static void wrong_size(void) {
    free_sized(opaque(malloc(42)), 100);
}

static void no_misuse(void) {
    free(malloc(42));
}

/* Each case's report; '#' and '@' as in matches(). */
static const struct {
    struct test_case test_case;
    const char *report;
} misuses[] = {
    {{"double free", double_free}, "cadastre: free(0x@): double free: block of class # bytes, arena #\n"},
    {{"free of an interior pointer", interior_free},
     "cadastre: free(0x@): not the start of a block: 16 bytes into a live block of 42 bytes at 0x@, arena #\n"},
    {{"free of a foreign pointer", foreign_free}, "cadastre: free(0x@): foreign pointer: lies in @-@ rw-p*\n"},
    {{"realloc of a freed block", freed_realloc},
     "cadastre: realloc(0x@): use of a freed block: block of class # bytes, arena #\n"},
    {{"free of the inside of a LARGE block", large_interior_free},
     "cadastre: free(0x@): not the start of a block: 4096 bytes into a live block of 1048576 bytes at 0x@, LARGE\n"},
    {{"malloc_usable_size of a freed block", freed_usable_size},
     "cadastre: malloc_usable_size(0x@): use of a freed block: block of class # bytes, arena #\n"},
    {{"free_sized with a wrong size", wrong_size},
     "cadastre: free_sized(0x@): wrong size: 100 given, block of 42 bytes (capacity #), arena #\n"},
    {{"no misuse", no_misuse}, ""},
};

static const char *const aborting[][2] = {{"CADASTRE_ABORT=1", NULL},
                                          {"FtMallocErrorAbort=1", NULL},
                                          {"FtMallocErrorAbort=", NULL},
                                          {"FtMallocErrorAbort=0", NULL},
                                          {"FtMallocErrorAbort=no", NULL}};

static const char *const going_on[][2] = {{NULL}, {"CADASTRE_ABORT=0", NULL}};

int main(int argc, char **argv) {
    if (argc > 1) {
        for (size_t i = 0; i < COUNT(misuses); i++)
            if (strcmp(misuses[i].test_case.name, argv[1]) == 0)
                return run_named(&misuses[i].test_case, 1, argv[1]);
        return 1;
    }
    for (size_t i = 0; i < COUNT(misuses); i++) {
        const char *name = misuses[i].test_case.name;
        int is_misuse = misuses[i].report[0] != '\0';
        for (size_t option = 0; option < COUNT(aborting); option++) {
            const struct outcome *outcome = run_case(name, aborting[option], NULL);
            int aborted = WIFSIGNALED(outcome->status) && WTERMSIG(outcome->status) == SIGABRT;
            ok(aborted == is_misuse && (is_misuse || outcome->status == 0), "%s, %s: %s", name, aborting[option][0],
               is_misuse ? "aborts" : "nothing happens");
            if (!ok(matches(outcome->errors, misuses[i].report), "with its one line first"))
                diag("standard error: %s", outcome->errors);
        }
        for (size_t option = 0; option < COUNT(going_on); option++) {
            const struct outcome *outcome = run_case(name, going_on[option], NULL);
            ok(outcome->status == 0 && matches(outcome->errors, misuses[i].report), "%s, %s: reported, goes on", name,
               going_on[option][0] ? going_on[option][0] : "no option");
        }
    }
    return tap_done();
}
