/* SPDX-License-Identifier: MIT */
/* guarded.h - functions whose machine code is checked; they never run */
#ifndef GUARDED_H
#define GUARDED_H

#include <pkeyguard.h>

/* paths.awk recognises guarded data by its offset: no other instruction contains 0x5ec0XX. */
struct secret {
    char before[0x5ec000];
    int number, other;
};

struct vault {
    struct pkeyguard_region *region, *second;
    struct pkeyguard_key *key;
    struct secret *secret;
};

/* clang-format off */
#define FUNCTIONS(F) \
    F(write_scope) F(read_scope) F(write_scope_at) F(bytes_scope) F(key_scope) F(restrict_scope) F(auto_write) \
    F(auto_read) F(try_write) F(acquire_release) F(early_return) F(call_inside) F(nested) \
    F(read_inside_write) F(two_regions) F(one_after_another) F(register_written) F(bits_changed)
/* clang-format on */

#define DECLARE(name) int name(const struct vault *vault, int value);
FUNCTIONS(DECLARE)

#endif
