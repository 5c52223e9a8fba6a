/*
 * Printing without allocation, stdio or locks: a text is a buffer that its owner fills and then writes to a file
 * descriptor. And the two kinds of failure: ASSERT (our bug) and misuse (the caller's).
 */
#ifndef MESSAGE_H
#define MESSAGE_H

#include "base.h"

/* `length` never exceeds `capacity`. With fd >= 0 a full buffer is written there and reused; with fd < 0 it is cut.
 * What a descriptor refuses is dropped, with all that follows. */
struct text {
    char *buffer;
    size_t length;
    size_t capacity;
    int fd;
};

void text_add(struct text *text, const char *string);
void text_add_bytes(struct text *text, const char *bytes, size_t count);
void text_add_decimal(struct text *text, uint64_t value);
void text_add_hex(struct text *text, uint64_t value); /* 0x1f; lower case, no padding */
void text_add_HEX(struct text *text, uint64_t value); /* 0x1F; as show_alloc_mem prints addresses */
void text_flush(struct text *text);                   /* writes what is buffered, if it has a descriptor */

/* Writes all of it, through EINTR and short writes; waits at most a second for a reader, and raises no SIGPIPE.
 * false: the descriptor refused a part. */
bool message_write(int fd, const char *bytes, size_t count);

/*
 * Reports go to standard error, or where message_log_to says: to a file (made if it is not there, appended to), whose
 * "%p" is the process. The text of `path` stays; NULL or empty: standard error, which also serves when the file cannot
 * be opened.
 */
void message_log_to(const char *path);
int message_open_log(void); /* a descriptor for a longer report */
void message_close_log(int fd);

/*
 * For what is printed when the process ends: many programs have closed standard error by then, on purpose, to see
 * whether all was written. From now on, the log that is standard error is still found then.
 */
void message_keep_stderr(void);

/* One line to the log: "cadastre: " and `line`, in one write. */
void message_print(const char *line);

/*
 * Reports of a caller's mistakes are counted: after 32 of them only every 1,000th is printed, with the count. begin
 * counts one and says whether it is to be printed; if so, end prints `line` as message_print, and then what `more` adds
 * (NULL: nothing), whole lines. Aborts there if message_abort_on_misuse(true) was called. Callers hold no lock.
 */
struct message_more {
    void (*add)(struct text *text, const void *argument);
    const void *argument;
};
bool message_begin_misuse(size_t *count);
void message_end_misuse(const char *line, size_t count, const struct message_more *more);
void message_abort_on_misuse(bool yes);

/* Prints `line` and aborts: the state is such that going on would hang or corrupt. */
_Noreturn void message_die(const char *line);

#define ASSERT_STRING(x)  ASSERT_STRING_(x)
#define ASSERT_STRING_(x) #x
#ifdef CADASTRE_DEBUG
#define ASSERT(condition)                                                                                              \
    (LIKELY(condition) ? (void)0                                                                                       \
                       : message_die("assertion failed: " #condition " (" __FILE__ ":" ASSERT_STRING(__LINE__) ")"))
#else
#define ASSERT(condition) ((void)sizeof(!(condition)))
#endif

#endif
