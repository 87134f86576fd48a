/* SPDX-License-Identifier: MIT */
/*
 * Virtual keys: many keys share a pool of pkeys. This comment has the protocol and its proof.
 *
 * The bindings (key->bound_bits, key->pkey), the pool and the list of threads change under the
 * library's lock. A thread changes its own pins with plain writes and without the lock. A guard
 * pins in this order (enforcement_virtual.c), and unpins in the opposite order:
 *
 *     read the binding; pin that pkey; read the binding again: if it has changed, unpin and start
 *     over; open the pkey in PKRU
 *
 * A guard always closes the pkey that it pinned, even if the key is not bound to it at that moment:
 * a binding can be taken away and given back during the guard's life.
 *
 * A pkey changes its owner in five steps. close_some_pkey() does steps 1 to 4, transfer() does step
 * 5.
 *
 *  1. Take the owner's binding away.
 *  2. membarrier(2): every running thread passes a full barrier, and every other thread passes one
 *     before it runs again. If a guard's pin is not visible after that, the guard reads the binding
 *     after the barrier, sees that it is gone, and opens nothing.
 *  3. Read the pins of every registered thread. If a thread pins the pkey, give the binding back
 *     and try another pkey.
 *  4. The census: compare the kernel's count of threads with the number of registered threads. If
 *     the counts are equal, every thread is registered. If the kernel counts more, make the others
 *     register, where the program allows a signal (enlistment.c); else give the binding back. The
 *     caller has the lock all this time, so no thread can bind the key anew. After this step the
 *     pkey is called closed.
 *  5. Set the old owner's pages to PROT_NONE without a pkey, give the pkey to the new owner's
 *     pages, and bind the new owner. Now the pkey is no longer called closed.
 *
 * After step 4 no thread has the pkey open, and no thread can open it before a binding names it
 * again. That holds for any length of time, so one barrier and one census can close several pkeys
 * for later use. Until another key needs the pkey, the old owner's pages keep it, and the old owner
 * can be bound again without these steps. The proof:
 *
 *  - A registered thread has a pkey of the pool open only while it pins it. It closed the whole
 *    pool when it registered, only guards open a pkey of the pool, and a guard unpins after it has
 *    closed. A coroutine switch opens and closes for guards in the same order (saved_pins.c). At
 *    step 3 no thread pins this pkey, and since step 2 no thread can open it.
 *  - An unregistered thread may have inherited an open pkey from its creator. At step 4 there is no
 *    unregistered thread. A thread that starts later has a registered creator, so it starts with
 *    the pkey closed. If the census came before step 3, it would miss a thread that starts in
 *    between, inside a scope that ends before step 3.
 *  - A signal handler starts with every key closed, and its return undoes what it opened. The
 *    interrupted code has the PKRU of its signal frame, and pins what that PKRU has open. For this
 *    reason a thread can register only where no older frame has a pkey of the pool open. Guards in
 *    a handler pin like all others.
 *  - A thread that ends keeps its pins until the kernel says that the thread runs no more.
 *  - A fork child has one thread. It drops the records of the other threads, with their pins.
 *
 * If the kernel says that the calling thread is the only one, only its own pins are read. A thread
 * that has ended leaves the registry before it leaves the kernel's count, and the census asks the
 * kernel first and the registry second. Both can only make the counts differ, and then the pkey
 * stays. The proof does not cover two kinds of code: code started by clone(2) that shares the
 * memory but is another process and runs beside its parent, and threads for which the program
 * itself wrote an open PKRU. tests/model has the protocol as a model for spin.
 */
#include "key/virtual_pool.h"

#include <errno.h>
#include <stddef.h>

#include "base/os.h"
#include "pkey/enlistment.h"
#include "pkey/own_pkru.h"
#include "pkey/pkey_allocator.h"

static struct virtual_pool {
    bool ready; /* set once, under the library's lock; read without */

    /* The next two are under the library's lock. */
    struct list keys; /* every virtual key */
    unsigned key_count;
    uint64_t last_serial;
    pkru_bits closed; /* the pkeys that every thread has closed and no binding names */

    /*
     * The key whose pages may have the pkey. If a change of pages failed half-way, the key has no
     * pkey but is still the owner. No other key gets the pkey before all of these pages have lost
     * it.
     */
    struct pkeyguard_key *owners[PKEYS];

