/* SPDX-License-Identifier: MIT */
/* Revocation: the pkeys of destroyed keys go to new keys in a process with threads. */
#include "test_revocation.h"

int main(void)
{
    Suite *suite = suite_create("revocation");

    add_resets(suite);
    add_signal_choice(suite);
    add_signals(suite);
    add_races(suite);
    add_everywhere(suite);
    return run_suite(suite);
}
