# SPDX-License-Identifier: MIT
# Doxygen's input filter: writes a header of ours with its comments in Doxygen's form.
#
# In the headers a comment belongs to each declaration that follows up to a blank line; one that a
# blank line follows, to the file; and one behind code, to that member. A comment may begin with the
# names that it describes, "name, name - what they are"; "@name: " begins a parameter.

# Doxygen's special characters, outside of examples, which are indented.
function escape(line) {
    if (line !~ /^    /)
        gsub(/[\\@<>#`%&]/, "\\\\&", line)
    return line
}

# Reads the comment in these lines into text, and into brief what stands behind each name.
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

function declared_name(line) {
    if (match(line, /^#define [A-Za-z_]+/))
        return substr(line, 9, RLENGTH - 8)
    if (match(line, /pkeyguard_[a-z_0-9]+\(/))
        return substr(line, RSTART, RLENGTH - 1)
    return ""
}

function describe(line,    name) {
    name = declared_name(line)
    # A long prototype has its name in its second line.
    if (name == "" && !(name in brief))
        for (name in brief)
            break
    printf "/** %s%s*/\n", name in brief ? "\\brief " brief[name] "\n\n" : "", text
}

{ lines[++count_of_lines] = $0 }

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
            describe(line)
        macro = line ~ /^#/ || (macro && within)
        open = within ? open : 0
        open += gsub(/\(/, "(", line) - gsub(/\)/, ")", line)
        within = macro ? line ~ /\\$/ : open > 0 || line !~ /[;,]$/
        if (line ~ /{$/)
            belongs = 0
        if (hidden && line ~ /^#pragma GCC visibility pop/)
            print "/** \\endcond */"
        # Behind code: of the member in front of it.
        if (line !~ /^#/)
            sub(/[;,0-9A-Z] *\/\*/, "&*<", line)
        if (line ~ /^ +[a-z0-9_]+ reserved/)
            line = "/** \\cond */" line "/** \\endcond */"
        print line
    }
}
