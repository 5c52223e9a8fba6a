#include "process.h"
#include "clock.h"
#include "history.h"
#include "large.h"
#include "ledger.h"
#include "message.h"
#include "metadata.h"
#include "options.h"
#include "os.h"
#include "quarantine.h"
#include "sanitizer.h"
#include "scratch.h"
#include "stacks.h"
#include "syscall.h"
#include "tcaches.h"
#include "thread.h"
#include <limits.h>
#include <pthread.h>
#include <unistd.h>

#define WARM_CLASS 1 /* blocks of 32 bytes */

enum boot_state { BOOT_NOT, BOOT_RUNNING, BOOT_DONE };

static struct lock boot_lock = LOCK_INIT(LOCK_BOOT);
static atomic_int boot_state;    /* written under boot_lock */
static pthread_key_t thread_key; /* constant after boot, as the next */
static bool has_thread_key;
static bool key_is_far;
static struct tcache *boot_cache; /* of the thread that booted; this and the next for it only */
static uintptr_t boot_thread;
static void (*_Atomic deferred)(void); /* NULL: nothing */

#define NUMBER_IS_KNOWN 0x80 /* no number is above 2^22 */

uint32_t process_thread(void) {
    if (UNLIKELY(thread_own.number_top == 0)) {
        uint32_t number = (uint32_t)syscall3(SYS_gettid, 0, 0, 0);
        thread_own.number_low = (uint16_t)number;
        thread_own.number_top = (uint8_t)(NUMBER_IS_KNOWN | number >> 16);
    }
    return (uint32_t)(thread_own.number_top & ~NUMBER_IS_KNOWN) << 16 | thread_own.number_low;
}

/* ------------------------------------------------------------------------------------------------------ fork
 * glibc's own malloc is forked after the list of streams is locked, since fflush(NULL) and getdelim allocate with a
 * stream locked. Replaced, we must keep that order ourselves, or a fork and such a thread wait for one another. Other
 * C libraries have no such names. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

/* pthread_atfork without the C library's stub in this object, which is not relocated yet when process_start_early is
 * called. No library: this one is never unloaded. */
#ifdef __GLIBC__
extern int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *library);
#define register_fork_handlers(before, parent, child) __register_atfork(before, parent, child, NULL)
#else
#define register_fork_handlers pthread_atfork
#endif

static bool has_stream_list(void) {
    return _IO_list_lock != NULL && _IO_list_unlock != NULL && _IO_list_resetlock != NULL;
}

/*
 * A signal handler may fork (POSIX.1-2017, 2.4.3) where it has interrupted this thread under a lock. Then no lock is
 * taken, as it might be that one; nor is the list of streams, whose holder may wait for it. (In a process with several
 * threads glibc takes that itself.) The parent goes on as if nothing had been; the child, which has what is half done,
 * and others' locks for good, can exec or _exit, and comes to nothing of ours without saying so: neither to a lock, nor
 * to a hit.
 */
static void before_fork(void) {
    if (lock_was_interrupted()) {
        thread_own.forks_inside++;
        return;
    }
    if (has_stream_list())
        _IO_list_lock();
    lock_acquire(&boot_lock);
    options_lock();
    arenas_lock_all();
    large_lock();
    metadata_lock();
    ledger_lock();
    quarantine_lock();
    lock_pass_all(true);
}

static void after_fork_in_parent(void) {
    if (thread_own.forks_inside > 0) {
        thread_own.forks_inside--;
        return;
    }
    lock_pass_all(false);
    quarantine_unlock();
    ledger_unlock();
    metadata_unlock();
    large_unlock();
    arenas_unlock_all();
    options_unlock();
    lock_release(&boot_lock);
    if (has_stream_list())
        _IO_list_unlock();
}

