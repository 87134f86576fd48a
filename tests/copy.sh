#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds a copy of the source: what is installed.
#
# usage: copy.sh SOURCE WORK CMAKE_OPTION...    puts them into WORK/source and WORK/build
set -eu
export LC_ALL=C

source=$1
work=$2
shift 2
rm -rf "$work"
mkdir -p "$work/source"
cp -R "$source/CMakeLists.txt" "$source/LICENSE" "$source/pkeyguard.pc.in" "$source/include" "$source/src" \
    "$source/examples" "$work/source"
cmake -S "$work/source" -B "$work/build" -DBUILD_TESTING=OFF -DPKEYGUARD_EXAMPLES=OFF "$@"
cmake --build "$work/build" --parallel 2
