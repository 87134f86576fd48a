/* SPDX-License-Identifier: MIT */
/* Helpers for the files of this suite. */
#include <errno.h>
#include <stdint.h>

#include "test_virtual.h"

struct pkeyguard_key *keys[MANY];
struct pkeyguard_region *regions[MANY];
struct pkeyguard_guard guards[MANY];

void make_keys(int count)
{
    for (int i = 0; i < count; i++) {
        keys[i] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
        regions[i] = new_region(keys[i]);
    }
}

void destroy_keys(int count)
{
    for (int i = 0; i < count; i++)
        destroy(regions[i], keys[i]);
}

void set_up_keys(void)
{
    make_keys(KEYS);
}

void tear_down_keys(void)
{
    destroy_keys(KEYS);
}

void assert_closed(int i)
{
    if (pkeyguard_key_number(keys[i]) > 0) {
        assert_denied(READ_BYTE, address_of(regions[i]), keys[i]);
        assert_denied(WRITE_BYTE, address_of(regions[i]), keys[i]);
    } else {
        assert_page_denied(READ_BYTE, address_of(regions[i]));
        assert_page_denied(WRITE_BYTE, address_of(regions[i]));
    }
}

void assert_all_closed(void)
{
    for (int i = 0; i < KEYS; i++)
        assert_closed(i);
}

int acquire(int i, enum pkeyguard_rights rights)
{
    return pkeyguard_acquire(regions[i], rights, &guards[i]);
}

void open_and_close(int i)
{
    ck_assert_int_eq(acquire(i, PKEYGUARD_READ_WRITE), 0);
    pkeyguard_release(&guards[i]);
}

bool is_bound(int i)
{
    return pkeyguard_key_number(keys[i]) > 0;
}

void pin_pool(void)
{
    for (int i = 0; i < POOL; i++)
        ck_assert_int_eq(acquire(i, i % 2 ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE), 0);
}

void unpin_pool(void)
{
    for (int i = 0; i < POOL; i++)
        pkeyguard_release(&guards[i]);
}

void do_register(void *unused)
{
    (void)unused;
    ck_assert_int_eq(pkeyguard_thread_register(), 0);
}

void do_acquire(void *i)
{
    ck_assert_int_eq(acquire((int)(intptr_t)i, PKEYGUARD_READ_WRITE), 0);
}

void do_release(void *i)
{
    pkeyguard_release(&guards[(intptr_t)i]);
}

void do_open_and_close(void *i)
{
    open_and_close((int)(intptr_t)i);
}

static struct fault fault_of_worker;

static void do_read(void *address)
{
    fault_of_worker = try_access(READ_BYTE, address);
}

bool can_read_on(struct worker *worker, const void *address)
{
    run_on(worker, do_read, (void *)(uintptr_t)address);
    return !fault_of_worker.happened;
}

void evict_everything(int except)
{
    /* More than once: a key that was used often keeps its pkey until the others were, too. */
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < KEYS; i++) {
            if (i != except)
                open_and_close(i);
        }
    }
}

/*
 * Some pkeys may be free or known to be closed in every thread already: acquiring succeeds until
 * they are used up.
 */
void assert_blocks_eviction(struct worker *worker)
{
    int error = 0;

    for (int i = 0; i < KEYS && error == 0; i++) {
        error = acquire(i, PKEYGUARD_READ_WRITE);
        if (error == 0) {
            ck_assert(!can_read_on(worker, address_of(regions[i])));
            pkeyguard_release(&guards[i]);
        }
    }
    ck_assert_int_eq(error, -EAGAIN);
}
