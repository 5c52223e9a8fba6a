#include "slab.h"
#include "message.h"
#include <string.h>

_Static_assert(sizeof(struct slab) == 64, "a cache line of its own");
_Static_assert(STATE_UNTOUCHED < STATE_LIVE && STATE_USED < STATE_LIVE && (STATE_LIVE & (STATE_LIVE - 1)) == 0,
               "slab_retake_live");

/* For a wrong free that has read a line's reciprocal when the slab is uncarved: whatever the index, it is not live, as
 * long as the zone stands. */
SPARSE static state_byte nothing_live[UNIT_SIZE / BLOCK_ALIGN + 1];

static size_t words_of(size_t blocks) {
    return (blocks + 63) / 64;
}

static size_t slack_bytes(unsigned class) {
    const struct sizeclass *c = &sizeclasses[class];
    return c->size > STATE_SLACK_MAX ? round_up(c->blocks * sizeof(slack_word), 8) : 0;
}

static size_t taken_offset(unsigned class) {
    return slab_slack_offset(sizeclasses[class].blocks) + slack_bytes(class);
}

size_t slab_cells(unsigned class) {
    size_t bytes = taken_offset(class) + words_of(sizeclasses[class].blocks) * sizeof(uint64_t);
    return (bytes + CELL_SIZE - 1) / CELL_SIZE;
}

/* ------------------------------------------------------------------------------------- sizes and states */
static slack_word *slack_of(const struct slab_line *line, const state_byte *state) {
    state_byte *states = load_relaxed(slab_states(line));
    uint32_t blocks = sizeclasses[slab_class(line)].blocks;
    return (slack_word *)(states + slab_slack_offset(blocks)) + (state - states);
}

void slab_set_slack(const struct slab_line *line, state_byte *state, size_t slack) {
    store_release(slack_of(line, state), (uint16_t)slack); /* who sees it sees that the block before was freed */
    store_release(state, STATE_WIDE);
}

/* A block's state, and if that is STATE_WIDE its slack word. Both may change meanwhile; if the state is the same before
 * and after, then the word was its at an instant in between. */
static uint8_t look(const state_byte *state, const slack_word *word, uint16_t *slack) {
    uint8_t seen = load_acquire(state), before;
    do {
        before = seen;
        if (LIKELY(before != STATE_WIDE))
            break;
        *slack = load_acquire(word);
        seen = load_acquire(state);
    } while (UNLIKELY(seen != before));
    return seen;
}

size_t slab_size_of(const struct slab_line *line, const state_byte *state) {
    uint16_t slack = 0;
    uint8_t value = look(state, slack_of(line, state), &slack);
    return slab_block_size(line) - (value == STATE_WIDE ? slack : value - (size_t)STATE_LIVE);
}

/* ------------------------------------------------------------------------------- under the arena's lock */
void slab_carve(struct slab *slab, struct slab_line *line, unsigned class, uint16_t arena, void *cells,
                bool blocks_zero, bool cells_zero) {
    const struct sizeclass *c = &sizeclasses[class];
    size_t words = words_of(c->blocks);
    slab->taken = (uint64_t *)((char *)cells + taken_offset(class));
    if (!cells_zero)
        memset(slab->taken, 0, words * sizeof *slab->taken);
    if (c->blocks % 64 != 0) /* bits of no block: taken for ever */
        slab->taken[words - 1] = ~UINT64_C(0) << (c->blocks % 64);
    if (!cells_zero) /* the padding as well: slab_state_at */
        memset(cells, STATE_UNTOUCHED, slab_slack_offset(c->blocks));
    if (!blocks_zero)
        memset(cells, STATE_USED, c->blocks);
    slab->blocks = slab->free = (uint16_t)c->blocks;
    slab->class = (uint8_t) class;
    slab->hint = 0;
    slab->status = SLAB_CARVED;
    slab->states = cells;
    store_relaxed(&line->owner, OWNER(arena, class));
    store_relaxed(slab_states(line), (state_byte *)cells);
    store_release(&line->reciprocal, c->reciprocal);
}

