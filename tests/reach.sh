#!/bin/sh
# SPDX-License-Identifier: MIT
# The library and the command with another C library or for another processor: everything builds
# without a warning, and programs do what they should, enforced with mprotect.
#
# usage: reach.sh SOURCE WORK COMPILER [CMAKE_OPTION...] [-- EMULATOR...]
set -eu
export LC_ALL=C PKEYGUARD_ENFORCEMENT=mprotect

source=$1
work=$2
compiler=$3
shift 3
# Libraries of this machine are none of the other's.
export PKG_CONFIG_LIBDIR=/nonexistent

rm -rf "$work"
options=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    options="$options $1"
    shift
done
[ $# = 0 ] || shift
# shellcheck disable=SC2086 # a list of words
cmake -S "$source" -B "$work" -DCMAKE_C_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DPKEYGUARD_WERROR=ON -DBUILD_TESTING=OFF $options
cmake --build "$work" --parallel 2

"$@" "$work/vault" | grep 'the secret is 123'
# 139 is 128 and SIGSEGV.
ended=0
"$@" "$work/vault" --crash || ended=$?
test "$ended" = 139
# QEMU's user emulation cannot make the child process that doctor looks from.
if [ $# = 0 ]; then
    sh "$source/tests/tool/doctor.sh" mprotect "$work/pkeyguard" doctor --json
fi
"$@" "$work/pkeyguard" maps | grep -E ' rw-p .* \[stack\]$'
ended=0
said=$("$@" "$work/pkeyguard" scan "$work/vault" 2>&1) || ended=$?
test "$ended" = 2
echo "$said" | grep 'without libelf'

for option in -O0 -O2; do
    "$compiler" -std=c11 $option -Wall -Wextra -Wpedantic -Wshadow -Werror -I"$source/include" \
        -o "$work/consumer" "$source/tests/consumers/consumer.c" \
        "$work/libpkeyguard.a"
    "$@" "$work/consumer" | grep 'C, libpkeyguard .*: 123'
done
