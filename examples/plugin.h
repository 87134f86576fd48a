/* SPDX-License-Identifier: MIT */
/* plugin.h - what plugin_host and its plugins know of each other */
#ifndef PLUGIN_H
#define PLUGIN_H

#include <stdbool.h>

/* A row of the host's session table. A plugin may read it during `logged_in` only. */
struct session {
    char user[24];
    bool is_admin;
};

/* A plugin keeps its state in the memory that the host gives it. */
enum { PLUGIN_MEMORY_SIZE = 4096 };

/* A plugin exports one object of this type, with the name `plugin`. */
struct plugin {
    void (*start)(void *memory, int number);
    void (*logged_in)(void *memory, const struct session *session);
    int (*serve)(void *memory, int request);
};

#endif
