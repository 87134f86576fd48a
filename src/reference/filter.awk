# SPDX-License-Identifier: MIT
# Doxygen's input filter: converts the comments of one of our headers to Doxygen's syntax.
#
# How comments are read: a comment above declarations describes all of them up to the next blank
# line. A comment with a blank line after it describes the file. A comment after code on the same
# line describes that member. A comment may begin with the names that it describes, as in "name, name
# - what they are". "@name: " begins the description of a parameter.

# Escapes Doxygen's special characters, except in examples. Example lines are indented.
function escape(line) {
    if (line !~ /^    /)
        gsub(/[\\@<>#`%&]/, "\\\\&", line)
    return line
}

# Reads the comment in lines first to last. Sets text, brief[name] for each name that the comment
# begins with, and file if one of the names is a header's.
function read_comment(first, last,    i, line, what, names, count) {
    split("", brief)
    text = file = ""
    for (i = first; i <= last; i++) {
        line = lines[i]
        sub(/^[ \t]*(\/\*|\*\/|\*) ?/, "", line)
        sub(/[ \t]*\*\/$/, "", line)
        if (text == "" && line == "")
            continue
        if (text == "" && line ~ /^[a-z_.]+(, [a-z_]+)* - /) {
            what = escape(line)
            sub(/^[^-]* - /, "", what)
            sub(/ - .*/, "", line)
            if (line ~ /\.h$/)
                file = "\\file\n\\brief " what "\n"
            for (count = split(line, names, ", "); count > 0; count--)
                brief[names[count]] = what
            continue
        }
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
}

# Returns the name that the line defines or declares, or "".
function declared_name(line) {
    if (match(line, /^#define [A-Za-z_]+/))
        return substr(line, 9, RLENGTH - 8)
    if (match(line, /pkeyguard_[a-z_0-9]+\(/))
        return substr(line, RSTART, RLENGTH - 1)
    return ""
}

# Prints the comment for the declaration that begins in this line.
function print_comment(line,    name) {
    name = declared_name(line)
    # A long prototype has its name on the next line: take a name that the comment begins with.
    if (name == "" && !(name in brief))
        for (name in brief)
            break
    printf "/** %s%s*/\n", name in brief ? "\\brief " brief[name] "\n\n" : "", text
}

{ lines[++count_of_lines] = $0 }

# belongs: the last comment describes the declarations that follow it
# within: this line continues the declaration or macro of the line before it
# open: how many parentheses that declaration has open
# hidden: this is code that users must not call, after a comment that begins with "----"
END {
    for (i = 1; i <= count_of_lines; i++) {
        line = lines[i]
        if (line ~ /^[ \t]*\/\*/) {
            for (last = i; lines[last] !~ /\*\//; last++)
                ;
            read_comment(i, last)
            i = last
            belongs = text !~ /SPDX/
            within = 0
            if (text ~ /^---- /) {
                print "/** \\cond */"
                hidden = 1
                belongs = 0
            } else if (belongs && (file != "" || lines[i + 1] == "")) {
                printf "/** %s\n%s*/\n", file == "" ? "\\file" : file, text
                belongs = 0
            }
            continue
        }
        if (line == "")
            belongs = 0
        if (belongs && !within && line !~ /^(#if|#else|#endif|[ \t]*})/)
            print_comment(line)
        macro = line ~ /^#/ || (macro && within)
        open = within ? open : 0
        open += gsub(/\(/, "(", line) - gsub(/\)/, ")", line)
        within = macro ? line ~ /\\$/ : open > 0 || line !~ /[;,]$/
        if (line ~ /{$/)
            belongs = 0
        if (hidden && line ~ /^#include <pkeyguard\/end.h>/)
            print "/** \\endcond */"
        # A comment after code describes the member before it.
        if (line !~ /^#/)
            sub(/[;,0-9A-Z] *\/\*/, "&*<", line)
        if (line ~ /^ +[a-z0-9_]+ reserved/)
            line = "/** \\cond */" line "/** \\endcond */"
        print line
    }
}
