#include "scratch.h"
#include "lock.h"
#include "message.h"
#include "os.h"
#include <errno.h>
#include <string.h>

#define SLOTS 64 /* of calls at once; one beyond is served, and may leave its mapping to a child of fork for good */

struct scratch {
    uintptr_t thread; /* constant, as the next */
    size_t size;      /* mapped, with this */
    ALIGNED(64) char bytes[];
};

/* Of threads other than the forking one, what is mapped or unmapped at the very instant of a fork is in no slot, and
 * stays mapped in the child. */
static _Atomic(struct scratch *) slots[SLOTS];

SPARSE ALIGNED(64) static char reserve[SCRATCH_MAX];
static _Atomic uintptr_t reserve_thread; /* who has it; 0: nobody */

static void note(struct scratch *scratch) {
    for (size_t i = 0; i < SLOTS; i++) {
        struct scratch *none = NULL;
        if (load_relaxed(&slots[i]) == NULL &&
            atomic_compare_exchange_strong_explicit(&slots[i], &none, scratch, memory_order_release,
                                                    memory_order_relaxed))
            return;
    }
}

static void forget(const struct scratch *scratch) {
    for (size_t i = 0; i < SLOTS; i++)
        if (load_relaxed(&slots[i]) == scratch)
            store_relaxed(&slots[i], NULL);
}

static void *take_reserve(size_t size) {
    uintptr_t nobody = 0;
    bool is_mine = atomic_compare_exchange_strong_explicit(&reserve_thread, &nobody, lock_self(), memory_order_acquire,
                                                           memory_order_relaxed);
    return is_mine ? memset(reserve, 0, size) : NULL;
}

static COLD void refuse(const char *call) {
    char line[120];
    struct text text = {line, 0, sizeof line - 1, -1};
    text_add(&text, call);
    text_add(&text, ": no memory for what it needs; nothing is done");
    line[text.length] = '\0';
    message_print(line);
    errno = ENOMEM;
}

void *scratch_take(const char *call, size_t size) {
    ASSERT(size <= SCRATCH_MAX);
    size_t whole = round_up(sizeof(struct scratch) + size, os_page_size());
    struct scratch *scratch = os_borrow(whole);
    if (scratch != NULL) {
        scratch->thread = lock_self();
        scratch->size = whole;
        note(scratch);
        return scratch->bytes;
    }
    void *bytes = take_reserve(size);
    if (bytes == NULL)
        refuse(call);
    return bytes;
}

void scratch_give(void *bytes) {
    if (bytes == reserve) {
        store_release(&reserve_thread, 0);
        return;
    }
    struct scratch *scratch = (struct scratch *)((char *)bytes - offsetof(struct scratch, bytes));
    forget(scratch);
    os_return(scratch, scratch->size);
}

void scratch_drop_others(void) {
    if (load_relaxed(&reserve_thread) != lock_self())
        store_relaxed(&reserve_thread, 0);
    for (size_t i = 0; i < SLOTS; i++) {
        struct scratch *scratch = load_acquire(&slots[i]);
        if (scratch != NULL && scratch->thread != lock_self())
            scratch_give(scratch->bytes);
    }
}
