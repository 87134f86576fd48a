#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the packages that are missing, then builds and runs the vault example.
#
# usage: run.sh [--guest] [--crash]
#   --guest  if the CPU has no protection keys, run it in an emulated machine that has them
#   --crash  have it write inside a read scope; run.sh succeeds if SIGSEGV kills it
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
    echo "== this CPU has protection keys: running without a guest"
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
    echo "== booting an emulated machine that has protection keys"
    sh tests/guest/boot.sh "$work" "$work/jobs"
    run() { sh tests/guest/result.sh "$work" vault; }
else
    run() { "$vault" ${crash:+"$crash"}; }
fi

echo "== vault $crash"
status=0
run || status=$?
if [ -n "$crash" ] && [ "$status" = 139 ]; then # 128 + SIGSEGV
    echo "== killed by SIGSEGV, as expected: the write did not happen"
    exit 0
fi
exit "$status"
