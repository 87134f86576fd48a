#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks what "pkeyguard scan" finds in sites.S, in libraries and in programs, and that it refuses
# files that are not programs.
#
# usage: scan.sh PKEYGUARD SOURCE LIBRARY ARCHIVE WORK COMPILER...
set -eu
export LC_ALL=C

pkeyguard=$1
source=$2
library=$3
archive=$4
work=$5
shift 5
mkdir -p "$work"
cd "$work"

# scan STATUS FILE: exits with this status; prints the sites, a line each: INSTRUCTION OWNER
# SYMBOL+OFFSET, and "inside" if it is inside another instruction
scan() {
    ended=0
    "$pkeyguard" scan --json "$2" > scan.json || ended=$?
    if [ "$ended" != "$1" ]; then
        echo "scan $2: status $ended, not $1" >&2
        exit 1
    fi
    jq -r '.[].sites[] | "\(.instruction) \(.owner) \(.symbol)+\(.offset)" +
        if .inside then " inside" else "" end' scan.json
}

gcc -nostdlib -static -o sites "$source/tests/tool/sites.S"
cat > expected <<'END'
WRPKRU unknown _start+1
WRPKRU unknown _start+5 inside
WRPKRU unknown _start+9
XRSTOR unknown restores+0
XRSTOR unknown restores+3
XRSTOR unknown restores+9
XRSTOR glibc restores+24
XRSTOR unknown restores+36
XRSTOR unknown restores+47 inside
XRSTOR unknown restores+52 inside
XRSTOR unknown restores+62 inside
WRPKRU libpkeyguard guard+9
WRPKRU libpkeyguard guard+23
WRPKRU libpkeyguard guard+31
WRPKRU libpkeyguard guard+40
WRPKRU libpkeyguard guard+60
WRPKRU libpkeyguard guard+75
WRPKRU libpkeyguard guard+85
WRPKRU libpkeyguard guard+106
WRPKRU libpkeyguard guard+123
WRPKRU unknown nearly+5
WRPKRU unknown nearly+13
WRPKRU unknown nearly+18
WRPKRU unknown nearly+26
WRPKRU libpkeyguard marked+0
WRPKRU unknown marked+10
WRPKRU glibc pkey_set+0
WRPKRU libpkeyguard pkeyguard_pkru_write+0
XRSTOR unknown pkeyguard_pkru_write+3
END
scan 1 sites > found
diff expected found
# Without symbols: names decide two, and code decides the rest.
strip -o nameless sites
scan 1 nameless | sed 's/ null+0//' > found
sed 's/ [^ ]*+[0-9]*//; 27s/glibc/unknown/; 28s/libpkeyguard/unknown/' expected | diff - found

# Addresses are those of the linker, in programs and in shared libraries.
gcc -nostdlib -shared -o sites.so "$source/tests/tool/sites.S"
for file in sites sites.so; do
    scan 1 $file > found
    diff expected found
    address=$(nm $file | sed -n 's/^0*\([0-9a-f]*\) t plain_wrpkru$/0x\1/p')
    test "$(jq -r '.[].sites[0].address' scan.json)" = "$address"
done

# In the library scan finds each WRPKRU that a disassembler finds, and its owner. The same when the
# library is stripped.
scan 0 "$library" > found
test "$(wc -l < found)" = "$(objdump -d "$library" | grep -cw wrpkru)"
test "$(cut -d ' ' -f 1,2 found | sort -u)" = 'WRPKRU libpkeyguard'
strip -o stripped.so "$library"
scan 0 stripped.so | cut -d ' ' -f 1,2 > found
test "$(sort -u found)" = 'WRPKRU libpkeyguard'

# Programs that have the library linked in, whole or as far as they use it: nothing is unknown,
# stripped or not.
for option in -O2 -static -static-pie '-Wl,--whole-archive' '-static -Wl,--whole-archive'; do
    # shellcheck disable=SC2086 # several options
    gcc -O2 -fexceptions $option -I"$source/include" -o user "$source/tests/consumers/consumer.c" \
        "$archive" -Wl,--no-whole-archive
    scan 0 user > found
    test "$(cut -d ' ' -f 1,2 found | grep -c '^WRPKRU libpkeyguard$')" -ge 4
    test "$(cut -d ' ' -f 1,2 found | sort -u | grep -vxc 'WRPKRU libpkeyguard\|XRSTOR glibc')" = 0
    strip -o stripped user
    scan 0 stripped | cut -d ' ' -f 1,2 > without_names
    cut -d ' ' -f 1,2 found | diff - without_names
done

libc=$(ldd "$pkeyguard" | sed -n 's/.*libc\.so\.6 => \(.*\) (.*/\1/p')
scan 0 "$libc" > found
grep -q '^WRPKRU glibc pkey_set+' found
loader=$(ldd "$pkeyguard" | sed -n 's/^[[:space:]]*\(\/.*ld-linux.*\) (.*/\1/p')
scan 0 "$loader" > found
grep -q '^XRSTOR glibc ' found

# An instruction that scan does not call "inside" is one that a disassembler finds, and no other is.
for file in "$library" "$libc" "$loader"; do
    "$pkeyguard" scan --json "$file" | jq -r '.[].sites[] | select(.inside | not) | .address' |
        sed 's/0x//' | sort > found
    objdump -d --no-show-raw-insn "$file" |
        sed -n 's/^ *\([0-9a-f]*\):\t\(wrpkru\|xrstor\).*/\1/p' | sort | diff - found
done

# Guards in a program are recognised without symbols, whatever the compiler made of them.
for compiler in "$@"; do
    for option in -O1 -O2 -Os -masm=intel; do
        $compiler -O2 $option -I"$source/include" -o user "$source/tests/consumers/consumer.c" "$library"
        strip user
        scan 0 user > found
        test "$(sort -u found)" = 'WRPKRU libpkeyguard null+0'
    done
done
# The other functions of the headers, which are not inlined without optimisation, are recognised by
# name.
gcc -O0 -I"$source/include" -o user "$source/tests/consumers/consumer.c" "$library"
scan 0 user > found
grep -q '^WRPKRU libpkeyguard pkeyguard_pkru_' found

# The text for people: without colour in a pipe; on a terminal unknown sites are red.
"$pkeyguard" scan sites > text || test $? = 1
grep -q '^  [0-9a-f]* WRPKRU unknown  *_start+0x5 (inside an instruction)$' text
head -n 1 text | grep -qx 'sites: 29 found, 16 unknown, 4 of them inside an instruction'
if grep -q "$(printf '\033')" text; then
    echo "colour in a pipe" >&2
    exit 1
fi
TERM=xterm script -qec "'$pkeyguard' scan sites" /dev/null > text || test $? = 1
test "$(grep -c "$(printf '\033')\[31m.*unknown" text)" = 16
TERM=xterm NO_COLOR=1 script -qec "'$pkeyguard' scan sites" /dev/null > text || test $? = 1
test "$(grep -c "$(printf '\033')" text)" = 0

# refuses PATTERN FILE: scan exits with status 2 and this message on stderr, and writes nothing to
# stdout.
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
# A bad file does not prevent the scan of the others.
"$pkeyguard" scan empty sites > text 2> /dev/null || test $? = 2
grep -q '^sites: 29 found' text

# Files that are cut off: at many lengths up to the end of the program headers, and at some beyond.
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
head -c 4100 sites > piece # with a part of the code
refuses 'a segment lies outside the file' piece
