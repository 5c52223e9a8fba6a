/*
 * A server's load on its allocator, made of requests: each belongs to a session, builds its answer from small blocks,
 * keeps something in a cache that drops what was used least recently, and hands a buffer to another thread. All that
 * is kept has known contents, checked when it is used and when it goes.
 */
#ifndef SOAK_LOAD_H
#define SOAK_LOAD_H

#include "limits/memory.h"
#include "threads/random.h"

#include <pthread.h>

enum {
    SHARDS = 64, /* of sessions, and of the cache, each under a lock of its own */
    ATTRIBUTES = 6,
    BUCKETS = 256, /* of a shard of the cache */
    MAILBOXES = 64,
    SCRATCH = 24 /* blocks that live for one request */
};

struct session {
    uint64_t tag;
    size_t requests_left;
    void *history;
    size_t history_size;
    char *attributes[ATTRIBUTES];
};

struct item {
    struct item *newer, *older, *next_in_bucket;
    uint64_t key;
    size_t size;
    unsigned char value[];
};

struct shard {
    pthread_mutex_t lock;
    struct session **sessions; /* SESSIONS_PER_SHARD of them, NULL: none */
    struct item *buckets[BUCKETS];
    struct item *newest, *oldest;
    size_t bytes; /* in the cache */
};

struct buffer {
    size_t size;
    uint64_t tag;
    unsigned char bytes[];
};

/* What a phase asks for; constant while threads work. */
static struct {
    size_t sessions;    /* open in each shard at most */
    size_t cache_bytes; /* in each shard at most */
    size_t large_in;    /* one request in so many has a LARGE buffer; 0: none */
    size_t large_max;
} want;

static size_t sessions_max; /* in each shard; constant */
static struct shard shards[SHARDS];
static struct buffer *_Atomic mailboxes[MAILBOXES];
static atomic_size_t wrong; /* contents that were not what had been written */
static _Atomic uint64_t tags;

static void note(int right) {
    if (!right)
        atomic_fetch_add(&wrong, 1);
}

/* -------------------------------------------------------------------------------------------- sessions */
/* Most end at once, some last for cycles. */
static size_t lifetime(struct rng *rng) {
    size_t kind = rng_between(rng, 1, 100);
    return kind <= 80 ? rng_between(rng, 1, 4) : kind <= 97 ? rng_between(rng, 5, 40) : rng_between(rng, 100, 1000);
}

static void session_grow(struct session *session, struct rng *rng) {
    size_t size = rng_between(rng, 1, 20) == 1 ? rng_between(rng, 2000, 16000) : rng_between(rng, 50, 1500);
    note(pattern_holds(session->history, session->history_size, session->tag));
    session->history = realloc(session->history, size);
    session->history_size = size;
    pattern_write(session->history, size, session->tag);
}

static struct session *session_open(struct rng *rng) {
    struct session *session = calloc(1, sizeof *session);
    session->tag = atomic_fetch_add(&tags, 1);
    session->requests_left = lifetime(rng);
    for (size_t i = 0; i < ATTRIBUTES; i++) {
        char text[200];
        size_t length = rng_between(rng, 4, sizeof text - 1);
        memset(text, 'a' + (int)i, length);
        text[length] = '\0';
        session->attributes[i] = strdup(text);
    }
    session_grow(session, rng);
    return session;
}

static void session_close(struct session **slot) {
    struct session *session = *slot;
    *slot = NULL;
    if (session == NULL)
        return;
    note(pattern_holds(session->history, session->history_size, session->tag));
    free(session->history);
    for (size_t i = 0; i < ATTRIBUTES; i++) {
        note(session->attributes[i][0] == 'a' + (int)i);
        free(session->attributes[i]);
    }
    free(session);
}

/* Under the shard's lock. One slot in turn is looked at, too: a phase of fewer sessions ends the others. */
static void session_serve(struct shard *shard, struct rng *rng) {
    struct session **slot = &shard->sessions[rng_between(rng, 0, want.sessions - 1)];
    if (*slot == NULL)
        *slot = session_open(rng);
    else
        session_grow(*slot, rng);
    if (--(*slot)->requests_left == 0)
        session_close(slot);
    size_t other = rng_between(rng, 0, sessions_max - 1);
    if (other >= want.sessions)
        session_close(&shard->sessions[other]);
}

