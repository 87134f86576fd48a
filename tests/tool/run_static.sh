#!/bin/sh
# SPDX-License-Identifier: MIT
# "pkeyguard run" says in one line that it cannot explain the faults of a program with the library
# linked in, or of a program without the loader. The program ends as without it.
#
# usage: run_static.sh PKEYGUARD DYNAMIC STATIC...
#
# Each program is of stray.c: DYNAMIC uses the shared library, each STATIC does not.
set -eu
export LC_ALL=C

pkeyguard=$1
dynamic=$2
shift 2

# says EXPECTED PROGRAM...: run with these arguments writes so many lines of its own to stderr.
says() {
    expected=$1
    shift
    ended=0
    said=$("$pkeyguard" run "$@" 2>&1 >/dev/null) || ended=$?
    echo "$said"
    test "$(echo "$said" | grep -c '^pkeyguard run: ')" = "$expected" || {
        echo "not $expected lines about: $*" >&2
        exit 1
    }
}

for program in "$@"; do
    strip -o stripped "$program"
    for file in "$program" ./stripped; do
        says 1 "$file"
        test "$ended" = 139 # 128 + SIGSEGV
        echo "$said" | grep -q "^pkeyguard run: $file: cannot explain its faults: "
    done
done
# A program in PATH.
PATH=$(pwd):$PATH says 1 stripped
says 0 "$dynamic"
says 0 true
# The script's interpreter is a dynamic program.
printf '#!/bin/sh\nexit 3\n' > script
chmod +x script
says 0 ./script
test "$ended" = 3
