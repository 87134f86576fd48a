#!/bin/sh
# SPDX-License-Identifier: MIT
# Compiles and runs registers.c in the ways in which the calls of the inline guards could go wrong.
#
# usage: registers.sh COMPILER INCLUDE LIBRARY ARCHIVE WORK
set -eu

here=$(cd "$(dirname "$0")" && pwd)
compiler=$1
include=$2
library=$3
archive=$4
work=$5
mkdir -p "$work"

# try LIBRARY OPTION...
try() {
    linked=$1
    shift
    echo "== $compiler $*"
    "$compiler" -fexceptions -Wall -Werror "$@" -I"$include" -o "$work/registers" \
        "$here/registers.c" "$linked"
    LD_LIBRARY_PATH=$(dirname "$library") "$work/registers"
}

case $compiler in
*clang*) lto='-flto -fuse-ld=lld' ;;
*) lto=-flto=auto ;;
esac
avx=
grep -qw avx2 /proc/cpuinfo && avx=-mavx2
for level in -O0 -O1 -O2 -O3; do
    try "$library" $level
done
for level in -O0 -O2; do
    try "$library" $level -mno-red-zone $avx
    try "$library" $level -masm=intel -fno-omit-frame-pointer
    try "$library" $level -fPIC -fcf-protection
    try "$archive" $level -fPIE -static-pie
    # shellcheck disable=SC2086 # several options
    try "$archive" $level $lto
done
# Not run: the CPU may lack the registers.
"$compiler" -O2 -mavx512f -I"$include" -c -o "$work/registers.o" "$here/registers.c"
