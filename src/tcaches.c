#include "tcaches.h"
#include "account.h"
#include "metadata.h"
#include "os.h"
#include "thread.h"
#include <errno.h>
#include <string.h>

/* Of an arena's caches, under its lock. */
static struct lists {
    struct tcache *active;
    struct tcache *parked;
    struct tcache *drained; /* parked, too, until tcaches_drain_parked is through with the others */
    struct tcache *unseen;  /* of the active ones, the next to be looked at by find_dead; NULL: the first */
} lists[ARENAS_MAX];

static struct tcache *_Atomic newest; /* of all caches */
static bool expects_dead;             /* constant after boot */

/*
 * thread_own.in_hand: an active cache that the thread is about to take up, has put down, or sees to for another: not
 * its current one, or not for long. If a signal handler forks meanwhile, the child goes on with it.
 * thread_own.stays_without: its destructor has run, or it is just getting a cache.
 */

/* ------------------------------------------------------------------------------------------------ the lists */
static struct lists *lists_of(const struct tcache *cache) {
    return &lists[cache->owner->index];
}

/* Behind `before`; as the first where that is NULL. */
static void list_add(struct tcache **list, struct tcache *before, struct tcache *cache) {
    struct tcache **next = before == NULL ? list : &before->next;
    cache->prev = before;
    cache->next = *next;
    if (*next != NULL)
        (*next)->prev = cache;
    *next = cache;
}

static void list_remove(struct tcache **list, struct tcache *cache) {
    if (cache->next != NULL)
        cache->next->prev = cache->prev;
    *(cache->prev == NULL ? list : &cache->prev->next) = cache->next;
}

static void activate_locked(struct tcache *cache) {
    thread_own.in_hand = cache;
    list_add(&lists_of(cache)->active, NULL, cache);
}

static void deactivate_locked(struct tcache *cache) {
    struct lists *own = lists_of(cache);
    if (own->unseen == cache)
        own->unseen = cache->next;
    list_remove(&own->active, cache);
    thread_own.in_hand = NULL;
}

/* The first of that list becomes active; NULL: there is none. */
static struct tcache *take_first_locked(struct tcache **list) {
    struct tcache *cache = *list;
    if (cache != NULL) {
        list_remove(list, cache);
        activate_locked(cache);
    }
    return cache;
}

/* ------------------------------------------------------------------------------------------------- parking */
static void count_locked(struct tcache *cache) {
    cache->is_counted = true;
    add_relaxed(&tcache_threads, 1);
}

static void discount_locked(struct tcache *cache) {
    if (!cache->is_counted) /* in a child of fork, that of its thread only is */
        return;
    cache->is_counted = false;
    sub_relaxed(&tcache_threads, 1);
    arenas_leave(cache->owner);
}

static bool has_parked(const struct lists *own, struct arena *arena) {
    arena_lock(arena);
    bool has = own->parked != NULL;
    arena_unlock(arena);
    return has;
}

/* The cache in hand. */
static void park(struct tcache *cache) {
    struct arena *arena = cache->owner;
    struct lists *own = lists_of(cache);
    tcache_trim(cache);
    if (has_parked(own, arena))
        tcache_drain(cache);
    arena_lock(arena);
    deactivate_locked(cache);
    list_add(&own->parked, own->parked, cache); /* behind the warm one, which is the next to be adopted */
    discount_locked(cache);
    arena_unlock(arena);
}

/* ------------------------------------------------------------------------------------ threads that have ended
 * Where threads may end without tcaches_detach, each holds its cache's lock `life`. It is robust: if a thread ends and
 * holds it, the kernel marks it, and who tries it next gets it with the news. So nobody needs to know which thread has
 * a cache, and none that lives can lose it. (The kernel could be asked whether there is a thread of some number; but in
 * a child of vfork, which is its parent's thread, numbers are others, and in another PID namespace there are none.)
 *
 * Nobody waits for such a lock but a thread that takes up a parked cache, and that for one that is just looking. It is
 * the C library's, so it is touched with no lock of ours held.
 */
