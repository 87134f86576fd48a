/* SPDX-License-Identifier: MIT */
#include "worker.h"

#include <check.h>
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *run_orders(void *argument)
{
    struct worker *worker = argument;
    int last = 0;

    worker->id = (pid_t)syscall(SYS_gettid);
    for (;;) {
        worker->done = last;
        while (worker->order == last)
            sched_yield();
        last = worker->order;
        if (worker->work == NULL)
            return NULL;
        worker->work(worker->argument);
    }
}

void start_worker(struct worker *worker)
{
    *worker = (struct worker){.id = 0};
    worker->done = -1;
    ck_assert_int_eq(pthread_create(&worker->thread, NULL, run_orders, worker), 0);
    while (worker->done != 0)
        sched_yield();
}

void begin_on(struct worker *worker, void (*work)(void *), void *argument)
{
    worker->work = work;
    worker->argument = argument;
    worker->order++;
}

void wait_for(struct worker *worker)
{
    while (worker->done != worker->order)
        sched_yield();
}

void run_on(struct worker *worker, void (*work)(void *), void *argument)
{
    begin_on(worker, work, argument);
    wait_for(worker);
}

void end_worker(struct worker *worker)
{
    begin_on(worker, NULL, NULL);
    ck_assert_int_eq(pthread_join(worker->thread, NULL), 0);
}
