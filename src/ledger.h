/*
 * The ledger of the debugging modes: what is known of each block that they handed out, and of what was freed until its
 * address is handed out again, or its zone or span is gone. It is kept besides the register, which is as exact, but has
 * no room for who took a block and where.
 *
 * A block's entry is `live` from when the block is ready for the program until the program gives it back: whoever ends
 * its life here is the one who frees the block, however many try. While the ledger is locked no live block vanishes.
 *
 * It is bounded by what is mapped: an entry of a freed block says something as long as its zone or LARGE span is there,
 * where an address is a multiple of 16, or of the page. That of a slab which was carved anew, into other blocks, is
 * kept as well; so there are 4,096 for each 64 KiB at the most. What is out of date goes when a part of the ledger has
 * twice as many entries as were left there the last time, or what is mapped has fallen by an eighth of the ledger's own
 * size; its memory follows, but for a page for each part. Who unmaps does not tell the ledger, and the ledger may not
 * ask about zones and spans: it says when it is due, and is given who can answer.
 */
#ifndef LEDGER_H
#define LEDGER_H

#include "base.h"

struct ledger_entry {
    uintptr_t address;
    size_t size; /* requested */
    size_t capacity;
    uint32_t stack;  /* of who took it, or gave it back; stacks_get; 0: none was recorded */
    uint32_t thread; /* as gettid(2) */
    uint32_t filled; /* freed, and filled with the byte that marks that: in which period of scribbling; 0: it is not */
    uint16_t arena;  /* ARENA_NONE: LARGE */
    bool live : 1;
    bool is_moved : 1;   /* by realloc, which may let it stay where it is the next time */
    bool is_told : 1;    /* an overrun of this block was reported, and need not be again and again */
    bool is_doubted : 1; /* a sweep asks about it: the ledger's own */
};

/* Notes an entry, in the place of what there is for its address. false: there is no memory for it. */
bool ledger_put(struct ledger_entry entry);

/* The entry for an address; false: there is none. */
bool ledger_find(uintptr_t address, struct ledger_entry *entry);

/* Takes the entry of a live block out; false: there is none. */
bool ledger_take_live(uintptr_t address, struct ledger_entry *entry);

/* Puts an entry that is not live in the place of a live block's, whose sizes it gets; *live is what that was. false:
 * there is none. */
bool ledger_end_life(struct ledger_entry *given, struct ledger_entry *live);

/* Calls `visit` for each live block's entry, the ledger locked: it may look at the block, and set is_told, and do
 * nothing else. */
void ledger_visit_live(void (*visit)(void *argument, struct ledger_entry *entry), void *argument);

/* Whether a part of it is to be swept. A few loads, and no lock. */
bool ledger_is_due(void);

/*
 * Sweeps one part that is due: drops the entries of freed blocks that are not there any more, by what `is_there` says,
 * and gives memory back. `arena` is as in the entry. It is called without a lock, and may take those of arenas and
 * LARGE. An entry that is put meanwhile stays. false: no part is due, or another thread is at it.
 */
bool ledger_sweep(bool (*is_there)(uintptr_t address, unsigned arena));

/* Its memory, in LEDGER_PIECES: the n-th, *size bytes long, or NULL. All but the first may move. For statistics. */
#define LEDGER_PARTS  64
#define LEDGER_PIECES (LEDGER_PARTS + 1)
const void *ledger_memory(unsigned n, size_t *size);

/* For fork. */
void ledger_lock(void);
void ledger_unlock(void);
void ledger_reset_lock(void);

#endif