    /* The owners' serials, for code without the lock. Written under the lock, read without it. */
    _Atomic uint64_t owner_serials[PKEYS];
    _Atomic pkey_bitset bound; /* the pkeys that a binding names */
} pool = {.keys = LIST_INIT(pool.keys)};

static NEEDS_LIBRARY_LOCK void set_binding(struct pkeyguard_key *key, int pkey)
{
    struct pkeyguard_key *written = to_write(key);

    pool.closed &= ~PKEY_BITS(pkey);
    pool.bound |= 1u << pkey;
    written->pkey = pkey;
    written->pkey_bits = PKEY_BITS(pkey);
    written->wd_bit = PKEY_WD(pkey);
    __atomic_store_n(&written->bound_bits, PKEY_BITS(pkey), __ATOMIC_SEQ_CST);
}

/* The owner keeps the pkey on its pages, but guards see the key as unbound. */
static NEEDS_LIBRARY_LOCK void take_binding(int pkey)
{
    pool.bound &= ~(1u << pkey);
    if (pool.owners[pkey] != NULL)
        __atomic_store_n(&to_write(pool.owners[pkey])->bound_bits, UNBOUND, __ATOMIC_SEQ_CST);
}

static NEEDS_LIBRARY_LOCK void give_binding_back(int pkey)
{
    if (pool.owners[pkey] != NULL)
        set_binding(pool.owners[pkey], pkey);
}

static NEEDS_LIBRARY_LOCK void set_owner(int pkey, struct pkeyguard_key *key)
{
    if (pool.owners[pkey] != NULL) {
        struct pkeyguard_key *written = to_write(pool.owners[pkey]);

        written->tagged_pkey = 0;
        eviction_note_loss(pkey, &written->history);
    }
    pool.owners[pkey] = key;
    if (key != NULL) {
        to_write(key)->tagged_pkey = pkey;
        eviction_note_binding(pkey, &key->history);
    }
    pool.owner_serials[pkey] = key == NULL ? 0 : key->serial;
}

/* Adds a pkey to the pool. No virtual key has had it yet, so every thread has it closed. */
static NEEDS_LIBRARY_LOCK int grow_pool(void)
{
    int pkey = pkey_take_for_pool();

    if (pkey > 0) {
        eviction_add(pkey);
        pool.closed |= PKEY_BITS(pkey);
    }
    return pkey;
}

/* What a thread was changing that is not there. */
static NEEDS_LIBRARY_LOCK void mend_pool(void)
{
    list_mend(&pool.keys);
    pool.key_count = 0;
    list_for_each(link, &pool.keys) pool.key_count++;
    eviction_mend();
    for_each_pkey_left(left, pkeys_pool())
    {
        int pkey = pkru_first_pkey(left);

        if (pool.owners[pkey] != NULL)
            to_write(pool.owners[pkey])->tagged_pkey = pkey;
    }
}

/* If the registration fails, os_barrier() fails too, and then no pkey changes its owner. */
void virtual_pool_forget_parent(void)
{
    if (!pool.ready)
        return;
    mend_pool();
    (void)os_barrier_prepare();
}

static NEEDS_LIBRARY_LOCK int ready_pool(void)
{
    int pkey;

    if (pkeys_ruled_out() != 0)
        return -ENOTSUP;
    if (os_barrier_prepare() != 0)
        return -ENOSYS;
    pkey = grow_pool();
    if (pkey < 0 && pkey != -ENOSPC)
        return -ENOTSUP;
    pool.ready = true;
    return 0;
}

int virtual_pool_register_thread(bool outside_handlers)
{
    int error = pool.ready ? 0 : ready_pool();

    if (error != 0 || own_record->registered)
        return error;
    if (!outside_handlers && !thread_stays_closed(pkeys_to_close()))
        return -EAGAIN;
    return thread_records_register(outside_handlers || thread_outside_handlers());
}

int virtual_pool_add_key(struct pkeyguard_key *key)
{
    int error = virtual_pool_register_thread(true);

    if (error != 0)
        return error;
    to_write(key)->serial = ++pool.last_serial;
    list_insert(&pool.keys, &key->of_process);
    pool.key_count++;
    return 0;
}

bool virtual_pool_in_use(void)
{
    return pool.ready;
}

/*
 * Removes the pkey from the key's pages. Returns the first error; some pages may then still have
 * it.
 */
