#!/bin/sh
# SPDX-License-Identifier: MIT
# Compiles functions that use guards, and checks their machine code with paths.awk.
#
# usage: consumer.sh COMPILER INCLUDE LIBRARY WORK
set -eu

here=$(cd "$(dirname "$0")" && pwd)
compiler=$1
include=$2
library=$3
work=$4
mkdir -p "$work"

# examine PREFIX OPTION...
examine() {
    prefix=$1
    shift
    for level in -O2 -O3; do
        program=$work/program$level$prefix
        for file in guarded caller; do
            "$compiler" $level "$@" -fexceptions -Wall -Werror -I"$include" -c \
                -o "$program-$file.o" "$here/$file.c"
        done
        # shellcheck disable=SC2086 # several options
        "$compiler" $level "$@" $linker -o "$program" "$program-guarded.o" "$program-caller.o" "$library"
        objdump -d --no-show-raw-insn "$program" > "$program.asm"
        echo "== $compiler $level $*"
        awk -v prefix="$prefix" -f "$here/paths.awk" "$here/guarded.c" "$program.asm" || status=1
    done
}

status=0
case $compiler in
*clang*)
    lto=-flto
    # Its inliner takes functions with two scopes for too large, and then their callers have no paths.
    linker='-fuse-ld=lld -Wl,-mllvm,-inline-threshold=2000'
    ;;
*)
    lto=-flto=auto
    linker=
    ;;
esac
examine ''
examine call_ $lto
exit "$status"
