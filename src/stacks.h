/*
 * The depot of call stacks: each one is kept once, under a number that fits where a block's owner is noted. It grows to
 * a limit and is never given back, so that a number once given can be looked up for ever, without a lock.
 *
 * Nothing here takes a lock or allocates; threads that record at once do not wait for each other; and a child of fork
 * finds the depot whole, whatever the vanished threads were doing.
 */
#ifndef STACKS_H
#define STACKS_H

#include "base.h"

#define STACKS_DEPTH_MIN   4 /* when no depth is asked for: to see past our operator new and a string's constructor */
#define STACKS_DEPTH_LIGHT 1 /* with the modes that cost least */
#define STACKS_DEPTH_MAX   64
#define STACKS_MAX         ((size_t)1 << 20) /* different ones */
#define STACKS_BYTES_MAX   ((size_t)256 << 20)

struct text;

/*
 * The number of the calling thread's stack, of at most `depth` return addresses (more than STACKS_DEPTH_MAX count as
 * that). `frame` is the __builtin_frame_address(0) of the function whose caller is the first of them.
 * 0: nothing could be found, or there is no room for one more. Safe in a signal handler; errno is left alone.
 */
uint32_t stacks_record(unsigned depth, const void *frame);

/* The same for return addresses found otherwise. */
uint32_t stacks_intern(const uintptr_t *pcs, unsigned count);

/* The return addresses of stack `id`, innermost first, and their number; they stay where they are for ever. 0 for the
 * id 0. */
unsigned stacks_get(uint32_t id, const uintptr_t **pcs);

/*
 * Prints the stack, a line for each call: `indent`, then "function+0x1c (file+0x113c)", where addr2line -e file 0x113c
 * knows more; without the function where the file tells of none. Both numbers are of the call, not of the instruction
 * that it returns to. The loader's lock is taken: callers hold none of ours.
 */
void stacks_print(struct text *text, uint32_t id, const char *indent);

/* Says in a line how many calls have no stack for lack of room, and what of; nothing, if all have theirs. For every
 * report that prints stacks, behind them. */
void stacks_print_missing(struct text *text, const char *indent);

/* What is mapped for them: the n-th piece, NULL when there are no more. */
const void *stacks_memory(size_t n, size_t *size);

struct stacks_total {
    size_t stacks;  /* different ones */
    size_t bytes;   /* mapped for them */
    size_t beyond;  /* calls whose stack was not recorded, as the depot is full */
    size_t refused; /* the same, as the kernel gave no memory */
};
struct stacks_total stacks_total(void);

#endif