static void init_life(struct tcache *cache) {
    pthread_mutexattr_t attributes;
    cache->life = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER; /* if the next fail, its owner counts as alive */
    if (pthread_mutexattr_init(&attributes) == 0 && pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0)
        pthread_mutex_init(&cache->life, &attributes);
}

static void begin_life(struct tcache *cache) {
    if (expects_dead)
        pthread_mutex_lock(&cache->life);
}

static void end_life(struct tcache *cache) {
    if (expects_dead)
        pthread_mutex_unlock(&cache->life);
}

/* Says so to one thread only. */
static bool has_died(struct tcache *cache) {
    int error = pthread_mutex_trylock(&cache->life);
    if (error == EOWNERDEAD)
        pthread_mutex_consistent(&cache->life);
    if (error == 0 || error == EOWNERDEAD)
        pthread_mutex_unlock(&cache->life);
    return error == EOWNERDEAD;
}

/* Looks at the next active caches of the arena, and parks those whose threads have ended. Gives how many it looked at,
 * LOOKED_AT_MAX unless it came to the last. */
static unsigned find_dead(struct arena *arena, bool from_start) {
    struct lists *own = &lists[arena->index];
    struct tcache *looked_at[LOOKED_AT_MAX];
    unsigned count = 0;
    arena_lock(arena);
    struct tcache *cache = from_start || own->unseen == NULL ? own->active : own->unseen;
    for (; cache != NULL && count < LOOKED_AT_MAX; cache = cache->next)
        looked_at[count++] = cache;
    own->unseen = cache;
    arena_unlock(arena);
    for (unsigned i = 0; i < count; i++) {
        thread_own.in_hand = looked_at[i];
        if (has_died(looked_at[i]))
            park(looked_at[i]);
        thread_own.in_hand = NULL;
    }
    return count;
}

static void find_all_dead(struct arena *arena) {
    for (bool from_start = true; find_dead(arena, from_start) == LOOKED_AT_MAX;)
        from_start = false;
}

/* In glibc, whose threads tell the kernel of their list of robust locks when they start. Others do so at the first such
 * lock, by a system call that sandboxes need not know. */
void tcaches_expect_dead(void) {
#ifdef __GLIBC__
    expects_dead = true;
#endif
}

/* ------------------------------------------------------------------------------------------------ taking up */
static size_t mapped_size(void) {
    return round_up(OWNER(arenas_count(), 0), os_page_size());
}

static size_t power_of_two_below(size_t n) {
    return n < 2 ? 1 : (size_t)1 << (63 - __builtin_clzll(n));
}

static void init_magazine(struct magazine *magazine, unsigned class) {
    size_t block = sizeclasses[class].size;
    magazine->live_bias = STATE_LIVE + sizeclasses[class].size;
    size_t entries = power_of_two_below(min_size(MAGAZINE_ENTRIES_MAX, MAGAZINE_BYTES_MAX / block));
    magazine->entries_max = (uint16_t)max_size(entries, MAGAZINE_ENTRIES_SURE);
    size_t refill = REFILL_BYTES / block;
    if (sizeclass_is_tiny(class))
        refill = max_size(refill, min_size(REFILL_ENTRIES, REFILL_BYTES_MAX / block));
    magazine->refill = (uint16_t)power_of_two_below(refill);
}

/* The child of a fork has the whole of it, in the chain and in a list, or none. */
static void publish(struct tcache *cache) {
    arena_lock(cache->owner);
    cache->made_before = load_relaxed(&newest);
    while (!atomic_compare_exchange_weak_explicit(&newest, &cache->made_before, cache, memory_order_release,
                                                  memory_order_relaxed))
        ;
    activate_locked(cache);
    count_locked(cache);
    arena_unlock(cache->owner);
}

static struct tcache *create(struct arena *arena) {
    struct tcache *cache = metadata_take_pages(mapped_size());
    if (cache == NULL)
        return NULL;
    cache->row = OWNER(arena->index, 0);
    for (size_t i = 0; i <= TINY_MAX / 16; i++)
        cache->tiny[i] = OWNER(arena->index, sizeclass_of_tiny[i]);
    cache->owner = arena;
    store_relaxed(&cache->outgoing_left, OUTGOING_BYTES_MAX);
    for (unsigned class = 0; class < CLASSES; class ++)
        init_magazine(tcache_own_magazine(cache, class), class);
    if (expects_dead)
        init_life(cache);
    publish(cache);
    return cache;
}

