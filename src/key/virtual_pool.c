/* SPDX-License-Identifier: MIT */
/*
 * Virtual keys: many keys share a pool of pkeys. Protocol and proof.
 *
 * Who may change what. Bindings (key->bound_bits, key->pkey), the pool and the list of threads
 * change under the library's lock. A thread changes its own pins, with plain writes and no lock. A
 * guard pins in this order (enforcement_virtual.c), and unpins in the opposite one:
 *
 *     read the binding; pin that pkey; read the binding again: if it has changed, unpin and start
 *     over; open the pkey in PKRU
 *
 * A guard closes the pkey that it pins, whether the key is bound to it at that moment or not: a
 * binding can be taken away and given back meanwhile.
 *
 * A pkey changes owner in these steps: 1 to 4 in close_some_pkey(), 5 in transfer().
 *
 *  1. The owner's binding is taken away.
 *  2. membarrier(2): every running thread passes a full barrier, and every other thread does before
 *     it runs again. If a guard's pin is not visible after that, the guard reads the binding after
 *     the barrier, finds it gone, and opens nothing.
 *  3. The pins of every registered thread are read. If one pins the pkey, the binding is given back
 *     and another pkey is tried.
 *  4. The census: if the process has as many threads as are registered, there are no others. If it
 *     has more, they are made to register, where the program allows a signal (enlistment.c); else
 *     the binding is given back. The lock is held all this time, so no thread can bind
 * the key anew. Now the pkey is closed.
 *  5. The owner's pages become PROT_NONE and lose the pkey; then the new owner's pages get it; then
 *     the new owner is bound, and the pkey is closed no more.
 *
 * After step 4 no thread has the pkey open, and none can open it before a binding names it again,
 * however long that takes. So one barrier and one census serve several pkeys, the next to be
 * wanted. Until another key wants the pkey, the old owner's pages keep it, and the old owner can be
 * bound again without these steps. The reasons:
 *
 *  - A registered thread has a pkey of the pool open only while it pins it: it closed them all when
 *    it registered, only guards open them, and a guard unpins after it has closed. A switch of
 *    coroutines opens and closes for guards in the same order (saved_pins.c). At step 3 no thread
 *    pins this pkey, and since step 2 none can open it.
 *  - A thread that is not registered may have inherited the pkey open from its creator. At step 4
 *    there is no such thread. A thread born later is born of a registered one, so with the pkey
 *    closed. If the census came before step 3, it would miss a thread that is born in between,
 *    inside a scope that ends before step 3.
 *  - A signal handler starts with every key closed, and its return takes away what it opened. The
 *    code that it returns to has the PKRU of its frame, and pins what that has open: a thread can
 *    only register where it is certain that no frame from before has a pkey of the pool open. A
 *    handler's own guards pin like any other.
 *  - A thread that ends keeps its pins until the kernel says that it runs no more.
 *  - A fork child has one thread. It forgets the records of the others, and their pins.
 *
 * If the kernel says that the calling thread is the only one, its own pins are all there is to
 * read. An ended thread leaves the registry before the kernel's count. The census counts first and
 * then looks which threads live: both can only make the counts differ, and then the pkey stays. Two
 * kinds of code are outside the count and outside this argument: code made by clone(2) that shares
 * the memory but not the process, while its parent runs on; and threads that start with a PKRU that
 * the program wrote open by itself. tests/model has the protocol for spin.
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

    /* Under the library's lock. */
    struct list keys;         /* every virtual key */
    unsigned key_count, size; /* of keys; of pkeys in the pool */
    uint64_t last_serial;
    pkru_bits closed; /* pkeys that every thread has closed and that no binding names */

    /*
     * The key whose pages may have the pkey. Where a change of pages has failed half-way the key
     * has no pkey, but it is the owner still: no other key gets the pkey before it is off all of
     * these pages.
     */
    struct pkeyguard_key *owners[PKEYS];

    /* The same for code that has no lock: written under the lock, read without. */
    _Atomic uint64_t owner_serials[PKEYS];
    _Atomic pkey_bitset bound; /* pkeys that a binding names */
} pool = {.keys = LIST_INIT(pool.keys)};

static NEEDS_LIBRARY_LOCK void set_binding(struct pkeyguard_key *key, int pkey)
{
    pool.closed &= ~PKEY_BITS(pkey);
    pool.bound |= 1u << pkey;
    key->pkey = pkey;
    key->pkey_bits = PKEY_BITS(pkey);
    key->wd_bit = PKEY_WD(pkey);
    __atomic_store_n(&key->bound_bits, PKEY_BITS(pkey), __ATOMIC_SEQ_CST);
}

/* The owner keeps the pkey, but guards find the key unbound. */
static NEEDS_LIBRARY_LOCK void take_binding(int pkey)
{
    pool.bound &= ~(1u << pkey);
    if (pool.owners[pkey] != NULL)
        __atomic_store_n(&pool.owners[pkey]->bound_bits, UNBOUND, __ATOMIC_SEQ_CST);
}

static NEEDS_LIBRARY_LOCK void give_binding_back(int pkey)
{
    if (pool.owners[pkey] != NULL)
        set_binding(pool.owners[pkey], pkey);
}

static NEEDS_LIBRARY_LOCK void set_owner(int pkey, struct pkeyguard_key *key)
{
    if (pool.owners[pkey] != NULL) {
        pool.owners[pkey]->tagged_pkey = 0;
        eviction_note_loss(pkey, &pool.owners[pkey]->history);
    }
    pool.owners[pkey] = key;
    if (key != NULL) {
        key->tagged_pkey = pkey;
        eviction_note_binding(pkey, &key->history);
    }
    pool.owner_serials[pkey] = key == NULL ? 0 : key->serial;
}