static void after_fork_in_child(void) {
    thread_own.number_top = 0;
    if (thread_own.forks_inside > 0) {
        thread_own.forks_inside--;
        lock_forbid_all();
        tcache_set_current(NULL);
        return;
    }
    lock_pass_all(false);
    scratch_drop_others();
    directory_reset();
    tcaches_adopt_orphans();
    quarantine_reset_lock();
    ledger_reset_lock();
    metadata_reset_lock();
    large_reset_lock();
    arenas_reset_locks(tcache_is_real(tcache_current) ? tcache_current->owner : NULL);
    options_reset_lock();
    lock_reset(&boot_lock);
    if (has_stream_list())
        _IO_list_resetlock();
}

/* The earlier the better: handlers that were registered before ours run while all locks are held. */
static void handle_forks(void) {
    static bool handled; /* under boot_lock, or while the process has one thread */
    if (!handled)
        handled = register_fork_handlers(before_fork, after_fork_in_parent, after_fork_in_child) == 0;
}

/* --------------------------------------------------------------------------------------------------- threads */

/* Destructors that run after this one find no cache: slower, and correct. Only a thread whose first malloc is in its
 * very last destructor leaves a cache behind. */
static void thread_exit(void *set) {
    (void)set;
    if (tcache_is_real(tcache_current))
        tcaches_detach();
}

/*
 * glibc has a thread's values of the first keys at hand (PTHREAD_KEY_2NDLEVEL_SIZE of them, which no header says), and
 * those of others in arrays that pthread_setspecific takes by calloc. If that is the first call of ours, and we set our
 * key in it, the array that it goes on with replaces ours, which is lost with the value, and the thread ends unheard.
 * So calloc does not set a far key. The threads that this leaves without are found in the other way, as are all where
 * no key was left (tcaches.h).
 */
#ifdef __GLIBC__
#define NEAR_KEYS 32
#else
#define NEAR_KEYS UINT_MAX
#endif

static void make_thread_key(void) {
    has_thread_key = pthread_key_create(&thread_key, thread_exit) == 0;
    key_is_far = has_thread_key && thread_key >= NEAR_KEYS;
    if (!has_thread_key || key_is_far)
        tcaches_expect_dead();
}

/* The cache is put in place before the key, as pthread_setspecific may allocate. */
static struct tcache *enter_thread(bool for_calloc) {
    if (process_debugs)
        return tcache_current;
    if (!tcache_is_real(tcache_current))
        tcaches_attach();
    if (tcache_is_real(tcache_current) && has_thread_key && !(for_calloc && key_is_far))
        pthread_setspecific(thread_key, (void *)1);
    return tcache_current;
}

/* ------------------------------------------------------------------------------------------------------ boot */
bool process_debugs;
unsigned process_stack_depth;
_Atomic uint32_t process_scribble_period = 1;

/* The last two look at no block's bytes, and are to cost as little. */
static const enum option_id modes[] = {OPTION_STACKS, OPTION_SCRIBBLE,   OPTION_PERTURB,    OPTION_CANARIES,
                                       OPTION_GUARD,  OPTION_CHECK_EACH, OPTION_QUARANTINE, OPTION_HISTORY};
#define MODES       (sizeof modes / sizeof *modes)
#define MODES_HEAVY (MODES - 2)

static bool is_any_on(size_t count) {
    for (size_t i = 0; i < count; i++)
        if (option_value(modes[i]) != 0)
            return true;
    return false;
}

bool process_may_debug(void) {
    return process_debugs && !sanitizer_is_loaded();
}

static void apply_option(enum option_id id) {
    if (id == OPTION_LOG)
        message_log_to(option_text(OPTION_LOG));
    if (id == OPTION_SCRIBBLE)
        atomic_fetch_add_explicit(&process_scribble_period, 1, memory_order_release);
}

