/* SPDX-License-Identifier: MIT */
/* Every form of guard, in what is both C and C++. standards.sh compiles it with many warnings. */
#include <stddef.h>

#include <pkeyguard.h>

int every_form(struct pkeyguard_region *region, struct pkeyguard_key *key, int *number,
               const unsigned char *bytes, size_t length);

int every_form(struct pkeyguard_region *region, struct pkeyguard_key *key, int *number,
               const unsigned char *bytes, size_t length)
{
    struct pkeyguard_guard guard;
    int sum = 0;

    if (pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard) == 0)
        pkeyguard_release(&guard);
    if (pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &guard) == 0)
        pkeyguard_release(&guard);
    if (pkeyguard_restrict(region, PKEYGUARD_READ_ONLY, &guard) == 0)
        pkeyguard_release(&guard);
    pkeyguard_scoped_read (int, seen, region) {
        sum += *seen;
    }
    pkeyguard_scoped_write (int, written, region) {
        *written = 1;
    }
    pkeyguard_scoped_read_at (int, seen, region, number) {
        sum += *seen;
    }
    pkeyguard_scoped_write_at (int, written, region, number) {
        *written = 1;
    }
    pkeyguard_scoped_read_bytes (seen, region, bytes, length) {
        sum += seen[0];
    }
    pkeyguard_scoped_write_bytes (written, region, bytes, length) {
        written[0] = 1;
    }
    pkeyguard_try_scoped_read (int, seen, region) {
        sum += *seen;
    } else {
        sum--;
    }
    pkeyguard_try_scoped_write (int, written, region) {
        *written = 1;
    }
    pkeyguard_try_scoped_read_at (int, seen, region, number) {
        sum += *seen;
    }
    pkeyguard_try_scoped_write_at (int, written, region, number) {
        *written = 1;
    }
    pkeyguard_try_scoped_read_bytes (seen, region, bytes, length) {
        sum += seen[0];
    }
    pkeyguard_try_scoped_write_bytes (written, region, bytes, length) {
        written[0] = 1;
    }
    pkeyguard_scoped_key_read (read_guard, key) {
        sum++;
    }
    pkeyguard_scoped_key_write (write_guard, key) {
        sum++;
    }
    pkeyguard_scoped_restrict (restrict_guard, region, PKEYGUARD_READ_ONLY) {
        sum++;
    }
    pkeyguard_scoped_closed (closed) {
        sum++;
    }
    pkeyguard_auto_read(int, first, region);
    pkeyguard_auto_write(int, second, region);
    pkeyguard_auto_read_at(int, third, region, number);
    pkeyguard_auto_write_at(int, fourth, region, number);
    pkeyguard_auto_read_bytes(fifth, region, bytes, length);
    pkeyguard_auto_write_bytes(sixth, region, bytes, length);
    *second = *fourth = sum;
    sixth[0] = fifth[0];
    return *first + *third;
}
