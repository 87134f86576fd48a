#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks how "pkeyguard maps --json" lists a process's region.
#
# usage: maps.sh pku|mprotect COMMAND...
#
# COMMAND is keyed.c's program, which runs "pkeyguard maps --json", or prints what that wrote.
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
# The region's mapping has its pkey, or pkey 0 if its key has none. Its guard is open.
# shellcheck disable=SC2016 # jq's variables
says 'map(select((.start | length) == ($region.start | length) and
                 .start <= $region.start and $region.start < .end)) | length == 1 and (.[0] |
      (.key == $region.key or ($region.key == null and .key == 0)) and .rights == "rw-p" and
      .name == (if $region.named then "[anon:vault]" else "" end))'
says 'any(.name == "[stack]")'
# Mappings are sorted by pkey, then by address.
says '. == sort_by(.key, (.start | length), .start)'
if [ "$enforcement" = pku ]; then
    # shellcheck disable=SC2016
    says '$region.key >= 1 and (map(select(.key == $region.key)) | length == 1)'
    says 'any(.key == 0 and .name == "[stack]")'
fi
