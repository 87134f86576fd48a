/* SPDX-License-Identifier: MIT */
#include "base/lock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;

/*
 * Set from before the mutex is asked for until after it is given back, so a handler that finds it
 * clear knows that the thread it interrupted is nowhere near the mutex.
 */
static __thread volatile sig_atomic_t inside __attribute__((tls_model("initial-exec")));

/* Each module with an account of threads has one, and the regions' registry. */
enum { TIDIERS = 5 };
static void (*fork_child_tidiers[TIDIERS])(void);

static void tidy_fork_child(void)
{
    for (int i = 0; i < TIDIERS && fork_child_tidiers[i] != NULL; i++)
        fork_child_tidiers[i]();
}

/* In a fork child until it has tidied up: at once, or when the code that forked leaves the lock. */
static volatile sig_atomic_t forked;

/*
 * Forks from handlers that interrupted the library, or another fork: the lock is theirs already, or
 * asked for. In the latter case the child must exec or end in the handler: it never gets the lock.
 */
static __thread volatile sig_atomic_t forks_inside;

static unsigned forks;

static void before_fork(void)
{
    if (library_lock() != 0)
        forks_inside++;
}

static void after_fork_in_parent(void)
{
    if (forks_inside > 0)
        forks_inside--;
    else
        library_unlock();
}

static void after_fork_in_child(void)
{
    forks++;
    forked = true;
    after_fork_in_parent();
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
    if (forked) {
        forked = false;
        tidy_fork_child();
    }
    pthread_mutex_unlock(&mutex);
    inside = false;
}

unsigned library_forks(void)
{
    return forks;
}

void library_add_fork_child(void (*tidy)(void))
{
    int i = 0;

    while (fork_child_tidiers[i] != NULL && fork_child_tidiers[i] != tidy)
        i++;
    fork_child_tidiers[i] = tidy;
}
