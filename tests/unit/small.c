/* The small units: message, options, lock, metadata. */
#include "lock.h"
#include "message.h"
#include "metadata.h"
#include "options.h"
#include "tap.h"
#include <signal.h>
#include <sys/wait.h>

/* Runs `body` in a child with stderr in a pipe; gives the wait status and what it printed. */
static int in_child(void (*body)(void), char *output, size_t capacity) {
    int ends[2];
    if (pipe(ends) != 0)
        return -1;
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        body();
        _exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t n; length + 1 < capacity && (n = read(ends[0], output + length, capacity - 1 - length)) > 0;)
        length += (size_t)n;
    output[length] = '\0';
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    return status;
}

static void messages(void) {
    char buffer[64];
    struct text text = {buffer, 0, sizeof buffer - 1, -1};
    text_add_decimal(&text, 0);
    text_add(&text, " ");
    text_add_decimal(&text, UINT64_MAX);
    text_add(&text, " ");
    text_add_hex(&text, 0xdeadbeef);
    text_add(&text, " ");
    text_add_HEX(&text, 0xA0);
    buffer[text.length] = '\0';
    ok(strcmp(buffer, "0 18446744073709551615 0xdeadbeef 0xA0") == 0, "numbers: %s", buffer);
    struct text cut = {buffer, 0, 5, -1};
    text_add(&cut, "longer than five");
    ok(cut.length == 5, "a text without a descriptor is cut");
}

static void option_lines(void) {
    static char *const environment[] = {"CADASTRE_ARENAS=65",
                                        "CADASTRE_ARENAS=5x",
                                        "CADASTRE_ARENAS=",
                                        "CADASTRE_ABORT=maybe",
                                        "CADASTRE_FOO=1",
                                        "CADASTRE_=1",
                                        "CADASTRE",
                                        "F",
                                        NULL};
    options_boot(environment);
    _exit((int)option_value(OPTION_ARENAS) + (int)option_value(OPTION_ABORT));
}

static void options(void) {
    char output[2000];
    int status = in_child(option_lines, output, sizeof output);
    ok(status == 0, "malformed options are ignored");
    ok(strcmp(output, "cadastre: CADASTRE_ARENAS=65: not a number from 1 to 64; ignored\n"
                      "cadastre: CADASTRE_ARENAS=5x: not a number from 1 to 64; ignored\n"
                      "cadastre: CADASTRE_ARENAS=: not a number from 1 to 64; ignored\n"
                      "cadastre: CADASTRE_ABORT=maybe: not 0 or 1; ignored\n"
                      "cadastre: CADASTRE_FOO: unknown option; ignored\n"
                      "cadastre: CADASTRE_: unknown option; ignored\n") == 0,
       "each is reported in one line");
    char *const good[] = {"PATH=/", "CADASTRE_ARENAS=17", "CADASTRE_ABORT=yes", NULL};
    options_boot(good);
    ok(option_value(OPTION_ARENAS) == 17 && option_value(OPTION_ABORT) == 1, "good ones are taken");
    char *const alias[] = {"FtMallocErrorAbort=0", NULL};
    options_boot(alias);
    ok(option_value(OPTION_ABORT) == 1, "an alias counts when set, whatever its value");
    char *const none[] = {NULL};
    options_boot(none);
    ok(option_value(OPTION_ARENAS) == 0 && option_value(OPTION_ABORT) == 0, "defaults");
}

static struct lock low = LOCK_INIT(LOCK_ARENA + 1);
static struct lock high = LOCK_INIT(LOCK_LARGE);

static void take_out_of_order(void) {
    lock_acquire(&high);
    lock_acquire(&low);
}

static void take_twice(void) {
    lock_acquire(&low);
    lock_acquire(&low);
}

static void locks(void) {
    char output[500];
    int status = in_child(take_out_of_order, output, sizeof output);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(output, "assertion failed") != NULL,
       "a lock taken out of order is caught");
    status = in_child(take_twice, output, sizeof output);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(output, "async-signal-safe") != NULL,
       "a lock re-entered is reported, not waited for");
    lock_acquire(&low);
    lock_acquire(&high);
    ok(lock_is_mine(&low) && lock_is_mine(&high), "in order they are taken");
    lock_release(&low);
    lock_release(&high);
    ok(!lock_is_mine(&low), "and given back in any");
}

static void metadata(void) {
    static char *pieces[3000];
    size_t wrong = 0;
    for (size_t i = 0; i < 3000; i++) {
        size_t size = 1 + i * 37 % (i % 10 == 0 ? METADATA_MAX : 500);
        pieces[i] = metadata_take(size);
        memset(pieces[i], (int)i, size);
        wrong += (uintptr_t)pieces[i] % 64 != 0;
    }
    for (size_t i = 0; i < 3000; i++) {
        size_t size = 1 + i * 37 % (i % 10 == 0 ? METADATA_MAX : 500);
        wrong += pieces[i][0] != (char)i || pieces[i][size - 1] != (char)i;
        metadata_give(pieces[i], size);
    }
    ok(wrong == 0, "metadata blocks are aligned and disjoint");
    char *again = metadata_take(400);
    ok(again != NULL, "and reused");
}

int main(void) {
    messages();
    options();
    locks();
    metadata();
    return tap_done();
}
