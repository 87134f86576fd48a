#!/bin/sh
# SPDX-License-Identifier: MIT
# Sets up, builds and runs the benchmarks. Stdout is one markdown table and how it was measured.
# Fails where an instruction count misses its target.
set -eu

cd "$(dirname "$0")/../.."
. tests/packages.sh
guest=$PWD/.build/bench/guest

{
    need_packages gcc libc6-dev make cmake pkg-config check libpcl1-dev libsodium-dev \
        libjemalloc-dev libssl-dev qemu-system-x86 cpio
    echo "== building into .build/bench"
    cmake -S . -B .build/bench -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE=-O2 \
        -DPKEYGUARD_NATIVE_TESTS_ONLY=ON
    cmake --build .build/bench --target benches --parallel "$(nproc)"
    sh tests/guest/fetch-kernel.sh "$guest"
    cc -O2 -static -o "$guest/init" tests/guest/init.c
    echo "== measuring"
} >&2

programs=$(ls "$PWD"/.build/bench/tests/bench/bench_*)
status=0
echo "| operation | cost | \`WRPKRU\` | target |"
echo "|---|---:|---:|---:|"
# shellcheck disable=SC2086 # a list of paths without blanks
sh tests/bench/guest.sh "$guest" instructions $programs || status=1
for program in $programs; do
    case $program in
    *_scaling) sh tests/bench/guest.sh "$guest" times "$program" || status=1 ;;
    *) "$program" times ;;
    esac
done
cat << END

Instructions are those executed, the kernel's included, for one operation of a loop, less those for
the one access that a scope encloses: exact, but each round of a \`rep\` instruction counts, and
\`mprotect\` depends a little on what lies beside the pages. \`WRPKRU\` is counted by single steps. With
hits and misses mixed it is the mean of 2,000 operations, and the timer's interrupts count. They
are not time: \`WRPKRU\` counts as one. Emulated by
QEMU $(qemu-system-x86_64 --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p') with -icount.
Bytes are those of anonymous pages, an allocator's own records included.
Times are medians of 2000 ratios between batches that take turns, on $(sed -n 's/^model name\t*: //p' /proc/cpuinfo | head -n 1), Linux $(uname -r).
On two emulated CPUs, each a thread of QEMU that wants a CPU for itself, they are ratios of the lowest of 100.
gcc $(cc -dumpfullversion) -O2, glibc $(ldd --version | sed -n '1s/.* //p'), libsodium $(pkg-config --modversion libsodium),
jemalloc $(pkg-config --modversion jemalloc | sed 's/_.*//'), OpenSSL $(pkg-config --modversion libcrypto).
END
exit "$status"
