/* SPDX-License-Identifier: MIT */
/*
 * worker.h - a thread that runs one function after the other, as the test tells it
 *
 * It uses nothing of libcheck's, so programs that are no suites may use it, too.
 */
#ifndef WORKER_H
#define WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

struct worker {
    pthread_t thread;
    pid_t id;
    /* Numbers of the last function that it was given, has begun and has run. */
    atomic_int order, begun, done;
    void (*work)(void *argument);
    void *argument;
};

void start_worker(struct worker *worker);

/*
 * begin_on() has the worker call work(argument); wait_for() returns when the worker has done so.
 * run_on() is both.
 */
void begin_on(struct worker *worker, void (*work)(void *argument), void *argument);
void wait_for(struct worker *worker);
void run_on(struct worker *worker, void (*work)(void *argument), void *argument);

/* Returns when the worker sleeps inside the function that it was given, or has run it. */
void wait_until_blocked(struct worker *worker);

/* Ends the thread and joins it. */
void end_worker(struct worker *worker);

#endif
