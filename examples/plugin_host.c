/* SPDX-License-Identifier: MIT */
/*
 * plugin_host - 30 plugins in one process, each of which reaches its own memory and nothing else
 *
 * It guards against stray reads and writes of a plugin: into the host's session table, which the
 * host has open meanwhile, and into the memory of another plugin. Each plugin has a virtual key and
 * a region for its state; 30 keys share the CPU's 15 pkeys. The host calls plugins through the call
 * gate (thread.h), which closes everything, and opens the plugin's own region in there. In this
 * program a plugin keeps a pointer to a session that it was shown, and later writes through it. The
 * write faults, pkeyguard_try_call() ends the plugin's call, and the host unloads the plugin and
 * goes on with the others.
 *
 * It does not guard against a plugin whose machine code changes PKRU or calls the kernel. Memory
 * that is in no region, such as the host's stack, is open to a plugin.
 *
 * usage: plugin_host [--crash] PLUGIN
 *   PLUGIN   the shared object of plugin.c, of which it loads 30 copies
 *   --crash  call plugins without pkeyguard_try_call(): the write kills the process
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <pkeyguard.h>

#include "demonstration.h"
#include "plugin.h"

enum { PLUGINS = 30, SESSIONS = 8, ROUNDS = 50 };

static struct loaded_plugin {
    void *handle; /* NULL: unloaded */
    int file;     /* open while it is loaded, as the loader takes equal names for one file */
    const struct plugin *plugin;
    struct pkeyguard_key *key;
    struct pkeyguard_region *memory;
} plugins[PLUGINS];

struct session_table {
    struct session sessions[SESSIONS];
    int requests;
};

static struct pkeyguard_region *session_table;

/* ---- loading ---- */

/* dlopen(3) loads a file once. A copy of the file, here in memory, is another file. */
static int copy_file(const char *path)
{
    int copy = memfd_create("plugin", MFD_CLOEXEC), original = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;

    if (copy < 0 || original < 0 || fstat(original, &status) != 0 ||
        sendfile(copy, original, NULL, (size_t)status.st_size) != status.st_size)
        die("cannot copy the plugin");
    close(original);
    return copy;
}

static void load_code(struct loaded_plugin *loaded, const char *path)
{
    char name[32];

    loaded->file = copy_file(path);
    snprintf(name, sizeof(name), "/proc/self/fd/%d", loaded->file);
    loaded->handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (loaded->handle != NULL)
        loaded->plugin = dlsym(loaded->handle, "plugin");
    if (loaded->plugin == NULL)
        die(dlerror());
}

static void load(int number, const char *path)
{
    struct loaded_plugin *loaded = &plugins[number];
    char name[32];

    load_code(loaded, path);
    check(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL, &loaded->key),
          "creating a plugin's key");
    check(pkeyguard_region_create(loaded->key, PLUGIN_MEMORY_SIZE, PROT_READ | PROT_WRITE, 0,
                                  &loaded->memory),
          "creating a plugin's memory");
    snprintf(name, sizeof(name), "memory of plugin %d", number);
    check(pkeyguard_region_name(loaded->memory, name), "naming a plugin's memory");
    pkeyguard_scoped_closed (gate) {
        pkeyguard_scoped_write (char[PLUGIN_MEMORY_SIZE], memory, loaded->memory)
            loaded->plugin->start(memory, number);
    }
}

static void unload(struct loaded_plugin *loaded)
{
    dlclose(loaded->handle);
    loaded->handle = NULL;
    close(loaded->file);
    check(pkeyguard_region_destroy(loaded->memory), "destroying a plugin's memory");
    check(pkeyguard_key_destroy(loaded->key), "destroying a plugin's key");
}

/* ---- calling ---- */

/* Shows a plugin a session: besides its own memory it can read the session table, in this call. */
static void show_session(const struct loaded_plugin *loaded, int number)
{
    pkeyguard_scoped_closed (gate) {
        pkeyguard_scoped_read (struct session_table, table, session_table) {
            pkeyguard_scoped_write (char[PLUGIN_MEMORY_SIZE], memory, loaded->memory)
                loaded->plugin->logged_in(memory, &table->sessions[number]);
        }
    }
}

