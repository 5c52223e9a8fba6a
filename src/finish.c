/*
 * What is done at exit, if it is asked for: the leak report, and giving back what is empty. After the last destructor,
 * which has two cases. A handler that a constructor registers, with no library, comes after all destructors if that was
 * before the program was started, as in the shared object; and before them in a program that the archive is linked
 * with, where the destructor with the first constructor's priority is the last. So the later of the two does it.
 */
#include "debug.h"
#include "kept.h"
#include "leaks.h"
#include "misuse.h"
#include "options.h"
#include "process.h"
#include "sanitizer.h"

extern int __cxa_atexit(void (*function)(void *), void *argument, void *library);

static void finish(void) {
    if (option_value(OPTION_LEAKS) != 0 && !sanitizer_is_loaded())
        leaks_report();
    if (option_value(OPTION_RELEASE_AT_EXIT) != 0 && !misuse_is_inside_malloc("release at exit")) {
        debug_drain();
        process_drain();
        arenas_purge_all();
    }
}

static atomic_int ends; /* how many of the two have come */

static void end(void *unused) {
    (void)unused;
    if (add_relaxed(&ends, 1) == 1)
        finish();
}

__attribute__((destructor(101))) static void end_by_destructor(void) {
    end(NULL);
}

__attribute__((constructor(101))) static void start(void) {
    process_enter();
    if (option_value(OPTION_LEAKS) != 0)
        kept_note_start();
    __cxa_atexit(end, NULL, NULL);
}
