# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# foreign-apt.sh - sourced by scripts that download source packages, or packages of another
# architecture, from Debian

# foreign_apt DIR TYPE ARCHITECTURE: from now on apt-get and apt-cache use this machine's mirrors of
# Debian for packages of this TYPE (deb, deb-src) and architecture. They keep their lists under DIR,
# and leave the machine's own configuration alone.
foreign_apt() {
    mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
    apt-get indextargets 'Created-By: Packages' 'Origin: Debian' --format \
        "$2 [arch=$3 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" |
        sort -u > "$1/sources.list"
    cat > "$1/apt.conf" << END
Dir::Etc::sourcelist "$1/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$1/lists";
Dir::State::status "/dev/null";
Dir::Cache "$1/cache";
APT::Architecture "$3";
APT::Architectures { "$3"; };
APT::Sandbox::User "root";
END
    export APT_CONFIG="$1/apt.conf"
    apt-get -qq update
}
