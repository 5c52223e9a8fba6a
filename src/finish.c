/*
 * What is done at exit, if it is asked for: the leak report, and giving back what is empty. After the last destructor:
 * a handler that is registered by a constructor, and with no library, comes after the dynamic linker's own.
 */
#include "debug.h"
#include "leaks.h"
#include "misuse.h"
#include "options.h"
#include "process.h"

extern int __cxa_atexit(void (*function)(void *), void *argument, void *library);

static void finish(void *unused) {
    (void)unused;
    if (option_value(OPTION_LEAKS) != 0)
        leaks_report();
    if (option_value(OPTION_RELEASE_AT_EXIT) != 0 && !misuse_is_inside_malloc("release at exit")) {
        debug_drain();
        process_drain();
        arenas_purge_all();
    }
}

__attribute__((constructor(101))) static void start(void) {
    process_enter();
    __cxa_atexit(finish, NULL, NULL);
}
