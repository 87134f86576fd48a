/* SPDX-License-Identifier: MIT */
/*
 * Virtual keys: PKU with a pkey that is lent while guards pin it.
 *
 * What a guard does with a bound key takes no lock, makes no system call and writes no memory but
 * the thread's own record. virtual_pool.c says why that is enough.
 */
#include <sys/mman.h>

#include <pkeyguard/guard.h>

#include "base/lock.h"
#include "key/virtual_pool.h"
#include "pkey/pkeys.h"

/* A pkey's deny bits as those of pkey 0, for a guard's pkey may be another when it is released. */
enum { ACCESS_DENIED = 1, WRITE_DENIED = 2, ALL_DENIED = 3 };

static uint32_t denied(int pkey)
{
    return pkeyguard_pkru_read() >> (2 * pkey) & ALL_DENIED;
}

static void undo(int pkey, const struct pkru_change *change)
{
    pkeys_change(change->set << (2 * pkey), change->cleared << (2 * pkey));
}

static struct pkru_change deny(int pkey, uint32_t wanted)
{
    uint32_t before = denied(pkey);
    struct pkru_change change = {.cleared = before & ~wanted, .set = wanted & ~before};

    pkeys_change(change.cleared << (2 * pkey), change.set << (2 * pkey));
    return change;
}

static struct pkru_change widen(int pkey, enum pkeyguard_rights rights)
{
    if (rights == PKEYGUARD_READ_WRITE)
        return deny(pkey, 0);
    /* Handlers and older threads have access-disable alone. */
    return deny(pkey, denied(pkey) & ACCESS_DENIED ? WRITE_DENIED : denied(pkey));
}

/* For this thread and the handlers that interrupt it; for others it takes a barrier. */
#define compiler_fence() __atomic_signal_fence(__ATOMIC_SEQ_CST)

/* The count of the pkey that has these bits in PKRU: four bytes for two bits. */
static inline uint32_t *pins_of(struct thread_record *record, uint32_t bound)
{
    return (uint32_t *)(void *)((char *)record->pins + 2 * pkeyguard_lowest_bit(bound));
}

/* Drops a pin; the key must be closed. */
static inline void unpin(struct thread_record *record, uint32_t *pins)
{
    compiler_fence();
    pkeyguard_count_down(pins);
    compiler_fence();
    if (__builtin_expect(record->no_waiters != 1, 0))
        virtual_wait_wake(record);
}

/*
 * Pins the key where it is bound, and says where. False: it is bound elsewhere by now, and what was
 * said is pinned in vain. True also for UNBOUND, bits that nobody ever has set.
 */
static inline bool pin(struct thread_record *record, const struct pkeyguard_key *key,
                       uint32_t *ret_bound)
{
    uint32_t bound = key->bound;

    *ret_bound = bound;
    pkeyguard_count_up(pins_of(record, bound));
    record->used |= bound;
    compiler_fence();
    return __builtin_expect(key->bound == bound, 1);
}

/* Without PKU no thread is. */
static inline bool registered(const struct thread_record *record)
{
    return __builtin_expect(record->registered == 1, 1);
}

static int pin_or_bind(struct pkeyguard_key *key)
{
    uint32_t bound;
    int error;

    if (registered(own_record) && key->bound != UNBOUND) {
        if (pin(own_record, key, &bound) && bound != UNBOUND)
            return 0;
        unpin(own_record, pins_of(own_record, bound));
    }
    error = library_lock();
    if (error != 0)
        return error;
    error = virtual_pool_register_thread(false);
    if (error == 0)
        error = virtual_pool_pin(key);
    library_unlock();
    return error;
}

/* A pkey that joined the pool after this thread did has access-disable alone: slow to open. */
static void close_both_bits(int pkey)
{
    if (denied(pkey) == ACCESS_DENIED && thread_marked_outside_handlers())
        deny(pkey, ALL_DENIED);
}

/* After a pin that was of no use. A key that is bound is none for here: something else is the
 * matter, and pkeyguard_guard_enter() sees to it. */
static __attribute__((noinline)) int bind_and_open(struct thread_record *record, uint32_t pinned,
                                                   struct pkeyguard_key *key,
                                                   enum pkeyguard_rights rights)
{
    int error;

