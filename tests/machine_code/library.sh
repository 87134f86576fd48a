#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks that the library has WRPKRU only in the functions listed here, and no other instruction
# that can load PKRU; and that it is linked as it must be.
#
# usage: library.sh LIBRARY OBJECT...
#   OBJECT  each object file that LIBRARY was linked from
set -eu

# A source file, and the functions of it that may have WRPKRU.
allowed='
inline pkeyguard_acquire pkeyguard_key_acquire pkeyguard_pkru_write pkeyguard_release
own_pkru change_bits own_pkru_change own_pkru_give_back
record_memory open_pkey record_memory_open_protected record_memory_close_protected record_memory_protect
record_memory record_memory_after_fork_in_child
enforcement_virtual virtual_bind_and_open
virtual_guard virtual_guard_open
pkey_allocator alloc_foreign take_from_kernel take_new take_spare pkey_take pkey_take_for_pool
kept_calls pkeyguard_kept_close pkeyguard_kept_open_to_read pkeyguard_kept_open_to_write
copies pkeyguard_region_read pkeyguard_region_write
waiting acquire_all_until acquire_group pkeyguard_acquire_all pkeyguard_acquire_all_timed pkeyguard_acquire_timed pkeyguard_key_acquire_timed
heap open_heap open_and_alloc alloc_closed alloc_opened alloc_dedicated pkeyguard_heap_aligned_alloc pkeyguard_heap_alloc pkeyguard_heap_calloc
heap open_and_free free_closed free_opened free_dedicated free_into_full_ring pkeyguard_heap_free pkeyguard_heap_realloc pkeyguard_heap_usable_size
inspect inspect_memory query_each_mapping shows_pkey_0
platform pkeyguard_platform_self_test self_test access_faults survives_signal accesses_succeed
'

library=$1
shift

disassemble() {
    objdump -d --no-show-raw-insn "$1"
}

fail() {
    echo "library.sh: $*" >&2
    exit 1
}

stand=$(for object in "$@"; do
    file=${object##*/}
    disassemble "$object" | awk -v file="${file%.c.o}" '
        /^[0-9a-f]+ <.*>:$/ { name = $2; gsub(/[<>:]|\..*/, "", name) }
        /\twrpkru/ { print file, name }'
done)
[ -n "$stand" ] || fail "there is no WRPKRU in $*"
wrong=$(echo "$stand" | ALLOWED=$allowed awk '
    BEGIN {
        lines = split(ENVIRON["ALLOWED"], line, "\n")
        for (i = 1; i <= lines; i++) {
            words = split(line[i], word, " ")
            for (j = 2; j <= words; j++)
                may[word[1], word[j]] = 1
        }
    }
    !(($1, $2) in may)')
[ -z "$wrong" ] || fail "WRPKRU in functions that are not listed: $wrong"

# dlclose(3) does not unmap it. The pointers to functions that the loader writes are read-only once it
# is loaded: all are written at once, into .got, which is in the part that becomes read-only.
flags=$(readelf -dW "$library" | sed -n 's/.*(FLAGS_1) *Flags: //p')
case " $flags " in
*' NODELETE '*) ;;
*) fail "not linked with -z nodelete: flags $flags" ;;
esac
case " $flags " in
*' NOW '*) ;;
*) fail "not linked with -z now: flags $flags" ;;
esac
relro=$(readelf -lW "$library" | awk '
    BEGIN { relro = -1 }
    $1 ~ /^(LOAD|DYNAMIC|NOTE|TLS|GNU_.*)$/ { if ($1 == "GNU_RELRO") relro = segments; segments++ }
    /Section to Segment mapping/ { mapping = 1 }
    mapping && $1 ~ /^[0-9]+$/ && $1 + 0 == relro')
case " $relro " in
*' .got '*) ;;
*) fail "the global offset table stays writable: read-only after relocation are $relro" ;;
esac

# Linking adds no WRPKRU, and no other instruction has its bytes inside, where a jump could run
# them.
expected=$(echo "$stand" | wc -l)
linked=$(disassemble "$library" | grep -c 'wrpkru')
hidden=$(objdump -s -j .plt -j .text -j .init -j .fini "$library" |
    sed -n 's/^ [0-9a-f]* \(.\{35\}\).*/\1/p' | tr -d ' \n' | sed 's/../& /g' |
    grep -o '0f 01 ef' | wc -l)
[ "$linked" = "$expected" ] || fail "$linked WRPKRU in the library, $expected in its objects"
[ "$hidden" = "$expected" ] || fail "$hidden byte sequences of WRPKRU, $expected instructions"
if disassemble "$library" | grep xrstor; then
    fail "XRSTOR can load PKRU"
fi

# Code that reads PKRU and writes a changed value back has RDPKRU and WRPKRU in a straight line, near
# enough for pkru_write_pending() to find both. The functions in `elsewhere` need not, because no
# pkey is revoked in between: the function counts its change (own_pkru.h), holds the library's lock,
# or runs alone in a child process. pkeyguard_pkru_write() writes a value that its caller made.
elsewhere='own_pkru_change alloc_foreign take_from_kernel take_new take_spare pkey_take pkey_take_for_pool'
elsewhere="$elsewhere pkeyguard_pkru_write inspect_memory query_each_mapping shows_pkey_0"
elsewhere="$elsewhere pkeyguard_platform_self_test self_test access_faults survives_signal"
elsewhere="$elsewhere accesses_succeed"
bent=$(disassemble "$library" | awk -v elsewhere=" $elsewhere " '
    function number(hex,    i, value) {
        for (i = 1; i <= length(hex); i++)
            value = 16 * value + index("0123456789abcdef", substr(hex, i, 1)) - 1
        return value
    }
    /^[0-9a-f]+ <.*>:$/ { name = $2; gsub(/[<>:]|\..*/, "", name); straight = 0 }
    /^ *[0-9a-f]+:\t/ { address = $1; sub(/:/, "", address) }
    /\trdpkru/ { straight = 1; read_at = number(address) }
    /\t(call|jmp|ret|notrack|syscall)/ { straight = 0 }
    /\twrpkru/ {
        if ((!straight || number(address) - read_at > 64) && !index(elsewhere, " " name " "))
            print name, address
        straight = 0
    }')
[ -z "$bent" ] || fail "WRPKRU too far from RDPKRU, or not in a straight line: $bent"
