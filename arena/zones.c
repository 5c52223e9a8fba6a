#include "zones.h"

static uint64_t priority_of(const struct zone *zone) {
    return scatter((uintptr_t)zone / ZONE_SPAN);
}

/* ------------------------------------------------------------------------------------------------ the lists */
static struct zone_list *list_of(struct zones *zones, enum zone_lists list, const struct zone *zone) {
    return &zones->lists[list][zone->category];
}

static void enlist(struct zones *zones, enum zone_lists list, struct zone *zone, bool first) {
    struct zone_list *ends = list_of(zones, list, zone);
    struct zone *prev = first ? NULL : ends->last, *next = first ? ends->first : NULL;
    zone->places[list] = (struct zone_place){.prev = prev, .next = next, .is_in = true};
    *(prev == NULL ? &ends->first : &prev->places[list].next) = zone;
    *(next == NULL ? &ends->last : &next->places[list].prev) = zone;
}

static void delist(struct zones *zones, enum zone_lists list, struct zone *zone) {
    struct zone_list *ends = list_of(zones, list, zone);
    struct zone_place *place = &zone->places[list];
    *(place->prev == NULL ? &ends->first : &place->prev->places[list].next) = place->next;
    *(place->next == NULL ? &ends->last : &place->next->places[list].prev) = place->prev;
    place->is_in = false;
}

static bool belongs(const struct zone *zone, enum zone_lists list) {
    return list == ROOMY ? zone_has_idle(zone) : zone_is_empty(zone);
}

void zones_settle(struct zones *zones, struct zone *zone) {
    for (enum zone_lists list = 0; list < ZONE_LISTS; list++) {
        const struct zone *first = list_of(zones, list, zone)->first;
        if (belongs(zone, list) == zone->places[list].is_in)
            continue;
        if (zone->places[list].is_in)
            delist(zones, list, zone);
        else
            enlist(zones, list, zone, first == NULL || zone < first);
    }
}

void zones_resize(struct zones *zones, struct zone *zone, int units) {
    zones->mapped += (size_t)(units * (ptrdiff_t)UNIT_SIZE);
    zones_settle(zones, zone);
}

void zones_postpone(struct zones *zones, enum zone_lists list, struct zone *zone) {
    delist(zones, list, zone);
    enlist(zones, list, zone, false);
}

/* ------------------------------------------------------------------------------------------------- the tree */
static void tree_insert(struct zones *zones, struct zone *zone) {
    struct zone **link = &zones->root;
    while (*link != NULL && priority_of(*link) > priority_of(zone))
        link = zone < *link ? &(*link)->low : &(*link)->high;
    struct zone *rest = *link; /* which it takes the place of, goes below it on both sides */
    struct zone **low = &zone->low, **high = &zone->high;
    *link = zone;
    while (rest != NULL) {
        struct zone ***side = rest < zone ? &low : &high;
        **side = rest;
        *side = rest < zone ? &rest->high : &rest->low;
        rest = **side;
    }
    *low = *high = NULL;
}

static void tree_remove(struct zones *zones, struct zone *zone) {
    struct zone **link = &zones->root;
    struct zone *low = zone->low, *high = zone->high;
    while (*link != zone)
        link = zone < *link ? &(*link)->low : &(*link)->high;
    while (low != NULL && high != NULL) {
        bool is_low = priority_of(low) > priority_of(high);
        *link = is_low ? low : high;
        link = is_low ? &low->high : &high->low;
        *(is_low ? &low : &high) = *link;
    }
    *link = low != NULL ? low : high;
}

void zones_insert(struct zones *zones, struct zone *zone) {
    tree_insert(zones, zone);
    for (enum zone_lists list = 0; list < ZONE_LISTS; list++) {
        zone->places[list].is_in = false;
        if (belongs(zone, list))
            enlist(zones, list, zone, true);
    }
    zones->count++;
    zones->mapped += zone_size(zone);
    zones->mapped_peak = max_size(zones->mapped_peak, zones->mapped);
}

void zones_remove(struct zones *zones, struct zone *zone) {
    tree_remove(zones, zone);
    for (enum zone_lists list = 0; list < ZONE_LISTS; list++)
        if (zone->places[list].is_in)
            delist(zones, list, zone);
    zones->count--;
    zones->removals++;
    zones->mapped -= zone_size(zone);
}

struct zone *zones_find(const struct zones *zones, uintptr_t from) {
    struct zone *best = NULL;
    for (struct zone *zone = zones->root; zone != NULL;) {
        bool is_above = zone_start(zone) >= from;
        best = is_above ? zone : best;
        zone = is_above ? zone->low : zone->high;
    }
    return best;
}

/* ------------------------------------------------------------------------------------------------- validity */
struct tally {
    size_t count;
    size_t mapped;
    size_t in[ZONE_LISTS][CATEGORIES];
};

/* As zones_find; false: the way there is not in order. Each zone on it lies between those before it: so it ends. */
static bool find_in_order(const struct zones *zones, uintptr_t from, const struct zone **best) {
    uintptr_t above = 0, below = UINTPTR_MAX;
    uint64_t priority = UINT64_MAX;
    *best = NULL;
    for (const struct zone *zone = zones->root; zone != NULL;) {
        uintptr_t at = (uintptr_t)zone;
        if (at <= above || at >= below || priority_of(zone) > priority)
            return false;
        priority = priority_of(zone);
        bool is_above = zone_start(zone) >= from;
        *best = is_above ? zone : *best;
        *(is_above ? &below : &above) = at;
        zone = is_above ? zone->low : zone->high;
    }
    return true;
}

static bool count_zone(const struct zone *zone, struct tally *tally) {
    tally->count++;
    tally->mapped += zone_size(zone);
    for (enum zone_lists list = 0; list < ZONE_LISTS; list++) {
        if (zone->places[list].is_in != belongs(zone, list))
            return false;
        tally->in[list][zone->category] += zone->places[list].is_in;
    }
    return true;
}

/* Each is looked up from the root, as the tree has no ways up, and recursion is not for every stack. One that is out of
 * order is not found, which the number tells. */
static bool tree_is_valid(const struct zones *zones, struct tally *tally) {
    const struct zone *zone;
    for (uintptr_t from = 0;; from = zone_start(zone) + 1) {
        if (!find_in_order(zones, from, &zone))
            return false;
        if (zone == NULL)
            return true;
        if (!count_zone(zone, tally))
            return false;
    }
}

/* Whether it has `count` zones, all of them of `category`. */
static bool list_is_valid(const struct zones *zones, enum zone_lists list, unsigned category, size_t count) {
    const struct zone *prev = NULL;
    const struct zone *zone = zones->lists[list][category].first;
    for (; zone != NULL && count > 0; prev = zone, zone = zone->places[list].next, count--)
        if (zone->places[list].prev != prev || !zone->places[list].is_in || zone->category != category)
            return false;
    return zone == NULL && count == 0 && zones->lists[list][category].last == prev;
}

bool zones_are_valid(const struct zones *zones) {
    struct tally tally = {0};
    if (!tree_is_valid(zones, &tally))
        return false;
    for (enum zone_lists list = 0; list < ZONE_LISTS; list++)
        for (unsigned category = 0; category < CATEGORIES; category++)
            if (!list_is_valid(zones, list, category, tally.in[list][category]))
                return false;
    return tally.count == zones->count && tally.mapped == zones->mapped;
}
