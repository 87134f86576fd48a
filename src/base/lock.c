/* SPDX-License-Identifier: MIT */
#include "base/lock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

struct library_mutex {
    pthread_mutex_t mutex;
    pthread_once_t fork_handlers;
    volatile sig_atomic_t forked; /* in a fork child, until it has forgotten its parent's threads */
    unsigned forks;               /* written in fork children only, before their other threads */
};

struct library_mutex library_mutex = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .fork_handlers = PTHREAD_ONCE_INIT,
};

/* What the calling thread does with the lock. Written by it, and by signal handlers that interrupt
 * it. */
static __thread struct lock_of_thread {
    /*
     * Set from before the thread asks for the mutex until after it gives it back: a handler that
     * finds it clear has not interrupted the thread anywhere near the mutex.
     */
    volatile sig_atomic_t inside;

    /*
     * Forks from handlers that interrupted the thread inside the lock or inside fork(3). If it was
     * inside fork(3), the child must exec or exit in the handler: it never gets the lock.
     */
    volatile sig_atomic_t forks_inside;
} own_lock __attribute__((tls_model("initial-exec")));

static LOCK_ANALYSIS(no_thread_safety_analysis) void before_fork(void)
{
    if (library_lock() != 0)
        own_lock.forks_inside++;
}

static LOCK_ANALYSIS(no_thread_safety_analysis) void after_fork_in_parent(void)
{
    if (own_lock.forks_inside > 0)
        own_lock.forks_inside--;
    else
        library_unlock();
}

static void after_fork_in_child(void)
{
    library_mutex.forks++;
    library_mutex.forked = true;
    after_fork_in_parent();
}

static void install_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

LOCK_ANALYSIS(no_thread_safety_analysis) int library_lock(void)
{
    if (own_lock.inside)
        return -EDEADLK;
    own_lock.inside = true;
    pthread_once(&library_mutex.fork_handlers, install_fork_handlers);
    pthread_mutex_lock(&library_mutex.mutex);
    return 0;
}

static void forget_parent(void)
{
    for (int i = 0; fork_child_forget[i] != NULL; i++)
        fork_child_forget[i]();
}

/* A fork child forgets when the code that forked leaves the lock, or at once if it was outside. */
LOCK_ANALYSIS(no_thread_safety_analysis) void library_unlock(void)
{
    if (library_mutex.forked) {
        library_mutex.forked = false;
        forget_parent();
    }
    pthread_mutex_unlock(&library_mutex.mutex);
    own_lock.inside = false;
}

unsigned library_forks(void)
{
    return library_mutex.forks;
}
