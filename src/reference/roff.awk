# SPDX-License-Identifier: MIT
# For man.awk: turns the text of comments into roff.
#
# page_of[name]: the manual page, of section 3, of a function, macro or header; "" or unset: none
# this_page: the page that is being made
# is_parameter[name]: of this page's functions
# refers_to["name (section)"]: pages that this page's text mentions

function bold(text) {
    return "\\fB" text "\\fP"
}

function italic(text) {
    return "\\fI" text "\\fP"
}

# Escapes what is special to roff anywhere in a line.
function escape(text) {
    gsub(/\\/, "\\e", text)
    gsub(/`/, "\\(ga", text)
    gsub(/\^/, "\\(ha", text)
    gsub(/~/, "\\(ti", text)
    return text
}

# Code is shown as it is: a minus sign is no hyphen, an apostrophe no quotation mark.
function escape_code(text) {
    text = escape(text)
    gsub(/-/, "\\-", text)
    gsub(/'/, "\\(aq", text)
    return text
}

# At the start of a line a dot and an apostrophe are special.
function protect(line) {
    return line ~ /^[.']/ ? "\\&" line : line
}

# Returns a name in code, which is not hyphenated.
function bold_name(name) {
    return "\\%" bold(escape_code(name))
}

# Returns a reference to a manual page, and notes it.
function reference(name, section) {
    refers_to[name " (" section ")"] = 1
    return bold_name(name) "(" section ")"
}

# Returns a word of the text in its font: the name of a function, header, constant, parameter or
# error. rest: the text after it.
function word(text, rest,    name) {
    name = text
    sub(/\([0-9]?\)$/, "", name)
    if (page_of[name] != "" && page_of[name] != this_page && (name != text || rest !~ /^\(/))
        return reference(name ~ /\.h$/ ? page_of[name] : name, 3)
    if (text ~ /\([0-9]\)$/)
        return reference(name, substr(text, length(text) - 1, 1))
    if (name ~ /^pkeyguard_/ && name != text && page_of[name] == "")
        complain("there is no " text)
    if (name != text)
        return bold_name(name) "()"
    if (text ~ /^ret_/ || (text ~ /_/ && is_parameter[text]))
        return "\\%" italic(text)
    if (text ~ /^(PKEYGUARD|pkeyguard|PROT)_/ || text ~ /^E[A-Z][A-Z][A-Z][A-Z]+$/)
        return bold_name(text)
    return text ~ /_|^[A-Z0-9]+$/ ? "\\%" text : text
}

# Returns the text between backquotes in its font.
function quoted(text) {
    return is_parameter[text] ? italic(text) : bold_name(text)
}

# Appends a word to a line. "\%" before a word, and a parenthesis that it begins with, keeps it from
# being hyphenated; inside a word it would do the opposite.
function append(line, text) {
    if (text !~ /^\\%/ || line ~ /(^| )$/)
        return line text
    if (line ~ /(^| )\($/)
        return substr(line, 1, length(line) - 1) "\\%(" substr(text, 3)
    return line substr(text, 3)
}

BEGIN {
    quotation = "`[^`]*`"
    option = "-[A-Za-z0-9][A-Za-z0-9=,_-]*"
    any_word = "[A-Za-z_][A-Za-z0-9_]*([.]h)?([(][0-9]?[)])?"
}

# Returns a sentence with fonts and escapes.
function inline(text,    token, out) {
    while (match(text, quotation "|" option "|" any_word)) {
        out = out escape(substr(text, 1, RSTART - 1))
        token = substr(text, RSTART, RLENGTH)
        text = substr(text, RSTART + RLENGTH)
        if (token ~ /^`/)
            out = append(out, quoted(substr(token, 2, length(token) - 2)))
        else if (token !~ /^-/)
            out = append(out, word(token, text))
        else if (out ~ /[A-Za-z0-9)]$/) {
            # A hyphen inside a word.
            out = out "-"
            text = substr(token, 2) text
        } else {
            # An option, a negative number, an error.
            match(token, /[,-]*$/)
            text = substr(token, RSTART) text
            out = append(out, bold_name(substr(token, 1, RSTART - 1)))
        }
    }
    return out escape(text)
}

# Prints text. Each sentence begins a line, as roff wants it.
function put_text(text,    sentence) {
    while (match(text, /[.] [-A-Z`_]/)) {
        sentence = substr(text, 1, RSTART)
        text = substr(text, RSTART + 2)
        put(protect(inline(sentence)))
    }
    put(protect(inline(text)))
}

# Prints an example. The page refers to the functions and macros in it.
function put_example(text,    i, count, line) {
    put(".in +4n\n.EX")
    count = split(text, line, "\n")
    for (i = 1; i <= count; i++) {
        if (length(line[i]) > 69)
            complain("this line of an example is too long for a manual page: " line[i])
        put(protect(escape_code(line[i])))
        if (match(line[i], /pkeyguard_[a-z_]+\(/))
            word(substr(line[i], RSTART, RLENGTH) ")", "")
    }
    put(".EE\n.in")
}

function put(text) {
    page = page text "\n"
}
