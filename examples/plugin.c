/* SPDX-License-Identifier: MIT */
/* plugin - adds up what it is sent; one of the copies also makes a user an administrator */
#include "plugin.h"

enum { MALICIOUS = 17 };

struct state {
    int number; /* which of the copies this is */
    int total;
    struct session *kept; /* a session that the host showed it once */
};
_Static_assert(sizeof(struct state) <= PLUGIN_MEMORY_SIZE, "the state does not fit");

static void start(void *memory, int number)
{
    struct state *state = memory;

    state->number = number;
}

static void logged_in(void *memory, const struct session *session)
{
    struct state *state = memory;

    state->kept = (struct session *)session;
}

static int serve(void *memory, int request)
{
    struct state *state = memory;

    state->total += request;
    if (state->number == MALICIOUS && state->total > 100)
        state->kept->is_admin = true;
    return state->total;
}

extern const struct plugin plugin;
const struct plugin plugin = {.start = start, .logged_in = logged_in, .serve = serve};
