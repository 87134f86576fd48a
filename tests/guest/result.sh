#!/bin/sh
# SPDX-License-Identifier: MIT
#
# result.sh WORKDIR NAME
#
# Prints the output of the job NAME from boot.sh's last run in WORKDIR, and exits with the job's
# status: for a signal N that is 128 + N.
set -eu

if [ $# -ne 2 ]; then
    echo "usage: result.sh WORKDIR NAME" >&2
    exit 1
fi
console=$1/console.log
result=$1/results/$2

if [ ! -f "$result.status" ]; then
    echo "result.sh: the guest never ran $2" >&2
    exit 1
fi
cat "$result.log"
status=$(cat "$result.status")
if [ "$status" = "exit 0" ]; then
    exit 0
fi
echo "result.sh: $2: $status" >&2
case $status in
exit\ *) exit "${status#exit }" ;;
signal\ *) exit "$((128 + ${status#signal }))" ;;
esac
echo "The guest's console:" >&2
tail -n 40 "$console" >&2
exit 1
