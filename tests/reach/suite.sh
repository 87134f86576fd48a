#!/bin/sh
# SPDX-License-Identifier: MIT
#
# suite.sh CHECKS COMMAND...
#
# COMMAND runs a suite on another C library or CPU. The suite must pass and account for at least
# CHECKS checks. A check counts if it was run, is left to the PKU guest, or was skipped by name
# because the place (tests/support/place.h) or its kernel lacks something.
set -eu

checks=$1
shift
ended=0
said=$("$@" 2>&1) || ended=$?
echo "$said"
if echo "$said" | grep '^not run: ' | grep -Ev ': (not here: |the kernel has no |no huge pages )'; then
    echo "suite.sh: these checks must not be skipped" >&2
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
