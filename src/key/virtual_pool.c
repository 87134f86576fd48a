/* SPDX-License-Identifier: MIT */
/*
 * The multiplexer.
 *
 * Who may change what. Bindings (key->bound, key->pkey), the pool and the list of threads change
 * under the library's lock. Pins are changed by their own thread, with plain writes and no lock. A
 * guard pins like this (enforcement_virtual.c), and unpins in the opposite order:
 *
 *     read the binding; pin that pkey; read the binding again: if it changed, unpin and start over;
 *     open the pkey in PKRU
 *
 * What it closes is the pkey that it pins, whether the key is bound to it at that moment or not:
 * a binding is also taken away and given back.
 *
 * A pkey changes owner in this order, 1 to 4 in retire(), 5 in give():
 *
 *  1. The owner's binding is taken away.
 *  2. membarrier(2): every running thread passes a full barrier, and every other one does before it
 *     runs again. A guard whose pin is not visible afterwards reads the binding after the barrier,
 *     finds it gone and opens nothing.
 *  3. The pins of every registered thread. One: the binding is given back, another pkey is tried.
 *  4. The census: if the process has as many threads as are registered, there is none beside them.
 *     If there is, the binding is given back. Until here the lock is not free, so nobody can bind
 *     the key anew. Now the pkey is closed.
 *  5. The owner's pages become PROT_NONE and lose the pkey, then the new owner's get it, then the
 *     new owner's binding is set, and the pkey is closed no more.
 *
 * After 4 no thread has the pkey open, and none will before a binding names it again, however long
 * that takes: so one barrier and one census are for several pkeys, the next to be wanted. Until
 * another key wants it the owner's pages carry it still, and the owner is bound anew with no more
 * ado. This is why:
 *
 *  - A registered thread has a pool pkey open only while it pins it: it closed all of them when it
 *    registered, only guards open them, and a guard unpins after it has closed. So does a switch of
 *    coroutines, which opens and closes for guards (saved_pins.c). None pins this one at 3, and
 * none can open it since 2.
 *  - A thread that is not registered may have inherited it open from its creator. At 4 there is no
 *    such thread. One born later is born of a registered thread, so closed. Had the census come
 *    first, a thread born between it and 3, inside a scope that ends before 3, would be missed.
 *  - Signal handlers start closed and give back what they open. What a handler returns to is a
 *    frame with the PKRU of code that pins what it has open, because a thread can only register
 *    where it is certain that no such frame is pending. A handler's own guards pin as any other.
 *  - A thread that ends keeps its pins until the kernel says that it will run no more.
 *  - A fork child has one thread. It forgets the others, whose pins do not exist there.
 *
 * Where the kernel says that the calling thread is the only one, its own pins are all there is to
 * look at. An ended thread is off the registry before it is off the kernel's count, and the census
 * first counts, then looks who is alive: each can only make the counts differ, which keeps the
 * pkey. Two kinds of code are outside the count, and of the argument: what clone(2) made to share
 * the memory but not the process, while its parent runs on; and threads that come to be with PKRU
 * open because the program wrote it so. tests/model has the protocol for spin.
 */
#include "key/virtual_pool.h"

#include <errno.h>
#include <stddef.h>

#include <pkeyguard/pkru.h>

#include "base/lock.h"
#include "base/os.h"
#include "pkey/pkeys.h"

static bool ready;
static bool claim_failed; /* at the last try */

/* The pool: places of its pkeys, least recently used first. */
static struct list pool = LIST_INIT(pool), places[PKEYS];

/* Those of them that every thread has closed and no binding names; their bits in PKRU, too. */
static uint32_t closed;

/*
 * Whose pages may carry the pkey. Where a change of pages has failed half-way the key has no pkey,
 * but this is its owner: no other key gets the pkey before it is off all of them.
 */
static struct pkeyguard_key *owners[PKEYS];

/* The same for who has no lock: the owners' serials, and a bit for each that is bound. */
static _Atomic uint64_t owner_serials[PKEYS];
static atomic_uint bound_pkeys;

static struct list keys = LIST_INIT(keys);
static uint64_t last_serial;

/* Changes whenever a pin is dropped that somebody waits for. */
static atomic_uint wake_count;

