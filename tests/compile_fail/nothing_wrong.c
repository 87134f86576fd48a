/* SPDX-License-Identifier: MIT */
/* Correct code that an analysis could take for wrong. No compiler may warn. */
#include "example.h"

void leave_early(int how);
void leave_early(int how)
{
    for (int i = 0; i < 3; i++) {
        pkeyguard_scoped_write (int, number, vault) {
            *secret = i;
            rotate();
            inspect();
            if (how == 0)
                return;
            if (how == 1)
                break;
            if (how == 2)
                continue;
            if (how == 3)
                goto out;
            *number = i;
        }
    }
out:
    use(how);
}

void nest(void);
void nest(void)
{
    pkeyguard_scoped_write (int, number, vault)
        pkeyguard_scoped_read (int, other, other_vault)
            *secret = *number + *other;
    pkeyguard_scoped_read (int, number, vault) {
        use(*secret);
        pkeyguard_scoped_write (int, inner, vault) {
            *secret = *number;
            *inner = 1;
        }
        use(*secret);
    }
    pkeyguard_scoped_write (int, number, vault) {
        pkeyguard_scoped_read (int, inner, vault) {
            *secret = *inner;
        }
        *secret = *number;
    }
}

void try_and_else(int early);
void try_and_else(int early)
{
    while (early-- > 0) {
        pkeyguard_try_scoped_read (int, number, vault) {
            use(*secret + *number);
            if (early == 3)
                return;
        } else {
            use(errno);
        }
    }
    pkeyguard_try_scoped_write_at (int, number, vault, secret) {
        *secret = *number;
    } else {
        return;
    }
}

void bytes(size_t length);
void bytes(size_t length)
{
    pkeyguard_scoped_write_bytes (number, vault, secret, length) {
        *secret = number[0];
    }
    pkeyguard_try_scoped_read_bytes (number, vault, secret, length) {
        use(*secret + number[0]);
    } else {
        return;
    }
}

void autos(void);
void autos(void)
{
    pkeyguard_auto_read(int, number, vault);
    pkeyguard_auto_write_at(int, other, other_vault, secret);

    use(*secret);
    *other = *number;
}

static void rotate_in(struct pkeyguard_region *region, int *number) PKEYGUARD_NEEDS_WRITE(region);
static void rotate_in(struct pkeyguard_region *region, int *number)
{
    pkeyguard_scoped_write (int, first, region) {
        *first = *number;
        if (*number == 0)
            return;
    }
    *number = 0;
}

void region_as_parameter(struct pkeyguard_region *region);
void region_as_parameter(struct pkeyguard_region *region)
{
    pkeyguard_scoped_write (int, number, region) {
        rotate_in(region, number);
    }
}

void region_in_a_struct(struct session *session);
void region_in_a_struct(struct session *session)
{
    pkeyguard_scoped_write (int, number, session->vault) {
        *session->secret = *number;
        rotate_session(session);
    }
    pkeyguard_scoped_read (int, number, session->vault)
        use(*session->secret);
}

/* The analysis does not see these guards, so the code tells it. */
void whole_key(void);
void whole_key(void)
{
    pkeyguard_scoped_key_write (guard, key) {
        pkeyguard_assume_write(vault);
        *secret = 1;
        rotate();
    }
}

void bare(void);
void bare(void)
{
    struct pkeyguard_guard guard;

    if (pkeyguard_acquire(vault, PKEYGUARD_READ_ONLY, &guard) != 0)
        return;
    pkeyguard_assume_read(vault);
    inspect();
    pkeyguard_release(&guard);
}
