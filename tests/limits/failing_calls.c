/*
 * The kernel refuses: each call of the library in turn, then all calls from some point on, then all of one kind. No
 * refusal may crash; a request that cannot be met is NULL with ENOMEM; nothing live changes; and once the kernel gives
 * again, so does malloc.
 *
 * The library makes its system calls itself, so nothing can be put before it in the process: a seccomp filter hands
 * mmap and its kin to this program's parent process, which refuses the ones that it wants to (seccomp_unotify(2)).
 */
#include "cadastre.h"
#include "limits/memory.h"
#include "misuse/child.h"
#include "threads/random.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* A madvise of nothing with this advice asks the kernel of this test to give again. */
enum { GIVE_AGAIN = 0x7a5e };

/* --------------------------------------------------------------------------------------------- the workload */
enum { SLOTS = 300 };

static struct {
    unsigned char *block;
    size_t size;
} slots[SLOTS];

/* A request that may be refused, but only with ENOMEM. */
static void *allowed(void *block) {
    check(block || errno == ENOMEM, "NULL with errno %d", errno);
    return block;
}

static void check_slots(void) {
    for (size_t i = 0; i < SLOTS; i++)
        check(pattern_holds(slots[i].block, slots[i].size, i), "a block of %zu bytes changed", slots[i].size);
}

static void fill_slot(size_t i, unsigned char *block, size_t size) {
    slots[i].block = block;
    slots[i].size = block ? size : 0;
    pattern_write(slots[i].block, slots[i].size, i);
}

/* Every category, growing, shrinking, moving, aligned, freed; enough to make zones, purge and unmap. */
static void churn(uint64_t stream) {
    struct rng rng = rng_stream(7, stream);
    for (int step = 0; step < 1000; step++) {
        size_t i = rng_between(&rng, 0, SLOTS - 1), size = rng_size(&rng) * (step % 3 ? 1 : 4) + 1;
        errno = 0;
        switch (rng_between(&rng, 0, 4)) {
        case 0: {
            unsigned char *block = allowed(realloc(slots[i].block, size));
            if (block) {
                size_t common = slots[i].size < size ? slots[i].size : size;
                for (size_t j = 0; j < common && j < 256; j++)
                    check(block[j] == pattern_at(i, j), "realloc from %zu to %zu lost contents", slots[i].size, size);
                fill_slot(i, block, size);
            }
            break;
        }
        case 1: {
            free(slots[i].block);
            unsigned char *block = allowed(calloc(1, size));
            for (size_t j = 0; block && j < size; j++)
                check(block[j] == 0, "calloc(1, %zu) gave a byte that is not 0", size);
            fill_slot(i, block, size);
            break;
        }
        case 2:
            free(slots[i].block);
            fill_slot(i, allowed(aligned_alloc((size_t)16 << rng_between(&rng, 0, 10), size)), size);
            break;
        case 3: {
            /* Shrinking must not fail, whatever the kernel says. */
            size_t less = slots[i].size / 2;
            if (less) {
                unsigned char *block = realloc(slots[i].block, less);
                check(block, "shrinking from %zu to %zu failed", slots[i].size, less);
                fill_slot(i, block, less);
            }
            break;
        }
        default:
            free(slots[i].block);
            fill_slot(i, allowed(malloc(size)), size);
        }
        if (step % 250 == 0)
            check_slots();
    }
    check_slots();
}

/* 24 MiB of one kind, freed at once: crosses the retention limit, so that slabs are purged and spans unmapped. */
static void swell(size_t size) {
    static unsigned char *blocks[24 << 10];
    size_t count = 0;
    while (count < (24 << 20) / size && (blocks[count] = allowed(malloc(size))))
        memset(blocks[count++], 0xdd, size);
    while (count > 0)
        free(blocks[--count]);
}

static void *churn_on_a_thread(void *argument) {
    (void)argument;
    for (size_t size = 16; size < 200000; size *= 3) {
        void *block = allowed(malloc(size));
        free(block);
    }
    return NULL;
}

