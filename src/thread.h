/*
 * What each thread has of its own besides its cache: words of several units in one place, as static TLS is scarce where
 * the library is opened late. Each belongs to the unit that it names; no other touches it. Signal handlers may look at
 * and change what is volatile.
 */
#ifndef THREAD_H
#define THREAD_H

#include "base.h"

struct lock;
struct tcache;

struct thread {
    struct lock *volatile awaited; /* lock: asleep */
    struct tcache *in_hand;        /* tcaches */
    volatile uint16_t locks;       /* lock: that it holds, or is about to take: what interrupts it sees none too few */
    volatile uint8_t lock_mode;    /* lock */
    uint8_t forks_inside;          /* process */
    bool stays_without;            /* tcaches */
    volatile uint8_t number_top;   /* process: of gettid(2), written last; 0: not known */
    volatile uint16_t number_low;
};

extern __thread struct thread thread_own;

#endif
