/* SPDX-License-Identifier: MIT */
/* With PKEYGUARD_DEBUG defined, guards abort on misuse that they can see, and on nothing else. */
#include "test_debug.h"

#include <ctype.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

const unsigned kind_flags[KINDS] = {0, PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_VIRTUAL};

void remake_key(int kind)
{
    destroy(region, key);
    key = new_key(PKEYGUARD_NO_ACCESS, kind_flags[kind]);
    region = new_region(key);
    address = address_of(region);
}

/* Replaces each number behind ".c:" by #, and each path before it by its last component. */
static void without_places(char *line)
{
    char *to = line;

    for (const char *from = line; *from != '\0';) {
        if (*from == '/') {
            while (to > line && to[-1] != ' ')
                to--;
            from++;
        }
        *to++ = *from++;
        if (to - line < 3 || memcmp(to - 3, ".c:", 3) != 0)
            continue;
        *to++ = '#';
        while (isdigit((unsigned char)*from))
            from++;
    }
    *to = '\0';
}

void assert_misuse(void (*call)(void *argument), void *argument, const char *line)
{
    static const char begin[] = "libpkeyguard: ";
    char said[1024];
    int status = run_in_child(call, argument, said, sizeof(said));
    size_t length;

    without_places(said);
    length = strlen(said);
    ck_assert_msg(strncmp(said, begin, strlen(begin)) == 0 && length > 0 &&
                      said[length - 1] == '\n',
                  "it said: %s", said);
    said[length - 1] = '\0';
    ck_assert_str_eq(said + strlen(begin), line);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), SIGABRT);
}

void assert_allowed_use(void (*call)(void *argument), void *argument)
{
    assert_ends(call, argument, "", 0);
}

int main(void)
{
    Suite *suite = suite_create("debug");

    add_misuse(suite);
    add_allowed(suite);
    return run_suite(suite);
}
