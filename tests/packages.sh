# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# packages.sh - sourced by the run scripts: installs what a bare Debian machine lacks, and says what

need_packages() {
    missing=
    for package in "$@"; do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" != installed ]; then
            missing="$missing $package"
        fi
    done
    [ -n "$missing" ] || return 0
    echo "== installing Debian packages:$missing"
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    # shellcheck disable=SC2086 # a list of words, and a word that may be missing
    $as_root apt-get -q update &&
        $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -qy --no-install-recommends install $missing
}
