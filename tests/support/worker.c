/* SPDX-License-Identifier: MIT */
#include "worker.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support.h"

/* FUTEX_WAIT and FUTEX_WAKE of <linux/futex.h>, a kernel header, which musl-gcc does not find. */
enum { NUMBER_OF_WAIT = 0, NUMBER_OF_WAKE = 1 };

static void set(atomic_int *word, int value)
{
    *word = value;
    syscall(SYS_futex, word, NUMBER_OF_WAKE, 1, NULL, NULL, 0);
}

static void sleep_until(atomic_int *word, int value)
{
    for (int now; (now = *word) != value;)
        syscall(SYS_futex, word, NUMBER_OF_WAIT, now, NULL, NULL, 0);
}

static void *run_orders(void *argument)
{
    struct worker *worker = argument;

    worker->id = (pid_t)syscall(SYS_gettid);
    for (int next = 1;; next++) {
        set(&worker->done, next - 1);
        sleep_until(&worker->order, next);
        set(&worker->begun, next);
        if (worker->work == NULL)
            return NULL;
        worker->work(worker->argument);
    }
}

void start_worker(struct worker *worker)
{
    *worker = (struct worker){.id = 0};
    worker->done = -1;
    if (pthread_create(&worker->thread, NULL, run_orders, worker) != 0)
        abort();
    sleep_until(&worker->done, 0);
}

void begin_on(struct worker *worker, void (*work)(void *), void *argument)
{
    worker->work = work;
    worker->argument = argument;
    set(&worker->order, worker->order + 1);
}

void wait_for(struct worker *worker)
{
    sleep_until(&worker->done, worker->order);
}

void wait_until_blocked(struct worker *worker)
{
    sleep_until(&worker->begun, worker->order);
    wait_until_asleep(worker->id);
}

void run_on(struct worker *worker, void (*work)(void *), void *argument)
{
    begin_on(worker, work, argument);
    wait_for(worker);
}

void end_worker(struct worker *worker)
{
    begin_on(worker, NULL, NULL);
    if (pthread_join(worker->thread, NULL) != 0)
        abort();
}
