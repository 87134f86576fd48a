/* SPDX-License-Identifier: MIT */
/*
 * A plugin brings the library into a program by dlopen(3) and takes it away by dlclose(3). What it
 * has installed stays, so its code must stay.
 */
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "plugin.h"
#include "support.h"

/* PLUGINS is the directory and the first part of their names. */
static const char shared[] = PLUGINS "shared.so", linked_in[] = PLUGINS "static.so",
                  cannot_stay[] = PLUGINS "cannot_stay.so";

static void *load(const char *name, const struct plugin **ret_plugin)
{
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);

    ck_assert_msg(handle != NULL, "%s", dlerror());
    *ret_plugin = dlsym(handle, "plugin");
    ck_assert_ptr_nonnull(*ret_plugin);
    return handle;
}

/* Leaves no reference of this program's behind. */
static bool is_loaded(const char *name)
{
    void *handle = dlopen(name, RTLD_NOW | RTLD_NOLOAD);

    if (handle != NULL)
        dlclose(handle);
    return handle != NULL;
}

static sigjmp_buf after_fault;

static void jump_back(int signal)
{
    siglongjmp(after_fault, signal);
}

/* The program's own handler, which the reporter calls, survives the fault. */
static void fault_and_survive(void)
{
    volatile int signal = sigsetjmp(after_fault, 1);

    if (signal == 0)
        access_byte(WRITE_BYTE, (const void *)8);
    ck_assert_int_eq(signal, SIGSEGV);
}

START_TEST(reporter_outlives_its_plugin)
{
    const char *name = _i == 0 ? shared : linked_in;
    const struct plugin *plugin;
    void *handle = load(name, &plugin);

    signal(SIGSEGV, jump_back);
    ck_assert_int_eq(plugin->install_reporter(), 0);
    dlclose(handle);
    fault_and_survive();
    /* Loaded again it is the same instance, with the reporter installed. */
    handle = load(name, &plugin);
    ck_assert_int_eq(plugin->install_reporter(), 0);
    dlclose(handle);
    fault_and_survive();
}
END_TEST

START_TEST(chosen_signals_handler_outlives_its_plugin)
{
    const struct plugin *plugin;
    void *handle = load(_i == 0 ? shared : linked_in, &plugin);
    struct sigaction now;

    ck_assert_int_eq(plugin->use_signal(SIGURG), 0);
    dlclose(handle);
    sigaction(SIGURG, NULL, &now);
    ck_assert(now.sa_handler != SIG_DFL);
    raise(SIGURG);
}
END_TEST

/* A key's pkey stays with the library when the key is destroyed. */
START_TEST(shared_library_keeps_its_pkeys)
{
    for (int i = 0; i < 40; i++) {
        const struct plugin *plugin;
        void *handle = load(shared, &plugin);

        ck_assert_int_eq(plugin->make_and_end_key(), 0);
        dlclose(handle);
    }
}
END_TEST

START_TEST(plugin_without_handlers_is_unloaded)
{
    const struct plugin *plugin;
    void *handle = load(linked_in, &plugin);

    ck_assert_int_eq(plugin->make_and_end_key(), 0);
    ck_assert(is_loaded(linked_in));
    dlclose(handle);
    ck_assert(!is_loaded(linked_in));
}
END_TEST

START_TEST(no_handler_is_installed_in_code_that_can_go)
{
    const struct plugin *plugin;
    void *handle = load(cannot_stay, &plugin);
    struct sigaction segv, urg;

    signal(SIGSEGV, jump_back);
    ck_assert_int_eq(plugin->install_reporter(), -ENOTSUP);
    ck_assert_int_eq(plugin->use_signal(SIGURG), pku() ? -ENOTSUP : 0);
    sigaction(SIGSEGV, NULL, &segv);
    sigaction(SIGURG, NULL, &urg);
    ck_assert(segv.sa_handler == jump_back && urg.sa_handler == SIG_DFL);
    dlclose(handle);
    ck_assert(!is_loaded(cannot_stay));
    fault_and_survive();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("unload");
    TCase *tests = add_case(suite, "unload", NULL, NULL);

    tcase_add_loop_test(tests, reporter_outlives_its_plugin, 0, 2);
    add_pku_loop_test(tests, chosen_signals_handler_outlives_its_plugin, 0, 2);
    tcase_add_test(tests, shared_library_keeps_its_pkeys);
    tcase_add_test(tests, plugin_without_handlers_is_unloaded);
    tcase_add_test(tests, no_handler_is_installed_in_code_that_can_go);
    return run_suite(suite);
}
