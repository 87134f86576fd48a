# SPDX-License-Identifier: MIT
# Reads the comments of one of our headers: the half that filter.awk and man.awk share.
#
# How comments are read: a comment above declarations describes all of them up to the next blank
# line. A comment with a blank line after it is a general one: it describes the file, or what
# follows in it. A comment after code on the same line describes that member. A comment may begin with
# the names that it describes, as in "name, name - what they are". "@name: " begins the description
# of a parameter, " - " an item of a list, four spaces a line of an example. "Returns" begins the
# description of the result, "Thread: " that of what threads and signal handlers may do; these and
# "Since 0.1." come last. A paragraph of a general comment may begin with a title of up to five
# words, as in "Fork. A child has ...".
#
# The other half has these functions:
#   general_comment()           for a general comment
#   declaration_comment(line)   for each declaration that begins in this line, below its comment
#   code(line, begins, within)  for each line that is not part of such a comment; begins: a
#                               declaration with a comment begins in it; within: it goes on after it
#   hide(), show()              around code that users must not call, below a comment that begins
#                               with "----"

# Reads the comment in lines first to last. Sets names[1..count_of_names] to the lines with names
# that it begins with, brief[name] for each of them, brief_of_file if one is a header's, and
# comment[1..comment_size] to the text after them.
function read_comment(first, last,    i, line, what, found, count) {
    split("", brief)
    split("", comment)
    brief_of_file = ""
    count_of_names = comment_size = 0
    comments_read++
    for (i = first; i <= last; i++) {
        line = lines[i]
        sub(/^[ \t]*(\/\*|\*\/|\*) ?/, "", line)
        sub(/[ \t]*\*\/$/, "", line)
        if (comment_size == 0 && line == "")
            continue
        if (comment_size == 0 && line ~ /^[A-Za-z_.]+(, [A-Za-z_]+)* - /) {
            names[++count_of_names] = line
            what = line
            sub(/^[^-]* - /, "", what)
            sub(/ - .*/, "", line)
            if (line ~ /\.hp*$/)
                brief_of_file = what
            for (count = split(line, found, ", "); count > 0; count--)
                brief[found[count]] = what
            continue
        }
        comment[++comment_size] = line
    }
}

# Reads a header: calls the functions above for its comments and lines.
#
# belongs: the last comment describes the declarations that follow it
# within: this line continues the declaration or macro of the line before it
# open: how many parentheses that declaration has open
function read_header(file,    i, last, line, belongs, begins, within, macro, open, hidden) {
    for (count_of_lines = 0; (getline line < file) > 0; )
        lines[++count_of_lines] = line
    close(file)
    for (i = 1; i <= count_of_lines; i++) {
        line = lines[i]
        if (line ~ /^[ \t]*\/\*/) {
            for (last = i; lines[last] !~ /\*\//; last++)
                ;
            read_comment(i, last)
            i = last
            belongs = within = 0
            if (comment[1] ~ /^---- /) {
                hide()
                hidden = 1
            } else if (brief_of_file != "" || (comment[1] !~ /SPDX/ && lines[i + 1] == ""))
                general_comment()
            else
                belongs = comment[1] !~ /SPDX/
            continue
        }
        if (line == "")
            belongs = 0
        begins = belongs && !within && line !~ /^(#if|#el|#endif|[ \t]*[}])/
        if (begins)
            declaration_comment(line)
        macro = line ~ /^#/ || (macro && within)
        open = within ? open : 0
        open += gsub(/\(/, "(", line) - gsub(/\)/, ")", line)
        within = macro ? line ~ /\\$/ : open > 0 || line !~ /[;,]$/
        if (line ~ /[{]$/)
            belongs = 0
        if (hidden && line ~ /^#include <pkeyguard\/end.h>/)
            show()
        code(line, begins, within)
    }
}