static int pkey_at(const struct list *place)
{
    return (int)(place - places);
}

static void set_binding(struct pkeyguard_key *key, int pkey)
{
    closed &= ~PKEY_BITS(pkey);
    bound_pkeys |= 1u << pkey;
    key->pkey = pkey;
    key->pkey_bits = PKEY_BITS(pkey);
    key->wd_bit = PKEY_WD(pkey);
    __atomic_store_n(&key->bound, PKEY_BITS(pkey), __ATOMIC_SEQ_CST);
}

/* The owner keeps the pkey, but guards find the key unbound. */
static void take_binding(int pkey)
{
    bound_pkeys &= ~(1u << pkey);
    if (owners[pkey] != NULL)
        __atomic_store_n(&owners[pkey]->bound, UNBOUND, __ATOMIC_SEQ_CST);
}

static void give_binding_back(int pkey)
{
    if (owners[pkey] != NULL)
        set_binding(owners[pkey], pkey);
}

static void set_owner(int pkey, struct pkeyguard_key *key)
{
    if (owners[pkey] != NULL)
        owners[pkey]->tagged_pkey = 0;
    owners[pkey] = key;
    if (key != NULL)
        key->tagged_pkey = pkey;
    owner_serials[pkey] = key == NULL ? 0 : key->serial;
}

/*
 * One pkey more for the pool. The last one stays with the kernel, which takes it for an
 * execute-only mapping, and makes such a mapping readable when there is none.
 */
static int claim(void)
{
    uint32_t pkru = pkeyguard_pkru_read();
    int pkey = os_pkey_alloc(), spare;

    if (pkey > 0) {
        spare = os_pkey_alloc();
        os_pkey_free(spare > 0 ? spare : pkey);
        if (spare < 0)
            pkey = -ENOSPC;
        /* Both bits set would mean that this thread is not in a handler (thread_records.c). */
        pkeyguard_pkru_write(pkru);
    }
    /* A thread by itself may have one open: closed in a handler, its return would open it again. */
    if (pkey == -ENOSPC && thread_outside_handlers())
        pkey = pku_take_idle_key();
    if (pkey > 0) {
        pkeys_change(0, PKEY_AD(pkey));
        list_insert(pool.previous, &places[pkey]);
        thread_records_pool |= PKEY_BITS(pkey);
        closed |= PKEY_BITS(pkey); /* no virtual key has had it yet */
    }
    claim_failed = pkey < 0;
    return pkey;
}

static void renew_barrier(void)
{
    if (os_barrier_prepare() != 0)
        os_abort("a fork child has no membarrier", NULL);
}

static int prepare(void)
{
    int pkey;

    if (pku_ruled_out() != 0)
        return -ENOTSUP;
    if (os_barrier_prepare() != 0)
        return -ENOSYS;
    pkey = claim();
    if (pkey < 0 && pkey != -ENOSPC)
        return -ENOTSUP;
    library_add_fork_child(renew_barrier);
    ready = true;
    return 0;
}

int virtual_pool_register_thread(bool outside_handlers)
{
    int error = ready ? 0 : prepare();

    if (error != 0 || own_record->registered)
        return error;
    if (!outside_handlers && !thread_outside_handlers())
        return -EAGAIN;
    return thread_records_register();
}

int virtual_pool_add_key(struct pkeyguard_key *key)
{
    int error = virtual_pool_register_thread(true);

    if (error != 0)
        return error;
    key->serial = ++last_serial;
    list_insert(&keys, &key->of_process);
    return 0;
}

bool virtual_pool_in_use(void)
{
    return ready;
}

/* Every page that may carry the pkey loses it. On failure some do not, and the first error. */
static int close_pages(struct pkeyguard_key *key, int pkey)
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

/* Before another place, or the pool's end. */
static void move(struct list *place, struct list *before)
{
    list_remove(place);
    list_insert(before->previous, place);
}

