/* SPDX-License-Identifier: MIT */
#include "key/virtual_wait.h"

#include <errno.h>

#include "base/os.h"
#include "key/virtual_pool.h"

pid_t virtual_wait_unregistered_thread(void)
{
    pid_t thread;

    if (library_lock() != 0)
        return -1;
    thread = thread_records_find_unregistered();
    library_unlock();
    return thread;
}

/* Waits up to a second for a new thread to register. */
static bool wait_for_registration(void)
{
    enum { TRIES = 100, MILLISECONDS = 10 };
    static const atomic_uint nothing;

    for (int i = 0; i < TRIES; i++) {
        pid_t thread = virtual_wait_unregistered_thread();

        if (thread == 0)
            return true;
        if (thread < 0 || thread == os_thread_id())
            return false;
        os_wait(&nothing, 0, MILLISECONDS);
    }
    return false;
}

static NEEDS_LIBRARY_LOCK bool may_wait(void)
{
    return virtual_pool_none_pinned_here() && thread_outside_handlers();
}

static bool wait_for_unpin(void)
{
    bool allowed, wait = true;
    unsigned asked = 0;

    if (library_lock() != 0)
        return false;
    allowed = may_wait();
    if (allowed) {
        asked = pin_ask_to_be_woken();
        wait = virtual_pool_all_pinned();
    }
    library_unlock();
    if (allowed && wait)
        pin_sleep(asked);
    return allowed;
}

bool virtual_wait_for(int error)
{
    return (error == -EBUSY && wait_for_unpin()) || (error == -EAGAIN && wait_for_registration());
}

/* Asks to be woken, and sleeps if the pool still has no unpinned pkey. */
static void sleep_until_unpin(void)
{
    bool all_pinned;
    unsigned asked;

    if (library_lock() != 0)
        return;
    asked = pin_ask_to_be_woken();
    all_pinned = virtual_pool_all_pinned();
    library_unlock();
    if (all_pinned)
        pin_sleep(asked);
}

bool virtual_wait_until(int *error, uint64_t deadline)
{
    static const atomic_uint nothing;
    enum { MILLISECONDS = 2 };

    if (*error != -EBUSY && *error != -EAGAIN)
        return false;
    if (os_milliseconds() >= deadline) {
        *error = -ETIMEDOUT;
        return false;
    }
    if (*error == -EBUSY)
        sleep_until_unpin();
    else
        os_wait(&nothing, 0,
                MILLISECONDS); /* no event reports that a thread has registered or ended */
    return true;
}

/* The virtual key that the i-th guard needs a pkey for; NULL: none. */
static struct pkeyguard_key *virtual_key_of(const struct wanted_guards *wanted, size_t i)
{
    struct pkeyguard_key *key = wanted->key_of(wanted->regions[i]);

    return key->enforcement == &virtual_enforcement && wanted->rights[i] != PKEYGUARD_NO_ACCESS
               ? key
               : NULL;
}

void virtual_drop_all(const struct wanted_guards *wanted)
{
    for (size_t i = wanted->count; i-- > 0;) {
        const struct pkeyguard_key *key = virtual_key_of(wanted, i);

        if (key != NULL)
            unpin_times(key->pkey, 1);
    }
}

/* Undoes the first pins of a try. It wakes no thread, and not this one from its next sleep. */
static NEEDS_LIBRARY_LOCK void drop_first(const struct wanted_guards *wanted, size_t count)
{
    while (count-- > 0) {
        const struct pkeyguard_key *key = virtual_key_of(wanted, count);

        if (key != NULL)
            unpin_unseen(key->pkey);
    }
}

/*
 * Holds the lock for all pins together. Otherwise two threads could each take pkeys that the other
 * needs.
 */
static NEEDS_LIBRARY_LOCK int try_to_pin_all(const struct wanted_guards *wanted,
                                             bool *ret_wait_helps)
{
    int error = 0;

    for (size_t i = 0; i < wanted->count && error == 0; i++) {
        struct pkeyguard_key *key = virtual_key_of(wanted, i);

        if (key != NULL)
            error = virtual_pool_pin(key);
        if (error != 0) {
            /* If this thread itself pins the whole pool, no other thread's unpin helps. */
            *ret_wait_helps = error == -EBUSY && !virtual_pool_all_pinned_here();
            drop_first(wanted, i);
        }
    }
    return error;
}

static bool any_virtual(const struct wanted_guards *wanted)
{
    for (size_t i = 0; i < wanted->count; i++) {
        if (virtual_key_of(wanted, i) != NULL)
            return true;
    }
    return false;
}

/* The second try sees every unpin that happened before the request to be woken. */
static NEEDS_LIBRARY_LOCK int pin_all_or_ask(const struct wanted_guards *wanted, bool *ret_wait,
                                             unsigned *ret_asked)
{
    bool wait_helps = false;
    int error = try_to_pin_all(wanted, &wait_helps);

    if (error != 0 && wait_helps && may_wait()) {
        *ret_asked = pin_ask_to_be_woken();
        error = try_to_pin_all(wanted, &wait_helps);
        *ret_wait = error != 0 && wait_helps;
    }
    return error;
}

static int hold_all_once(const struct wanted_guards *wanted, bool *ret_wait, unsigned *ret_asked)
{
    int error = library_lock();

    if (error != 0)
        return error;
    error = virtual_pool_register_thread(false);
    if (error == 0)
        error = pin_all_or_ask(wanted, ret_wait, ret_asked);
    library_unlock();
    return error;
}

int virtual_hold_all(const struct wanted_guards *wanted, uint64_t deadline)
{
    if (!any_virtual(wanted))
        return 0;
    for (;;) {
        bool wait = false;
        unsigned asked = 0;
        int error = hold_all_once(wanted, &wait, &asked);

        if (deadline == VIRTUAL_WAIT_WHERE_SAFE) {
            if (!wait)
                return error;
            pin_sleep(asked);
        } else if (!virtual_wait_until(&error, deadline)) {
            return error;
        }
    }
}
