/*
 * What the unwinder reads of a module: the table that finds a function, its entries, their instructions and their
 * expressions. An input is a whole module, behind the pc that is looked for: whatever is in it, nothing outside of it
 * is read, and the rules that come of it can be used.
 */
#include "cfi.h"
#include "expression.h"

#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PLACE ((uintptr_t)0x10000000) /* always the same, so that an input may have addresses in it */
#define ROOM  ((size_t)1 << 16)

static bool read_word(void *reader, uintptr_t address, uintptr_t *value) {
    (void)reader;
    *value = address * 3;
    return address % 8 == 0;
}

static void evaluate(const struct cfi_module *module, const struct cfi_rule *rule) {
    uintptr_t registers[CFI_REGISTERS] = {[CFI_SP] = (uintptr_t)module->begin};
    const struct expression_context context = {registers, CFI_REGISTERS, read_word, NULL};
    uintptr_t result = 0;
    if (rule->kind == CFI_SAVED_AT || rule->kind == CFI_EXPRESSION)
        expression_evaluate(module->begin + rule->value, module->end, &context, &result);
}

static void use(const struct cfi_module *module, const struct cfi_row *row) {
    if (row->return_register >= CFI_REGISTERS)
        abort();
    evaluate(module, &row->cfa);
    for (unsigned i = 0; i < CFI_REGISTERS; i++) {
        const struct cfi_rule *rule = &row->rules[i];
        if ((row->ruled >> i & 1) != (rule->kind != CFI_SAME))
            abort();
        if (rule->kind == CFI_REGISTER && (unsigned)rule->value >= CFI_REGISTERS)
            abort();
        evaluate(module, rule);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    void *p = mmap((void *)PLACE, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return p == (void *)PLACE ? 0 : 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int32_t distance;
    struct cfi_row row;
    uint8_t *place = (uint8_t *)PLACE;
    if (size < sizeof distance || size - sizeof distance > ROOM)
        return 0;
    memcpy(&distance, data, sizeof distance);
    size -= sizeof distance;
    ASAN_UNPOISON_MEMORY_REGION(place, ROOM);
    memcpy(place, data + sizeof distance, size);
    ASAN_POISON_MEMORY_REGION(place + size, ROOM - size);
    struct cfi_module module = {.begin = place, .end = place + size, .header = place};
    /* Twice: the second time the entry that is common to functions is known. */
    for (int round = 0; round < 2; round++)
        if (cfi_find(&module, PLACE + (uintptr_t)(intptr_t)distance, &row))
            use(&module, &row);
    return 0;
}
