#include "expression.h"
#include "cursor.h"

#define STACK_DEEP 16

struct stack {
    uintptr_t values[STACK_DEEP];
    unsigned depth;
    bool is_broken;
};

static void push(struct stack *s, uintptr_t value) {
    if (s->depth == STACK_DEEP)
        s->is_broken = true;
    else
        s->values[s->depth++] = value;
}

static uintptr_t pop(struct stack *s) {
    s->is_broken |= s->depth == 0;
    return s->depth == 0 ? 0 : s->values[--s->depth];
}

/* DW_OP_*, those that are met: procedure linkage tables compute, aligned frames and signal frames read memory. */
enum { OP_DEREF = 0x06, OP_CONST1U = 0x08, OP_CONST8S = 0x0f, OP_CONSTU, OP_CONSTS, OP_DUP, OP_NOP = 0x96 };
enum { OP_AND = 0x1a, OP_MINUS = 0x1c, OP_OR = 0x21, OP_PLUS, OP_PLUS_UCONST, OP_SHL, OP_SHR, OP_GE = 0x2a };
enum { OP_LIT0 = 0x30, OP_BREG0 = 0x70 };

static uintptr_t combine(struct stack *s, uint8_t op, uintptr_t a, uintptr_t b) {
    switch (op) {
    case OP_AND:
        return a & b;
    case OP_MINUS:
        return a - b;
    case OP_OR:
        return a | b;
    case OP_PLUS:
        return a + b;
    case OP_SHL:
        return b < 64 ? a << b : 0;
    case OP_SHR:
        return b < 64 ? a >> b : 0;
    case OP_GE:
        return (intptr_t)a >= (intptr_t)b;
    default:
        s->is_broken = true;
        return 0;
    }
}

static bool push_constant(struct stack *s, struct cursor *c, uint8_t op) {
    if (op >= OP_LIT0 && op < OP_LIT0 + 32)
        push(s, op - OP_LIT0);
    else if (op >= OP_CONST1U && op <= OP_CONST8S) { /* sizes double, each unsigned and signed */
        unsigned size = 1U << ((op - OP_CONST1U) / 2);
        uint64_t value = take_bytes(c, size);
        push(s, (op & 1) != 0 ? (uint64_t)extend_sign(value, size * 8) : value);
    } else if (op == OP_CONSTU)
        push(s, take_unsigned(c));
    else if (op == OP_CONSTS)
        push(s, (uint64_t)take_signed(c));
    else
        return false;
    return true;
}

static void operate(struct stack *s, struct cursor *c, uint8_t op, const struct expression_context *context) {
    uintptr_t value = 0;
    if (op >= OP_BREG0 && op < OP_BREG0 + context->count) {
        push(s, context->registers[op - OP_BREG0] + (uint64_t)take_signed(c));
    } else if (op == OP_PLUS_UCONST) {
        push(s, pop(s) + take_unsigned(c));
    } else if (op == OP_DEREF) {
        s->is_broken |= !context->read_word(context->reader, pop(s), &value);
        push(s, value);
    } else if (op == OP_DUP) {
        value = pop(s);
        push(s, value);
        push(s, value);
    } else if (op != OP_NOP && !push_constant(s, c, op)) {
        value = pop(s);
        push(s, combine(s, op, pop(s), value));
    }
}

bool expression_evaluate(const uint8_t *block, const uint8_t *end, const struct expression_context *context,
                         uintptr_t *result) {
    struct cursor c = {block, end, false};
    struct stack s = {.values = {*result}, .depth = 1};
    uint64_t length = take_unsigned(&c);
    if (c.is_broken || length > left(&c))
        return false;
    c.end = c.at + length;
    while (left(&c) > 0 && !c.is_broken && !s.is_broken)
        operate(&s, &c, take_u8(&c), context);
    *result = pop(&s);
    return !c.is_broken && !s.is_broken;
}
