#include "cadastre.h"
#include "options.h"
#include "process.h"
#include <errno.h>

static int fail(int error) {
    errno = error;
    return -1;
}

/* All of them boot first: options are read then, and would undo what was set before. */
PUBLIC int cadastre_option_get(const char *name, char *value, size_t size) {
    process_enter();
    enum option_id id = option_find(name);
    if (id == OPTIONS)
        return fail(ENOENT);
    return option_print(id, value, size) ? 0 : fail(ERANGE);
}

/* These have an effect only where every call comes by a slow path. */
static bool has_effect(enum option_id id) {
    return process_may_debug() || (id != OPTION_SCRIBBLE && id != OPTION_PERTURB && id != OPTION_CHECK_EACH);
}

PUBLIC int cadastre_option_set(const char *name, const char *value) {
    process_enter();
    enum option_id id = option_find(name);
    int error = id == OPTIONS ? ENOENT : !has_effect(id) ? EPERM : option_change(id, value);
    return error == 0 ? 0 : fail(error);
}

PUBLIC void cadastre_option_help(int fd) {
    process_enter();
    options_print(fd);
}
