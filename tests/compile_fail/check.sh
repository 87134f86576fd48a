#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks that each compiler refuses one mistake with the expected message.
#
# usage: check.sh INCLUDE FILE COMPILER...
#
# FILE must compile without a warning. With MISTAKE defined it must fail with a message that matches
# the pattern for that compiler. Lines at the head of FILE give the patterns: "// gcc: PATTERN", for
# a compiler (clang-14) or a family (clang). If there is no pattern, or "-", the compiler does not
# detect the mistake, and FILE must compile with MISTAKE, too.
set -eu
export LC_ALL=C

include=$1
file=$2
shift 2
wrong=0

compile() {
    case $compiler in
    *++*) set -- -x c++ -std=c++17 "$@" ;;
    *) set -- -std=gnu11 "$@" ;;
    esac
    case $compiler in
    clang*) set -- -Wthread-safety "$@" ;;
    gcc*) set -- -Wjump-misses-init -fanalyzer "$@" ;;
    esac
    # gcc finds some mistakes of C when it optimises. Parsing finds all others.
    case $compiler:$file in
    g*:*.c) set -- -O1 -c -o /dev/null "$@" ;;
    *) set -- -fsyntax-only "$@" ;;
    esac
    "$compiler" "$@" -Wall -Wextra -Wpedantic -Wshadow -Werror "-I$include" "$file"
}

complain() {
    echo "$(basename "$file"): $compiler: $1"
    echo "$said"
    wrong=1
}

for compiler in "$@"; do
    family=$(echo "$compiler" | sed 's/-[0-9]*$//')
    expected=$(sed -n "s|^// $compiler: ||p" "$file")
    [ -n "$expected" ] || expected=$(sed -n "s|^// $family: ||p" "$file")
    if ! said=$(compile 2>&1); then
        complain "the control does not compile"
    elif [ -z "$expected" ] || [ "$expected" = - ]; then
        said=$(compile -DMISTAKE 2>&1) || complain "detects it, but the file has no pattern"
    elif said=$(compile -DMISTAKE 2>&1); then
        complain "does not detect the mistake"
    elif ! echo "$said" | grep -qE "$expected"; then
        complain "the message does not match '$expected'"
    fi
done
exit $wrong
