/* SPDX-License-Identifier: MIT */
#include "pkey/thread_records.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <pkeyguard/pkru.h>

#include "base/lock.h"
#include "base/os.h"
#include "pkey/pkeys.h"
#include "pkru/signal_frame.h"
#include "pkey/kernel_threads.h"

static struct thread_record nobody = {.no_waiters = 1};

__thread struct thread_record *own_record = &nobody;

uint32_t thread_records_pool;

struct list thread_records = LIST_INIT(thread_records);
static struct list unused_records = LIST_INIT(unused_records);
static unsigned registered;

/* Records come in pages of their own, for a thread may register where malloc must not be called,
 * and outlive their threads, because others look at them. */
static int make_room(void)
{
    struct thread_record *records;
    size_t count = os_page_size() / sizeof(*records);
    void *page;
    int error;

    if (!list_empty(&unused_records))
        return 0;
    error = os_allocate_pages(os_page_size(), &page);
    if (error != 0)
        return error;
    records = page;
    for (size_t i = 0; i < count; i++)
        list_insert(&unused_records, &records[i].of_process);
    return 0;
}

/* Only a robust mutex tells of a thread that ended with no destructor run, as by a raw exit(2). */
static int begin_life(struct thread_record *record)
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
 * The kernel gives the mutex up while the thread ends, after its last instruction and before it
 * takes the thread off the process's count.
 */
static bool has_ended(struct thread_record *record)
{
    if (record == own_record || record->ended ||
        pthread_mutex_trylock(&record->exit_mutex) != EOWNERDEAD)
        return false;
    pthread_mutex_consistent(&record->exit_mutex);
    pthread_mutex_unlock(&record->exit_mutex);
    pthread_mutex_destroy(&record->exit_mutex);
    return true;
}

static void drop(struct thread_record *record)
{
    list_remove(&record->of_process);
    list_insert(&unused_records, &record->of_process);
    registered--;
}

bool thread_records_drop_exited(void)
{
    bool any = false;

    for (struct list *link = thread_records.next; link != &thread_records;) {
        struct thread_record *record = list_entry(link, struct thread_record, of_process);

        link = link->next;
        if (!has_ended(record))
            continue;
        any = true;
        memset(record->pins, 0, sizeof(record->pins));
        record->ended = record->thread == getpid();
        if (!record->ended)
            drop(record);
    }
    return any;
}

/* In a fork child: the forking thread alone. */
static void keep_own(void)
{
    for (struct list *link = thread_records.next; link != &thread_records;) {
        struct thread_record *record = list_entry(link, struct thread_record, of_process);

        link = link->next;
        if (record != own_record)
            drop(record);
    }
    if (own_record->registered) {
        own_record->thread = os_thread_id();
        own_record->no_waiters = 1;
        if (begin_life(own_record) != 0)
            os_abort("a fork child cannot register its thread", NULL);
    }
}

bool thread_records_idle_to_close(void)
{
    return own_record->closed_idle < pkeys_last_idle_since();
}

/* The number first: of what becomes idle after that it says nothing. */
static uint64_t close_idle_and(uint32_t these)
{
    uint64_t now = pkeys_change_number(pkeys_bound());
    uint32_t idle = pkeys_idle();

    /* As the kernel gives a new pkey to threads that are there already. */
    pkeys_change(idle & ~EVERY_AD, (idle & EVERY_AD) | these);
    return now;
}

void thread_records_close_idle(void)
{
    __atomic_store_n(&own_record->closed_idle, close_idle_and(0), __ATOMIC_RELEASE);
}

static int register_anew(void)
{
    struct thread_record *record;
    int error = make_room();

    if (error != 0)
        return error;
    library_add_fork_child(keep_own);
    record = list_entry(unused_records.next, struct thread_record, of_process);
    list_remove(&record->of_process);
    memset(record, 0, sizeof(*record));
    record->no_waiters = record->registered = 1;
    error = begin_life(record);
    if (error != 0) {
        list_insert(&unused_records, &record->of_process);
        return error;
    }
    record->thread = os_thread_id();
    record->closed_idle = close_idle_and(thread_records_pool);
    list_insert(&thread_records, &record->of_process);
    registered++;
    own_record = record;
    return 0;
}

int thread_records_register(void)
{
    if (!own_record->registered)
        return register_anew();
    thread_records_close_idle();
    return 0;
}

/*
 * First when each of them closed, then whether there are others: as with pins, a thread that was
 * born open before its parent closed is still seen.
 */
uint64_t thread_records_closed_idle(void)
{
    uint64_t oldest = UINT64_MAX;

    thread_records_drop_exited();
    for_each_thread(record)
    {
        uint64_t closed = __atomic_load_n(&record->closed_idle, __ATOMIC_ACQUIRE);

        if (!record->ended && closed < oldest)
            oldest = closed;
    }
    return thread_records_all_registered() == 0 ? oldest : 0;
}

bool thread_records_any_pins(int pkey)
{
    for_each_thread(record)
    {
        if (thread_pins(record, pkey))
            return true;
    }
    return false;
}

static bool is_unregistered(pid_t thread)
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
    return kernel_threads_count() == 0 ? -1 : kernel_threads_find(is_unregistered);
}

bool thread_records_only_own(void)
{
    return registered == 1 && own_record->registered && kernel_threads_only_own();
}

int thread_records_all_registered(void)
{
    unsigned exited_leader = 0;

    /* The kernel counts an ended thread for a while, and the first one for ever. */
    for (int patience = 1000; patience > 0; patience--) {
        static const atomic_uint nothing;
        unsigned alive = kernel_threads_count();

        /*
         * First the count, then who of the registered lives: whoever does was alive when the kernel
         * counted, so if it counted no more than these, there was no other.
         */
        if (thread_records_drop_exited())
            continue;
        if (alive != 0 && alive == registered + exited_leader)
            return 0;
        if (alive == 0 || kernel_threads_find(is_unregistered) != 0)
            return -EAGAIN;
        if (exited_leader == 0 && is_unregistered(getpid()) && kernel_threads_leader_exited())
            exited_leader = 1;
        else
            os_wait(&nothing, 0, 1);
    }
    return -EAGAIN;
}

/*
 * A handler starts with access-disable alone, and nothing that it may call sets both bits of a pkey
 * in the pool: that is done where a thread registers. Threads inherit it.
 */
bool thread_marked_outside_handlers(void)
{
    uint32_t closed = pkeyguard_pkru_read() & thread_records_pool;

    return closed & closed >> 1 & EVERY_AD;
}

bool thread_no_frame_above(const void *stack)
{
    enum { MOST_IN_USE = 8 << 20 }; /* else what lies there is perhaps no stack */
    const char *here = stack, *local = (const char *)&own_record;
    const char *end = os_main_stack_end();

    /* Thread-local memory lies above a thread's stack, but below the first thread's. */
    if (local > here && local < end)
        end = local;
    return here < end && end - here <= MOST_IN_USE && pkru_no_frame_between(here, end);
}

bool thread_outside_handlers(void)
{
    return thread_marked_outside_handlers() || thread_no_frame_above(__builtin_frame_address(0));
}
