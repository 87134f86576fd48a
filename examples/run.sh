#!/bin/sh
# SPDX-License-Identifier: MIT
# Sets up, builds and runs the vault example.
#
# usage: run.sh [--guest] [--crash]
#   --guest  on a CPU without protection keys, run it in an emulated machine that has them
#   --crash  let it write where it may only read; succeeds when it is killed for that
set -eu

cd "$(dirname "$0")/.."
. tests/packages.sh

guest=
crash=
for argument in "$@"; do
    case $argument in
    --guest) guest=yes ;;
    --crash) crash=--crash ;;
    *)
        echo "usage: sh examples/run.sh [--guest] [--crash]" >&2
        exit 2
        ;;
    esac
done
if [ -n "$guest" ] && grep -qw ospke /proc/cpuinfo; then
    echo "== this CPU has protection keys: no guest is needed"
    guest=
fi

need_packages gcc libc6-dev make cmake
echo "== building into .build/examples"
cmake -S . -B .build/examples -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_TESTING=OFF
cmake --build .build/examples
vault=$PWD/.build/examples/vault

if [ -n "$guest" ]; then
    need_packages qemu-system-x86 cpio
    work=$PWD/.build/examples/guest
    sh tests/guest/fetch-kernel.sh "$work"
    cc -O2 -static -o "$work/init" tests/guest/init.c
    printf 'vault\t60\t-\t%s\n' "$vault${crash:+ $crash}" > "$work/jobs"
    echo "== booting a machine whose CPU has protection keys"
    sh tests/guest/boot.sh "$work" "$work/jobs"
    run() { sh tests/guest/result.sh "$work" vault; }
else
    run() { "$vault" ${crash:+"$crash"}; }
fi

echo "== vault $crash"
status=0
run || status=$?
if [ -n "$crash" ] && [ "$status" = 139 ]; then # 128 + SIGSEGV
    echo "== killed by SIGSEGV, as it should be: the write never happened"
    exit 0
fi
exit "$status"
