#include "frames.h"
#include <string.h>

#define ENTRIES_BITS 14
#define WORD         sizeof(uint64_t) /* entries of call frame information are longer */
#define PART_MAX     ((int64_t)(UINT16_MAX * FRAME_WORD))

/* `key` is made of the pc, the module, the bytes of the entry and the other two words; or of the pc and the rule alone,
 * if that lasts: then `place` is 0. */
SPARSE static struct remembered {
    _Atomic uint64_t key;
    _Atomic uint64_t place; /* the distance of the bytes from the module's header, and their number */
    _Atomic frame_word rule;
} table[1 << ENTRIES_BITS];

#define SPREAD       UINT64_C(0x9e3779b97f4a7c15) /* 2^64 divided by the golden ratio */
#define SPREAD_PLACE UINT64_C(0xbf58476d1ce4e5b9)
#define SPREAD_RULE  UINT64_C(0x94d049bb133111eb)

static struct remembered *entry_of(uintptr_t pc) {
    return &table[pc * SPREAD >> (64 - ENTRIES_BITS)];
}

static uint64_t rotate(uint64_t word, unsigned by) {
    return word << by | word >> (64 - by);
}

/* Two that differ in one word never have the same. */
static uint64_t sum_of(const uint8_t *bytes, size_t count) {
    uint64_t sum = count, word;
    for (size_t at = 0; at + WORD < count; at += WORD) {
        memcpy(&word, bytes + at, WORD);
        sum = rotate(sum, 9) ^ word;
    }
    memcpy(&word, bytes + count - WORD, WORD);
    return rotate(sum, 9) ^ word;
}

static uint64_t key_of(const struct cfi_module *module, uintptr_t pc, uint64_t place, uint64_t rule,
                       const uint8_t *bytes, size_t count) {
    return (pc + rotate((uintptr_t)module->header, 32)) ^ place * SPREAD_PLACE ^ rule * SPREAD_RULE ^
           sum_of(bytes, count) * SPREAD;
}

static uint64_t key_of_lasting(uintptr_t pc, frame_word rule) {
    return ~(uint64_t)pc ^ rule * SPREAD_RULE;
}

/* What is a whole number of words, as all simple things are; else false. */
static bool pack(frame_word *word, unsigned shift, int64_t bytes) {
    if (bytes < 0 || bytes > PART_MAX || bytes % (int64_t)FRAME_WORD != 0)
        return false;
    *word |= (uint64_t)bytes / FRAME_WORD << shift;
    return true;
}

static bool pack_saved(frame_word *word, unsigned shift, const struct cfi_rule *rule) {
    return rule->kind == CFI_SAVED && pack(word, shift, -(int64_t)rule->value);
}

/* 0: it is not simple. */
static frame_word pack_row(const struct cfi_row *row) {
    const struct cfi_rule *pointer = &row->rules[CFI_FP];
    const struct cfi_rule *caller = &row->rules[row->return_register];
    bool by_pointer = row->cfa.value == CFI_FP, saves_pointer = pointer->kind != CFI_SAME;
    frame_word word = FRAME_SIMPLE | (by_pointer ? FRAME_BY_POINTER : 0) | (saves_pointer ? FRAME_SAVES_POINTER : 0);
    if (row->is_signal_frame)
        return 0;
    if (caller->kind == CFI_UNDEFINED)
        return FRAME_SIMPLE | FRAME_IS_LAST;
    bool is_simple = row->cfa.kind == CFI_REGISTER && (by_pointer || row->cfa.value == CFI_SP) &&
                     row->rules[CFI_SP].kind == CFI_SAME && pack(&word, FRAME_CFA_SHIFT, row->cfa_offset) &&
                     pack_saved(&word, FRAME_RETURN_SHIFT, caller) &&
                     (!saves_pointer || pack_saved(&word, FRAME_POINTER_SHIFT, pointer));
    return is_simple ? word : 0;
}

/* ------------------------------------------------------------------------------------------------- the table */
/* Whatever the word says, they are the module's. */
static bool find_bytes(const struct cfi_module *module, uint64_t place, const uint8_t **bytes, size_t *count) {
    uintptr_t begin = (uintptr_t)module->begin, end = (uintptr_t)module->end;
    uintptr_t at = (uintptr_t)module->header + (uintptr_t)(intptr_t)(int32_t)(uint32_t)place;
    *bytes = (const uint8_t *)at;
    *count = (size_t)(place >> 32);
    return *count >= WORD && at >= begin && at <= end && *count <= end - at;
}

frame_word frames_find_lasting(uintptr_t pc) {
    const struct remembered *entry = entry_of(pc);
    frame_word rule = load_relaxed(&entry->rule);
    return load_relaxed(&entry->key) == key_of_lasting(pc, rule) ? rule : 0;
}

frame_word frames_find(const struct cfi_module *module, uintptr_t pc) {
    const struct remembered *entry = entry_of(pc);
    uint64_t key = load_relaxed(&entry->key), place = load_relaxed(&entry->place);
    frame_word rule = load_relaxed(&entry->rule);
    const uint8_t *bytes;
    size_t count;
    if (!find_bytes(module, place, &bytes, &count) || key_of(module, pc, place, rule, bytes, count) != key)
        return 0;
    return rule;
}

frame_word frames_note(const struct cfi_module *module, uintptr_t pc, const struct cfi_row *row, bool lasting) {
    struct remembered *entry = entry_of(pc);
    const uint8_t *bytes;
    size_t count;
    uint64_t place = (uint64_t)module->entry_used << 32 | (uint32_t)(module->entry - module->header);
    frame_word rule = pack_row(row);
    if (rule != 0 && lasting) {
        store_relaxed(&entry->place, 0);
        store_relaxed(&entry->rule, rule);
        store_relaxed(&entry->key, key_of_lasting(pc, rule));
    } else if (rule != 0 && find_bytes(module, place, &bytes, &count) && bytes == module->entry) {
        store_relaxed(&entry->key, key_of(module, pc, place, rule, bytes, count));
        store_relaxed(&entry->place, place);
        store_relaxed(&entry->rule, rule);
    }
    return rule;
}
