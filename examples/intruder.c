/* SPDX-License-Identifier: MIT */
#include "intruder.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>

#include <pkeyguard.h>

#include "demonstration.h"

struct intruder {
    volatile char *target;
    bool stores;
    bool succeeded;
    sem_t may_try, has_tried;
};

static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0)
        ;
}

static void *run_intruder(void *argument)
{
    struct intruder *intruder = argument;

    pthread_setname_np(pthread_self(), "intruder");
    wait_for(&intruder->may_try);
    if (intruder->stores)
        *intruder->target = 0;
    intruder->succeeded = intruder->stores || is_writable((void *)intruder->target);
    sem_post(&intruder->has_tried);
    return NULL;
}

static void let_try(struct intruder *intruder)
{
    sem_post(&intruder->may_try);
    wait_for(&intruder->has_tried);
}

void intrude(struct pkeyguard_region *region, const char *what, bool stores)
{
    bool while_open = pkeyguard_key_enforcement(pkeyguard_region_key(region)) == PKEYGUARD_PKU;
    struct intruder intruder = {.target = pkeyguard_region_unsafe_address(region),
                                .stores = stores};
    pthread_t thread;

    printf("another thread writes to %s while %s has it open\n", what,
           while_open ? "this one" : "none");
    fflush(stdout);
    /* A thread that is created inside a scope would have the scope open, too. */
    if (sem_init(&intruder.may_try, 0, 0) != 0 || sem_init(&intruder.has_tried, 0, 0) != 0 ||
        pthread_create(&thread, NULL, run_intruder, &intruder) != 0)
        die("cannot create a thread");
    if (while_open) {
        pkeyguard_scoped_write (char, bytes, region) {
            if (!is_writable(bytes))
                die("this thread cannot write inside a write scope");
            let_try(&intruder);
        }
    } else {
        let_try(&intruder);
    }
    pthread_join(thread, NULL);
    if (intruder.succeeded)
        die("the write succeeded");
    printf("the other thread's write to %s failed\n", what);
}
