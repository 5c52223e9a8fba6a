/*
 * Numbers out of bytes that may be anything. What lies behind the end reads as zero and leaves a mark, so that only
 * what comes of it in the end need be checked.
 */
#ifndef CURSOR_H
#define CURSOR_H

#include "base.h"
#include <string.h>

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool is_broken;
};

INLINE size_t left(const struct cursor *c) {
    return (size_t)(c->end - c->at);
}

INLINE void skip(struct cursor *c, uint64_t count) {
    c->is_broken |= count > left(c);
    c->at = count > left(c) ? c->end : c->at + count;
}

INLINE uint64_t take_bytes(struct cursor *c, size_t size) {
    uint64_t value = 0;
    if (UNLIKELY(size > left(c))) {
        skip(c, size);
        return 0;
    }
    memcpy(&value, c->at, size);
    c->at += size;
    return value;
}

INLINE uint8_t take_u8(struct cursor *c) {
    return (uint8_t)take_bytes(c, 1);
}

INLINE uint32_t take_u32(struct cursor *c) {
    return (uint32_t)take_bytes(c, 4);
}

INLINE int64_t extend_sign(uint64_t value, unsigned bits) {
    uint64_t sign = UINT64_C(1) << (bits - 1);
    return bits == 64 ? (int64_t)value : (int64_t)(((value & (2 * sign - 1)) ^ sign) - sign);
}

/* LEB128, seven bits a byte: *bits becomes how many there were. */
static inline uint64_t take_leb(struct cursor *c, unsigned *bits) {
    uint64_t value = 0;
    uint8_t byte;
    *bits = 0;
    do {
        byte = take_u8(c);
        c->is_broken |= *bits > 63;
        if (*bits <= 63)
            value |= (uint64_t)(byte & 0x7f) << *bits;
        *bits += 7;
    } while ((byte & 0x80) != 0 && !c->is_broken);
    return value;
}

/* Nearly all have one byte. */
INLINE uint64_t take_unsigned(struct cursor *c) {
    unsigned bits;
    if (LIKELY(c->at < c->end && *c->at < 0x80))
        return *c->at++;
    return take_leb(c, &bits);
}

static inline int64_t take_signed(struct cursor *c) {
    unsigned bits;
    uint64_t value = take_leb(c, &bits);
    return bits >= 64 ? (int64_t)value : extend_sign(value, bits);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "as the numbers are that are taken");

#endif
