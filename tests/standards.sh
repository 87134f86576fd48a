#!/bin/sh
# SPDX-License-Identifier: MIT
# Files that use the headers compile without a warning in each version of C and C++, with and without
# GNU extensions; also with the warnings about conversions, which few projects turn on.
#
# usage: standards.sh SOURCE COMPILER...
set -eu

consumers=$1/tests/consumers
include=$1/include
shift
for compiler in "$@"; do
    case $compiler in
    *++*) language=c++ dialects='c++17 gnu++17 c++20 gnu++20' file=$consumers/consumer.cpp ;;
    *) language=c dialects='c11 gnu11 c17 gnu17' file=$consumers/consumer.c ;;
    esac
    for mode in -UPKEYGUARD_DEBUG -DPKEYGUARD_DEBUG; do
        "$compiler" -x $language -O1 $mode -Wall -Wextra -Wpedantic -Wshadow -Wconversion \
            -Wsign-conversion -Wcast-qual -Wcast-align -Wundef -Wwrite-strings -Werror \
            "-I$include" -c -o /dev/null "$consumers/forms.c"
    done
    for dialect in $dialects; do
        "$compiler" -std="$dialect" -O1 -Wall -Wextra -Wpedantic -Wshadow -Werror "-I$include" -c \
            -o /dev/null "$file"
    done
done
