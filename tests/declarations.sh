#!/bin/sh
# SPDX-License-Identifier: MIT
# With PKEYGUARD_DECLARATIONS_ONLY the preprocessed headers are plain C99 declarations, of exactly
# the functions that the library exports. A strict C compiler reads them, and Python's pycparser,
# which cffi uses, if it is installed.
#
# usage: declarations.sh SOURCE WORK
set -eu
export LC_ALL=C

source=$1
work=$2
mkdir -p "$work"

# preprocess HEADER OUTPUT [OPTION...]
preprocess() {
    header=$1
    output=$2
    shift 2
    echo "#include <$header>" | gcc -E -P -DPKEYGUARD_DECLARATIONS_ONLY "-I$source/include" "$@" - \
        > "$output"
}

for file in "$source"/include/pkeyguard.h "$source"/include/pkeyguard/*.h; do
    name=$(basename "$file" .h)
    case $name in begin | end) continue ;; esac
    preprocess "${file#"$source"/include/}" "$work/$name.c"
    gcc -std=c99 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only "$work/$name.c"
done

declarations=$work/pkeyguard.c
if grep -nE '__|#|\b(asm|inline|static)\b' "$declarations"; then
    echo 'these lines have more than declarations'
    exit 1
fi
if python3 -c 'import pycparser' 2> "$work/no-pycparser"; then
    python3 -c 'import pycparser, sys; pycparser.CParser().parse(open(sys.argv[1]).read())' \
        "$declarations"
fi

# In a program that has included the standard headers nothing is declared twice.
preprocess pkeyguard.h "$work/after.c" -std=c99 -D_GNU_SOURCE \
    -include signal.h -include stdbool.h -include stddef.h -include stdint.h
gcc -std=c99 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only "$work/after.c"
printf '#include <sys/epoll.h>\nchar packed[sizeof(struct epoll_event) == 12 ? 1 : -1];\n' |
    gcc -std=c99 -x c -DPKEYGUARD_DECLARATIONS_ONLY "-I$source/include" -include pkeyguard.h \
        -fsyntax-only -

# The functions behind the inline code, and the one that needs <signal.h>.
sed -nE 's/^    (pkeyguard_[a-z_]+);/\1/p' "$source/src/pkeyguard.map" |
    grep -vE '^pkeyguard_((checked|kept)_.*|fault_decode)$' | sort > "$work/exported"
grep -oE '\bpkeyguard_[a-z_]+\(' "$declarations" | tr -d '(' | sort > "$work/declared"
diff "$work/exported" "$work/declared"
