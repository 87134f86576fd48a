# SPDX-License-Identifier: MIT
# paths.awk - checks in machine code that guarded data is accessed only while a guard has it open
#
# usage: awk -v prefix=PREFIX -f paths.awk guarded.c DISASSEMBLY
#
# DISASSEMBLY is the output of objdump -d --no-show-raw-insn for a program. The script finds each
# function that guarded.c describes, with PREFIX before its name, and follows all of its paths. It
# writes what happens on a path as a word of these letters:
#
#   R  RDPKRU                       E  a call of the library opens (in one call or two)
#   W  WRPKRU                       L  a call of the library closes
#   A  access to guarded data       X  the scope aborts, or waits and tries again: end of path
#
# A guard reads PKRU, and writes it if the value changes. The code keeps in variables whether a
# guard changed PKRU and whether a scope has run. So it has paths that no execution takes, such as
# one that opens and does not close. The script checks:
#
#  - On every path each access comes after the opening that it needs and before any closing.
#  - There is a path on which all guards open, the data is accessed, and all guards close.

function fail(message)
{
    print "paths.awk: " message > "/dev/stderr"
    failed = 1
}

# A pattern of the words that a function's paths may make: complete paths, and paths on which a
# guard fails.
function allowed(description,    tokens, count, i, whole, alternatives)
{
    count = split(description, tokens, " ")
    for (i = 1; i <= count; i++) {
        if (tokens[i] == "open")
            alternatives = alternatives whole "((RW?)?EE?)?(X|RW|L)?|"
        whole = whole (tokens[i] in letters ? letters[tokens[i]] : tokens[i])
    }
    return "^(" alternatives whole ")$"
}

# The word of the path on which every guard takes its fast path.
function hot(description)
{
    gsub(/open|close|widen/, "RW", description)
    gsub(/access/, "A", description)
    gsub(/[ ?]/, "", description)
    return description
}

# An instruction's letter, or an empty string.
function event(text)
{
    if (text ~ /^rdpkru/)
        return "R"
    if (text ~ /^wrpkru/)
        return "W"
    if (text ~ /^(call|jmp).*<pkeyguard_(kept_open|acquire|key_acquire)/)
        return "E"
    if (text ~ /^(call|jmp).*<pkeyguard_(kept_close|guard_release|release)/)
        return "L"
    if (text ~ /^(call|jmp).*<pkeyguard_scope_(abort|wait)/)
        return "X"
    if (text ~ /0x5ec0[0-9a-f][0-9a-f]\(/ && text !~ /^lea/)
        return "A"
    return ""
}

function visit(address, word)
{
    if ((address, word) in visited)
        return
    visited[address, word] = 1
    work[++pending] = address " " word
}

# Collects in words[] the word of each path that begins at an address. Returns 0 if a path cannot be
# followed.
function follow(start,    item, address, word, text)
{
    split("", words)
    split("", visited)
    pending = 0
    visit(start, "")
    while (pending > 0) {
        split(work[pending--], item, " ")
        address = item[1]
        text = instruction[address]
        word = item[2] event(text)
        sub(/AAAA$/, "AAA", word)
        split(text, operand, " ")

        if (text == "" || length(word) > 40)
            return 0
        if (text ~ /^ret/ || word ~ /X$/ || (text ~ /^jmp/ && event(text) != ""))
            words[word] = 1
        else if (text ~ /^jmp +\*/ || text ~ /^notrack/)
            return 0
        else if (text ~ /^jmp/)
            visit(operand[2], word)
        else {
            if (text ~ /^j/)
                visit(operand[2], word)
            visit(following[address], word)
        }
    }
    return 1
}

BEGIN {
    letters["open"] = "(RW?|(RW?)?EE?)"
    letters["access"] = "A*"
    letters["close"] = "(RW|L)?"
    letters["widen"] = "(RW?|L)?"
}

FNR == NR && /^\/\* paths: / {
    sub(/^\/\* paths: /, "")
    sub(/ \*\/$/, "")
    paths = $0
}

FNR == NR && /^int .*\(/ {
    sub(/^int /, "")
    sub(/\(.*/, "")
    described[$0] = paths
}

FNR != NR && /^[0-9a-f]+ <.*>:$/ {
    address = $1
    sub(/^0+/, "", address)
    name = $2
    gsub(/[<>:]/, "", name)
    entry[name] = address
}

FNR != NR && /^ *[0-9a-f]+:\t/ {
    address = $1
    sub(/:/, "", address)
    sub(/^ *[0-9a-f]+:\t/, "")
    instruction[address] = $0
    following[previous] = address
    previous = address
}

END {
    for (name in described) {
        checked++
        if (!(prefix name in entry)) {
            fail(prefix name " is not in the program")
            continue
        }
        if (!follow(entry[prefix name])) {
            fail(prefix name ": its paths cannot be followed")
            continue
        }
        for (word in words) {
            if (word !~ allowed(described[name]))
                fail(prefix name ": a path does " word ", not " allowed(described[name]))
        }
        if (!(hot(described[name]) in words))
            fail(prefix name ": no path does " hot(described[name]))
    }
    if (checked == 0)
        fail("no function is described")
    exit failed
}
