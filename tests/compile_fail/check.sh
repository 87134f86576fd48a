#!/bin/sh
# SPDX-License-Identifier: MIT
# One mistake, and what each compiler says of it.
#
# usage: check.sh INCLUDE FILE COMPILER...
#
# FILE compiles without a word. With MISTAKE defined it is refused with a message that matches what
# its head says of the compiler, on a line "// gcc: PATTERN", by name (clang-14) or family (clang).
# Where the head says nothing, or "-", the compiler does not see the mistake: it compiles then, too.
set -eu
export LC_ALL=C

include=$1
file=$2
shift 2
wrong=0

# Really compiles, for what only the optimiser sees.
compile() {
    case $compiler in
    *++*) set -- -x c++ -std=c++17 "$@" ;;
    *) set -- -std=gnu11 "$@" ;;
    esac
    case $compiler in
    clang*) set -- -Wthread-safety "$@" ;;
    gcc*) set -- -Wjump-misses-init -fanalyzer "$@" ;;
    esac
    "$compiler" "$@" -O1 -Wall -Wextra -Wpedantic -Wshadow -Werror "-I$include" -c -o /dev/null "$file"
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
        said=$(compile -DMISTAKE 2>&1) || complain "sees the mistake, which its head does not know"
    elif said=$(compile -DMISTAKE 2>&1); then
        complain "does not see the mistake"
    elif ! echo "$said" | grep -qE "$expected"; then
        complain "refuses it for another reason than '$expected'"
    fi
done
exit $wrong
