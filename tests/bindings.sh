#!/bin/sh
# SPDX-License-Identifier: MIT
# The programs of examples/bindings work, here and in a guest with protection keys, and --crash kills
# each. The compiler refuses the mistake that vault.rs tells of.
#
# usage: bindings.sh SOURCE PREFIX WORK PKEYGUARD KERNEL    PREFIX: where the library is installed
set -eu
export LC_ALL=C

source=$1/examples/bindings
library=$(find "$2" -name 'libpkeyguard.so.0.2')
libdir=$(dirname "$library")
work=$3
pkeyguard=$4
kernel=$5
rm -rf "$work"
mkdir -p "$work"
cd "$work"
export LD_LIBRARY_PATH="$libdir" PKG_CONFIG_PATH="$libdir/pkgconfig"

# Prints the files of the modules that Python loads for vault.py.
cat > modules.py << 'END'
import runpy, sys
program, sys.argv[1:] = sys.argv[1], []
runpy.run_path(program, run_name="__main__")
for module in list(sys.modules.values()):
    print(getattr(module, "__file__", None))
END
python="/usr/bin/python3 -B -I -S"

rustc -O -L "$libdir" -l pkeyguard -o vault_rs "$source/vault.rs"
if rustc --cfg send_guard -L "$libdir" -l pkeyguard -o mistake "$source/vault.rs" 2> refusal; then
    echo "bindings.sh: a guard can be sent to another thread" >&2
    exit 1
fi
grep -q 'cannot be sent between threads safely' refusal
HOME=$work go build -o vault_go "$source/vault.go"
cat > programs << END
Python $python $source/vault.py
Rust $work/vault_rs
Go $work/vault_go
END

# Runs on this machine and in the guest.
cat > all.sh << 'END'
while read -r language command; do
    ended=0
    $command || ended=$?
    echo "$language ended with $ended"
    ended=0
    $command --crash || ended=$?
    echo "$language --crash ended with $ended"
done < programs
END
sh all.sh > native 2> native.err
files=$($python modules.py "$source/vault.py" | grep '^/'; cut -d ' ' -f 2 programs)
# shellcheck disable=SC2046,SC2086 # a list of options
"$pkeyguard" guest --kernel "$kernel" --timeout 120 --file all.sh --file programs --file "$library" \
    --file "$source/vault.py" $(printf -- '--file %s ' $files) sh all.sh > guest 2> guest.err

for place in native guest; do
    cat $place $place.err
    case $place in
    native) enforcement=mprotect ;;
    *) enforcement="protection keys" ;;
    esac
    if grep 'not stopped' $place; then
        exit 1
    fi
    while read -r language _; do
        test "$(grep -c "^$language, enforced by $enforcement\$" $place)" = 2
        grep -q "^$language ended with 0\$" $place
        # Go's runtime handles the signal and exits.
        grep -qE "^$language --crash ended with (139|2)\$" $place
    done < programs
done
