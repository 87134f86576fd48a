/* SPDX-License-Identifier: MIT */
/*
 * The comment above each function says what its paths may do. paths.awk reads it. The functions
 * access guarded data without volatile, so compilers move the accesses wherever they may.
 */
#include "guarded.h"

#include <unistd.h>

/* paths: open access close */
int write_scope(const struct vault *vault, int value)
{
    pkeyguard_scoped_write (struct secret, secret, vault->region) {
        secret->number = value;
    }
    return value;
}

/* paths: open access close */
int read_scope(const struct vault *vault, int value)
{
    pkeyguard_scoped_read (struct secret, secret, vault->region) {
        value += secret->number;
    }
    return value;
}

/* paths: open access close */
int write_scope_at(const struct vault *vault, int value)
{
    pkeyguard_scoped_write_at (struct secret, secret, vault->region, vault->secret) {
        secret->number = value;
    }
    return value;
}

/* paths: open access close */
int bytes_scope(const struct vault *vault, int value)
{
    pkeyguard_scoped_write_bytes (bytes, vault->region, vault->secret, (size_t)value) {
        ((struct secret *)(void *)bytes)->number = value;
    }
    return value;
}

/* paths: open access close */
int key_scope(const struct vault *vault, int value)
{
    struct secret *secret = vault->secret;

    pkeyguard_scoped_key_read (guard, vault->key) {
        value += secret->number;
    }
    return value;
}

/* paths: open access widen */
int restrict_scope(const struct vault *vault, int value)
{
    struct secret *secret = vault->secret;

    pkeyguard_scoped_restrict (guard, vault->region, PKEYGUARD_READ_ONLY) {
        value += secret->number;
    }
    return value;
}

/* paths: open access close */
int auto_write(const struct vault *vault, int value)
{
    pkeyguard_auto_write(struct secret, secret, vault->region);

    secret->number = value;
    return value;
}

/* paths: open access close */
int auto_read(const struct vault *vault, int value)
{
    pkeyguard_auto_read(struct secret, secret, vault->region);

    return secret->number + value;
}

/* paths: open access close */
int try_write(const struct vault *vault, int value)
{
    pkeyguard_try_scoped_write (struct secret, secret, vault->region) {
        secret->number = value;
    } else {
        value = 0;
    }
    return value;
}

/* paths: open access close */
int acquire_release(const struct vault *vault, int value)
{
    struct secret *secret = vault->secret;
    struct pkeyguard_guard guard;

    if (pkeyguard_acquire(vault->region, PKEYGUARD_READ_WRITE, &guard) != 0)
        return 0;
    value += secret->number;
    pkeyguard_release(&guard);
    return value;
}

/* paths: open access close */
int early_return(const struct vault *vault, int value)
{
    pkeyguard_scoped_read (struct secret, secret, vault->region) {
        if (secret->number > value)
            return 0;
    }
    return value;
}

/* paths: open access close */
int call_inside(const struct vault *vault, int value)
{
    pkeyguard_scoped_read (struct secret, secret, vault->region) {
        value += secret->number;
        close(value);
    }
    return value;
}

/* paths: open access open access close close */
int nested(const struct vault *vault, int value)
{
    pkeyguard_scoped_write (struct secret, secret, vault->region) {
        secret->number = value;
        pkeyguard_scoped_write (struct secret, same, vault->region) {
            same->other = value;
        }
    }
    return value;
}

/* paths: open access open access close access close */
int read_inside_write(const struct vault *vault, int value)
{
    pkeyguard_scoped_write (struct secret, secret, vault->region) {
        secret->number = value;
        pkeyguard_scoped_read (struct secret, same, vault->region) {
            value = same->other;
        }
        secret->other = value + 1;
    }
    return value;
}

/* paths: open open access access close close */
int two_regions(const struct vault *vault, int value)
{
    pkeyguard_scoped_write (struct secret, to, vault->region) {
        pkeyguard_scoped_read (struct secret, from, vault->second) {
            to->number = from->number;
        }
    }
    return value;
}

/* paths: open access close open access close */
int one_after_another(const struct vault *vault, int value)
{
    pkeyguard_scoped_write (struct secret, secret, vault->region) {
        secret->number = value;
    }
    pkeyguard_scoped_write (struct secret, secret, vault->region) {
        secret->number = value + 1;
    }
    return value;
}

/*
 * The register functions that guards use, called directly. Between the ends of a guard there are
 * calls of the library, on paths that are seldom taken, and compilers move no access across a call.
 * Here they see straight-line code, so a missing memory clobber shows: a store is dropped because
 * the next one overwrites it, and the last load sinks below the last write of the register.
 */

/* paths: R W access R W access R W access R W */
int register_written(const struct vault *vault, int value)
{
    struct secret *secret = vault->secret;
    int seen;

    pkeyguard_pkru_write(pkeyguard_pkru_read() ^ 4);
    secret->number = value;
    pkeyguard_pkru_write(pkeyguard_pkru_read() ^ 16);
    secret->number = value + 1;
    pkeyguard_pkru_write(pkeyguard_pkru_read() ^ 16);
    seen = secret->other;
    pkeyguard_pkru_write(pkeyguard_pkru_read() ^ 4);
    return seen;
}

/* paths: R W? access R W? access R W access R W? access R W */
int bits_changed(const struct vault *vault, int value)
{
    uint64_t zero;
    struct secret *secret = vault->secret;
    int seen;

    (void)pkeyguard_pkru_clear_bits(4, &zero);
    secret->number = value;
    (void)pkeyguard_pkru_clear_bits(16, &zero);
    secret->number = value + 1;
    pkeyguard_pkru_set_bits(16);
    secret->number = value + 2;
    (void)pkeyguard_pkru_set_missing_bits(64);
    seen = secret->other;
    pkeyguard_pkru_set_bits(4);
    return seen;
}