static NEEDS_LIBRARY_LOCK int close_pages_of(struct pkeyguard_key *key, int pkey)
{
    int error = 0;

    list_for_each(link, &key->pages)
    {
        struct pages *pages = list_entry(link, struct pages, of_key);
        int failed = pages->pkey == pkey ? pages_close(pages) : 0;

        if (error == 0)
            error = failed;
    }
    return error;
}

/* Steps 2 to 4: reports which of these pkeys every thread has closed. */
static NEEDS_LIBRARY_LOCK int find_closed(pkru_bits pkeys, pkru_bits *ret_closed)
{
    bool alone = thread_records_only_own();
    pkru_bits unpinned;
    int error = 0;

    /* Without a barrier other threads' pins are not certain. */
    if (!alone && os_barrier() != 0)
        return -EAGAIN;
    unpinned = thread_records_unpinned(pkeys);
    if (unpinned != 0 && !alone) {
        error = thread_records_all_registered();
        if (error != 0)
            error = enlist_threads();
    }
    if (error == 0)
        *ret_closed = unpinned;
    return error;
}

/*
 * Steps 1 to 4 until at least one pkey is closed. Each try takes several pkeys that no thread seems
 * to pin, because the next keys will need them.
 */
static NEEDS_LIBRARY_LOCK int close_some_pkey(void)
{
    enum { AT_ONCE = 5 };
    pkru_bits candidates = thread_records_unpinned(pkeys_pool() & ~pool.closed);

    while (candidates != 0) {
        pkru_bits tried = eviction_first_few(candidates, AT_ONCE), now_closed = 0;
        int error;

        for_each_pkey_left(left, tried) take_binding(pkru_first_pkey(left));
        error = find_closed(tried, &now_closed);
        pool.closed |= now_closed;
        for_each_pkey_left(left, tried & ~now_closed) give_binding_back(pkru_first_pkey(left));
        if (error != 0 || now_closed != 0)
            return error;
        candidates &= ~tried;
    }
    return pkeys_pool() == 0 ? -ENOSPC : -EBUSY;
}

/* Returns the closed pkey that is to be evicted first, or 0. */
static NEEDS_LIBRARY_LOCK int first_closed_pkey(void)
{
    return pool.closed == 0 ? 0 : pkru_first_pkey(eviction_first_few(pool.closed, 1));
}

/* Returns a closed pkey, which another key's pages may still have. Fails as virtual_pool_pin(). */
static NEEDS_LIBRARY_LOCK int find_closed_pkey(void)
{
    int pkey = first_closed_pkey(), error;

    if (pkey == 0 && !pkey_manager.pool_is_full)
        pkey = grow_pool();
    if (pkey > 0)
        return pkey;
    error = close_some_pkey();
    if (error == -EBUSY && thread_records_drop_exited())
        error = close_some_pkey();
    if (error == 0)
        return first_closed_pkey();
    /* The program may have freed a pkey since the pool was full. */
    pkey = grow_pool();
    return pkey > 0 ? pkey : error;
}

/* True if all of the key's pages have the pkey and their page rights. */
static NEEDS_LIBRARY_LOCK bool all_pages_have(const struct pkeyguard_key *key, int pkey)
{
    list_for_each(link, &key->pages)
    {
        const struct pages *pages = list_entry(link, struct pages, of_key);

        if (pages->pkey != pkey || pages->applied != pages->prot)
            return false;
    }
    return true;
}

/* On failure the owner can be bound again at once, if none of its pages has changed. */
static NEEDS_LIBRARY_LOCK int take_from_owner(int pkey, struct pkeyguard_key *owner)
{
    struct pkeyguard_key *written = to_write(owner);
    int error;

    written->pkey = -1;
    written->pkey_bits = UNBOUND;
    error = close_pages_of(owner, pkey);
    if (error != 0 && all_pages_have(owner, pkey)) {
        written->pkey = pkey;
        written->pkey_bits = PKEY_BITS(pkey);
    }
    return error;
}

/* Step 5 for a closed pkey. */
static NEEDS_LIBRARY_LOCK int transfer(int pkey, struct pkeyguard_key *key)
{
    struct pkeyguard_key *owner = pool.owners[pkey];
    int error = 0;

    if (owner != NULL && owner != key)
        error = take_from_owner(pkey, owner);
    if (error != 0)
        return error;
    if (owner != key)
        set_owner(pkey, key);
    list_for_each(link, &key->pages)
    {
        error = pages_tag(list_entry(link, struct pages, of_key), pkey);
        if (error != 0) {
            if (close_pages_of(key, pkey) == 0)
                set_owner(pkey, NULL);
            return error;
        }
    }
    set_binding(key, pkey);
    return 0;
}

