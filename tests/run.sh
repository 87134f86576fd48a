#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs what is missing on a Debian machine, then builds libpkeyguard and runs every test.
#
# usage: run.sh [--quick]
#   --quick  only the suites but steps, built with gcc, on this machine and in the guest with Linux
#            6.12
set -eu

cd "$(dirname "$0")/.."
. tests/packages.sh

target=all
label=
case ${1:-} in
--quick)
    target=quick
    label='-L ^quick$'
    ;;
?*)
    echo "usage: sh tests/run.sh [--quick]" >&2
    exit 2
    ;;
esac
newest_clang=$(newest_package 'clang-[0-9]+')
need_packages gcc g++ clang libclang-rt-dev lld "$newest_clang" "lld-${newest_clang#clang-}" make \
    cmake ninja-build pkg-config check libsodium-dev libjemalloc-dev libpcl1-dev libssl-dev \
    libsqlite3-dev liblmdb-dev libseccomp-dev valgrind qemu-system-x86 cpio spin z3
need_packages libelf-dev meson autoconf automake python3 sqlite3 git rustc golang-go jq groff-base \
    mandoc zsh fish doxygen clang-format clang-tidy cppcheck musl-tools gcc-aarch64-linux-gnu \
    libc6-dev-arm64-cross qemu-system-arm abigail-tools lintian
# It builds in four fifths of make's time. The tests' own builds use it, too.
export CMAKE_GENERATOR=Ninja
echo "== building into .build/tests"
cmake -S . -B .build/tests -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_INSTALL_PREFIX=/usr \
    -DPKEYGUARD_WERROR=ON
cmake --build .build/tests --parallel "$(nproc)" --target "$target"
echo "== testing"
# shellcheck disable=SC2086 # two words, or none
ctest --test-dir .build/tests $label --output-on-failure --parallel "$(nproc)"