static void boot_debugging(void) {
    apply_option(OPTION_LOG);
    options_on_change(apply_option);
    process_debugs = sanitizer_is_loaded() || is_any_on(MODES);
    process_stack_depth =
        is_any_on(MODES_HEAVY) ? (unsigned)max_size(option_value(OPTION_STACKS), STACKS_DEPTH_MIN) : STACKS_DEPTH_LIGHT;
    if (sanitizer_is_loaded())
        message_print("the runtime of a sanitizer is loaded: every call goes to its malloc");
    if (option_value(OPTION_QUARANTINE) != 0 && !quarantine_boot(option_value(OPTION_QUARANTINE)))
        message_print("no memory for the quarantine");
    if (option_value(OPTION_HISTORY) != 0 && !history_boot(option_value(OPTION_HISTORY)))
        message_print("no memory for the history");
    if (option_value(OPTION_GUARD) == GUARD_EDGES)
        large_guard_edges();
    if (option_value(OPTION_LEAKS) != 0 || option_value(OPTION_STATS) == STATS_EXIT)
        message_keep_stderr();
}

/* What is allocated before the C library's first constructor finds no `environ` yet. It is where the kernel has put it,
 * behind the arguments; other C libraries have no such name. */
extern long *__libc_stack_end __attribute__((weak));

static char **environment(void) {
    if (environ != NULL || &__libc_stack_end == NULL)
        return environ;
    return (char **)(__libc_stack_end + 1 + __libc_stack_end[0] + 1);
}

static void boot(void) {
    os_boot();
    clock_boot();
    options_boot(environment());
    boot_debugging();
    arenas_boot((unsigned)option_value(OPTION_ARENAS));
    store_release(&boot_state, BOOT_RUNNING);
    /* From here on this thread may allocate: both of these do, in some C libraries or for the many-th caller. */
    make_thread_key();
    handle_forks();
    boot_cache = enter_thread(false);
    boot_thread = lock_self();
    store_release(&boot_state, BOOT_DONE);
}

static COLD void boot_once(void) {
    if (lock_is_mine(&boot_lock)) /* in the second half of boot */
        return;
    lock_acquire(&boot_lock);
    if (load_relaxed(&boot_state) == BOOT_NOT)
        boot();
    lock_release(&boot_lock);
}

void process_defer(void (*action)(void)) {
    store_relaxed(&deferred, action);
}

/* Not where a signal handler has interrupted malloc: there it waits for the next. */
static COLD void run_deferred(void) {
    void (*action)(void) = lock_holds_any() ? NULL : atomic_exchange_explicit(&deferred, NULL, memory_order_relaxed);
    if (action != NULL)
        action();
}

static struct tcache *enter(bool for_calloc) {
    if (UNLIKELY(load_relaxed(&deferred) != NULL))
        run_deferred();
    if (LIKELY(tcache_is_real(tcache_current)))
        return tcache_current;
    if (UNLIKELY(load_acquire(&boot_state) != BOOT_DONE))
        boot_once();
    return enter_thread(for_calloc);
}

struct tcache *process_enter(void) {
    return enter(false);
}

struct tcache *process_enter_for_calloc(void) {
    return enter(true);
}

void process_start_early(void) {
    tcache_set_current(NULL);
    handle_forks();
}

/* Boots while the process has one thread, and not at somebody's malloc. If a resolver has allocated, thread-local
 * variables were initialised after that: the cache that it made is taken up again. */
__attribute__((constructor(101))) static void start(void) {
    if (boot_cache != NULL && boot_thread == lock_self())
        tcache_set_current(boot_cache);
    struct tcache *cache = process_enter();
    /* Zone, slab, magazine: so that the program's first malloc costs what the next does. A library that was initialised
     * before may have done it. For a class of which there is so little to know that it lies in one page. */
    if (tcache_is_real(cache) && tcache_is_empty(tcache_own_magazine(cache, WARM_CLASS)))
        tcache_refill(cache, WARM_CLASS);
}

void process_drain(void) {
    if (tcache_is_real(tcache_current))
        tcache_drain(tcache_current);
    tcaches_drain_parked();
}
