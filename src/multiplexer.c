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
 * A pkey changes owner in vacate(), in this order:
 *
 *  1. The owner's binding is taken away.
 *  2. membarrier(2): every running thread passes a full barrier, and every other one does before it
 *     runs again. A guard whose pin is not visible afterwards reads the binding after the barrier,
 *     finds it gone and opens nothing. Until the lock is free nobody can bind the key anew.
 *  3. The pins of every registered thread. One: the binding is given back, another pkey is tried.
 *  4. The census: if the process has as many threads as are registered, there is none beside them.
 *  5. The owner's pages become PROT_NONE and lose the pkey, then the new owner's get it, then the
 *     new owner's binding is set.
 *
 * After 4 no thread has the pkey open, and none will before 5 has ended:
 *
 *  - A registered thread has a pool pkey open only while it pins it: it closed all of them when it
 *    registered, only guards open them, and a guard unpins after it has closed. So does a switch of
 *    coroutines, which opens and closes for guards (pins.c). None pins this one at 3, and none can
 *    open it since 2.
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
#include "multiplexer.h"

#include <errno.h>
#include <stddef.h>

#include <pkeyguard/pkru.h>

#include "lock.h"
#include "os.h"
#include "pkeys.h"

static bool ready;
static bool none_to_claim; /* at the last try */

/* The pool: its pkeys, least recently used first; a bit for each; their bits in PKRU. */
static int pool[PKEYS], pool_size;
static uint32_t fresh; /* no key has had it yet, so every thread has it closed */
static uint32_t pool_bits;

/*
 * Whose pages may carry the pkey. Where a change of pages has failed half-way that key is not
 * bound: no other key gets the pkey before it is off all of them.
 */
static struct pkeyguard_key *owners[PKEYS];

/* The same for who has no lock: the owners' serials, and a bit for each that is bound. */
static _Atomic uint64_t owner_serials[PKEYS];
static atomic_uint bound_pkeys;

static struct list keys = LIST_INIT(keys);
static uint64_t last_serial;

/* Changes whenever a pin is dropped that somebody waits for. */
static atomic_uint dropped;

static void set_binding(struct pkeyguard_key *key, int pkey)
{
    bound_pkeys = pkey < 0 ? bound_pkeys & ~(1u << key->pkey) : bound_pkeys | 1u << pkey;
    key->pkey = pkey;
    key->bound_to_read = pkey < 0 ? 0 : PKEY_WD(pkey);
    __atomic_store_n(&key->bound, pkey < 0 ? UNBOUND : PKEY_BITS(pkey), __ATOMIC_SEQ_CST);
}

static void set_owner(int pkey, struct pkeyguard_key *key)
{
    if (owners[pkey] != NULL)
        owners[pkey]->carried = 0;
    owners[pkey] = key;
    if (key != NULL)
        key->carried = pkey;
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
        /* Both bits set would mean that this thread is not in a handler (threads.c). */
        pkeyguard_pkru_write(pkru);
    }
    if (pkey == -ENOSPC)
        pkey = pku_take_idle_key();
    if (pkey > 0) {
        pkeys_change(0, PKEY_AD(pkey));
        pool[pool_size++] = pkey;
        pool_bits |= PKEY_BITS(pkey);
        fresh |= 1u << pkey;
    }
    none_to_claim = pkey < 0;
    return pkey;
}

static void keep_own(void)
{
    threads_keep_own();
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
    library_add_fork_child(keep_own);
    ready = true;
    return 0;
}

int multiplexer_register(bool outside_handlers)
{
    int error = ready ? 0 : prepare();
    uint32_t pkru;

    if (error != 0 || own_record->registered)
        return error;
    if (!outside_handlers && !threads_outside_handlers(pool_bits))
        return -EAGAIN;
    pkru = pkeyguard_pkru_read();
    pkeyguard_pkru_write(pkru | pool_bits);
    return threads_register();
}

int multiplexer_add(struct pkeyguard_key *key)
{
    int error = multiplexer_register(true);

    if (error != 0)
        return error;
    key->serial = ++last_serial;
    list_insert(&keys, &key->of_process);
    return 0;
}

bool multiplexer_in_use(void)
{
    return ready;
}

