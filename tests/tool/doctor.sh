#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks what "pkeyguard doctor --json" writes.
#
# usage: doctor.sh pku|mprotect COMMAND...
#
# COMMAND writes the document and exits with doctor's status.
set -eu

enforcement=$1
shift
ended=0
document=$("$@") || ended=$?
echo "$document"

says() {
    if ! echo "$document" | jq -e "$1" > /dev/null; then
        echo "doctor does not say: $1" >&2
        exit 1
    fi
}
says '.version | test("^[0-9]+[.][0-9]+[.][0-9]+$")'
says ".enforcement == \"$enforcement\""
says '.mprotect_pair_ns > 0 and .scope_ns > 0'
says '.max_map_count > 0'
# Everything that is missing is listed, with a remedy.
# shellcheck disable=SC2016 # jq's variables
says '[.secret_memory, .sealing, .guard_madvise] as $has |
      [.lacking[].what] as $lacking |
      [["secret memory", "sealing", "guard pages inside a mapping"][] | IN($lacking[]) | not] == $has'
says '.lacking | all(.remedy | length > 20)'
if [ "$enforcement" = pku ]; then
    test "$ended" = 0
    says '.self_test == "passed" and .pku_error == null and .pku_error_code == null'
    says '.hardware_keys_free >= 14'
else
    test "$ended" = 1
    says '.self_test == null and (.pku_error | length > 0) and .hardware_keys_free == 0'
    says '.pku_error_code == "ECANCELED"'
    says '.lacking[0].what == "protection keys"'
    # PKEYGUARD_REGION_SEALED needs a dedicated key.
    says '.sealing == false'
fi
