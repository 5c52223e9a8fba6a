/*
 * What each thread has of its own besides its cache: words of several units in one place, as static TLS is scarce where
 * the library is opened late. Each belongs to the unit that is named beside it; no other touches it. Signal handlers
 * may look at and change all of it; where a word is not volatile, its unit keeps the order by fences or calls.
 */
#ifndef THREAD_H
#define THREAD_H

#include "base.h"

struct lock;
struct tcache;

struct thread {
    struct lock *volatile awaited; /* lock: for which the thread sleeps; NULL: none */
    struct tcache *in_hand;        /* tcaches, which says what */
    volatile uint16_t locks;       /* lock: held or about to be taken: what interrupts it sees none too few */
    volatile uint8_t lock_mode;    /* lock */
    uint8_t forks_inside;          /* process */
    bool stays_without;            /* tcaches */
    volatile uint8_t number_top;   /* process: of gettid(2), written last; 0: not known */
    volatile uint16_t number_low;
};

extern __thread struct thread thread_own;

#endif
