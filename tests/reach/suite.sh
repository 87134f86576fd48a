#!/bin/sh
# SPDX-License-Identifier: MIT
#
# suite.sh CHECKS COMMAND...
#
# COMMAND runs a suite in another place. Beyond passing it must account for this many checks at
# least, which it has run, or left to the PKU guest, or left out by name: for what the place lacks
# (tests/place.h) or its kernel does.
set -eu

checks=$1
shift
ended=0
said=$("$@" 2>&1) || ended=$?
echo "$said"
if echo "$said" | grep '^not run: ' | grep -Ev ': (not here: |the kernel has no |no huge pages )'; then
    echo "suite.sh: that was not to be left out" >&2
    exit 1
fi
echo "$said" | awk -F '; ' -v least="$checks" '
    /^enforcement: / {
        split($2, run, ": "); split($4, guest, ": "); split($5, out, ": ")
        accounted = run[2] + guest[2] + out[2]
    }
    END {
        if (accounted + 0 < least) {
            print "suite.sh: only", accounted + 0, "checks, not", least
            exit 1
        }
    }'
exit "$ended"
