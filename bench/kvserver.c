/*
 * A small key-value server under its own load: the program that scripts/preload runs when it is given none.
 *
 * It is a server as servers are: a pool of workers shares one epoll set, and whichever is free takes the next
 * request of any connection. So a value is malloc'ed by one thread, replaced and freed by another, and sent
 * by a third that holds a reference meanwhile. The clients are threads of the same process, over sockets of
 * 127.0.0.1. Each owns its keys and knows what every one must hold, so a lost, stale or damaged value is an
 * error and the exit status is 1.
 *
 * It is linked with no allocator. What it can say of the one in use it finds out at the end: where that
 * offers show_alloc_mem, every block of the store must be in the register, with its exact size.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    STRIPES = 64,
    BUCKETS = 256, /* per stripe */
    KEYS = 1024,   /* per client */
    THREADS_MAX = 256,
    SECONDS_MAX = 3600,
    REQUESTS_PER_CONNECTION = 1000,
    TIMEOUT_SECONDS = 20, /* a peer silent for so long is an error, not a hang */
    MAP_LINES = 20,
    FAULTS_SHOWN = 10,
};

#define STORE_BYTES_MAX ((size_t)64 << 20)

enum operation { GET, SET, DEL, OPERATIONS };
enum status { FOUND, ABSENT, STORED, NO_MEMORY };

/* Both ends are this process, so numbers travel in host order. The key follows a request, then the value. */
struct request {
    uint16_t operation, key_length;
    uint32_t value_length;
};
struct reply {
    uint32_t status, value_length;
};

static atomic_ulong faults;

__attribute__((format(printf, 1, 2))) static void fault(const char *format, ...) {
    if (atomic_fetch_add(&faults, 1) >= FAULTS_SHOWN)
        return;
    char line[256];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    fprintf(stderr, "kvserver: %s\n", line);
}

