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

guest=
runs="vault
tenants
openssl_signer
sqlite_vault
tls_server
tls_server --attack
jit
lmdb_pool"
expected=0
for argument in "$@"; do
    case $argument in
    --guest) guest=yes ;;
    --crash)
        runs="vault --crash
tenants --crash
tls_server --crash
jit --attack
lmdb_pool --crash"
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

need_packages gcc libc6-dev make cmake pkg-config libssl-dev libsqlite3-dev liblmdb-dev
echo "== building into .build/examples"
cmake -S . -B .build/examples -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_TESTING=OFF
cmake --build .build/examples
built=$PWD/.build/examples
[ -x "$built/jit" ] || runs=$(echo "$runs" | grep -v '^jit') # only on x86-64
work=$built/guest

# The job of a run: its name cannot have blanks.
job() { echo "$1" | tr -d ' '; }

if [ -n "$guest" ]; then
    need_packages qemu-system-x86 cpio
    sh tests/guest/fetch-kernel.sh "$work"
    cc -O2 -static -o "$work/init" tests/guest/init.c
    echo "$runs" | while read -r run; do
        printf '%s\t120\t-\t%s\n' "$(job "$run")" "$built/$run"
    done > "$work/jobs"
    echo "== booting an emulated machine that has protection keys"
    sh tests/guest/boot.sh "$work" "$work/jobs"
    result() { sh tests/guest/result.sh "$work" "$(job "$1")" 2> "$built/errors"; }
else
    # shellcheck disable=SC2086 # a program and its option
    result() { "$built/"$1 2>&1; }
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
        echo "run.sh: $run: status $status instead of $expected" >&2
        exit 1
    fi
    echo "== $run, $(echo "$said" | sed -n 's/.*\(enforced by [a-z]*\( keys\)*\).*/\1/p')"
    telling_line "$said"
done
[ "$expected" = 0 ] || echo "== SIGSEGV has killed each, as expected"