/* ------------------------------------------------------------------------------------------- the cache */
static struct item **item_place(struct shard *shard, uint64_t key) {
    struct item **place = &shard->buckets[key / SHARDS % BUCKETS];
    while (*place != NULL && (*place)->key != key)
        place = &(*place)->next_in_bucket;
    return place;
}

static void item_unlink(struct shard *shard, struct item *item) {
    *(item->newer ? &item->newer->older : &shard->newest) = item->older;
    *(item->older ? &item->older->newer : &shard->oldest) = item->newer;
}

static void item_put_first(struct shard *shard, struct item *item) {
    item->newer = NULL;
    item->older = shard->newest;
    *(shard->newest ? &shard->newest->newer : &shard->oldest) = item;
    shard->newest = item;
}

static void item_drop(struct shard *shard, struct item *item) {
    note(pattern_holds(item->value, item->size, item->key));
    *item_place(shard, item->key) = item->next_in_bucket;
    item_unlink(shard, item);
    shard->bytes -= item->size;
    free(item);
}

/* Under the shard's lock. */
static void cache_serve(struct shard *shard, uint64_t key, struct rng *rng) {
    struct item **place = item_place(shard, key);
    struct item *item = *place;
    if (item != NULL) {
        note(pattern_holds(item->value, item->size, key));
        item_unlink(shard, item);
    } else {
        size_t size = rng_between(rng, 1, 10) == 1 ? rng_between(rng, 4000, 60000) : rng_between(rng, 30, 4000);
        item = malloc(sizeof *item + size);
        *item = (struct item){.key = key, .size = size};
        pattern_write(item->value, size, key);
        *place = item;
        shard->bytes += size;
    }
    item_put_first(shard, item);
    while (shard->bytes > want.cache_bytes)
        item_drop(shard, shard->oldest);
}

/* --------------------------------------------------------------------------------------------- buffers */
static void mail(struct rng *rng) {
    size_t size = rng_between(rng, 500, 20000);
    if (want.large_in != 0 && rng_between(rng, 1, want.large_in) == 1)
        size = rng_between(rng, 70000, want.large_max);
    struct buffer *buffer = malloc(sizeof *buffer + size / 2);
    buffer = realloc(buffer, sizeof *buffer + size);
    buffer->size = size;
    buffer->tag = atomic_fetch_add(&tags, 1);
    pattern_write(buffer->bytes, size, buffer->tag);
    struct buffer *old = atomic_exchange(&mailboxes[rng_between(rng, 0, MAILBOXES - 1)], buffer);
    note(old == NULL || pattern_holds(old->bytes, old->size, old->tag));
    free(old);
}

/* -------------------------------------------------------------------------------------------- requests */
static void load_serve(struct rng *rng) {
    void *scratch[SCRATCH];
    for (size_t i = 0; i < SCRATCH; i++)
        scratch[i] = malloc(rng_between(rng, 8, i % 8 ? 300 : 3000));
    uint64_t key = rng_between(rng, 0, 1 << 30) % rng_between(rng, 1, 1 << 16); /* the lower, the more often */
    struct shard *shard = &shards[key % SHARDS];
    pthread_mutex_lock(&shard->lock);
    session_serve(shard, rng);
    cache_serve(shard, key, rng);
    pthread_mutex_unlock(&shard->lock);
    if (rng_between(rng, 1, 4) == 1)
        mail(rng);
    for (size_t i = 0; i < SCRATCH; i++)
        free(scratch[i]);
}

/* Before the first request, and after the last. */
static void load_start(size_t sessions) {
    sessions_max = (sessions + SHARDS - 1) / SHARDS;
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&shards[i].lock, NULL);
        shards[i].sessions = calloc(sessions_max, sizeof *shards[i].sessions);
    }
}

static void load_stop(void) {
    for (size_t i = 0; i < SHARDS; i++) {
        for (size_t j = 0; j < sessions_max; j++)
            session_close(&shards[i].sessions[j]);
        free(shards[i].sessions);
        while (shards[i].oldest != NULL)
            item_drop(&shards[i], shards[i].oldest);
    }
    for (size_t i = 0; i < MAILBOXES; i++)
        free(atomic_exchange(&mailboxes[i], NULL));
}

#endif
