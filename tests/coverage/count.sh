#!/bin/sh
# SPDX-License-Identifier: MIT
#
# count.sh FILE PROGRAM
#
# Runs a program of the coverage build, here or in the guest, which has no other programs than
# /bin/sh and /bin/cat. It counts in FILE. Prints its output, and behind it the counters: see
# counters.c. The exit status is the program's.
counters=$1
shift
ended=0
: > "$counters"
COUNT_INTO=$counters "$@" || ended=$?
/bin/cat "$counters"
exit $ended
