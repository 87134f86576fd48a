/* SPDX-License-Identifier: MIT */
#include "lock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;

/*
 * Set from before the mutex is asked for until after it is given back, so a handler that finds it
 * clear knows that the thread it interrupted is nowhere near the mutex.
 */
static __thread volatile sig_atomic_t inside __attribute__((tls_model("initial-exec")));

static void nothing_to_tidy(void)
{
}

static void (*tidy_fork_child)(void) = nothing_to_tidy;

/* A fork from a handler that interrupted the library: the child tidies up when it leaves it. */
static volatile sig_atomic_t forked_inside;

static void before_fork(void)
{
    if (!inside)
        pthread_mutex_lock(&mutex);
}

static void after_fork_in_parent(void)
{
    if (!inside)
        pthread_mutex_unlock(&mutex);
}

static void after_fork_in_child(void)
{
    if (inside) {
        forked_inside = true;
        return;
    }
    tidy_fork_child();
    pthread_mutex_unlock(&mutex);
}

static void install_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

int library_lock(void)
{
    if (inside)
        return -EDEADLK;
    inside = true;
    pthread_once(&fork_handlers, install_fork_handlers);
    pthread_mutex_lock(&mutex);
    return 0;
}

void library_unlock(void)
{
    if (forked_inside) {
        forked_inside = false;
        tidy_fork_child();
    }
    pthread_mutex_unlock(&mutex);
    inside = false;
}

void library_set_fork_child(void (*tidy)(void))
{
    tidy_fork_child = tidy;
}
