/* SPDX-License-Identifier: MIT */
/* worker.h - a thread that does what it is told, step by step */
#ifndef WORKER_H
#define WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

struct worker {
    pthread_t thread;
    pid_t id;
    atomic_int order, done;
    void (*work)(void *argument);
    void *argument;
};

void start(struct worker *worker);

/* Gives it something to do; waits until it has done that; both. */
void begin(struct worker *worker, void (*work)(void *argument), void *argument);
void finish(struct worker *worker);
void tell(struct worker *worker, void (*work)(void *argument), void *argument);

/* Ends the thread, and waits for that. */
void end(struct worker *worker);

#endif