/* One block that grows to 16 MiB and shrinks again: in place, or by moving its pages. */
static void grow_and_shrink(void) {
    size_t held = 100000;
    unsigned char *block = allowed(malloc(held));
    pattern_write(block, block ? 256 : 0, 1);
    for (size_t size = held; block && size < 16 << 20; size += size / 2) {
        unsigned char *grown = allowed(realloc(block, size));
        held = grown ? size : held;
        block = grown ? grown : block;
        check(pattern_holds(block, 256, 1), "realloc to %zu lost contents", size);
    }
    for (; block && held > 10000; held /= 2) {
        block = realloc(block, held / 2);
        check(block && pattern_holds(block, 256, 1), "shrinking to %zu failed", held / 2);
    }
    free(block);
}

static void workload(void) {
    pthread_t thread;
    churn(0);
    grow_and_shrink();
    swell(1024);
    swell(30000);
    swell(150000);
    churn(1);
    if (pthread_create(&thread, NULL, churn_on_a_thread, NULL) == 0)
        pthread_join(thread, NULL);
}

/* The workload under the plan; then the kernel gives again, and so must malloc. */
static void survives(void) {
    workload();
    madvise(NULL, 0, GIVE_AGAIN);
    for (size_t i = 0; i < SLOTS; i++) {
        free(slots[i].block);
        slots[i].block = NULL;
        slots[i].size = 0;
    }
    static const size_t sizes[] = {16, 64, 1000, 1024, 5000, 65536, 100000, 1 << 20, 20 << 20};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        unsigned char *block = malloc(sizes[i]);
        check(block, "no %zu bytes although the kernel gives again", sizes[i]);
        memset(block, 1, sizes[i]);
        free(block);
        block = calloc(1, sizes[i]);
        check(block, "calloc: no %zu bytes although the kernel gives again", sizes[i]);
        for (size_t j = 0; j < sizes[i]; j++)
            check(block[j] == 0, "calloc gave a byte that is not 0");
        free(block);
    }
    churn(2);
    expect_silence();
}

/* --------------------------------------------------------------------------------- the kernel that refuses */
enum call { MMAP = 1, MREMAP = 2, MADVISE = 4, MPROTECT = 8, MUNMAP = 16, ALL = 31 };

/* Which of the library's calls are refused: those of these kinds, counted from 1, from number `first` to `last`. Or
 * they are said to be done, and are not: so may be with madvise. */
struct plan {
    unsigned kinds;
    size_t first, last;
    int pretends;
};

static enum call kind_of(int number) {
    switch (number) {
    case SYS_mmap:
        return MMAP;
    case SYS_mremap:
        return MREMAP;
    case SYS_madvise:
        return MADVISE;
    case SYS_mprotect:
        return MPROTECT;
    default:
        return MUNMAP;
    }
}

static int sockets[2]; /* the filter's listener comes from [1], in the child, to [0] */

/* In the child, before it executes: asks the parent about each of these calls from here on. */
static void install_filter(void) {
#define ASK(number)                                                                                                    \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF)
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ASK(SYS_mmap),
        ASK(SYS_mremap),
        ASK(SYS_madvise),
        ASK(SYS_mprotect),
        ASK(SYS_munmap),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = COUNT(code), .filter = code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    char byte = (char)(listener < 0), control[CMSG_SPACE(sizeof listener)] = {0};
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (listener >= 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header =
            (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof listener)};
        memcpy(CMSG_DATA(header), &listener, sizeof listener);
    }
    if (sendmsg(sockets[1], &message, 0) != 1 || listener < 0)
        _exit(125);
    close(listener);
    close(sockets[0]);
    close(sockets[1]);
}

/* In the parent: the child's listener, or -1 if this kernel or container has none to give. */
static int receive_listener(void) {
    char byte = 1, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int listener = -1;
    if (recvmsg(sockets[0], &message, MSG_CMSG_CLOEXEC) == 1 && byte == 0 && CMSG_FIRSTHDR(&message))
        memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof listener);
    return listener;
}

/* Where the library's code lies in a process: calls from elsewhere (the loader's, pthread's) are always granted. */
struct range {
    unsigned long low, high;
};

static struct range library_code(pid_t pid) {
    char path[64], line[512];
    struct range range = {0};
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "r");
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long low, high;
        if (strstr(line, "libcadastre.so") && sscanf(line, "%lx-%lx r-x", &low, &high) == 2 && strstr(line, " r-x"))
            range = (struct range){low, high};
    }
    if (maps)
        fclose(maps);
    return range;
}

