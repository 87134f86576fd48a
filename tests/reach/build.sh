#!/bin/sh
# SPDX-License-Identifier: MIT
#
# build.sh SOURCE BUILD CHECK COMPILER LINK_OPTION [CMAKE_OPTION...]
#
# Builds everything for another C library or CPU and fails on a warning: the library, the command,
# the examples, and the suites. libcheck is built from its source in CHECK. LINK_OPTION may be empty.
# pkg-config finds this machine's libraries, which are not used.
set -eu
export LC_ALL=C

source=$1
build=$2
check=$3
compiler=$4
link_option=$5
shift 5

cmake -S "$source" -B "$build" -DCMAKE_C_COMPILER="$compiler" \
    -DCMAKE_BUILD_TYPE= -DCMAKE_C_FLAGS=-O1 \
    -DCMAKE_EXE_LINKER_FLAGS="$link_option" -DPKEYGUARD_WERROR=ON \
    -DPKEYGUARD_CHECK_SOURCE="$check" "$@"
cmake --build "$build" --parallel 2
for option in -O0 -O2; do
    # shellcheck disable=SC2086 # one word, or none
    "$compiler" -std=c11 $option -Wall -Wextra -Wpedantic -Wshadow -Werror -I"$source/include" \
        -o "$build/consumer$option" "$source/tests/consumers/consumer.c" "$build/libpkeyguard.a" \
        $link_option
done