static void require(bool done, const char *what) {
    if (!done) {
        fprintf(stderr, "kvserver: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

/* ------------------------------------------------------------------------------------------------ sockets */

static bool receive(int fd, void *bytes, size_t size) {
    for (char *to = bytes; size > 0;) {
        ssize_t n = recv(fd, to, size, MSG_WAITALL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        to += n;
        size -= (size_t)n;
    }
    return true;
}

static bool transmit(int fd, struct iovec *parts, size_t count) {
    while (count > 0) {
        ssize_t n = sendmsg(fd, &(struct msghdr){.msg_iov = parts, .msg_iovlen = count}, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        for (size_t sent = (size_t)n; count > 0; parts++, count--) {
            if (sent < parts->iov_len) {
                parts->iov_base = (char *)parts->iov_base + sent;
                parts->iov_len -= sent;
                break;
            }
            sent -= parts->iov_len;
        }
    }
    return true;
}

static void prepare_socket(int fd) {
    struct timeval limit = {.tv_sec = TIMEOUT_SECONDS};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

/* -------------------------------------------------------------------------------------------------- store */

struct value {
    atomic_uint references; /* the store's own, and one per reply under way */
    uint32_t size;
    char bytes[];
};

struct entry {
    struct entry *next;  /* the stripe's lock */
    struct value *value; /* the stripe's lock */
    uint16_t key_length; /* constant, as is the key */
    char key[];
};

static struct stripe {
    _Alignas(64) pthread_mutex_t lock;
    struct entry *buckets[BUCKETS]; /* lock */
} store[STRIPES];

static void value_release(struct value *value) {
    if (value && atomic_fetch_sub(&value->references, 1) == 1)
        free(value);
}

/* Locks the key's stripe and gives the link that holds its entry, or the link at which a new one belongs. */
static struct entry **store_lock(const char *key, uint16_t length, struct stripe **locked) {
    uint64_t hash = 0xCBF29CE484222325; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)key[i]) * 0x100000001B3;
    hash ^= hash >> 32;
    struct stripe *stripe = *locked = &store[hash % STRIPES];
    pthread_mutex_lock(&stripe->lock);
    struct entry **link = &stripe->buckets[hash / STRIPES % BUCKETS];
    while (*link && ((*link)->key_length != length || memcmp((*link)->key, key, length) != 0))
        link = &(*link)->next;
    return link;
}

/* The value with a reference for the caller, or NULL. */
static struct value *store_get(const char *key, uint16_t length) {
    struct stripe *stripe;
    struct entry *entry = *store_lock(key, length, &stripe);
    struct value *value = entry ? entry->value : NULL;
    if (value)
        atomic_fetch_add(&value->references, 1);
    pthread_mutex_unlock(&stripe->lock);
    return value;
}

/* Takes over the caller's reference to `value`, on failure too. */
static enum status store_set(const char *key, uint16_t length, struct value *value) {
    struct stripe *stripe;
    struct entry **link = store_lock(key, length, &stripe), *entry = *link;
    if (!entry && (entry = malloc(sizeof *entry + length))) {
        *entry = (struct entry){.key_length = length};
        memcpy(entry->key, key, length);
        *link = entry;
    }
    struct value *unused = value;
    if (entry) {
        unused = entry->value;
        entry->value = value;
    }
    pthread_mutex_unlock(&stripe->lock);
    value_release(unused);
    return entry ? STORED : NO_MEMORY;
}

static enum status store_delete(const char *key, uint16_t length) {
    struct stripe *stripe;
    struct entry **link = store_lock(key, length, &stripe), *entry = *link;
    if (entry)
        *link = entry->next;
    pthread_mutex_unlock(&stripe->lock);
    if (!entry)
        return ABSENT;
    value_release(entry->value);
    free(entry);
    return FOUND;
}

/* Calls `visit` with every block of the store and the size asked for; nobody else may use it meanwhile. */
static void store_walk(void (*visit)(void *block, size_t size, void *context), void *context) {
    for (size_t i = 0; i < STRIPES * BUCKETS; i++) {
        for (struct entry *entry = store[i / BUCKETS].buckets[i % BUCKETS], *next; entry; entry = next) {
            next = entry->next;
            visit(entry->value, sizeof *entry->value + entry->value->size, context);
            visit(entry, sizeof *entry + entry->key_length, context);
        }
    }
}

/* ------------------------------------------------------------------------------------------------- server */

struct connection {
    int fd;
    pthread_mutex_t lock; /* epoll already gives it to one worker at a time; this makes the order known to C */
};

static struct {
    int poll;
    struct connection listener, stop; /* these two stand in the epoll set beside the clients' connections */
    struct sockaddr_in address;
    atomic_ulong operations[OPERATIONS];
} server;

/* With EPOLLONESHOT a connection is handed to one worker, and to nobody else until that one arms it again. */
static bool arm(struct connection *connection, int how) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = connection};
    return epoll_ctl(server.poll, how, connection->fd, &event) == 0;
}

static bool answer(int fd, enum status status, struct value *value) {
    struct reply reply = {status, value ? value->size : 0};
    struct iovec parts[] = {{&reply, sizeof reply}, {value ? value->bytes : NULL, reply.value_length}};
    return transmit(fd, parts, 2);
}

static bool serve_get(int fd, const char *key, uint16_t length) {
    struct value *value = store_get(key, length);
    bool sent = answer(fd, value ? FOUND : ABSENT, value);
    value_release(value);
    return sent;
}

static bool serve_set(int fd, const char *key, uint16_t length, uint32_t size) {
    struct value *value = malloc(sizeof *value + size);
    if (!value || !receive(fd, value->bytes, size)) {
        free(value);
        return false;
    }
    atomic_init(&value->references, 1);
    value->size = size;
    return answer(fd, store_set(key, length, value), NULL);
}

/* False when the connection is at its end. */
static bool serve_request(int fd) {
    struct request request;
    if (!receive(fd, &request, sizeof request) || request.operation >= OPERATIONS)
        return false;
    char *key = malloc(request.key_length);
    bool alive = key && receive(fd, key, request.key_length);
    if (alive) {
        atomic_fetch_add_explicit(&server.operations[request.operation], 1, memory_order_relaxed);
        if (request.operation == GET)
            alive = serve_get(fd, key, request.key_length);
        else if (request.operation == SET)
            alive = serve_set(fd, key, request.key_length, request.value_length);
        else
            alive = answer(fd, store_delete(key, request.key_length), NULL);
    }
    free(key);
    return alive;
}

static void accept_connection(void) {
    int fd = accept4(server.listener.fd, NULL, NULL, SOCK_CLOEXEC);
    arm(&server.listener, EPOLL_CTL_MOD);
    if (fd < 0)
        return;
    prepare_socket(fd);
    struct connection *connection = malloc(sizeof *connection);
    if (connection)
        *connection = (struct connection){fd, PTHREAD_MUTEX_INITIALIZER};
    if (!connection || !arm(connection, EPOLL_CTL_ADD)) {
        fault("a connection could not be taken: %s", strerror(errno));
        close(fd);
        free(connection);
    }
}

static void serve_connection(struct connection *connection) {
    pthread_mutex_lock(&connection->lock);
    bool alive = serve_request(connection->fd) && arm(connection, EPOLL_CTL_MOD);
    pthread_mutex_unlock(&connection->lock);
    if (!alive) {
        close(connection->fd);
        free(connection);
    }
}

static void *work(void *unused) {
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(server.poll, &event, 1, -1) < 1)
            continue;
        struct connection *connection = event.data.ptr;
        if (connection == &server.stop)
            return unused;
        if (connection == &server.listener)
            accept_connection();
        else
            serve_connection(connection);
    }
}

