# SPDX-License-Identifier: MIT
# Doxygen's input filter: converts the comments of one of our headers to Doxygen's syntax.
#
# usage: awk -f comments.awk -f filter.awk HEADER

BEGIN { read_header(ARGV[1]) }

# Escapes Doxygen's special characters, except in examples. Example lines are indented.
function escape(line) {
    if (line !~ /^    /)
        gsub(/[\\@<>#`%&]/, "\\\\&", line)
    return line
}

# Returns the comment that was read, in Doxygen's syntax.
function doxygen_text(    i, line, what, text) {
    for (i = 1; i <= comment_size; i++) {
        line = comment[i]
        what = ""
        if (line ~ /^@[a-z_, @]+: /) {
            what = line
            sub(/: .*/, "", what)
            gsub(/, @/, ",", what)
            what = "\\param " substr(what, 2) " "
            sub(/^[^:]*: /, "", line)
        }
        line = what escape(line)
        sub(/^Returns /, "\\return ", line)
        sub(/^(Thread|Signal): /, "\n&", line)
        text = text line "\n"
    }
    return text
}

function general_comment() {
    printf "/** \\file\n%s%s*/\n",
        (brief_of_file == "" ? "" : "\\brief " escape(brief_of_file) "\n\n"), doxygen_text()
}

# Returns the name that the line defines or declares, or "".
function declared_name(line) {
    if (match(line, /^#define [A-Za-z_]+/))
        return substr(line, 9, RLENGTH - 8)
    if (match(line, /pkeyguard_[a-z_0-9]+\(/))
        return substr(line, RSTART, RLENGTH - 1)
    return ""
}

function declaration_comment(line,    name) {
    name = declared_name(line)
    # A long prototype has its name on the next line: take a name that the comment begins with.
    if (name == "" && !(name in brief))
        for (name in brief)
            break
    printf "/** %s%s*/\n",
        ((name in brief) ? "\\brief " escape(brief[name]) "\n\n" : ""), doxygen_text()
}

function hide() {
    print "/** \\cond */"
}

function show() {
    print "/** \\endcond */"
}

# The comment of a C++ class also describes its members that have no comment.
function code(line, begins, within) {
    if (!begins && ARGV[1] ~ /\.hpp$/ && line ~ /^    [A-Za-z~]/ &&
        previous ~ /^(public:|protected:|    .*[;}]|)$/)
        print "/** See the class. */"
    previous = line
    # A comment after code describes the member before it.
    if (line !~ /^#/)
        sub(/[;,0-9A-Z] *\/\*/, "&*<", line)
    if (line ~ /^ +[a-z0-9_]+ reserved/)
        line = "/** \\cond */" line "/** \\endcond */"
    print line
}
