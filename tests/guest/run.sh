#!/bin/sh
# SPDX-License-Identifier: MIT
#
# run.sh JOB
#
# Runs one job of the guest alone, such as guest/region or guest-6.1/region, after tests/run.sh has
# built the tests. The output and the exit status are the job's.
set -eu

cd "$(dirname "$0")/../.."
kernel=6.12
case ${1:-} in
guest/steps | guest-mprotect/*) name=slow ;;
guest/*) name=6.12 ;;
guest-6.1/*)
    name=6.1
    kernel=6.1
    export GUEST_OPTIONS=secretmem.enable=1
    ;;
*)
    echo "usage: run.sh guest/SUITE | guest-6.1/SUITE | guest-mprotect/SUITE" >&2
    exit 2
    ;;
esac
build=$PWD/.build/tests
guest=$build/guest/$name
work=$build/guest/alone
mkdir -p "$work"
sh tests/guest/fetch-kernel.sh "$build/guest/$kernel" "$kernel"
ln -sf "$guest/vmlinuz" "$guest/init" "$work"
grep "^$1	" "$guest/jobs" >"$work/jobs" || {
    echo "run.sh: $guest/jobs has no $1" >&2
    exit 2
}
sh tests/guest/boot.sh "$work" "$work/jobs" "$build/libpkeyguard/reporter.so" "$build/tests/tool/stray"
sh tests/guest/result.sh "$work" "$1"
