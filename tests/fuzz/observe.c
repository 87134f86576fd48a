/* SPDX-License-Identifier: MIT */
#include "observe.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "history.h"

/* FUTEX_WAIT | FUTEX_PRIVATE_FLAG of <linux/futex.h>, which musl-gcc does not find. */
enum { NUMBER_OF_WAIT = 128, NOT_THE_CONTENT = 0x5a5a5a5a };

/* It reads four bytes and finds another value than it was told. */
static bool can_read(const char *address)
{
    long result = syscall(SYS_futex, address, NUMBER_OF_WAIT, NOT_THE_CONTENT, NULL, NULL, 0);

    if (result == 0 || (errno != EAGAIN && errno != EFAULT))
        history_differ("futex: %d", errno);
    return errno == EAGAIN;
}

/* It writes the processor's number, four bytes. */
static bool can_write(char *address)
{
    return syscall(SYS_getcpu, address, NULL, NULL) == 0;
}

/* The program's own accesses. One that is forbidden ends the process. */
static void access_directly(volatile char *address, struct access_rights access)
{
    char content = 0;

    if (access.read)
        content = *address;
    if (access.write)
        *address = content;
}

void observe(void *argument)
{
    struct observation *observation = argument;
    const struct model *model = observation->model;

    for (int k = 0; k < KEYS; k++) {
        if (model->keys[k].real != NULL)
            observation->rights[k] = pkeyguard_key_rights(model->keys[k].real);
    }
    for (int r = 0; r < REGIONS; r++) {
        if (model->regions[r].real == NULL)
            continue;
        observation->access[r].read = can_read(model->regions[r].address);
        observation->access[r].write = can_write(model->regions[r].address);
        access_directly(model->regions[r].address, observation->access[r]);
    }
}

static const char *name_of(struct access_rights access)
{
    if (access.read)
        return access.write ? "read and write" : "read only";
    return access.write ? "write only" : "nothing";
}

static void compare_key(struct model *model, int thread, int key, enum pkeyguard_rights found)
{
    struct model_thread *it = &model->threads[thread];

    if (it->inherited[key] && found == PKEYGUARD_NO_ACCESS) {
        it->inherited[key] = false;
        it->denied[key] = DENY_BOTH;
    }
    if (found != model_rights(model, thread, key))
        history_differ("thread %d has rights %d on key %d, not %d", thread, (int)found, key,
                       (int)model_rights(model, thread, key));
}

unsigned compare(struct model *model, int thread, const struct observation *observation)
{
    unsigned compared = 0;

    for (int k = 0; k < KEYS; k++) {
        if (model->keys[k].real != NULL)
            compare_key(model, thread, k, observation->rights[k]);
    }
    for (int r = 0; r < REGIONS; r++) {
        struct access_rights found = observation->access[r], expected;

        if (model->regions[r].real == NULL)
            continue;
        expected = model_access(model, thread, r);
        if (found.read != expected.read || found.write != expected.write)
            history_differ("thread %d can do %s in region %d of key %d, not %s", thread,
                           name_of(found), r, model->regions[r].key, name_of(expected));
        compared += 2;
    }
    return compared;
}