/* Moves what was used since the last binding to the pool's end, in the order that it had. */
static void notice_uses(void)
{
    struct list *end = &pool;
    uint32_t used = 0;

    for_each_thread(record)
    {
        if (record->used != 0) {
            used |= record->used;
            record->used = 0;
        }
    }
    used &= thread_records_pool; /* a guard that found its key unbound noted that, too */
    /* From the end, where most of it is already. */
    for (struct list *place = pool.previous, *next; used != 0; place = next) {
        next = place->previous;
        if (used & PKEY_BITS(pkey_at(place))) {
            used &= ~PKEY_BITS(pkey_at(place));
            move(place, end);
            end = place;
        }
    }
}

/* Steps 2 to 4: which of these pkeys every thread has closed, and nobody can open. */
static int find_closed(uint32_t pkeys, uint32_t *ret_closed)
{
    bool alone = thread_records_only_own();
    int error = alone ? 0 : os_barrier();
    uint32_t unpinned = 0;

    if (error != 0)
        return error;
    for_each_pkey_left(left, pkeys)
    {
        if (!thread_records_any_pins(pkeys_first(left)))
            unpinned |= PKEY_BITS(pkeys_first(left));
    }
    if (unpinned != 0 && !alone)
        error = thread_records_all_registered();
    if (error == 0)
        *ret_closed = unpinned;
    return error;
}

/*
 * Steps 1 to 4, until some pkey is closed: of several at a time, the least recently used that
 * nobody pins, for they are the next to be wanted.
 */
static int close_candidates(void)
{
    enum { AT_ONCE = 7 };
    struct list *place = pool.next;

    while (place != &pool) {
        uint32_t tried = 0, now_closed = 0;
        int error;

        for (int n = 0; n < AT_ONCE && place != &pool; place = place->next) {
            int pkey = pkey_at(place);

            if (closed & PKEY_BITS(pkey) || thread_records_any_pins(pkey))
                continue;
            take_binding(pkey);
            tried |= PKEY_BITS(pkey);
            n++;
        }
        error = tried == 0 ? 0 : find_closed(tried, &now_closed);
        closed |= now_closed;
        for_each_pkey_left(left, tried & ~closed) give_binding_back(pkeys_first(left));
        if (error != 0 || now_closed != 0)
            return error;
    }
    return list_empty(&pool) ? -ENOSPC : -EBUSY;
}

/* The least recently used; 0: none is. */
static int closed_pkey(void)
{
    list_for_each(place, &pool)
    {
        if (closed & PKEY_BITS(pkey_at(place)))
            return pkey_at(place);
    }
    return 0;
}

/* A closed pkey. Another key's pages may carry it. */
static int find_closed_pkey(void)
{
    int pkey = closed_pkey(), error;

    if (pkey == 0 && !claim_failed)
        pkey = claim();
    if (pkey > 0)
        return pkey;
    error = close_candidates();
    if (error == -EBUSY && thread_records_drop_exited())
        error = close_candidates();
    if (error == 0)
        return closed_pkey();
    /* Some may have been given up since. */
    pkey = claim();
    return pkey > 0 ? pkey : error;
}

/* Step 5, of a closed pkey. */
static int transfer(int pkey, struct pkeyguard_key *key)
{
    struct pkeyguard_key *owner = owners[pkey];
    int error = 0;

    if (owner != NULL && owner != key) {
        owner->pkey = -1;
        owner->pkey_bits = UNBOUND;
        error = close_pages(owner, pkey);
    }
    if (error != 0)
        return error;
    set_owner(pkey, key);
    move(&places[pkey], &pool);
    list_for_each(link, &key->pages)
    {
        error = pages_tag(list_entry(link, struct pages, of_key), pkey);
        if (error != 0) {
            if (close_pages(key, pkey) == 0)
                set_owner(pkey, NULL);
            return error;
        }
    }
    set_binding(key, pkey);
    return 0;
}

static int bind(struct pkeyguard_key *key)
{
    int pkey = key->pkey;

    if (pkey > 0) { /* all of its pages carry it */
        set_binding(key, pkey);
        return 0;
    }
    notice_uses();
    pkey = key->tagged_pkey != 0 ? key->tagged_pkey : find_closed_pkey();
    return pkey > 0 ? transfer(pkey, key) : pkey;
}