/* Answers the child's calls by the plan until it ends; returns how many of the planned kinds it made. */
static size_t answer(int listener, struct plan plan) {
    struct range library = {0};
    size_t count = 0;
    for (;;) {
        struct pollfd poll_listener = {.fd = listener, .events = POLLIN};
        struct seccomp_notif call = {0};
        if (poll(&poll_listener, 1, -1) < 1 || !(poll_listener.revents & POLLIN))
            return count; /* hung up: no process has the filter any more */
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0)
            continue;
        struct seccomp_notif_resp verdict = {.id = call.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        enum call kind = kind_of(call.data.nr);
        if (!library.high)
            library = library_code((pid_t)call.pid);
        if (kind == MADVISE && call.data.args[2] == GIVE_AGAIN) {
            plan.first = SIZE_MAX;
        } else if ((plan.kinds & kind) && library.low <= call.data.instruction_pointer &&
                   call.data.instruction_pointer < library.high) {
            count++;
            if (plan.first <= count && count <= plan.last)
                verdict = (struct seccomp_notif_resp){.id = call.id,
                                                      .error = plan.pretends     ? 0
                                                               : kind == MADVISE ? -EINVAL
                                                                                 : -ENOMEM};
        }
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &verdict);
    }
}

static const struct test_case cases[] = {{"survives", survives}};

static int supported = 1;

/* One run by the plan; whether it ended well. *count becomes the number of calls of the planned kinds. */
static int run_by(struct plan plan, size_t *count) {
    int errors = memfd_create("stderr", MFD_CLOEXEC);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)
        return 0;
    pid_t pid = start_case(cases[0].name, NULL, install_filter, errors);
    int listener = receive_listener();
    supported = listener >= 0;
    *count = supported ? answer(listener, plan) : 0;
    const struct outcome *outcome = end_case(pid, errors);
    if (outcome->status != 0 && supported)
        diag("calls %zu to %zu of kinds %u refused: wait status 0x%x\n%s", plan.first, plan.last, plan.kinds,
             outcome->status, outcome->errors);
    close(listener);
    close(errors);
    close(sockets[0]);
    close(sockets[1]);
    return outcome->status == 0;
}

static void each_in_turn(const char *name, unsigned kinds) {
    size_t count, ignored, tried = 0;
    int survived = run_by((struct plan){.kinds = kinds, .first = SIZE_MAX}, &count);
    /* Each of the first 30, where the start and first uses are; later ones in growing steps. */
    for (size_t at = 1; at <= count && survived; at += at < 30 ? 1 : at / 8, tried++)
        survived = run_by((struct plan){kinds, at, at, 0}, &ignored);
    ok(count > 0 && survived, "%s: refused once, at %zu of its %zu calls in turn", name, tried, count);
    tried = 0;
    for (size_t at = 1; at <= count && survived; at += at < 16 ? 1 : at / 3, tried++)
        survived = run_by((struct plan){kinds, at, SIZE_MAX, 0}, &ignored);
    ok(survived, "%s: refused for good, from each of %zu calls on", name, tried);
}

static void always(const char *name, unsigned kinds, size_t first) {
    size_t count;
    int survived = run_by((struct plan){kinds, first, SIZE_MAX, 0}, &count);
    ok(survived, "%s: refused from call %zu on, %zu calls in all", name, first, count);
}

int main(int argc, char **argv) {
    size_t count;
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    int granted = run_by((struct plan){.first = SIZE_MAX}, &count);
    if (!supported && !getenv("CI")) {
        tap_print("1..0 # SKIP no seccomp notifications here (Linux 5.9, and a container that allows them)");
        return 0;
    }
    ok(granted, "nothing refused");
    each_in_turn("mmap", MMAP);
    each_in_turn("madvise", MADVISE);
    int survived = run_by((struct plan){MADVISE, 1, SIZE_MAX, 1}, &count);
    ok(survived && count > 0, "madvise: %zu calls, all without effect", count);
    always("mremap", MREMAP, 1);
    always("mprotect", MPROTECT, 1);
    always("munmap", MUNMAP, 1);
    always("all of them", ALL, 1);
    always("all of them", ALL, 20);
    return tap_done();
}