struct call {
    const struct loaded_plugin *loaded;
    int request;
};

/* Lets a plugin serve a request with nothing open but its own memory. */
static int call_plugin(void *argument)
{
    const struct call *call = argument;
    int result = 0;

    pkeyguard_scoped_closed (gate) {
        pkeyguard_scoped_write (char[PLUGIN_MEMORY_SIZE], memory, call->loaded->memory)
            result = call->loaded->plugin->serve(memory, call->request);
    }
    return result;
}

/* Returns false if the plugin touched what is not its own. */
static bool try_plugin(const struct loaded_plugin *loaded, int request)
{
    struct call call = {.loaded = loaded, .request = request};
    struct pkeyguard_fault fault;
    int result, error = pkeyguard_try_call(call_plugin, &call, &result, &fault);
    char text[PKEYGUARD_FAULT_TEXT_SIZE];

    if (error == -EFAULT) {
        pkeyguard_fault_format(&fault, text, sizeof(text));
        printf("plugin %td: %s\n", loaded - plugins, text);
        return false;
    }
    check(error, "calling a plugin");
    return true;
}

/* Returns how many plugins are left. */
static int serve_requests(bool survives)
{
    int left = PLUGINS;

    for (int i = 0; i < ROUNDS * PLUGINS; i++) {
        struct loaded_plugin *loaded = &plugins[i % PLUGINS];
        bool behaved = true;

        if (loaded->handle == NULL)
            continue;
        pkeyguard_scoped_write (struct session_table, table, session_table) {
            table->requests++;
            if (survives)
                behaved = try_plugin(loaded, i / PLUGINS);
            else
                call_plugin(&(struct call){.loaded = loaded, .request = i / PLUGINS});
        }
        if (!behaved) {
            unload(loaded);
            left--;
        }
    }
    return left;
}

/* ---- the host ---- */

static struct pkeyguard_key *create_session_table(void)
{
    struct pkeyguard_key *key;

    check(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key), "creating the host's key");
    check(pkeyguard_region_create(key, sizeof(struct session_table), PROT_READ | PROT_WRITE, 0,
                                  &session_table),
          "creating the session table");
    check(pkeyguard_region_name(session_table, "session table"), "naming the session table");
    pkeyguard_scoped_write (struct session_table, table, session_table) {
        for (int i = 0; i < SESSIONS; i++)
            snprintf(table->sessions[i].user, sizeof(table->sessions[i].user), "user %d", i);
    }
    return key;
}

static void print_summary(int left)
{
    int admins = 0;

    pkeyguard_scoped_read (struct session_table, table, session_table) {
        for (int i = 0; i < SESSIONS; i++)
            admins += table->sessions[i].is_admin;
        printf("%d requests, %d plugins are left, %d users are administrators\n", table->requests,
               left, admins);
    }
}

int main(int argc, char **argv)
{
    bool survives = argc == 2;
    struct pkeyguard_key *key;
    int left;

    if (!survives && (argc != 3 || strcmp(argv[1], "--crash") != 0)) {
        fprintf(stderr, "usage: plugin_host [--crash] PLUGIN\n");
        return 2;
    }
    check(pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_RECOVER), "installing the reporter");
    key = create_session_table();
    print_enforcement(key);
    fflush(stdout);
    for (int i = 0; i < PLUGINS; i++) {
        load(i, argv[argc - 1]);
        show_session(&plugins[i], i % SESSIONS);
    }
    left = serve_requests(survives);
    print_summary(left);
    for (int i = 0; i < PLUGINS; i++) {
        if (plugins[i].handle != NULL)
            unload(&plugins[i]);
    }
    check(pkeyguard_region_destroy(session_table), "destroying the session table");
    check(pkeyguard_key_destroy(key), "destroying the host's key");
    return left == PLUGINS - 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
