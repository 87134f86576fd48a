/* SPDX-License-Identifier: MIT */
#include "pkey/thread_records.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "base/process.h"
#include "pkey/kernel_threads.h"
#include "pkey/own_pkru.h"
#include "pkru/signal_frame.h"

static struct thread_record no_record = {.no_waiters = 1};

__thread struct thread_record *own_record = &no_record;

struct thread_registry thread_registry = {
    .records = LIST_INIT(thread_registry.records),
    .unused = LIST_INIT(thread_registry.unused),
};

/*
 * Records have pages of their own, because a thread may register at a point where it must not call
 * malloc.
 */
static NEEDS_LIBRARY_LOCK int make_room_for_record(void)
{
    struct thread_record *records;
    size_t count = os_page_size() / sizeof(*records);
    void *page;
    int error;

    if (!list_empty(&thread_registry.unused))
        return 0;
    error = os_allocate_pages(os_page_size(), &page);
    if (error != 0)
        return error;
    records = page;
    for (size_t i = 0; i < count; i++)
        list_insert(&thread_registry.unused, &records[i].of_process);
    return 0;
}

/*
 * A thread that ends by a raw exit(2) runs no destructor. Its robust mutex is the only sign that it
 * ended.
 */
static int hold_exit_mutex(struct thread_record *record)
{
    pthread_mutexattr_t robust;
    int error = pthread_mutexattr_init(&robust);

    if (error != 0)
        return -ENOMEM;
    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    error = pthread_mutex_init(&record->exit_mutex, &robust);
    pthread_mutexattr_destroy(&robust);
    if (error == 0)
        error = pthread_mutex_lock(&record->exit_mutex);
    return error == 0 ? 0 : -ENOMEM;
}

/*
 * True if the thread has ended. The kernel releases the mutex after the thread's last instruction,
 * and before it removes the thread from the process's count.
 */
static LOCK_ANALYSIS(no_thread_safety_analysis) bool has_exited(struct thread_record *record)
{
    if (record == own_record || record->exited)
        return false;
    if (record->is_leader)
        return kernel_threads_leader_exited();
    if (pthread_mutex_trylock(&record->exit_mutex) != EOWNERDEAD)
        return false;
    pthread_mutex_consistent(&record->exit_mutex);
    pthread_mutex_unlock(&record->exit_mutex);
    pthread_mutex_destroy(&record->exit_mutex);
    return true;
}

static NEEDS_LIBRARY_LOCK void give_record_back(struct thread_record *record)
{
    list_remove(&record->of_process);
    list_insert(&thread_registry.unused, &record->of_process);
    thread_registry.count--;
}

bool thread_records_drop_exited(void)
{
    bool any = false;

    for (struct list *link = thread_registry.records.next; link != &thread_registry.records;) {
        struct thread_record *record = list_entry(link, struct thread_record, of_process);

        link = link->next;
        if (!has_exited(record))
            continue;
        any = true;
        memset(record->pins, 0, sizeof(record->pins));
        record->exited = record->thread == getpid();
        if (!record->exited)
            give_record_back(record);
    }
    return any;
}

/*
 * If it is not known which record the thread that forked has, none is used again: that thread finds
 * its own without pins, and registers anew.
 */
static NEEDS_LIBRARY_LOCK void forget_record(struct thread_record *record, bool is_unused)
{
    if (is_unused) {
        give_record_back(record);
        return;
    }
    list_remove(&record->of_process);
    memset(record->pins, 0, sizeof(record->pins));
    record->registered = 0;
}

static NEEDS_LIBRARY_LOCK void keep_record(struct thread_record *record)
{
    record->thread = os_process_id();
    record->no_waiters = 1;
    record->is_leader = record != own_record;
    if (!record->is_leader && hold_exit_mutex(record) != 0)
        os_abort("a fork child cannot register its thread", NULL);
}

void thread_records_forget_others(void)
{
    struct thread_record *const *of_forking_thread = process_in_forking_thread(&own_record);
    struct thread_record *kept = of_forking_thread == NULL ? NULL : *of_forking_thread;

    list_mend(&thread_registry.records);
    list_mend(&thread_registry.unused);
    for (struct list *link = thread_registry.records.next; link != &thread_registry.records;) {
        struct thread_record *record = list_entry(link, struct thread_record, of_process);

        link = link->next;
        if (record != kept)
            forget_record(record, kept != NULL);
    }
    thread_registry.count = 0;
    if (kept == NULL || list_empty(&thread_registry.records))
        return;
    thread_registry.count = 1;
    keep_record(kept);
}