int virtual_pool_pin(struct pkeyguard_key *key)
{
    int error = key->bound != UNBOUND ? 0 : bind(key);

    if (error == 0) {
        pkeyguard_count_up(&own_record->pins[key->pkey]);
        own_record->used |= key->bound;
    }
    return error;
}

void virtual_pool_unpin(struct pkeyguard_key *key)
{
    virtual_pool_drop_pins(key->pkey, 1);
}

int virtual_pool_remove_key(struct pkeyguard_key *key)
{
    int pkey = key->pkey;

    thread_records_drop_exited();
    if (key->bound != UNBOUND) {
        take_binding(pkey);
        if (os_barrier() != 0 || thread_records_any_pins(pkey)) {
            give_binding_back(pkey);
            return -EBUSY;
        }
    }
    if (key->tagged_pkey != 0)
        set_owner(key->tagged_pkey, NULL);
    list_remove(&key->of_process);
    return 0;
}

int virtual_pool_pkey(uint64_t serial)
{
    for (int pkey = 1; pkey < PKEYS; pkey++) {
        if (owner_serials[pkey] == serial)
            return pkey;
    }
    return 0;
}

uint64_t virtual_pool_serial(int pkey)
{
    return owner_serials[pkey];
}

/* As a guard pins a key: what counts is the binding that it has once the pin is there. */
static bool pin_where_bound(uint64_t serial, uint32_t pins)
{
    int pkey = virtual_pool_pkey(serial);

    if (pkey == 0 || !own_record->registered)
        return false;
    own_record->used |= PKEY_BITS(pkey);
    thread_set_pins(pkey, own_record->pins[pkey] + pins);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (bound_pkeys & 1u << pkey && owner_serials[pkey] == serial)
        return true;
    virtual_pool_drop_pins(pkey, pins);
    return false;
}

static struct pkeyguard_key *find_key(uint64_t serial)
{
    list_for_each(link, &keys)
    {
        struct pkeyguard_key *key = list_entry(link, struct pkeyguard_key, of_process);

        if (key->serial == serial)
            return key;
    }
    return NULL;
}

static int pin_wherever(uint64_t serial, uint32_t pins)
{
    struct pkeyguard_key *key = find_key(serial);
    int error;

    if (key == NULL)
        return -ENOENT;
    error = virtual_pool_register_thread(false);
    if (error == 0)
        error = virtual_pool_pin(key);
    if (error == 0)
        thread_set_pins(key->pkey, own_record->pins[key->pkey] + pins - 1);
    return error;
}

int virtual_pool_pin_serial(uint64_t serial, uint32_t pins)
{
    int error;

    if (pin_where_bound(serial, pins))
        return 0;
    error = library_lock();
    if (error != 0)
        return error;
    error = pin_wherever(serial, pins);
    library_unlock();
    return error;
}

void virtual_pool_drop_pins(int pkey, uint32_t pins)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread_set_pins(pkey, own_record->pins[pkey] - pins);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (own_record->no_waiters != 1)
        virtual_wait_wake(own_record);
}

bool virtual_pool_all_pinned_here(void)
{
    list_for_each(place, &pool)
    {
        if (!thread_pins(own_record, pkey_at(place)))
            return false;
    }
    return true;
}

bool virtual_pool_all_pinned(void)
{
    list_for_each(place, &pool)
    {
        if (!thread_records_any_pins(pkey_at(place)))
            return false;
    }
    return true;
}

bool virtual_wait_allowed(void)
{
    list_for_each(place, &pool)
    {
        if (thread_pins(own_record, pkey_at(place)))
            return false;
    }
    return thread_outside_handlers();
}

unsigned virtual_wait_begin(void)
{
    unsigned asked = wake_count;

    for_each_thread(record) __atomic_store_n(&record->no_waiters, 0, __ATOMIC_RELAXED);
    /* As with a binding: who does not see that he is asked, has unpinned for all to see. */
    os_barrier();
    thread_records_drop_exited();
    return asked;
}

void virtual_wait_sleep(unsigned asked)
{
    /* Not for long: a thread that ends unpins without a word. */
    os_wait(&wake_count, asked, 20);
}

void virtual_wait_wake(struct thread_record *own)
{
    own->no_waiters = 1;
    wake_count++;
    os_wake(&wake_count);
}
