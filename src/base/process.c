/* SPDX-License-Identifier: MIT */
#include "base/process.h"

#include <stdatomic.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/os.h"

enum mark { WIPED, BEING_ADOPTED, KNOWN };

static struct process {
    /*
     * An enum mark. The kernel wipes its page on fork. Written by the thread that calls
     * process_adopted().
     */
    atomic_uint *mark;

    /*
     * Used before the library is loaded, and where the kernel cannot wipe a page on fork (before
     * Linux 4.14). There the library clears it when the process id changes.
     */
    atomic_uint mark_in_data;
    _Atomic pid_t pid; /* 0: the kernel clears the mark */

    /* Written by the thread that calls process_adopted(). */
    atomic_uint number;
    pid_t id;
    bool forking_thread_known;
    ptrdiff_t to_forking_thread; /* from the adopting thread's thread-local memory, in bytes */
} process = {.mark = &process.mark_in_data, .mark_in_data = KNOWN, .number = 1};

/*
 * Runs before any code of the program that could fork, because constructors with lower priorities
 * run first.
 */
__attribute__((constructor(101))) static void make_mark(void)
{
    void *page;

    process.id = os_process_id();
    if (os_allocate_pages(os_page_size(), &page) == 0) {
        if (os_wipe_on_fork(page, os_page_size()) == 0) {
            atomic_init((atomic_uint *)page, KNOWN);
            process.mark = page;
            return;
        }
        os_free_pages(page, os_page_size());
    }
    process.pid = process.id;
}

static unsigned read_mark(void)
{
    pid_t before = process.pid, now;

    if (before != 0) {
        now = os_process_id();
        if (now != before && atomic_compare_exchange_strong(&process.pid, &before, now))
            atomic_store(process.mark, WIPED);
    }
    return atomic_load_explicit(process.mark, memory_order_acquire);
}

unsigned process_number(void)
{
    return read_mark() == WIPED ? process.number + 1 : process.number;
}

bool process_has(unsigned only_process)
{
    return only_process == 0 || only_process == process_number();
}

bool process_is_unnoticed(void)
{
    return read_mark() != KNOWN;
}

pid_t process_first_thread(void)
{
    return process.id;
}

/* A fork child's first thread is the one that forked: its id is the process's. */
static void find_forking_thread(void)
{
    pid_t own = os_thread_id();
    const char *own_list, *list;

    process.id = os_process_id();
    process.to_forking_thread = 0;
    process.forking_thread_known = own == process.id;
    if (process.forking_thread_known)
        return;
    own_list = os_robust_list(own);
    list = os_robust_list(process.id);
    process.forking_thread_known = own_list != NULL && list != NULL;
    if (process.forking_thread_known)
        process.to_forking_thread = list - own_list;
}

void *process_in_forking_thread(void *own)
{
    return process.forking_thread_known ? (char *)own + process.to_forking_thread : NULL;
}

bool process_is_new(void)
{
    for (;;) {
        unsigned mark = read_mark();

        if (mark == KNOWN)
            return false;
        if (mark == WIPED && atomic_compare_exchange_strong(process.mark, &mark, BEING_ADOPTED)) {
            process.number++;
            find_forking_thread();
            return true;
        }
        os_wait(process.mark, BEING_ADOPTED, 10);
    }
}

void process_adopted(void)
{
    atomic_store_explicit(process.mark, KNOWN, memory_order_release);
    os_wake(process.mark);
}
