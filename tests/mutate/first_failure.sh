#!/bin/sh
# SPDX-License-Identifier: MIT
#
# first_failure.sh SECONDS PROGRAM[,ARGUMENT]...
#
# Runs programs one after the other until one fails or takes more than so many seconds. Names it
# in its last line.
seconds=$1
shift
IFS=,
for command in "$@"; do
    # shellcheck disable=SC2086 # a list of words
    timeout -k 2 "$seconds" $command && continue
    [ $? = 124 ] && failed=stopped || failed=failed
    echo "$failed: ${command%%,*}"
    exit 1
done
