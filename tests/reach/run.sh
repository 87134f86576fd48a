#!/bin/sh
# SPDX-License-Identifier: MIT
#
# run.sh JOBS NAME
#
# Runs a job of the file JOBS, in the format of tests/guest/boot.sh, on this machine.
set -eu

awk -F '\t' -v name="$2" '$1 == name { print $3, $4; found = 1 } END { exit !found }' "$1" |
    # shellcheck disable=SC2086 # a list of words
    (read -r line && exec env $line)