void *slab_uncarve(struct slab *slab, struct slab_line *line) {
    ASSERT(slab->status == SLAB_CARVED && slab->free == slab->blocks);
    store_relaxed(&line->reciprocal, 0);
    store_relaxed(&line->owner, 0);
    store_relaxed(slab_states(line), nothing_live);
    slab->status = SLAB_IDLE;
    return (void *)slab->states;
}

size_t slab_take(struct slab *slab, struct entry *end, size_t want) {
    size_t count = min_size(want, slab->free);
    state_byte *states = slab->states;
    size_t size = sizeclasses[slab->class].size;
    size_t word = slab->hint;
    for (struct entry *entry = end; entry > end - count; word++) {
        uint64_t clear = ~slab->taken[word];
        for (; clear != 0 && entry > end - count; clear &= clear - 1) {
            size_t index = word * 64 + (size_t)__builtin_ctzll(clear);
            *--entry = (struct entry){slab->base + index * size, states + index};
        }
        slab->taken[word] = ~clear;
        if (clear != 0)
            break;
    }
    slab->hint = (uint16_t)min_size(word, words_of(slab->blocks) - 1);
    slab->free = (uint16_t)(slab->free - count);
    return count;
}

size_t slab_retake_live(struct slab *slab) {
    const uint64_t live = ~UINT64_C(0) / UINT8_MAX * (uint8_t) ~(STATE_LIVE - 1); /* bits that others have not */
    size_t before = slab->free;
    for (size_t i = 0; i < slab->blocks; i += sizeof(uint64_t)) {
        uint64_t states;
        memcpy(&states, (const void *)(slab->states + i), sizeof states);
        if (LIKELY((states & live) == 0))
            continue;
        for (size_t j = i; j < i + sizeof states; j++)
            if (load_relaxed(&slab->states[j]) >= STATE_LIVE) {
                slab->taken[j / 64] |= UINT64_C(1) << (j % 64);
                slab->free--;
            }
    }
    return before - slab->free;
}

void slab_copy_register(const struct slab *slab, uint32_t first, uint32_t end, state_byte *states, slack_word *slacks) {
    const state_byte *from = slab->states;
    const slack_word *from_slacks = (const slack_word *)(from + slab_slack_offset(slab->blocks));
    for (size_t i = first; i < end; i++) {
        uint16_t slack;
        uint8_t state = look(&from[i], &from_slacks[i], &slack);
        store_relaxed(&states[i - first], state);
        if (state == STATE_WIDE)
            store_relaxed(&slacks[i - first], slack);
    }
}

bool slab_is_valid(const struct slab *slab, const struct slab_line *line) {
    if (slab->status != SLAB_CARVED)
        return load_relaxed(&line->reciprocal) == 0 && load_relaxed(&line->owner) == 0;
    const struct sizeclass *c = &sizeclasses[slab->class];
    if (slab->blocks != c->blocks || load_relaxed(&line->reciprocal) != c->reciprocal ||
        load_relaxed(slab_states(line)) != slab->states)
        return false;
    size_t clear = 0;
    for (size_t i = 0; i < words_of(slab->blocks) * 64; i++) {
        bool taken = slab->taken[i / 64] >> (i % 64) & 1;
        if (taken)
            continue;
        if (i >= slab->blocks || i / 64 < slab->hint || load_relaxed(&slab->states[i]) >= STATE_LIVE)
            return false;
        clear++;
    }
    return clear == slab->free;
}

/* -------------------------------------------------------------------------------------- lists of slabs */
void slab_list_append(struct slab_list *list, struct slab *slab) {
    slab->next = NULL;
    slab->prev = list->last;
    *(list->last == NULL ? &list->first : &list->last->next) = slab;
    list->last = slab;
}

void slab_list_prepend(struct slab_list *list, struct slab *slab) {
    slab->prev = NULL;
    slab->next = list->first;
    *(list->first == NULL ? &list->last : &list->first->prev) = slab;
    list->first = slab;
}

void slab_list_remove(struct slab_list *list, struct slab *slab) {
    *(slab->prev == NULL ? &list->first : &slab->prev->next) = slab->next;
    *(slab->next == NULL ? &list->last : &slab->next->prev) = slab->prev;
    slab->next = slab->prev = NULL;
}