static struct tcache *adopt(struct arena *arena) {
    struct lists *own = &lists[arena->index];
    arena_lock(arena);
    struct tcache *cache = take_first_locked(own->parked != NULL ? &own->parked : &own->drained);
    if (cache != NULL)
        count_locked(cache);
    arena_unlock(arena);
    return cache;
}

static void take_up_any(void) {
    struct arena *arena = arenas_join();
    struct tcache *cache = adopt(arena);
    if (cache == NULL && expects_dead && find_dead(arena, false) > 0)
        cache = adopt(arena);
    if (cache == NULL)
        cache = create(arena);
    if (cache == NULL) {
        arenas_leave(arena);
        return;
    }
    begin_life(cache);
    tcache_set_current(cache);
    atomic_signal_fence(memory_order_seq_cst);
    thread_own.in_hand = NULL;
}

/* What interrupts this does without a cache. */
void tcaches_attach(void) {
    if (thread_own.stays_without)
        return;
    thread_own.stays_without = true;
    atomic_signal_fence(memory_order_seq_cst);
    if (!tcache_is_real(tcache_current)) /* or what has interrupted the thread a moment ago got it one */
        take_up_any();
    atomic_signal_fence(memory_order_seq_cst);
    thread_own.stays_without = false;
}

/* First the thread ceases to have it: what interrupts it may not find a cache that is half given away, or another
 * thread's already. */
void tcaches_detach(void) {
    struct tcache *cache = tcache_current;
    thread_own.in_hand = cache;
    thread_own.stays_without = true;
    atomic_signal_fence(memory_order_seq_cst);
    tcache_set_current(NULL);
    atomic_signal_fence(memory_order_seq_cst);
    end_life(cache);
    park(cache);
}

/* ------------------------------------------------------------------------------------------------- looking */
const struct tcache *tcaches_look_up(const struct tcache *cache, size_t *size, size_t *outgoing) {
    cache = cache == NULL ? load_acquire(&newest) : cache->made_before;
    *size = mapped_size();
    *outgoing = cache == NULL ? 0 : (size_t)(OUTGOING_BYTES_MAX - load_relaxed(&cache->outgoing_left));
    return cache;
}

/* While it is drained, each is active, so that no thread adopts it. */
static void drain_parked_of(struct arena *arena) {
    struct lists *own = &lists[arena->index];
    struct tcache *cache;
    arena_lock(arena);
    while ((cache = take_first_locked(&own->parked)) != NULL) {
        arena_unlock(arena);
        tcache_drain(cache);
        arena_lock(arena);
        deactivate_locked(cache);
        list_add(&own->drained, NULL, cache);
    }
    while ((cache = own->drained) != NULL) {
        list_remove(&own->drained, cache);
        list_add(&own->parked, NULL, cache);
    }
    arena_unlock(arena);
}

void tcaches_drain_parked(void) {
    for (unsigned i = 0; i < arenas_count(); i++) {
        if (expects_dead)
            find_all_dead(arenas_at(i));
        drain_parked_of(arenas_at(i));
    }
}

/* --------------------------------------------------------------------------------------------------- fork */
/* By the chain of all, which lacks none, whatever a vanished thread was about to do with it. */
void tcaches_adopt_orphans(void) {
    size_t claims = 0;
    memset(lists, 0, arenas_count() * sizeof *lists);
    store_relaxed(&tcache_threads, tcache_is_real(tcache_current));
    for (struct tcache *cache = load_acquire(&newest); cache != NULL; cache = cache->made_before) {
        struct lists *own = lists_of(cache);
        bool is_current = cache == tcache_current, is_mine = is_current || cache == thread_own.in_hand;
        list_add(is_mine ? &own->active : &own->parked, NULL, cache);
        cache->is_counted = is_current;
        claims += is_mine ? cache->retired_claim : tcache_measure_retired(cache);
        if (expects_dead)
            init_life(cache);
        if (is_current)
            begin_life(cache);
    }
    account_set_claimed(claims);
}
