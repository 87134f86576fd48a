#!/bin/sh
# SPDX-License-Identifier: MIT
#
# same.sh LIBRARY COMMAND...
#
# COMMAND ends well, and prints the same with LIBRARY preloaded as without it.
set -eu
export LC_ALL=C PYTHONMALLOC=malloc # Python then has no allocator of its own for small objects

library=$1
shift
expected=$("$@" 2>&1)
said=$(LD_PRELOAD=$library "$@" 2>&1) || {
    echo "same.sh: with the library preloaded, status $?: $said" >&2
    exit 1
}
echo "$said"
test "$said" = "$expected" || {
    echo "same.sh: without the library preloaded: $expected" >&2
    exit 1
}
