#!/bin/sh
# SPDX-License-Identifier: MIT
# A file that includes the headers compiles without a warning in each version of C and C++, with
# and without GNU extensions.
#
# usage: standards.sh SOURCE COMPILER...
set -eu

consumers=$1/tests/consumers
include=$1/include
shift
for compiler in "$@"; do
    case $compiler in
    *++*) dialects='c++17 gnu++17 c++20 gnu++20' file=$consumers/consumer.cpp ;;
    *) dialects='c11 gnu11 c17 gnu17' file=$consumers/consumer.c ;;
    esac
    for dialect in $dialects; do
        "$compiler" -std="$dialect" -O1 -Wall -Wextra -Wpedantic -Wshadow -Werror "-I$include" -c \
            -o /dev/null "$file"
    done
done
