#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds and installs two copies of the source in different directories: all files are identical.
#
# usage: reproducible.sh SOURCE WORK
set -eu
export LC_ALL=C

source=$1
work=$2
rm -rf "$work"
for copy in one another/longer; do
    mkdir -p "$work/$copy/source"
    cp -R "$source/CMakeLists.txt" "$source/pkeyguard.pc.in" "$source/include" "$source/src" \
        "$source/examples" "$work/$copy/source"
    cmake -S "$work/$copy/source" -B "$work/$copy/build" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
        -DBUILD_TESTING=OFF
    cmake --build "$work/$copy/build" --parallel 2
    DESTDIR=$work/$copy/installed cmake --install "$work/$copy/build" --prefix /usr
done
diff -r "$work/one/installed" "$work/another/longer/installed"
test -n "$(find "$work/one/installed" -name 'libpkeyguard.so.0.*')"
