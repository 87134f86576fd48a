#!/bin/sh
# SPDX-License-Identifier: MIT
# A process's region among its mappings.
#
# usage: maps.sh pku|mprotect COMMAND...
#
# COMMAND is keyed.c's program around "pkeyguard maps --json", or repeats what that wrote.
set -eu

enforcement=$1
shift
documents=$("$@")

says() {
    if ! echo "$documents" | jq -se ". as [\$region, \$maps] | \$maps | $1" > /dev/null; then
        echo "$documents"
        echo "maps does not say: $1" >&2
        exit 1
    fi
}
says 'length > 5'
# A region whose key has no pkey lies in ordinary memory. Its guard is open.
# shellcheck disable=SC2016 # jq's variables
says 'map(select((.start | length) == ($region.start | length) and
                 .start <= $region.start and $region.start < .end)) | length == 1 and (.[0] |
      (.key == $region.key or ($region.key == null and .key == 0)) and .rights == "rw-p" and
      .name == (if $region.named then "[anon:vault]" else "" end))'
says 'any(.name == "[stack]")'
# By key, and by address within each.
says '. == sort_by(.key, (.start | length), .start)'
if [ "$enforcement" = pku ]; then
    # shellcheck disable=SC2016
    says '$region.key >= 1 and (map(select(.key == $region.key)) | length == 1)'
    says 'any(.key == 0 and .name == "[stack]")'
fi