static void server_open(void) {
    server.address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof server.address;
    struct sockaddr *address = (struct sockaddr *)&server.address;
    for (size_t i = 0; i < STRIPES; i++)
        pthread_mutex_init(&store[i].lock, NULL);
    server.listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    server.stop.fd = eventfd(0, EFD_CLOEXEC);
    server.poll = epoll_create1(EPOLL_CLOEXEC);
    require(bind(server.listener.fd, address, length) == 0, "cannot bind to a port of 127.0.0.1");
    require(listen(server.listener.fd, THREADS_MAX) == 0, "cannot listen on 127.0.0.1");
    require(getsockname(server.listener.fd, address, &length) == 0, "getsockname");
    require(arm(&server.listener, EPOLL_CTL_ADD), "epoll");
    struct epoll_event everybody = {.events = EPOLLIN, .data.ptr = &server.stop};
    require(epoll_ctl(server.poll, EPOLL_CTL_ADD, server.stop.fd, &everybody) == 0, "epoll");
}

/* ------------------------------------------------------------------------------------------------ clients */

struct client {
    pthread_t thread;
    unsigned number;
    uint64_t random;
    int fd;
    unsigned long requests, answered;
    size_t share, stored; /* bytes of values: allowed, and now in the store */
    struct expected {
        uint32_t size; /* 0: the key must be absent */
        uint64_t seed;
    } expected[KEYS];
};

static atomic_bool time_is_up;

