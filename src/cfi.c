#include "cfi.h"
#include "cursor.h"

#define REMEMBERED 4 /* rows; compilers nest one */

_Static_assert(CFI_REGISTERS <= 32, "a bit each in cfi_row.ruled");

/* Pointer encodings: the low half of the byte is the form, the high half what to add. */
enum { PE_FORM = 0x0f, PE_SIGNED = 0x08, PE_BASE = 0x70, PE_INDIRECT = 0x80, PE_OMIT = 0xff };
enum { PE_NATIVE = 0x00, PE_2 = 0x02, PE_4 = 0x03, PE_8 = 0x04, PE_PC_RELATIVE = 0x10 };
enum { PE_TABLE = 0x3b /* signed, four bytes, relative to the header: the only form of a table one can search */ };

static uint64_t take_form(struct cursor *c, uint8_t encoding) {
    unsigned size;
    switch (encoding & PE_FORM & ~PE_SIGNED) {
    case PE_NATIVE:
    case PE_8:
        size = 8;
        break;
    case PE_4:
        size = 4;
        break;
    case PE_2:
        size = 2;
        break;
    default:
        c->is_broken = true;
        return 0;
    }
    uint64_t value = take_bytes(c, size);
    return (encoding & PE_SIGNED) != 0 ? (uint64_t)extend_sign(value, size * 8) : value;
}

static uintptr_t take_pointer(struct cursor *c, uint8_t encoding) {
    uintptr_t field = (uintptr_t)c->at;
    uintptr_t value = take_form(c, encoding);
    uint8_t base = encoding & (PE_BASE | PE_INDIRECT);
    c->is_broken |= base != 0 && base != PE_PC_RELATIVE;
    return base == PE_PC_RELATIVE ? field + value : value;
}

/* ---------------------------------------------------------------------------------------------- entries */
/* From the length of an entry at `address` to its end; broken if it is none. */
static struct cursor open_entry(const struct cfi_module *module, uintptr_t address) {
    struct cursor c = {module->begin, module->end, false};
    uintptr_t begin = (uintptr_t)module->begin;
    skip(&c, address < begin ? UINT64_MAX : address - begin);
    uint32_t length = take_u32(&c);
    c.is_broken |= length == 0 || length > left(&c); /* the 64-bit form, 0xffffffff, as well */
    if (!c.is_broken)
        c.end = c.at + length;
    return c;
}

static void take_augmentation(struct cursor *c, const char *letters, struct cfi_common *common) {
    uint64_t length = take_unsigned(c);
    struct cursor data = *c;
    skip(c, length);
    for (; *letters != '\0'; letters++) {
        switch (*letters) {
        case 'R':
            common->encoding = take_u8(&data);
            break;
        case 'P': /* the personality, for who throws */
            take_form(&data, take_u8(&data));
            break;
        case 'L':
            take_u8(&data);
            break;
        case 'S':
            common->initial.is_signal_frame = true;
            break;
        case 'B': /* aarch64: which key signs return addresses, and that frames are tagged */
        case 'G':
            break;
        default:
            c->is_broken = true;
        }
    }
    c->is_broken |= data.is_broken;
}

/* Where the table says that the entry of pc's function, or of the last one below, is; 0: nowhere. */
static uintptr_t search_table(const struct cfi_module *module, uintptr_t pc) {
    const uint8_t *header = module->header;
    struct cursor c = {header, module->end, false};
    if (header < module->begin || header > module->end)
        return 0;
    uint8_t version = take_u8(&c);
    uint8_t pointer_encoding = take_u8(&c);
    uint8_t count_encoding = take_u8(&c);
    uint8_t table_encoding = take_u8(&c);
    if (version != 1 || pointer_encoding == PE_OMIT || count_encoding == PE_OMIT || table_encoding != PE_TABLE)
        return 0;
    take_form(&c, pointer_encoding);
    uint64_t high = take_form(&c, count_encoding);
    if (c.is_broken || high > left(&c) / 8)
        return 0;
    int64_t distance = (int64_t)(pc - (uintptr_t)header);
    int32_t entry[2] = {0}; /* function, FDE */
    uint64_t low = 0;       /* entries below this one begin at or before pc, those from `high` on behind it */
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        memcpy(entry, c.at + middle * 8, sizeof entry);
        if (entry[0] <= distance)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return 0;
    memcpy(entry, c.at + (low - 1) * 8, sizeof entry);
    return (uintptr_t)header + (uintptr_t)(int64_t)entry[1];
}

/* ------------------------------------------------------------------------------------------ instructions */
struct program {
    const uint8_t *begin; /* the module's */
    const struct cfi_common *common;
    struct cfi_row *row;
    struct cfi_row *remembered; /* REMEMBERED of them */
    unsigned remembers;
    uintptr_t pc;
    uintptr_t location;
};

static struct cfi_rule rule(struct cursor *c, uint8_t kind, int64_t value) {
    c->is_broken |= value != (int32_t)value;
    return (struct cfi_rule){(int32_t)value, kind};
}