bool thread_records_idle_to_close(void)
{
    return own_record->closed_idle <
           atomic_load_explicit(&pkey_manager.last_idle_at, memory_order_relaxed);
}

/*
 * Returns the change number up to which idle pkeys are now closed. It is read before the pkeys are
 * closed, because a pkey that becomes idle later is not closed here.
 */
static uint64_t close_idle_and(pkru_bits these)
{
    uint64_t now = pkeys_change_number(pkeys_snapshot());
    pkru_bits idle = pkru_of_set(pkey_manager.idle);

    /* Set AD alone, as the kernel does for a new pkey in threads that exist already. */
    own_pkru_change(idle & ~EVERY_AD, (idle & EVERY_AD) | these);
    return now;
}

void thread_records_close_idle(void)
{
    __atomic_store_n(&own_record->closed_idle, close_idle_and(0), __ATOMIC_RELEASE);
}

/* Runs in the thread that gets the record. */
static int begin_record(struct thread_record *record)
{
    int error;

    memset(record, 0, sizeof(*record));
    record->no_waiters = record->registered = 1;
    error = hold_exit_mutex(record);
    if (error == 0)
        record->thread = os_thread_id();
    return error;
}

static NEEDS_LIBRARY_LOCK void add_record(struct thread_record *record)
{
    list_insert(&thread_registry.records, &record->of_process);
    thread_registry.count++;
}

static NEEDS_LIBRARY_LOCK int add_own_record(bool outside_handlers)
{
    struct thread_record *record;
    int error = make_room_for_record();

    if (error != 0)
        return error;
    record = list_entry(thread_registry.unused.next, struct thread_record, of_process);
    list_remove(&record->of_process);
    error = begin_record(record);
    if (error != 0) {
        list_insert(&thread_registry.unused, &record->of_process);
        return error;
    }
    /* In a handler AD alone: both bits would mark the thread as outside handlers. */
    record->closed_idle = close_idle_and(outside_handlers ? pkeys_pool() : pkeys_pool() & EVERY_AD);
    add_record(record);
    own_record = record;
    return 0;
}

int thread_records_register(bool outside_handlers)
{
    if (!own_record->registered)
        return add_own_record(outside_handlers);
    thread_records_close_idle();
    return 0;
}

static struct record_offers record_offers;

void thread_records_make_offers(void)
{
    for (int i = 0; i < OFFERS; i++) {
        struct list *unused;

        if (record_offers.offered[i] != NULL || make_room_for_record() != 0)
            continue;
        unused = thread_registry.unused.next;
        list_remove(unused);
        record_offers.offered[i] = list_entry(unused, struct thread_record, of_process);
    }
}

bool thread_records_accept_offer(void)
{
    struct thread_record *record = NULL;
    int place = 0;

    for (; place < OFFERS && record == NULL; place++)
        record = atomic_exchange(&record_offers.offered[place], NULL);
    if (record == NULL)
        return false;
    if (begin_record(record) != 0) {
        record_offers.offered[place - 1] = record;
        return false;
    }
    /* Read this before closing the pkeys: a pkey that becomes idle later is not closed here. */
    record->closed_idle = pkeys_change_number(pkeys_snapshot());
    own_record = record;
    /* This loop finds a place, because there are as many places as offers. */
    for (struct thread_record *none = NULL;
         !atomic_compare_exchange_strong(&record_offers.accepted[place % OFFERS], &none, record);
         none = NULL)
        place++;
    return true;
}

void thread_records_collect_offers(void)
{
    for (int i = 0; i < OFFERS; i++) {
        struct thread_record *record = atomic_exchange(&record_offers.accepted[i], NULL);

        if (record != NULL)
            add_record(record);
    }
}

void thread_records_withdraw_offers(void)
{
    for (int i = 0; i < OFFERS; i++) {
        struct thread_record *record = atomic_exchange(&record_offers.offered[i], NULL);

        if (record != NULL)
            list_insert(&thread_registry.unused, &record->of_process);
    }
}

/*
 * Reads each thread's record first, and then checks for other threads. In this order it also
 * notices a thread that was created with a pkey open before its creator closed that pkey.
 */
uint64_t thread_records_closed_idle(void)
{
    uint64_t oldest = UINT64_MAX;

    thread_records_drop_exited();
    for_each_thread(record)
    {
        uint64_t closed = __atomic_load_n(&record->closed_idle, __ATOMIC_ACQUIRE);

        if (!record->exited && closed < oldest)
            oldest = closed;
    }
    return thread_records_all_registered() == 0 ? oldest : 0;
}