static uint64_t next_random(uint64_t *state) { /* xorshift64 */
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

/* A few bytes to 128 KiB: sizes of every category, small ones more often. */
static uint32_t random_size(uint64_t *state) {
    uint64_t roll = next_random(state) % 100;
    unsigned lowest = roll < 80 ? 2 : roll < 97 ? 10 : 16, doublings = roll < 80 ? 8 : roll < 97 ? 6 : 1;
    uint32_t size = 1u << (lowest + next_random(state) % doublings);
    return size + (uint32_t)(next_random(state) % size);
}

/* The bytes that a value of this seed consists of. */
static void fill(char *bytes, uint32_t size, uint64_t seed) {
    for (uint32_t done = 0; done < size; done += sizeof seed) {
        next_random(&seed);
        memcpy(bytes + done, &seed, size - done < sizeof seed ? size - done : sizeof seed);
    }
}

static bool is_filled(const char *bytes, uint32_t size, uint64_t seed) {
    for (uint32_t done = 0; done < size; done += sizeof seed) {
        next_random(&seed);
        if (memcmp(bytes + done, &seed, size - done < sizeof seed ? size - done : sizeof seed) != 0)
            return false;
    }
    return true;
}

static bool client_connect(struct client *client) {
    if (client->fd >= 0)
        close(client->fd);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(client->fd, (struct sockaddr *)&server.address, sizeof server.address) == 0) {
        prepare_socket(client->fd);
        return true;
    }
    fault("client %u: cannot connect: %s", client->number, strerror(errno));
    return false;
}

/* Sends one request and takes the reply's head; what the reply carries is still to be received. */
static bool client_ask(struct client *client, enum operation operation, unsigned key, char *value, uint32_t size,
                       struct reply *reply) {
    if (client->requests++ % REQUESTS_PER_CONNECTION == 0 && !client_connect(client))
        return false;
    char name[40];
    int length = snprintf(name, sizeof name, "client %u, key %u", client->number, key);
    struct request request = {(uint16_t)operation, (uint16_t)length, size};
    struct iovec parts[] = {{&request, sizeof request}, {name, (size_t)length}, {value, size}};
    if (!transmit(client->fd, parts, 3) || !receive(client->fd, reply, sizeof *reply)) {
        fault("client %u: the connection broke: %s", client->number, strerror(errno));
        return false;
    }
    client->answered++;
    return true;
}

static bool client_set(struct client *client, unsigned key, uint32_t size) {
    struct expected *expected = &client->expected[key];
    struct reply reply;
    uint64_t seed = next_random(&client->random);
    char *value = malloc(size);
    if (value)
        fill(value, size, seed);
    bool alive = value && client_ask(client, SET, key, value, size, &reply);
    free(value);
    if (!value || (alive && reply.status != STORED))
        fault("client %u: no memory for key %u (%" PRIu32 " bytes)", client->number, key, size);
    if (!alive || reply.status != STORED)
        return false;
    client->stored = client->stored - expected->size + size;
    *expected = (struct expected){size, seed};
    return true;
}

static bool client_delete(struct client *client, unsigned key) {
    struct expected *expected = &client->expected[key];
    struct reply reply;
    if (!client_ask(client, DEL, key, NULL, 0, &reply))
        return false;
    if (reply.status != (expected->size ? FOUND : ABSENT))
        fault("client %u: key %u: its deletion found %s", client->number, key, expected->size ? "nothing" : "one");
    client->stored -= expected->size;
    expected->size = 0;
    return true;
}

static bool client_get(struct client *client, unsigned key) {
    const struct expected *expected = &client->expected[key];
    struct reply reply;
    if (!client_ask(client, GET, key, NULL, 0, &reply))
        return false;
    char *value = malloc(reply.value_length);
    bool received = value && receive(client->fd, value, reply.value_length);
    if (!received)
        fault("client %u: key %u: no value received", client->number, key);
    else if (reply.status != (expected->size ? FOUND : ABSENT) || reply.value_length != expected->size)
        fault("client %u: key %u: %" PRIu32 " bytes, not %" PRIu32, client->number, key, reply.value_length,
              expected->size);
    else if (!is_filled(value, expected->size, expected->seed))
        fault("client %u: key %u: its value was changed", client->number, key);
    free(value);
    return received;
}