static NEEDS_LIBRARY_LOCK int bind_key(struct pkeyguard_key *key)
{
    int pkey = key->pkey;

    if (pkey > 0) { /* all of its pages still have it */
        set_binding(key, pkey);
        return 0;
    }
    eviction_note_uses();
    pkey = key->tagged_pkey != 0 ? key->tagged_pkey : find_closed_pkey();
    return pkey > 0 ? transfer(pkey, key) : pkey;
}

int virtual_pool_pin(struct pkeyguard_key *key)
{
    int error = key->bound_bits != UNBOUND ? 0 : bind_key(key);

    if (error == 0)
        pin_once(own_record, key->bound_bits);
    return error;
}

int virtual_pool_remove_key(struct pkeyguard_key *key)
{
    int pkey = key->pkey;

    thread_records_drop_exited();
    if (key->bound_bits != UNBOUND) {
        take_binding(pkey);
        if ((!thread_records_only_own() && os_barrier() != 0) ||
            thread_records_unpinned(PKEY_BITS(pkey)) == 0) {
            give_binding_back(pkey);
            return -EBUSY;
        }
    }
    if (key->tagged_pkey != 0)
        set_owner(key->tagged_pkey, NULL);
    list_remove(&key->of_process);
    pool.key_count--;
    return 0;
}

/*
 * Only pkeys without an owner leave: no page has such a pkey and no thread pins it, because a
 * pinned key cannot be destroyed.
 */
bool virtual_pool_shrink(void)
{
    unsigned size = (unsigned)__builtin_popcount(pkeys_pool() & EVERY_AD);
    bool shrunk = false;

    for_each_pkey_left(left, pkeys_pool())
    {
        int pkey = pkru_first_pkey(left);

        if (size <= pool.key_count || pool.owners[pkey] != NULL)
            continue;
        eviction_remove(pkey);
        size--;
        pool.closed &= ~PKEY_BITS(pkey);
        pkeys_remove_from_pool(pkey);
        shrunk = true;
    }
    return shrunk;
}

bool virtual_pool_all_pinned_here(void)
{
    return thread_unpinned(own_record, pkeys_pool()) == 0;
}

bool virtual_pool_none_pinned_here(void)
{
    return thread_unpinned(own_record, pkeys_pool()) == pkeys_pool();
}

bool virtual_pool_all_pinned(void)
{
    return thread_records_unpinned(pkeys_pool()) == 0;
}

int virtual_pool_pkey(uint64_t serial)
{
    for (int pkey = 1; pkey < PKEYS; pkey++) {
        if (pool.owner_serials[pkey] == serial)
            return pkey;
    }
    return 0;
}

uint64_t virtual_pool_serial(int pkey)
{
    return pool.owner_serials[pkey];
}

/* Pins in the order of a guard: after the pin it checks that the key still has this pkey. */
static bool pin_where_bound(uint64_t serial, uint32_t times)
{
    int pkey = virtual_pool_pkey(serial);

    if (pkey == 0 || !own_record->registered)
        return false;
    pin_times(pkey, times);
    if (pool.bound & 1u << pkey && pool.owner_serials[pkey] == serial)
        return true;
    unpin_times(pkey, times);
    return false;
}

static NEEDS_LIBRARY_LOCK struct pkeyguard_key *find_key(uint64_t serial)
{
    list_for_each(link, &pool.keys)
    {
        struct pkeyguard_key *key = list_entry(link, struct pkeyguard_key, of_process);

        if (key->serial == serial)
            return key;
    }
    return NULL;
}

static NEEDS_LIBRARY_LOCK int bind_and_pin_times(uint64_t serial, uint32_t times)
{
    struct pkeyguard_key *key = find_key(serial);
    int error;

    if (key == NULL)
        return -ENOENT;
    error = virtual_pool_register_thread(false);
    if (error == 0)
        error = virtual_pool_pin(key);
    if (error == 0)
        pin_times(key->pkey, times - 1);
    return error;
}

int virtual_pool_pin_serial(uint64_t serial, uint32_t times)
{
    int error;

    if (pin_where_bound(serial, times))
        return 0;
    error = library_lock();
    if (error != 0)
        return error;
    error = bind_and_pin_times(serial, times);
    library_unlock();
    return error;
}
