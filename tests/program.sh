#!/bin/sh
# SPDX-License-Identifier: MIT
#
# program.sh STATUS LINES COMMAND...
#
# COMMAND must exit with this status and print what LINES says: extended regular expressions,
# separated by "&", each of which a line of the output must match.
set -eu

expected=$1
lines=$2
shift 2
ended=0
said=$("$@" 2>&1) || ended=$?
echo "$said"
test "$ended" = "$expected" || {
    echo "program.sh: status $ended instead of $expected" >&2
    exit 1
}
printf "%s\n" "$lines" | tr "&" "\n" | while read -r line; do
    echo "$said" | grep -Eq -- "$line" || {
        echo "program.sh: no line matches: $line" >&2
        exit 1
    }
done