static void *client_run(void *context) {
    struct client *client = context;
    bool alive = true;
    while (alive && !atomic_load_explicit(&time_is_up, memory_order_relaxed)) {
        unsigned key = (unsigned)(next_random(&client->random) % KEYS);
        unsigned roll = (unsigned)(next_random(&client->random) % 100);
        uint32_t size = random_size(&client->random);
        if (roll < 50)
            alive = client_get(client, key);
        else if (roll < 90 && client->stored - client->expected[key].size + size <= client->share)
            alive = client_set(client, key, size);
        else
            alive = client_delete(client, key);
    }
    for (unsigned key = 0; alive && key < KEYS; key++)
        alive = client_get(client, key);
    close(client->fd);
    return NULL;
}

/* ------------------------------------------------------------------------------ what the allocator says */

struct listing {
    FILE *text; /* NULL where the allocator keeps no register */
    size_t blocks, bytes;
    struct listed {
        uintptr_t start;
        size_t size;
    } * block;      /* ascending, as show_alloc_mem lists them */
    size_t matched; /* blocks of the store that are listed with their exact size */
};

/* Runs `print` with `fd` sent to a temporary file, and gives that, rewound. */
static FILE *capture(int fd, void (*print)(void)) {
    FILE *text = tmpfile();
    int kept = dup(fd);
    require(text && kept >= 0, "no temporary file");
    fflush(NULL);
    dup2(fileno(text), fd);
    print();
    fflush(NULL);
    dup2(kept, fd);
    close(kept);
    rewind(text);
    return text;
}

static struct listing list_blocks(void) {
    struct listing listing = {0};
    void (*show)(void) = (void (*)(void))dlsym(RTLD_DEFAULT, "show_alloc_mem");
    if (!show)
        return listing;
    listing.text = capture(STDOUT_FILENO, show);
    char line[128];
    size_t capacity = 0, total = 0;
    while (fgets(line, sizeof line, listing.text)) {
        struct listed block;
        uintptr_t end;
        if (sscanf(line, "Total : %zu bytes", &total) == 1 ||
            sscanf(line, "0x%" SCNxPTR " - 0x%" SCNxPTR " : %zu bytes", &block.start, &end, &block.size) != 3)
            continue;
        if (listing.blocks == capacity) {
            capacity = capacity ? 2 * capacity : 1024;
            listing.block = realloc(listing.block, capacity * sizeof block);
            require(listing.block, "the heap map");
        }
        listing.block[listing.blocks++] = block;
        listing.bytes += block.size;
        if (end - block.start != block.size)
            fault("the register: 0x%" PRIXPTR " - 0x%" PRIXPTR " is not %zu bytes", block.start, end, block.size);
    }
    if (total != listing.bytes)
        fault("the register: the blocks come to %zu bytes, its total says %zu", listing.bytes, total);
    return listing;
}

static int compare_blocks(const void *a, const void *b) {
    const struct listed *left = a, *right = b;
    return (left->start > right->start) - (left->start < right->start);
}

static void find_listed(void *block, size_t size, void *context) {
    struct listing *listing = context;
    if (!listing->text)
        return;
    struct listed wanted = {(uintptr_t)block, size}, *found = NULL;
    if (listing->blocks > 0)
        found = bsearch(&wanted, listing->block, listing->blocks, sizeof wanted, compare_blocks);
    if (found && found->size == size)
        listing->matched++;
    else
        fault("the register: the store's block of %zu bytes at %p is %s", size, block,
              found ? "listed with another size" : "not listed");
}

static void free_block(void *block, size_t size, void *context) {
    (void)size;
    (void)context;
    free(block);
}

/* The file that `malloc` comes from. */
static const char *allocator_name(void) {
    Dl_info info;
    void *symbol = dlsym(RTLD_DEFAULT, "malloc");
    return symbol && dladdr(symbol, &info) ? info.dli_fname : "unknown";
}

