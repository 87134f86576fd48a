#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the packages that are missing, builds the examples, and runs each: one line of its output
# is shown.
#
# usage: run.sh [--guest] [--crash]
#   --guest  if the CPU has no protection keys, run them in an emulated machine that has them
#   --crash  have each access memory that is closed; run.sh succeeds if SIGSEGV kills each
set -eu

cd "$(dirname "$0")/.."
. tests/packages.sh

built=$PWD/.build/examples
work=$built/guest

# Each line is a run: a program and its arguments.
guest=
runs="$built/vault
$built/tenants
$built/openssl_signer
$built/sandboxed_signer
$built/tls_server
$built/tls_server --attack
$built/sqlite_vault
$built/lmdb_pool
$built/jit
$built/plugin_host $built/plugin.so
/usr/bin/env LD_PRELOAD=$built/pkeyguard_malloc.so $built/malloc_victim --read-after-free"
expected=0
for argument in "$@"; do
    case $argument in
    --guest) guest=yes ;;
    --crash)
        runs="$built/vault --crash
$built/tenants --crash
$built/sandboxed_signer --attack
$built/tls_server --crash
$built/lmdb_pool --crash
$built/jit --attack
$built/plugin_host --crash $built/plugin.so"
        expected=139 # 128 + SIGSEGV
        ;;
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

need_packages gcc libc6-dev make cmake pkg-config libssl-dev libsqlite3-dev liblmdb-dev \
    libsodium-dev libseccomp-dev
echo "== building into .build/examples"
cmake -S . -B .build/examples -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_TESTING=OFF
cmake --build .build/examples
[ -x "$built/jit" ] || runs=$(echo "$runs" | grep -v /jit) # only on x86-64

# A run without the programs' directory, which a reader knows.
short() { echo "$1" | sed "s|$built/||g"; }

# The job of a run: its name can have neither blanks nor slashes.
job() { short "$1" | tr -d ' /'; }

if [ -n "$guest" ]; then
    need_packages qemu-system-x86 cpio
    sh tests/guest/fetch-kernel.sh "$work"
    cc -O2 -static -o "$work/init" tests/guest/init.c
    echo "$runs" | while read -r run; do
        printf '%s\t120\t-\t%s\n' "$(job "$run")" "$run"
    done > "$work/jobs"
    echo "== booting an emulated machine that has protection keys"
    sh tests/guest/boot.sh "$work" "$work/jobs" "$built/plugin.so" "$built/pkeyguard_malloc.so" \
        "$built/malloc_victim"
    result() { sh tests/guest/result.sh "$work" "$(job "$1")" 2> "$built/errors"; }
else
    # shellcheck disable=SC2086 # a list of words
    result() { $1 2>&1; }
fi

# The line that explains a fault, else the last one of the program's own.
telling_line() {
    echo "$1" | grep '^libpkeyguard: ' || echo "$1" | grep -v '^Segmentation fault' | tail -n 1
}

echo "$runs" | while read -r run; do
    status=0
    said=$(result "$run") || status=$?
    if [ "$status" != "$expected" ]; then
        echo "$said"
        echo "run.sh: $(short "$run"): status $status instead of $expected" >&2
        exit 1
    fi
    enforced=$(echo "$said" | sed -n 's/.*\(enforced by [a-z]*\( keys\)*\).*/, \1/p' | head -n 1)
    echo "== $(short "$run")$enforced"
    telling_line "$said"
done
[ "$expected" = 0 ] || echo "== SIGSEGV has killed each, as expected"
