#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs two builds of the same source, made in different directories: all files are identical.
#
# usage: reproducible.sh BUILD BUILD WORK
set -eu
export LC_ALL=C

work=$3
rm -rf "$work"
DESTDIR=$work/one cmake --install "$1"
DESTDIR=$work/another cmake --install "$2"
diff -r "$work/one" "$work/another"
test -n "$(find "$work/one" -name 'libpkeyguard.so.0.*')"