static void set_rule(struct program *p, struct cursor *c, uint64_t reg, uint8_t kind, int64_t value) {
    if (reg >= CFI_REGISTERS)
        return;
    uint32_t bit = UINT32_C(1) << reg;
    p->row->rules[reg] = rule(c, kind, value);
    p->row->ruled = kind == CFI_SAME ? p->row->ruled & ~bit : p->row->ruled | bit;
}

/* To what the CIE's instructions have made of it: nothing, in these themselves. */
static void restore_rule(struct program *p, struct cursor *c, uint64_t reg) {
    if (reg < CFI_REGISTERS)
        set_rule(p, c, reg, p->common->initial.rules[reg].kind, p->common->initial.rules[reg].value);
}

static void set_cfa(struct program *p, struct cursor *c, uint64_t reg, int64_t offset) {
    c->is_broken |= reg >= CFI_REGISTERS || offset != (int32_t)offset;
    p->row->cfa = (struct cfi_rule){(int32_t)reg, CFI_REGISTER};
    p->row->cfa_offset = (int32_t)offset;
}

/* What only makes sense while the CFA is a register and an offset. */
static uint64_t cfa_register(struct program *p, struct cursor *c) {
    c->is_broken |= p->row->cfa.kind != CFI_REGISTER;
    return (uint64_t)p->row->cfa.value;
}

static void advance(struct program *p, uint64_t delta) {
    p->location += delta * p->common->code_align;
}

static void remember_row(struct program *p, struct cursor *c) {
    if (p->remembers == REMEMBERED)
        c->is_broken = true;
    else
        p->remembered[p->remembers++] = *p->row;
}

static void restore_row(struct program *p, struct cursor *c) {
    if (p->remembers == 0)
        c->is_broken = true;
    else
        *p->row = p->remembered[--p->remembers];
}

/* DW_CFA_*: the first three have an operand in their low six bits. */
enum { ADVANCE_LOC = 0x40, OFFSET = 0x80, RESTORE = 0xc0, OPCODE = 0xc0 };
enum { NOP, SET_LOC, ADVANCE_LOC1, ADVANCE_LOC2, ADVANCE_LOC4, OFFSET_EXTENDED, RESTORE_EXTENDED, UNDEFINED };
enum { SAME_VALUE = 0x08, REGISTER, REMEMBER_STATE, RESTORE_STATE, DEF_CFA, DEF_CFA_REGISTER, DEF_CFA_OFFSET };
enum { DEF_CFA_EXPRESSION = 0x0f, EXPRESSION, OFFSET_EXTENDED_SF, DEF_CFA_SF, DEF_CFA_OFFSET_SF, VAL_OFFSET };
enum { VAL_OFFSET_SF = 0x15, VAL_EXPRESSION, NEGATE_RA_STATE_WITH_PC = 0x2c, NEGATE_RA_STATE, GNU_ARGS_SIZE };

/* What is behind the first operand, a register, and the rule that comes of it. */
enum form { NO_RULE, NOTHING, PLAIN, FACTORED, FACTORED_SIGNED, BLOCK };
static const struct {
    uint8_t form;
    uint8_t kind; /* enum cfi_kind */
} ruling[] = {
    [OFFSET_EXTENDED] = {FACTORED, CFI_SAVED},  [OFFSET_EXTENDED_SF] = {FACTORED_SIGNED, CFI_SAVED},
    [VAL_OFFSET] = {FACTORED, CFI_OFFSET},      [VAL_OFFSET_SF] = {FACTORED_SIGNED, CFI_OFFSET},
    [REGISTER] = {PLAIN, CFI_REGISTER},         [EXPRESSION] = {BLOCK, CFI_SAVED_AT},
    [VAL_EXPRESSION] = {BLOCK, CFI_EXPRESSION}, [UNDEFINED] = {NOTHING, CFI_UNDEFINED},
    [SAME_VALUE] = {NOTHING, CFI_SAME},
};

static int64_t take_operand(struct program *p, struct cursor *c, enum form form) {
    int64_t offset = c->at - p->begin;
    switch (form) {
    case PLAIN:
        return (int64_t)take_unsigned(c);
    case FACTORED:
        return (int64_t)(take_unsigned(c) * (uint64_t)p->common->data_align);
    case FACTORED_SIGNED:
        return (int64_t)((uint64_t)take_signed(c) * (uint64_t)p->common->data_align);
    case BLOCK:
        skip(c, take_unsigned(c));
        return offset;
    case NO_RULE:
    case NOTHING:
        break;
    }
    return 0;
}

static void execute_ruling(struct program *p, struct cursor *c, uint8_t opcode) {
    if (opcode >= sizeof ruling / sizeof *ruling || ruling[opcode].form == NO_RULE) {
        c->is_broken = true;
        return;
    }
    uint64_t reg = take_unsigned(c);
    int64_t value = take_operand(p, c, ruling[opcode].form);
    c->is_broken |= ruling[opcode].kind == CFI_REGISTER && (uint64_t)value >= CFI_REGISTERS;
    set_rule(p, c, reg, ruling[opcode].kind, value);
}