/* One pkey more. No virtual key has had it yet, so it is closed everywhere. */
static NEEDS_LIBRARY_LOCK int grow_pool(void)
{
    int pkey = pkey_take_for_pool();

    if (pkey > 0) {
        eviction_add(pkey);
        pool.size++;
        pool.closed |= PKEY_BITS(pkey);
    }
    return pkey;
}

/* Where that fails os_barrier() fails, too, and no pkey changes its owner. */
void virtual_pool_forget_barrier(void)
{
    if (pool.ready)
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
    return thread_records_register();
}

int virtual_pool_add_key(struct pkeyguard_key *key)
{
    int error = virtual_pool_register_thread(true);

    if (error != 0)
        return error;
    key->serial = ++pool.last_serial;
    list_insert(&pool.keys, &key->of_process);
    pool.key_count++;
    return 0;
}

bool virtual_pool_in_use(void)
{
    return pool.ready;
}

/* Takes the pkey off the key's pages. On failure some may still have it; the first error. */
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

/* Step 1, of the next few pkeys that no thread seems to pin. *pkey: where to go on; 0: the end. */
static NEEDS_LIBRARY_LOCK pkru_bits take_some_bindings(int *pkey)
{
    enum { AT_ONCE = 5 };
    pkru_bits taken = 0;

    for (int n = 0; n < AT_ONCE && *pkey != 0; *pkey = eviction_next(*pkey)) {
        if (pool.closed & PKEY_BITS(*pkey) || thread_records_any_pins(*pkey))
            continue;
        take_binding(*pkey);
        taken |= PKEY_BITS(*pkey);
        n++;
    }
    return taken;
}

/* Steps 2 to 4: finds those of these pkeys that every thread has closed and none can open. */
static NEEDS_LIBRARY_LOCK int find_closed(pkru_bits pkeys, pkru_bits *ret_closed)
{
    bool alone = thread_records_only_own();
    pkru_bits unpinned = 0;
    int error = 0;

    /* Without a barrier it cannot be known what other threads have open. */
    if (!alone && os_barrier() != 0)
        return -EAGAIN;
    for_each_pkey_left(left, pkeys)
    {
        if (!thread_records_any_pins(pkru_first_pkey(left)))
            unpinned |= PKEY_BITS(pkru_first_pkey(left));
    }
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
 * Steps 1 to 4, until some pkey is closed. Several are tried at a time, those first that eviction.h
 * names first: they are the next to be wanted.
 */
static NEEDS_LIBRARY_LOCK int close_some_pkey(void)
{
    int pkey = eviction_first();

    while (pkey != 0) {
        pkru_bits tried = take_some_bindings(&pkey), now_closed = 0;
        int error = tried == 0 ? 0 : find_closed(tried, &now_closed);

        pool.closed |= now_closed;
        for_each_pkey_left(left, tried & ~pool.closed) give_binding_back(pkru_first_pkey(left));
        if (error != 0 || now_closed != 0)
            return error;
    }
    return eviction_first() == 0 ? -ENOSPC : -EBUSY;
}

/* The least recently used of the closed pkeys; 0: there is none. */
static NEEDS_LIBRARY_LOCK int first_closed_pkey(void)
{
    for_each_pkey_of_pool(pkey)
    {
        if (pool.closed & PKEY_BITS(pkey))
            return pkey;
    }
    return 0;
}

/* A closed pkey; another key's pages may have it. Fails as virtual_pool_pin(). */
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
    /* The program may have freed one since the pool was full. */
    pkey = grow_pool();
    return pkey > 0 ? pkey : error;
}

/* Step 5, of a closed pkey. */
static NEEDS_LIBRARY_LOCK int transfer(int pkey, struct pkeyguard_key *key)
{
    struct pkeyguard_key *owner = pool.owners[pkey];
    int error = 0;

    if (owner != NULL && owner != key) {
        owner->pkey = -1;
        owner->pkey_bits = UNBOUND;
        error = close_pages_of(owner, pkey);
    }
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
        if (os_barrier() != 0 || thread_records_any_pins(pkey)) {
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

/* A pkey without an owner is on no page, and no thread pins it: its last key would stand. */
bool virtual_pool_shrink(void)
{
    bool shrunk = false;

    for (int pkey = eviction_first(), next; pkey != 0 && pool.size > pool.key_count; pkey = next) {
        next = eviction_next(pkey);
        if (pool.owners[pkey] != NULL)
            continue;
        eviction_remove(pkey);
        pool.size--;
        pool.closed &= ~PKEY_BITS(pkey);
        pkeys_remove_from_pool(pkey);
        shrunk = true;
    }
    return shrunk;
}

bool virtual_pool_all_pinned_here(void)
{
    for_each_pkey_of_pool(pkey)
    {
        if (!thread_pins(own_record, pkey))
            return false;
    }
    return true;
}

bool virtual_pool_none_pinned_here(void)
{
    for_each_pkey_of_pool(pkey)
    {
        if (thread_pins(own_record, pkey))
            return false;
    }
    return true;
}

bool virtual_pool_all_pinned(void)
{
    for_each_pkey_of_pool(pkey)
    {
        if (!thread_records_any_pins(pkey))
            return false;
    }
    return true;
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

/* Pins as a guard does: the binding counts that the key has once the pin is there. */
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
