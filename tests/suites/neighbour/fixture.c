/* SPDX-License-Identifier: MIT */
/* The neighbour. */
#include <signal.h>
#include <sys/mman.h>

#include "test_neighbour.h"

struct neighbour neighbour;
struct fault fault_of_worker;

void move_in(void)
{
    for (int i = 0; i < NEIGHBOURS_PAGES; i++) {
        char *page = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        ck_assert_ptr_ne(page, MAP_FAILED);
        neighbour.pages[i] = page;
        neighbour.pkeys[i] = pkeyguard_pkru_supported() ? pkey_alloc(0, 0) : -1;
        if (neighbour.pkeys[i] > 0)
            ck_assert_int_eq(pkey_mprotect(page, PAGE_BYTES, PAGE_RW, neighbour.pkeys[i]), 0);
    }
    set_up();
}

void move_out(void)
{
    tear_down();
    for (int i = 0; i < NEIGHBOURS_PAGES; i++) {
        munmap(neighbour.pages[i], PAGE_BYTES);
        if (neighbour.pkeys[i] > 0)
            pkey_free(neighbour.pkeys[i]);
    }
}

/* Where pages have no pkeys. */
static const int prots[DENIALS] = {PAGE_RW, PROT_NONE, PROT_READ, PROT_NONE};

void neighbour_denies(unsigned denial)
{
    for (int i = 0; i < NEIGHBOURS_PAGES; i++) {
        int shift = 2 * neighbour.pkeys[i];

        if (shift > 0)
            pkeyguard_pkru_write((pkeyguard_pkru_read() & ~(3u << shift)) | denial << shift);
        else
            ck_assert_int_eq(mprotect(neighbour.pages[i], PAGE_BYTES, prots[denial]), 0);
    }
}

/* The access to the neighbour's page is denied, with exactly its fault, or allowed. */
static void assert_neighbours_access(enum access access, int i, bool denied)
{
    struct fault fault = try_access(access, neighbour.pages[i]);

    ck_assert_int_eq(fault.happened, denied);
    if (!denied)
        return;
    ck_assert_int_eq(fault.code, neighbour.pkeys[i] > 0 ? SEGV_PKUERR : SEGV_ACCERR);
    ck_assert_ptr_eq(fault.address, neighbour.pages[i]);
    ck_assert_int_eq(fault.pkey, neighbour.pkeys[i]);
}

void assert_neighbour_denies(unsigned denial)
{
    for (int i = 0; i < NEIGHBOURS_PAGES; i++) {
        if (neighbour.pkeys[i] > 0)
            ck_assert_uint_eq(pkeyguard_pkru_read() >> (2 * neighbour.pkeys[i]) & 3, denial);
        assert_neighbours_access(READ_BYTE, i, (denial & 1) != 0);
        assert_neighbours_access(WRITE_BYTE, i, denial != 0);
    }
}

void open_everything(void)
{
    pkeyguard_pkru_write(0);
}

bool is_neighbours(int pkey)
{
    return pkey == neighbour.pkeys[0] || pkey == neighbour.pkeys[1];
}

void do_write(void *target)
{
    fault_of_worker = try_access(WRITE_BYTE, target);
}

void assert_denied_on(struct worker *worker, const struct pkeyguard_region *denied)
{
    const struct pkeyguard_key *owner = pkeyguard_region_key(denied);

    run_on(worker, do_write, address_of(denied));
    ck_assert(fault_of_worker.happened);
    ck_assert_int_eq(fault_of_worker.code, denial_code(owner));
    ck_assert_ptr_eq(fault_of_worker.address, address_of(denied));
    ck_assert_int_eq(fault_of_worker.pkey, denial_pkey(owner));
}
