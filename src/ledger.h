/*
 * The ledger of the debugging modes: what is known of each block that they handed out, and of what was freed until its
 * address is handed out again. It is kept besides the register, which is as exact, but has no room for who took a block
 * and where.
 *
 * A block's entry is `live` from when the block is ready for the program until the program gives it back: whoever takes
 * that entry out is the one who frees the block, however many try. While the ledger is locked no live block vanishes.
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
    bool live;
    bool is_told; /* an overrun of this block was reported, and need not be again and again */
};

/* Notes an entry, in the place of what there is for its address. false: there is no memory for it. */
bool ledger_put(struct ledger_entry entry);

/* The entry for an address; false: there is none. */
bool ledger_find(uintptr_t address, struct ledger_entry *entry);

/* Takes the entry of a live block out; false: there is none. */
bool ledger_take_live(uintptr_t address, struct ledger_entry *entry);

/* Calls `visit` for each live block's entry, the ledger locked: it may look at the block, and set is_told, and do
 * nothing else. */
void ledger_visit_live(void (*visit)(void *argument, struct ledger_entry *entry), void *argument);

/* Its memory, *size bytes long, or NULL; it may move. For statistics. */
const void *ledger_memory(size_t *size);

/* For fork. */
void ledger_lock(void);
void ledger_unlock(void);
void ledger_reset_lock(void);

#endif