/* The `Arena N:` blocks of malloc_stats, or 0 where the malloc_stats at hand is not this malloc's. */
static int arenas_in_use(void) {
    Dl_info info;
    void *symbol = dlsym(RTLD_DEFAULT, "malloc_stats");
    if (!symbol || !dladdr(symbol, &info) || strcmp(info.dli_fname, allocator_name()) != 0)
        return 0;
    FILE *text = capture(STDERR_FILENO, (void (*)(void))symbol);
    int arenas = 0, number;
    char line[256];
    while (fgets(line, sizeof line, text))
        arenas += sscanf(line, "Arena %d:", &number) == 1;
    fclose(text);
    return arenas;
}

/* --------------------------------------------------------------------------------------------------- main */

static const char USAGE[] = "usage: kvserver [--seconds N] [--threads N] [--register]\n"
                            "A key-value server on 127.0.0.1 under its own load, and what its allocator did.\n"
                            "  --seconds N   for how long (1 to 3600; default 4)\n"
                            "  --threads N   so many workers and as many clients (1 to 256; default 8)\n"
                            "  --register    an allocator without a register of live blocks is an error\n"
                            "Exit status: 0, or 1 if a value was lost or damaged, or missing from the register.\n";

static unsigned long number_option(const char *text, unsigned long highest) {
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || number < 1 || number > highest) {
        fprintf(stderr, "kvserver: %s: not a number from 1 to %lu\n%s", text, highest, USAGE);
        exit(2);
    }
    return number;
}

static struct settings {
    unsigned long seconds, threads;
    bool register_wanted;
} parse_options(int argc, char **argv) {
    static const struct option options[] = {
        {"seconds", required_argument, NULL, 's'},
        {"threads", required_argument, NULL, 't'},
        {"register", no_argument, NULL, 'r'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct settings settings = {.seconds = 4, .threads = 8};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 's') {
            settings.seconds = number_option(optarg, SECONDS_MAX);
        } else if (option == 't') {
            settings.threads = number_option(optarg, THREADS_MAX);
        } else if (option == 'r') {
            settings.register_wanted = true;
        } else {
            fputs(USAGE, option == 'h' ? stdout : stderr);
            exit(option == 'h' ? 0 : 2);
        }
    }
    return settings;
}

static size_t memory_available(void) {
    size_t kib = SIZE_MAX >> 10;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "MemAvailable: %zu", &kib) != 1)
        continue;
    if (file)
        fclose(file);
    return kib << 10;
}

static unsigned long operations_served(void) {
    unsigned long sum = 0;
    for (int i = 0; i < OPERATIONS; i++)
        sum += atomic_load_explicit(&server.operations[i], memory_order_relaxed);
    return sum;
}