/* Unrolled: most threads pin nothing, and a pkey then costs one instruction. */
static bool pins_any(const struct thread_record *record)
{
    uint32_t pins = 0;

#pragma GCC unroll 16
    for (int pkey = 1; pkey < PKEYS; pkey++)
        pins |= __atomic_load_n(&record->pins[pkey], __ATOMIC_ACQUIRE);
    return pins != 0;
}

pkru_bits thread_unpinned(const struct thread_record *record, pkru_bits pkeys)
{
    if (!pins_any(record))
        return pkeys;
    for (int pkey = 1; pkey < PKEYS; pkey++) {
        if (thread_pins(record, pkey))
            pkeys &= ~PKEY_BITS(pkey);
    }
    return pkeys;
}

pkru_bits thread_records_unpinned(pkru_bits pkeys)
{
    for_each_thread(record) pkeys = thread_unpinned(record, pkeys);
    return pkeys;
}

bool thread_records_is_unregistered(pid_t thread)
{
    for_each_thread(record)
    {
        if (record->thread == thread)
            return false;
    }
    return true;
}

pid_t thread_records_find_unregistered(void)
{
    return kernel_threads_count() == 0 ? -1 : kernel_threads_find(thread_records_is_unregistered);
}

bool thread_records_only_own(void)
{
    return thread_registry.count == 1 && own_record->registered &&
           (kernel_threads_only_own() || kernel_threads_count() == 1);
}

/*
 * Counts first, then looks which registered threads live. A registered thread that lives now also
 * lived when the kernel counted. So if the kernel counted no more threads than these, there was no
 * other thread.
 */
int thread_records_all_registered(void)
{
    static const atomic_uint nothing;
    /* 1 if the first thread has ended: it counts, and its record does not */
    unsigned exited_leader = 0;

    /* The kernel still counts a thread for a short time after it has ended. */
    for (int tries = 1000; tries > 0; tries--) {
        unsigned alive = kernel_threads_count();

        if (thread_records_drop_exited())
            continue;
        if (alive != 0 && alive == thread_registry.count + exited_leader)
            return 0;
        if (alive == 0 || kernel_threads_find(thread_records_is_unregistered) != 0)
            return -EAGAIN;
        if (exited_leader == 0 && thread_records_is_unregistered(getpid()) &&
            kernel_threads_leader_exited())
            exited_leader = 1;
        else
            os_wait(&nothing, 0, 1);
    }
    return -EAGAIN;
}

/*
 * A handler starts with AD alone. In a handler no function of the library sets both bits of a pkey
 * of the pool, unless they are set already. A thread sets both where it registers outside handlers,
 * and a new thread inherits them.
 */
bool thread_marked_outside_handlers(void)
{
    pkru_bits pool = pkeys_pool(), closed;

    if (pool == 0) /* perhaps there is no PKRU */
        return false;
    closed = pkeyguard_pkru_read() & pool;
    return closed & closed >> 1 & EVERY_AD;
}

bool thread_test_frames_above(const void *stack, bool (*test)(uint32_t pkru, uint32_t),
                              uint32_t argument)
{
    const char *here = stack, *local = (const char *)&own_record;
    const char *end = os_main_stack_end();

    /* Thread-local memory is above the stack, except in the first thread, where it is below. */
    if (local > here && local < end)
        end = local;
    return here < end && pkru_test_frames(here, end, test, argument);
}

static bool no_frame(uint32_t pkru, uint32_t unused)
{
    (void)pkru, (void)unused;
    return false;
}

bool thread_no_frame_above(const void *stack)
{
    return thread_test_frames_above(stack, no_frame, 0);
}

bool thread_outside_handlers(void)
{
    return thread_marked_outside_handlers() || thread_no_frame_above(__builtin_frame_address(0));
}

static bool denies(uint32_t pkru, uint32_t ad_bits)
{
    return (pkru & ad_bits) == ad_bits;
}

bool thread_frames_above_deny(const void *stack, pkru_bits ad_bits)
{
    return thread_test_frames_above(stack, denies, ad_bits);
}

bool thread_stays_closed(pkru_bits ad_bits)
{
    return thread_marked_outside_handlers() ||
           thread_frames_above_deny(__builtin_frame_address(0), ad_bits);
}
