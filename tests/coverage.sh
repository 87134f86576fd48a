#!/bin/sh
# SPDX-License-Identifier: MIT
#
# coverage.sh
#
# Prints how many lines and branches of each folder of src/ the suites reach, on this machine and in
# the guest with Linux 6.12 together. Lists the branches that are not taken, but for those of which
# coverage/UNTAKEN says why. Fails if there are any, or a suite fails. Takes ten minutes.
#
# The counters are gcov's. They count every process, however it ends (coverage/counters.c). The suite
# steps is left out: it leaves functions between any two instructions, which makes them wrong. To see
# the lines of a file: gcov -b .build/coverage/tests/CMakeFiles/pkeyguard_coverage.dir/__/src/FILE.gcda
set -eu
export LC_ALL=C

cd "$(dirname "$0")/.."
. tests/packages.sh
need_packages gcc g++ make cmake pkg-config check libjemalloc-dev libpcl1-dev qemu-system-x86 cpio \
    python3
build=$PWD/.build/coverage
guest=$build/guest/6.12

echo "== building into .build/coverage"
cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Debug -DPKEYGUARD_COVERAGE=ON -DPKEYGUARD_TOOL=OFF \
    -DPKEYGUARD_EXAMPLES=OFF
cmake --build "$build" --parallel "$(nproc)" --target coverage
find "$build" -name '*.gcda' -delete

# show LOG: prints a suite's output, without the counters behind it, and ends.
show() {
    echo "coverage.sh: this suite failed: $1" >&2
    sed '/^enforcement: /q' "$1"
    exit 1
}

# Each of these files has jobs: see guest/boot.sh.
echo "== running the suites on this machine"
rm -rf "$build/native"
mkdir "$build/native"
cut -f 1,4 "$build/native-jobs" | xargs -P "$(nproc)" -L 1 sh -c \
    'PKEYGUARD_TEST_GUEST=1 CK_TIMEOUT_MULTIPLIER=5 $2 $3 $4 $5 > "$0/native/$1.log" 2>&1 ||
        echo "$1" >> "$0/native/failed"' "$build"
[ ! -e "$build/native/failed" ] || show "$build/native/$(head -n 1 "$build/native/failed").log"
echo "== running the suites in the guest"
sh tests/guest/fetch-kernel.sh "$guest" 6.12
cut -f 4 "$guest/jobs" | tr ' ' '\n' | grep / | grep -v 'counters$' | sort -u |
    xargs env GUEST_TIMEOUT=3600 sh tests/guest/boot.sh "$guest" "$guest/jobs" /bin/cat \
        "$build"/tests/plugin_*.so
for status in "$guest"/results/*.status; do
    [ "$(cat "$status")" = "exit 0" ] || show "${status%.status}.log"
done

echo "== counting"
for log in "$build"/native/*.log "$guest"/results/*.log; do
    name=$(basename "$log" .log)
    COUNTED_IN=$log "$build/tests/test_${name%-protected}_coverage"
done
find "$build/tests" -name '*.gcda' -exec gcov --json-format --stdout --branch-probabilities {} + |
    python3 tests/coverage/report.py tests/coverage/UNTAKEN
