#!/bin/sh
# SPDX-License-Identifier: MIT
#
# first_failure.sh SECONDS PROGRAM[,ARGUMENT...][@TEST+CASE]...
#
# Runs programs one after the other until one fails or takes more than so many seconds. Names it in
# its last line. A test case of a suite is given with "+" for spaces.
seconds=$1
shift
for command in "$@"; do
    unset CK_RUN_CASE
    case $command in
    *@*)
        IFS=+
        # shellcheck disable=SC2086 # a list of words
        set -- ${command#*@}
        IFS=' '
        export CK_RUN_CASE="$*"
        command=${command%@*}
        ;;
    esac
    IFS=,
    # shellcheck disable=SC2086 # a list of words
    timeout -k 2 "$seconds" $command && continue
    [ $? = 124 ] && failed=stopped || failed=failed
    echo "$failed: ${command%%,*}"
    exit 1
done