uint32_t multiplexer_pool(void)
{
    return pool_bits;
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

/* Steps 2 to 4: whether every thread has the pkey closed, and nobody can open it. */
static int closed_everywhere(int pkey)
{
    int error;

    if (threads_only_own())
        return thread_pins(own_record, pkey) ? -EBUSY : 0;
    error = os_barrier();
    if (error == 0 && threads_pin(pkey))
        error = -EBUSY;
    return error == 0 ? threads_all_registered() : error;
}

/* Takes the pkey from its owner; see above. -EBUSY, -EAGAIN: it keeps it. */
static int vacate(int pkey)
{
    struct pkeyguard_key *owner = owners[pkey];
    bool bound = owner != NULL && owner->pkey == pkey;
    int error;

    if (bound)
        set_binding(owner, -1);
    error = closed_everywhere(pkey);
    if (error != 0) {
        if (bound)
            set_binding(owner, pkey);
        return error;
    }
    error = owner == NULL ? 0 : close_pages(owner, pkey);
    if (error == 0)
        set_owner(pkey, NULL);
    return error;
}

static void move_to_end(int i)
{
    int pkey = pool[i];

    for (; i + 1 < pool_size; i++)
        pool[i] = pool[i + 1];
    pool[i] = pkey;
}

/* Moves what was used since the last binding to the pool's end, in the order that it had. */
static void notice_uses(void)
{
    uint32_t used = 0;

    for_each_thread(record)
    {
        if (record->used != 0) {
            used |= record->used;
            record->used = 0;
        }
    }
    used &= pool_bits; /* a guard that found its key unbound noted that, too */
    for (int i = 0, left = pool_size; used != 0 && left > 0; left--) {
        if (used & PKEY_BITS(pool[i]))
            move_to_end(i);
        else
            i++;
    }
}

/* The least recently used pkey that nobody pins, taken from its owner. */
static int evict(void)
{
    for (int i = 0; i < pool_size; i++) {
        int pkey = pool[i];
        int error = threads_pin(pkey) ? -EBUSY : vacate(pkey);

        if (error != -EBUSY)
            return error == 0 ? pkey : error;
    }
    return pool_size == 0 ? -ENOSPC : -EBUSY;
}

/* A pkey that every thread has closed and no other key's pages carry. */
static int take_pkey(const struct pkeyguard_key *key)
{
    int pkey = key->carried, claimed;

    if (pkey == 0 && fresh != 0)
        pkey = __builtin_ctz(fresh);
    if (pkey == 0 && !none_to_claim)
        pkey = claim();
    if (pkey > 0)
        return pkey;
    pkey = evict();
    if (pkey == -EBUSY && threads_drop_ended())
        pkey = evict();
    if (pkey >= 0)
        return pkey;
    /* Some may have been given up since. */
    claimed = claim();
    return claimed > 0 ? claimed : pkey;
}

static int bind(struct pkeyguard_key *key)
{
    int pkey, i = 0;

    notice_uses();
    pkey = take_pkey(key);
    if (pkey < 0)
        return pkey;
    fresh &= ~(1u << pkey);
    set_owner(pkey, key);
    while (pool[i] != pkey)
        i++;
    move_to_end(i);
    list_for_each(link, &key->pages)
    {
        int error = pages_tag(list_entry(link, struct pages, of_key), pkey);

        if (error != 0) {
            if (close_pages(key, pkey) == 0)
                set_owner(pkey, NULL);
            return error;
        }
    }
    set_binding(key, pkey);
    return 0;
}

int multiplexer_pin(struct pkeyguard_key *key)
{
    int error = key->pkey > 0 ? 0 : bind(key);

    if (error == 0)
        pkeyguard_count_up(&own_record->pins[key->pkey]);
    return error;
}

void multiplexer_unpin(struct pkeyguard_key *key)
{
    multiplexer_drop_pins(key->pkey, 1);
}

int multiplexer_forget(struct pkeyguard_key *key)
{
    int pkey = key->pkey;

    threads_drop_ended();
    if (pkey > 0) {
        set_binding(key, -1);
        if (os_barrier() != 0 || threads_pin(pkey)) {
            set_binding(key, pkey);
            return -EBUSY;
        }
    }
    if (key->carried != 0)
        set_owner(key->carried, NULL);
    list_remove(&key->of_process);
    return 0;
}

int multiplexer_pkey(uint64_t serial)
{
    for (int pkey = 1; pkey < PKEYS; pkey++) {
        if (owner_serials[pkey] == serial)
            return pkey;
    }
    return 0;
}

uint64_t multiplexer_serial(int pkey)
{
    return owner_serials[pkey];
}

/* As a guard pins a key: what counts is the binding that it has once the pin is there. */
static bool pin_where_bound(uint64_t serial, uint32_t pins)
{
    int pkey = multiplexer_pkey(serial);

    if (pkey == 0 || !own_record->registered)
        return false;
    own_record->used |= PKEY_BITS(pkey);
    thread_set_pins(pkey, own_record->pins[pkey] + pins);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (bound_pkeys & 1u << pkey && owner_serials[pkey] == serial)
        return true;
    multiplexer_drop_pins(pkey, pins);
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
    error = multiplexer_register(false);
    if (error == 0)
        error = multiplexer_pin(key);
    if (error == 0)
        thread_set_pins(key->pkey, own_record->pins[key->pkey] + pins - 1);
    return error;
}

int multiplexer_pin_again(uint64_t serial, uint32_t pins)
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

void multiplexer_drop_pins(int pkey, uint32_t pins)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread_set_pins(pkey, own_record->pins[pkey] - pins);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (own_record->undisturbed != 1)
        multiplexer_wake(own_record);
}

bool multiplexer_pins_everything(void)
{
    for (int i = 0; i < pool_size; i++) {
        if (!thread_pins(own_record, pool[i]))
            return false;
    }
    return true;
}

bool multiplexer_all_pinned(void)
{
    for (int i = 0; i < pool_size; i++) {
        if (!threads_pin(pool[i]))
            return false;
    }
    return true;
}

bool multiplexer_may_wait(void)
{
    for (int i = 0; i < pool_size; i++) {
        if (thread_pins(own_record, pool[i]))
            return false;
    }
    return threads_outside_handlers(pool_bits);
}

unsigned multiplexer_ask(void)
{
    unsigned asked = dropped;

    for_each_thread(record) __atomic_store_n(&record->undisturbed, 0, __ATOMIC_RELAXED);
    /* As with a binding: who does not see that he is asked, has unpinned for all to see. */
    os_barrier();
    threads_drop_ended();
    return asked;
}

void multiplexer_wait(unsigned asked)
{
    /* Not for long: a thread that ends unpins without a word. */
    os_wait(&dropped, asked, 20);
}

void multiplexer_wake(struct thread_record *own)
{
    own->undisturbed = 1;
    dropped++;
    os_wake(&dropped);
}