/* Waits for so long under a progress line: redrawn on a terminal, elsewhere a new one every ten seconds. */
static void wait_under_progress(unsigned long seconds) {
    bool terminal = isatty(STDERR_FILENO);
    for (unsigned long tenth = 0; tenth < 10 * seconds; tenth++) {
        if (terminal || tenth % 100 == 0)
            fprintf(stderr, "%sserving: %lu of %lu s, %lu operations, %lu errors%s", terminal ? "\r\033[K" : "",
                    tenth / 10, seconds, operations_served(), atomic_load(&faults), terminal ? "" : "\n");
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    fputs(terminal ? "\r\033[Kreading everything back" : "", stderr);
}

struct outcome {
    unsigned long seconds;
    size_t values, bytes; /* in the store, as the clients know */
    int arenas;
    struct listing full, emptied; /* with the store full, and after all of it was freed */
};

static void print_outcome(const struct outcome *outcome) {
    unsigned long operations = operations_served();
    printf("allocator     %s\n", allocator_name());
    printf("operations    %lu counted by the server (%lu get, %lu set, %lu del), about %lu a second\n", operations,
           atomic_load(&server.operations[GET]), atomic_load(&server.operations[SET]),
           atomic_load(&server.operations[DEL]), operations / outcome->seconds);
    printf("errors        %lu\n", atomic_load(&faults));
    printf("store         %zu values, %zu bytes\n", outcome->values, outcome->bytes);
    if (outcome->arenas > 0)
        printf("arenas        %d in use\n", outcome->arenas);
    if (!outcome->full.text) {
        printf("register      none is available: this allocator has no show_alloc_mem\n");
        return;
    }
    printf("live          %zu blocks, %zu bytes\n", outcome->full.blocks, outcome->full.bytes);
    printf("register      lists %zu of the store's %zu blocks with their exact sizes\n", outcome->full.matched,
           2 * outcome->values);
    printf("once emptied  %zu blocks, %zu bytes\n", outcome->emptied.blocks, outcome->emptied.bytes);
    printf("heap map      its first %d lines, of the full store:\n", MAP_LINES);
    char line[128];
    rewind(outcome->full.text);
    for (int i = 0; i < MAP_LINES && fgets(line, sizeof line, outcome->full.text); i++)
        printf("  %s", line);
}

/* Runs the clients against the workers, and leaves in `client` what each of them knows. */
static void serve(struct client *client, unsigned long threads, unsigned long seconds, size_t bytes_max,
                  pthread_t *worker) {
    for (unsigned i = 0; i < threads; i++) {
        client[i].number = i;
        client[i].random = i + 1;
        client[i].fd = -1;
        client[i].share = bytes_max / threads;
        errno = pthread_create(&worker[i], NULL, work, NULL);
        require(errno == 0, "a worker's thread");
        errno = pthread_create(&client[i].thread, NULL, client_run, &client[i]);
        require(errno == 0, "a client's thread");
    }
    wait_under_progress(seconds);
    atomic_store(&time_is_up, true);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(client[i].thread, NULL);
    fputs(isatty(STDERR_FILENO) ? "\r\033[K" : "", stderr);
}

int main(int argc, char **argv) {
    struct settings settings = parse_options(argc, argv);
    size_t available = memory_available() / 4;
    size_t bytes_max = available < STORE_BYTES_MAX ? available : STORE_BYTES_MAX;
    server_open();
    printf("kvserver      127.0.0.1:%d, %lu workers, %lu clients, %lu s, at most %zu MiB of values\n",
           ntohs(server.address.sin_port), settings.threads, settings.threads, settings.seconds, bytes_max >> 20);
    fflush(stdout);

    pthread_t worker[THREADS_MAX];
    struct client *client = calloc(settings.threads, sizeof *client);
    require(client, "the clients");
    serve(client, settings.threads, settings.seconds, bytes_max, worker);
    struct outcome outcome = {.seconds = settings.seconds};
    unsigned long answered = 0;
    for (unsigned i = 0; i < settings.threads; i++) {
        answered += client[i].answered;
        outcome.bytes += client[i].stored;
        for (unsigned key = 0; key < KEYS; key++)
            outcome.values += client[i].expected[key].size > 0;
    }

    outcome.full = list_blocks();
    store_walk(find_listed, &outcome.full);
    if (outcome.full.text && outcome.full.matched != 2 * outcome.values)
        fault("the register: %zu blocks of the store matched, not %zu", outcome.full.matched, 2 * outcome.values);
    if (!outcome.full.text && settings.register_wanted)
        fault("the register: %s has no show_alloc_mem", allocator_name());
    outcome.arenas = arenas_in_use();

    require(write(server.stop.fd, &(uint64_t){1}, sizeof(uint64_t)) > 0, "the workers' end");
    for (unsigned i = 0; i < settings.threads; i++)
        pthread_join(worker[i], NULL);
    if (operations_served() != answered)
        fault("%lu operations served, but %lu answers received", operations_served(), answered);
    store_walk(free_block, NULL);
    free(client);
    free(outcome.full.block);
    outcome.emptied = list_blocks();

    print_outcome(&outcome);
    return atomic_load(&faults) ? 1 : 0;
}
