/* SPDX-License-Identifier: MIT */
#include "base/process.h"

#include "base/os.h"

struct process_state process_state = {
    .mark = &process_state.mark_in_data, .mark_in_data = PROCESS_KNOWN, .number = 1};

/*
 * Runs before any code of the program that could fork, because constructors with lower priorities
 * run first.
 */
__attribute__((constructor(101))) static void make_mark(void)
{
    void *page;

    process_state.id = os_process_id();
    if (os_allocate_pages(os_page_size(), &page) == 0) {
        if (os_wipe_on_fork(page, os_page_size()) == 0) {
            atomic_init((atomic_uint *)page, PROCESS_KNOWN);
            process_state.mark = page;
            return;
        }
        os_free_pages(page, os_page_size());
    }
    process_state.pid = process_state.id;
}

void process_compare_id(void)
{
    pid_t before = process_state.pid, now = os_process_id();

    if (now != before && atomic_compare_exchange_strong(&process_state.pid, &before, now))
        atomic_store(process_state.mark, PROCESS_WIPED);
}

pid_t process_first_thread(void)
{
    return process_state.id;
}

/* A fork child's first thread is the one that forked: its id is the process's. */
static void find_forking_thread(void)
{
    pid_t own = os_thread_id();
    const char *own_list, *list;

    process_state.id = os_process_id();
    process_state.to_forking_thread = 0;
    process_state.forking_thread_known = own == process_state.id;
    if (process_state.forking_thread_known)
        return;
    own_list = os_robust_list(own);
    list = os_robust_list(process_state.id);
    process_state.forking_thread_known = own_list != NULL && list != NULL;
    if (process_state.forking_thread_known)
        process_state.to_forking_thread = list - own_list;
}

void *process_in_forking_thread(void *own)
{
    return process_state.forking_thread_known ? (char *)own + process_state.to_forking_thread
                                              : NULL;
}

bool process_begin_adoption(void)
{
    for (;;) {
        unsigned mark = process_read_mark();

        if (mark == PROCESS_KNOWN)
            return false;
        if (mark == PROCESS_WIPED &&
            atomic_compare_exchange_strong(process_state.mark, &mark, PROCESS_BEING_ADOPTED)) {
            process_state.number++;
            find_forking_thread();
            return true;
        }
        os_wait(process_state.mark, PROCESS_BEING_ADOPTED, 10);
    }
}

void process_adopted(void)
{
    atomic_store_explicit(process_state.mark, PROCESS_KNOWN, memory_order_release);
    os_wake(process_state.mark);
}
