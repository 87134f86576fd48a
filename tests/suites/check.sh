#!/bin/sh
# SPDX-License-Identifier: MIT
#
# check.sh CHECKS REASONS COMMAND...
#
# COMMAND runs a suite. The suite must pass and account for at least CHECKS checks. A check counts if
# it was run, is left to the PKU guest, or was skipped by name for one of the REASONS, an extended
# regular expression. A check that was skipped for another reason is an error.
set -eu

checks=$1
reasons=$2
shift 2
ended=0
said=$("$@" 2>&1) || ended=$?
echo "$said"
if echo "$said" | grep '^not run: ' | grep -Ev ": ($reasons)"; then
    echo "check.sh: these checks must not be skipped" >&2
    exit 1
fi
echo "$said" | awk -F '; ' -v least="$checks" '
    /^enforcement: / {
        split($2, run, ": "); split($4, guest, ": "); split($5, out, ": ")
        accounted = run[2] + guest[2] + out[2]
    }
    END {
        if (accounted + 0 < least + 0) {
            print "check.sh: only", accounted + 0, "checks, not", least
            exit 1
        }
    }'
exit "$ended"
