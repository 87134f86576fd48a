/* SPDX-License-Identifier: MIT */
/*
 * plugin.h - what the plugins of this suite export
 *
 * plugin.c is linked with the shared library, with the static one, and with the static one in a way
 * that makes it impossible to keep the plugin loaded.
 */
#ifndef PLUGIN_H
#define PLUGIN_H

struct plugin {
    int (*install_reporter)(void); /* pkeyguard_fault_reporter_install(0) */
    int (*use_signal)(int signal); /* pkeyguard_thread_use_signal() */
    int (*make_and_end_key)(void); /* creates a key and destroys it */
};

#endif