static void execute_extended(struct program *p, struct cursor *c, uint8_t opcode) {
    uint64_t reg;
    switch (opcode) {
    case NOP:
    case NEGATE_RA_STATE: /* who reads a return address strips its signature, whether it has one or not */
    case NEGATE_RA_STATE_WITH_PC:
        break;
    case GNU_ARGS_SIZE: /* what a handler of exceptions pops */
        take_unsigned(c);
        break;
    case SET_LOC:
        p->location = take_pointer(c, p->common->encoding);
        break;
    case ADVANCE_LOC1:
        advance(p, take_u8(c));
        break;
    case ADVANCE_LOC2:
        advance(p, take_bytes(c, 2));
        break;
    case ADVANCE_LOC4:
        advance(p, take_u32(c));
        break;
    case REMEMBER_STATE:
        remember_row(p, c);
        break;
    case RESTORE_STATE:
        restore_row(p, c);
        break;
    case RESTORE_EXTENDED:
        restore_rule(p, c, take_unsigned(c));
        break;
    case DEF_CFA:
    case DEF_CFA_SF:
        reg = take_unsigned(c);
        set_cfa(p, c, reg, take_operand(p, c, opcode == DEF_CFA ? PLAIN : FACTORED_SIGNED));
        break;
    case DEF_CFA_REGISTER:
        cfa_register(p, c);
        set_cfa(p, c, take_unsigned(c), p->row->cfa_offset);
        break;
    case DEF_CFA_OFFSET:
    case DEF_CFA_OFFSET_SF:
        set_cfa(p, c, cfa_register(p, c), take_operand(p, c, opcode == DEF_CFA_OFFSET ? PLAIN : FACTORED_SIGNED));
        break;
    case DEF_CFA_EXPRESSION:
        set_cfa(p, c, 0, 0);
        p->row->cfa = rule(c, CFI_EXPRESSION, take_operand(p, c, BLOCK));
        break;
    default:
        execute_ruling(p, c, opcode);
    }
}

/* Until the row that pc is in. False also when what comes before was broken. */
static bool execute(struct program *p, struct cursor *c) {
    while (left(c) > 0 && p->location <= p->pc && !c->is_broken) {
        uint8_t byte = take_u8(c);
        uint8_t operand = byte & (uint8_t)~OPCODE;
        switch (byte & OPCODE) {
        case ADVANCE_LOC:
            advance(p, operand);
            break;
        case OFFSET:
            set_rule(p, c, operand, CFI_SAVED, take_operand(p, c, FACTORED));
            break;
        case RESTORE:
            restore_rule(p, c, operand);
            break;
        default:
            execute_extended(p, c, byte);
        }
    }
    return !c->is_broken;
}

static bool read_common(const struct cfi_module *module, uintptr_t address, struct cfi_common *common) {
    struct cursor c = open_entry(module, address);
    uint32_t id = take_u32(&c);
    uint8_t version = take_u8(&c);
    const char *letters = (const char *)c.at;
    size_t length = strnlen(letters, left(&c));
    skip(&c, length + 1);
    if (c.is_broken || id != 0 || (version != 1 && version != 3) || (length > 0 && letters[0] != 'z'))
        return false;
    *common = (struct cfi_common){.encoding = PE_NATIVE, .has_augmentation = length > 0};
    common->code_align = take_unsigned(&c);
    common->data_align = take_signed(&c);
    uint64_t return_register = version == 1 ? take_u8(&c) : take_unsigned(&c);
    common->initial.return_register = (uint8_t)return_register;
    if (common->has_augmentation)
        take_augmentation(&c, letters + 1, common);
    struct cfi_row remembered[REMEMBERED];
    struct program program = {
        .begin = module->begin, .common = common, .row = &common->initial, .remembered = remembered};
    return return_register < CFI_REGISTERS && execute(&program, &c);
}

/* Most modules have one or two, so that the last one met is likely to be the one. */
static bool find_common(struct cfi_module *module, uintptr_t address) {
    if (LIKELY(module->common.address == address && address != 0))
        return true;
    bool found = read_common(module, address, &module->common);
    module->common.address = found ? address : 0;
    return found;
}

bool cfi_find(struct cfi_module *module, uintptr_t pc, struct cfi_row *row) {
    uintptr_t entry = search_table(module, pc);
    struct cursor c = open_entry(module, entry);
    uintptr_t id_field = (uintptr_t)c.at;
    uint32_t to_common = take_u32(&c);
    if (c.is_broken || to_common == 0 || !find_common(module, id_field - to_common))
        return false;
    const struct cfi_common *common = &module->common;
    uintptr_t function = take_pointer(&c, common->encoding);
    uint64_t size = take_form(&c, common->encoding & PE_FORM & ~PE_SIGNED);
    if (common->has_augmentation)
        skip(&c, take_unsigned(&c));
    if (c.is_broken || pc - function >= size)
        return false;

    struct cfi_row remembered[REMEMBERED];
    struct program program = {
        .begin = module->begin, .common = common, .row = row, .remembered = remembered, .pc = pc, .location = function};
    *row = common->initial;
    bool found = execute(&program, &c) && row->cfa.kind != CFI_SAME;
    module->entry = (const uint8_t *)entry;
    module->entry_used = (uintptr_t)c.at - entry;
    return found;
}
