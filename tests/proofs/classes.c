/* SPDX-License-Identifier: MIT */
/*
 * Size classes and slots of slabs, slabs.h, and the units of a heap, blocks.h. There are so few
 * inputs that this program tries all of them, or all near the ends: it exits with 0 if everything
 * holds.
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
    const struct size_class *c = class_of_size(size);
    unsigned number = c->number;

    check(number < CLASS_COUNT && c == &size_table.classes[number] && c->size >= size &&
              (number == 0 || size_table.classes[number - 1].size < size),
          "class_of_size", size, number);
}

/* The smallest class that is large enough, and whose slots are aligned. */
static void check_class_of_aligned_size(size_t size, size_t alignment)
{
    const struct size_class *c = class_of_aligned_size(size, alignment);

    check(c == &size_table.classes[c->number] && c->size >= size && c->size % alignment == 0,
          "class_of_aligned_size", size, alignment);
    while (c-- > size_table.classes)
        check(c->size < size || c->size % alignment != 0, "class_of_aligned_size: a smaller one",
              size, alignment);
}

/*
 * A full slab has its slots where it should: their units have their bits in the map, and no other
 * unit has one. Every slot ends inside the slab, of which little is unused.
 */
static void check_slots(unsigned number)
{
    const struct size_class *c = &size_table.classes[number];
    size_t bytes = SLAB_BLOCKS(c->size) * (size_t)BLOCK_SIZE, used = c->slots * c->size;
    struct block blocks[2];

    check(c->number == number && used <= bytes && bytes - used <= bytes / 8 && c->slots >= 4 &&
              c->slots <= 256,
          "slots", number, c->slots);
    memset(blocks, 0xff, sizeof(blocks));
    slab_fill(blocks, c);
    for (size_t offset = 0; offset < bytes; offset += ALIGNMENT) {
        unsigned unit = (unsigned)(offset / ALIGNMENT);
        struct block *block = &blocks[unit / UNITS_PER_BLOCK];
        bool has_bit = *map_word(block, unit % UNITS_PER_BLOCK) & map_bit(unit);

        check(has_bit == (offset % c->size == 0 && offset < used), "slab_fill", number, offset);
    }
}

/* Only what begins a unit of the heap has a unit's number, and it is the right one. */
static void check_unit_at(const struct pkeyguard_heap *heap, uintptr_t address)
{
    size_t unit = unit_at(heap, (const void *)address);
    uintptr_t offset = address - (uintptr_t)heap->start;
    bool begins_a_unit = address >= (uintptr_t)heap->start &&
                         offset < heap->units * (size_t)ALIGNMENT && offset % ALIGNMENT == 0;

    check((unit < heap->units) == begins_a_unit && (!begins_a_unit || unit == offset / ALIGNMENT),
          "unit_at", (size_t)heap->start, address);
}

/* Near the ends of a heap, and near those of the address space. */
static void check_units(uintptr_t start, size_t size)
{
    struct pkeyguard_heap heap = {.start = (char *)start, .units = size / ALIGNMENT};

    for (uintptr_t distance = 0; distance < 2 * BLOCK_SIZE; distance++) {
        check_unit_at(&heap, start + distance);
        check_unit_at(&heap, start - distance);
        check_unit_at(&heap, start + size + distance);
        check_unit_at(&heap, start + size - distance);
        check_unit_at(&heap, distance);
        check_unit_at(&heap, 0 - distance);
    }
}

int main(void)
{
    for (size_t size = 1; size <= SMALL_MAX; size++) {
        check_class_of_size(size);
        for (size_t alignment = 1; alignment <= SMALL_MAX; alignment *= 2)
            check_class_of_aligned_size(size, alignment);
    }
    for (unsigned number = 0; number < CLASS_COUNT; number++)
        check_slots(number);
    check_units(BLOCK_SIZE, BLOCK_SIZE);
    check_units(UINT64_C(0x7f0000000000), (size_t)1 << 40);
    return wrong;
}
