/* SPDX-License-Identifier: MIT */
/*
 * Size classes and slots of slabs, slabs.h. There are so few inputs that this program tries them
 * all: it exits with 0 if everything holds.
 */
#include <stdio.h>

#include "heap/slabs.h"

static int wrong;

static void check(bool holds, const char *what, size_t input, size_t other)
{
    if (!holds) {
        printf("%s: wrong for %zu, %zu\n", what, input, other);
        wrong = 1;
    }
}

/* The smallest class that is large enough. */
static void check_class_of_size(size_t size)
{
    unsigned size_class = class_of_size(size);

    check(size_class < CLASS_COUNT && size_classes[size_class].size >= size &&
              (size_class == 0 || size_classes[size_class - 1].size < size),
          "class_of_size", size, size_class);
}

/* The smallest class that is large enough, and whose slots are aligned. */
static void check_class_of_aligned_size(size_t size, size_t alignment)
{
    unsigned size_class = class_of_aligned_size(size, alignment), smaller;

    check(size_class < CLASS_COUNT && size_classes[size_class].size >= size &&
              size_classes[size_class].size % alignment == 0,
          "class_of_aligned_size", size, alignment);
    for (smaller = 0; smaller < size_class; smaller++)
        check(size_classes[smaller].size < size || size_classes[smaller].size % alignment != 0,
              "class_of_aligned_size: a smaller one", size, alignment);
}

/* Every slot is inside the slab, the maps have a bit for it, and little of a slab is unused. */
static void check_slots(unsigned size_class)
{
    const struct size_class *c = &size_classes[size_class];
    size_t bytes = SLAB_BLOCKS(c->size) * (size_t)BLOCK_SIZE, used = c->slots * (size_t)c->size;

    check(used <= bytes && bytes - used <= bytes / 8 && c->slots >= 4 && c->slots <= 256, "slots",
          size_class, c->slots);
}

/* Returns a role that a block of this class may have. */
static unsigned role_of_class(unsigned size_class)
{
    unsigned role = 0;

    while (role_class(role) != size_class)
        role++;
    return role;
}

/* A place is a slot's exactly if its offset is a multiple of the size, of a slot in the slab. */
static void check_slot_at(unsigned role, unsigned size_class, unsigned offset)
{
    const struct size_class *c = &size_classes[size_class];
    struct block block = {.role = role};
    struct place place = {.block = &block, .role = role, .offset = offset};
    bool is_slot = offset % c->size == 0 && offset / c->size < c->slots;
    unsigned slot;

    check(slot_at(&place, &slot) == is_slot && (!is_slot || slot == offset / c->size), "slot_at",
          size_class, offset);
}

int main(void)
{
    for (size_t size = 1; size <= SMALL_MAX; size++) {
        check_class_of_size(size);
        for (size_t alignment = 1; alignment <= SMALL_MAX; alignment *= 2)
            check_class_of_aligned_size(size, alignment);
    }
    for (unsigned size_class = 0; size_class < CLASS_COUNT; size_class++) {
        unsigned role = role_of_class(size_class);

        check_slots(size_class);
        for (unsigned offset = 0; offset < 2 * BLOCK_SIZE; offset++)
            check_slot_at(role, size_class, offset);
    }
    return wrong;
}