    unpin(record, pins_of(record, pinned));
    if (key->enforcement != &virtual_enforcement || key->bound != UNBOUND)
        return 0;
    error = pin_or_bind(key);
    if (error != 0)
        return error;
    close_both_bits(key->pkey);
    if (rights == PKEYGUARD_READ_WRITE ? pkeyguard_pkru_open(key->pkey_bits)
                                       : pkeyguard_pkru_open_to_read(key->pkey_bits, &key->wd_bit))
        return 1;
    unpin(own_record, pins_of(own_record, key->pkey_bits));
    return 0;
}

int pkeyguard_virtual_write(struct pkeyguard_key *key)
{
    struct thread_record *record = own_record;
    uint32_t bound;

    if (!registered(record))
        return 0;
    if (pin(record, key, &bound) && pkeyguard_pkru_open(bound))
        return 1;
    return bind_and_open(record, bound, key, PKEYGUARD_READ_WRITE);
}

int pkeyguard_virtual_read(struct pkeyguard_key *key)
{
    struct thread_record *record = own_record;
    uint32_t bound;

    if (!registered(record))
        return 0;
    if (pin(record, key, &bound) && pkeyguard_pkru_open_to_read(bound, &key->wd_bit))
        return 1;
    return bind_and_open(record, bound, key, PKEYGUARD_READ_ONLY);
}

void pkeyguard_virtual_close(struct pkeyguard_key *key)
{
    struct thread_record *record = own_record;
    uint32_t bits = key->pkey_bits;
    uint32_t *pins = pins_of(record, bits);

    /* Not pinned by this thread: not open in it, either. */
    if (*pins == 0)
        return;
    pkeyguard_pkru_set_bits(bits);
    unpin(record, pins);
}

static int bind(struct pkeyguard_key *key)
{
    return virtual_pool_add_key(key);
}

static int unbind(struct pkeyguard_key *key)
{
    return virtual_pool_remove_key(key);
}

/* A thread that is not registered keeps every pkey where it is, so the answer holds for it too. */
static enum pkeyguard_rights rights(const struct pkeyguard_key *key)
{
    int pkey = key->pkey;

    return pkey < 0 ? PKEYGUARD_NO_ACCESS : pkeys_rights(pkey, pkeyguard_pkru_read());
}

static int apply(const struct pkeyguard_key *key, struct pages *pages)
{
    int error = 0;

    if (key->pkey > 0)
        error = pages_protect(pages, pages->prot, key->pkey);
    else if (pages->applied != PROT_NONE || pages->pkey != 0)
        error = pages_protect(pages, PROT_NONE, 0);
    if (error == 0)
        pages->allowed = PKEYGUARD_NO_ACCESS;
    return error;
}

/* A restrict guard that has nothing to take away pins nothing. */
static int restrict_to(struct pkeyguard_key *key, enum pkeyguard_rights rights,
                       struct pkru_change *ret_change)
{
    /* Never both bits, which would look like a thread outside handlers. */
    uint32_t wanted = rights == PKEYGUARD_READ_ONLY ? WRITE_DENIED : ACCESS_DENIED;
    int error;

    *ret_change = (struct pkru_change){0};
    if (virtual_enforcement.rights(key) <= rights)
        return 0;
    error = pin_or_bind(key);
    if (error != 0)
        return error;
    /* Registering may have closed it. */
    if (pkeys_rights(key->pkey, pkeyguard_pkru_read()) > rights)
        *ret_change = deny(key->pkey, wanted);
    else
        unpin(own_record, pins_of(own_record, key->pkey_bits));
    return 0;
}

static int enter(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                 enum guard_mode mode, struct pkru_change *ret_change)
{
    int error;

    (void)pages;
    if (mode == GUARD_RESTRICTS)
        return restrict_to(key, rights, ret_change);
    error = pin_or_bind(key);
    if (error != 0)
        return error;
    close_both_bits(key->pkey);
    *ret_change = widen(key->pkey, rights);
    return 0;
}

static int leave(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                 enum guard_mode mode, const struct pkru_change *change)
{
    int pkey = key->pkey;

    (void)pages, (void)rights;
    /* A restrict guard may have pinned nothing; one that is not this thread's has. */
    if ((mode == GUARD_RESTRICTS && change->set == 0) || pkey < 0 || !thread_pins(own_record, pkey))
        return 0;
    undo(pkey, change);
    unpin(own_record, pins_of(own_record, key->pkey_bits));
    return 0;
}

const struct enforcement virtual_enforcement = {
    .kind = PKEYGUARD_PKU,
    .bind = bind,
    .unbind = unbind,
    .rights = rights,
    .apply = apply,
    .enter = enter,
    .leave = leave,
};
