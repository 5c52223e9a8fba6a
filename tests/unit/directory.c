/* The directory: holes that zones leave, and pages of lines that go back to the kernel once nothing is noted there. */
#include "directory.h"
#include "os.h"
#include "tap.h"

/* Addresses that nothing maps: two leaves of their own. */
#define LOW  ((uintptr_t)20 << LEAF_SHIFT)
#define HIGH ((uintptr_t)21 << LEAF_SHIFT)

static bool is_resident(uintptr_t address) {
    unsigned char pages[1];
    os_look_up_resident((void *)round_down((uintptr_t)directory_find(address), os_page_size()), os_page_size(), pages);
    return pages[0] & 1;
}

static void note(uintptr_t zone) {
    store_relaxed(&directory_find(zone)->owner, OWNER(1, 2));
    store_relaxed(&directory_find(zone)->reciprocal, 7);
}

static void forget(uintptr_t zone) {
    store_relaxed(&directory_find(zone)->owner, 0);
    store_relaxed(&directory_find(zone)->reciprocal, 0);
}

static void holes(void) {
    ok(directory_take_hole() == 0, "at first there is no hole");
    bool entered = directory_enter(LOW) && directory_enter(HIGH);
    directory_add_hole(LOW + 5 * ZONE_SPAN);
    directory_add_hole(HIGH);
    directory_add_hole(HIGH + 511 * ZONE_SPAN);
    directory_add_hole(HIGH + 64 * ZONE_SPAN);
    ok(entered && directory_take_hole() == HIGH + 511 * ZONE_SPAN && directory_take_hole() == HIGH + 64 * ZONE_SPAN &&
           directory_take_hole() == HIGH && directory_take_hole() == LOW + 5 * ZONE_SPAN && directory_take_hole() == 0,
       "holes are given from the highest down, once each");
    directory_leave(LOW);
    directory_leave(HIGH);
}

static void pages(void) {
    uintptr_t zone = LOW + ZONE_SPAN, neighbour = LOW + 2 * ZONE_SPAN;
    directory_enter(zone);
    directory_enter(neighbour);
    note(zone);
    forget(zone);
    directory_leave(zone);
    ok(is_resident(zone), "a page of lines stays while a zone stands in its addresses");
    directory_leave(neighbour);
    ok(!is_resident(zone), "and goes back when the last has left");
    ok(directory_page_start(neighbour) == LOW, "zones that are neighbours share a page");

    directory_enter(zone);
    note(zone);
    forget(zone);
    struct node *node = (struct node *)64;
    directory_note_large(neighbour, node);
    directory_leave(zone);
    ok(directory_find_large(neighbour) == node, "what is noted of a LARGE block is not lost");
    directory_purge(0, UINTPTR_MAX);
    ok(directory_find_large(neighbour) == node, "nor by purging all that can go");
    directory_forget_large(neighbour, (struct node *)128);
    ok(directory_find_large(neighbour) == node, "nor by another's end that began in the same unit");
    directory_forget_large(neighbour, node);
    directory_purge(neighbour, neighbour + UNIT_SIZE);
    ok(!is_resident(neighbour) && directory_find_large(neighbour) == NULL, "once it is forgotten the page goes back");
}

/* As the child of a fork finds the page that a thread of the parent was giving back. */
static void interrupted(void) {
    struct leaf *leaf = directory_leaf(LOW);
    store_relaxed(&leaf->pages[0].zones, LEAF_PAGE_PURGING);
    ok(!directory_enter(LOW), "no zone enters while the page goes back");
    directory_reset();
    ok(directory_enter(LOW), "the child of fork has the page");
    directory_leave(LOW);
}

int main(void) {
    os_boot();
    holes();
    pages();
    interrupted();
    return tap_done();
}
