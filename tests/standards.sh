#!/bin/sh
# SPDX-License-Identifier: MIT
# Files that use the C headers compile without a warning in each version of C and C++, with and
# without GNU extensions; one that uses the C++ headers, in each version from C++17 on; also with the
# warnings about conversions, which few projects turn on. So does the program at the head of
# pkeyguard.hpp.
#
# usage: standards.sh SOURCE WORK COMPILER...
set -eu

consumers=$1/tests/consumers
include=$1/include
example=$2/example.cpp
mkdir -p "$2"
shift 2
strict='-Wconversion -Wsign-conversion -Wcast-qual -Wcast-align -Wundef -Wwrite-strings'

# The first comment's indented lines. Text that follows the code of a line is no code.
sed -n '/^ \*\/$/q; s/^ \*     //p' "$include/pkeyguard.hpp" | sed 's/;  .*/;/' > "$example"
grep -q 'int main' "$example"

# All three: OPTION... FILE. The versions of a language differ in what they accept, not in the code.
accept() {
    "$compiler" -Wall -Wextra -Wpedantic -Wshadow -Werror "-I$include" "$@"
}
parse() {
    accept -fsyntax-only "$@"
}
compile() {
    accept -O1 -c -o /dev/null "$@"
}

# shellcheck disable=SC2086 # strict and strict_cxx are lists of words
for compiler in "$@"; do
    case $compiler in
    *++*) language=c++ dialects='c++17 gnu++17 c++20 gnu++20' file=$consumers/consumer.cpp ;;
    *) language=c dialects='c11 gnu11 c17 gnu17' file=$consumers/consumer.c ;;
    esac
    for mode in -UPKEYGUARD_DEBUG -DPKEYGUARD_DEBUG; do
        compile $strict $mode -x $language "$consumers/forms.c"
    done
    for dialect in $dialects; do
        parse "-std=$dialect" "$file"
    done
    if [ $language = c++ ]; then
        strict_cxx="$strict -Wold-style-cast"
        compile $strict_cxx -std=c++17 "$consumers/handles.cpp"
        for dialect in c++20 c++2b; do
            parse $strict_cxx "-std=$dialect" "$consumers/handles.cpp"
        done
        compile -std=c++17 "$example"
    fi
done
