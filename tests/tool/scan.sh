#!/bin/sh
# SPDX-License-Identifier: MIT
# What scan finds in made-up programs, in the libraries, and in files that are none.
#
# usage: scan.sh PKEYGUARD SOURCE LIBRARY WORK COMPILER...
set -eu
export LC_ALL=C

pkeyguard=$1
source=$2
library=$3
work=$4
shift 4
mkdir -p "$work"
cd "$work"

# scan STATUS FILE: its sites, a line each: INSTRUCTION OWNER SYMBOL+OFFSET
scan() {
    ended=0
    "$pkeyguard" scan --json "$2" > scan.json || ended=$?
    if [ "$ended" != "$1" ]; then
        echo "scan $2: status $ended, not $1" >&2
        exit 1
    fi
    jq -r '.[].sites[] | "\(.instruction) \(.owner) \(.symbol)+\(.offset)"' scan.json
}

gcc -nostdlib -static -o sites "$source/tests/tool/sites.S"
cat > expected <<'END'
WRPKRU unknown _start+1
WRPKRU unknown _start+5
WRPKRU unknown _start+9
XRSTOR unknown restores+0
XRSTOR unknown restores+3
XRSTOR unknown restores+9
XRSTORS unknown restores+17
WRPKRU libpkeyguard guard+9
WRPKRU libpkeyguard guard+23
WRPKRU libpkeyguard guard+31
WRPKRU libpkeyguard guard+40
WRPKRU libpkeyguard guard+60
WRPKRU libpkeyguard guard+75
WRPKRU libpkeyguard guard+85
WRPKRU unknown nearly+5
WRPKRU unknown nearly+13
WRPKRU unknown nearly+18
WRPKRU glibc pkey_set+0
WRPKRU libpkeyguard pkeyguard_pkru_write+0
XRSTOR unknown pkeyguard_pkru_write+3
END
scan 1 sites > found
diff expected found

# Addresses are the linker's, with and without position independence.
gcc -nostdlib -shared -o sites.so "$source/tests/tool/sites.S"
for file in sites sites.so; do
    scan 1 $file > found
    diff expected found
    address=$(nm $file | sed -n 's/^0*\([0-9a-f]*\) t plain_wrpkru$/0x\1/p')
    test "$(jq -r '.[].sites[0].address' scan.json)" = "$address"
done

# The libraries: all that a disassembler finds, and whose they are. Stripped, too.
scan 0 "$library" > found
test "$(wc -l < found)" = "$(objdump -d "$library" | grep -cw wrpkru)"
test "$(cut -d ' ' -f 1,2 found | sort -u)" = 'WRPKRU libpkeyguard'
strip -o stripped.so "$library"
scan 0 stripped.so | cut -d ' ' -f 1,2 > found
test "$(sort -u found)" = 'WRPKRU libpkeyguard'
libc=$(ldd "$pkeyguard" | sed -n 's/.*libc\.so\.6 => \(.*\) (.*/\1/p')
scan 0 "$libc" > found
grep -q '^WRPKRU glibc pkey_set+' found
loader=$(ldd "$pkeyguard" | sed -n 's/^[[:space:]]*\(\/.*ld-linux.*\) (.*/\1/p')
scan 0 "$loader" > found
grep -q '^XRSTOR glibc ' found

# A user's guards, whatever the compiler made of them, are known without a symbol.
for compiler in "$@"; do
    for option in -O1 -O2 -Os -masm=intel; do
        $compiler -O2 $option -I"$source/include" -o user "$source/tests/consumers/consumer.c" "$library"
        strip user
        scan 0 user > found
        test "$(sort -u found)" = 'WRPKRU libpkeyguard null+0'
    done
done
# What else the headers leave in a program that is not optimised is known by name.
gcc -O0 -I"$source/include" -o user "$source/tests/consumers/consumer.c" "$library"
scan 0 user > found
grep -q '^WRPKRU libpkeyguard pkeyguard_pkru_' found

# For people: plain in a pipe; on a terminal what is unknown is red.
"$pkeyguard" scan sites > text || test $? = 1
head -n 1 text | grep -qx 'sites: 20 found, 11 unknown'
if grep -q "$(printf '\033')" text; then
    echo "colour in a pipe" >&2
    exit 1
fi
TERM=xterm script -qec "'$pkeyguard' scan sites" /dev/null > text || test $? = 1
test "$(grep -c "$(printf '\033')\[31m.*unknown" text)" = 11
TERM=xterm NO_COLOR=1 script -qec "'$pkeyguard' scan sites" /dev/null > text || test $? = 1
test "$(grep -c "$(printf '\033')" text)" = 0

# refuses PATTERN FILE: with that on stderr, and status 2; nothing on stdout.
refuses() {
    ended=0
    said=$("$pkeyguard" scan "$2" 2>&1 > out) || ended=$?
    if [ "$ended" != 2 ] || [ -s out ] || ! echo "$said" | grep -qE "$1"; then
        echo "scan $2: status $ended, not 2 with '$1': $said" >&2
        exit 1
    fi
}
: > empty
gcc -c -o object.o "$source/tests/tool/sites.S"
rm -f archive.a
ar rc archive.a object.o
refuses 'not an ELF file' empty
refuses 'not an ELF file' "$source/LICENSE"
refuses 'archive' archive.a
refuses 'no segments' object.o
refuses 'not a regular file' /dev/null
refuses 'not a regular file' /
refuses 'No such file' nowhere
# One bad file does not hide what the others hold.
"$pkeyguard" scan empty sites > text 2> /dev/null || test $? = 2
grep -q '^sites: 20 found' text

# Cut off, at many lengths up to the program headers' end and at some beyond.
size=$(wc -c < sites)
for length in $(seq 0 7 300) $(seq 301 401 "$size"); do
    head -c "$length" sites > piece
    ended=0
    said=$("$pkeyguard" scan piece 2>&1) || ended=$?
    if [ "$ended" -gt 2 ] || { [ "$ended" = 2 ] && [ -z "$said" ]; }; then
        echo "cut to $length bytes: status $ended: $said" >&2
        exit 1
    fi
done
head -c 4100 sites > piece # some of its code
refuses 'a segment lies outside the file' piece
