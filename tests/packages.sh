# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# packages.sh - sourced by the run scripts: installs missing Debian packages, and names them

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

need_packages() {
    missing=
    for package in "$@"; do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" != installed ]; then
            missing="$missing $package"
        fi
    done
    [ -n "$missing" ] || return 0
    echo "== installing Debian packages:$missing"
    # shellcheck disable=SC2086 # a list of words
    as_root apt-get -q update &&
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -qy --no-install-recommends install $missing
}

# Prints the newest, by its name, of the packages whose names match.
newest_package() {
    [ -n "$(find /var/lib/apt/lists -name '*_Packages*' -print -quit)" ] || as_root apt-get -qq update
    apt-cache pkgnames | grep -xE "$1" | sort -V | tail -n 1
}
