# SPDX-License-Identifier: MIT
# For man.awk: collects the declarations of the headers, and their comments.

function complain(text) {
    print header ": " text > "/dev/stderr"
    failed = 1
}

# header: the header that is being read
# general: the last general comment of the header but its first, saved
function read_headers(    i) {
    for (i = 1; i < ARGC; i++) {
        header = ARGV[i]
        sub(/.*\/include\//, "", header)
        general = hidden = 0
        read_header(ARGV[i])
    }
    assign_types()
}

function general_comment() {
    if (hidden)
        return
    if (brief_of_file == "")
        general = save_comment()
    else {
        brief_of_header[header] = brief_of_file
        text_of_header[header] = save_comment()
    }
}

function declaration_comment(line) {
}

function hide() {
    hidden = 1
}

function show() {
    hidden = 0
}

function code(line, begins, within) {
    if (hidden)
        return
    if (in_type)
        read_member(line, begins)
    else if (line ~ /^(enum|struct)( [a-z_]+)? [{]/)
        begin_type(line, begins)
    else if (begins || declaration != "") {
        declaration = declaration line " "
        if (!within) {
            declare(declaration)
            declaration = ""
        }
    }
}

# A function's prototype, or a macro's definition.
function declare(text,    name) {
    gsub(/[ \t\\]+/, " ", text)
    sub(/ $/, "", text)
    if (text ~ /^#/) {
        # Of a macro with parameters only the head.
        if (match(text, /^#define [A-Za-z_]+\([^)]*\)/))
            text = substr(text, 1, RLENGTH)
        match(text, /^#define [A-Za-z_]+/)
        name = substr(text, 9, RLENGTH - 8)
        if (name !~ /_$/)
            add_declaration(name, text)
        return
    }
    gsub(/\* pkeyguard_/, "*pkeyguard_", text)
    gsub(/__attribute__\(\(([^()]|\([^()]*\))*\)\) |PKEYGUARD_INLINE /, "", text)
    if (match(text, /pkeyguard_[a-z_]+\(/))
        add_declaration(substr(text, RSTART, RLENGTH - 1), text)
}

# Puts a declaration on the page of its comment.
#
# Of each page p: title[p], header_of[p]; names_of[p]: the lines with names that the comment begins
# with; text_of[p], general_of[p]: saved comments; declarations_of[p]: a line for each
function add_declaration(name, text,    i) {
    if (name in page_of)
        return
    if (!(name in brief)) {
        complain("the comment of " name " does not begin with \"" name " - \" and what it is")
        return
    }
    if (comment_of_page != comments_read) {
        comment_of_page = comments_read
        title[++count_of_pages] = name
        header_of[count_of_pages] = header
        text_of[count_of_pages] = save_comment()
        general_of[count_of_pages] = general
        for (i = 1; i <= count_of_names; i++)
            names_of[count_of_pages] = names_of[count_of_pages] names[i] "\n"
        add_header()
    }
    page_of[name] = title[count_of_pages]
    declarations_of[count_of_pages] = declarations_of[count_of_pages] text "\n"
}

# A header has a page if it declares a function or a macro.
function add_header(    name) {
    if (headers[count_of_headers] == header)
        return
    headers[++count_of_headers] = header
    name = header
    sub(/.*\//, "", name)
    page_of[name] = name == "pkeyguard.h" ? "pkeyguard" : "pkeyguard_" name
    page_of_header[header] = page_of[name]
}

# ---- Structs and enumerations
#
# Of each type t: type[t], as "enum pkeyguard_rights", "enum", or "constant" for an enumeration in
# one line, as "enum { NAME = 1 };"; header_of_type[t]; text_of_type[t]: a saved
# comment; page_of_type[t]: the page that describes it, "none", or "" if its header's page does. Of
# each member k: member[t, k]; text_of_member[t, k]: its saved comment; lead[t, k]: a comment about
# it and the members after it.

function begin_type(line, begins,    t) {
    t = ++count_of_types
    type[t] = line
    sub(/ [{].*/, "", type[t])
    header_of_type[t] = header
    text_of_type[t] = begins ? save_comment() : 0
    in_type = 1
    if (line ~ /[}]/) {
        type[t] = "constant"
        sub(/.*[{] */, "", line)
        sub(/ *[}].*/, "", line)
        read_member(line, 1)
        in_type = text_of_type[t] = 0
    }
}

# above: the comment above the member, saved; trailing: the comment after its code
function read_member(line, begins,    at) {
    if (line ~ /^[}]/)
        in_type = 0
    if (line == "" || line ~ /^[}]|^ +[a-z0-9_]+ reserved/)
        return
    if (begins && member_code == "")
        above = save_comment()
    if (trailing == "") {
        at = index(line " /*", "/*")
        trailing = substr(line, at)
        line = substr(line, 1, at - 1)
        member_code = member_code " " line
    } else
        trailing = trailing " " line
    if (trailing != "" ? trailing ~ /\*\/$/ : line ~ /;$/ || type[count_of_types] !~ /^struct/)
        add_member(count_of_types)
}

function add_member(t,    k) {
    k = ++members[t]
    gsub(/[ \t]+/, " ", member_code)
    gsub(/^ | = [0-9]+|[,;]? ?$/, "", member_code)
    gsub(/^\/\* *| *\*\/$/, "", trailing)
    gsub(/[ \t]+/, " ", trailing)
    member[t, k] = member_code
    text_of_member[t, k] = trailing == "" ? above : save_line(trailing)
    if (trailing != "")
        lead[t, k] = above
    if (!text_of_member[t, k])
        complain(member_code " has no comment")
    member_code = trailing = ""
    above = 0
}

# Flags belong on the page of the first function with a parameter that takes them, a struct with
# members for users on that of the first function whose prototype names it.
function assign_types(    t, p, needle) {
    for (t = 1; t <= count_of_types; t++) {
        needle = has_no_name(t) ? prefix(t) : type[t] " "
        if (type[t] ~ /^struct/)
            page_of_type[t] = "none"
        for (p = count_of_pages; p > 0; p--)
            if (header_of[p] == header_of_type[t] &&
                index(has_no_name(t) ? parameters_text(text_of[p]) : declarations_of[p], needle))
                page_of_type[t] = title[p]
        if (type[t] ~ /^enum ./ || (page_of_type[t] != "none" && is_opaque(t)))
            page_of_type[t] = ""
    }
}

function has_no_name(t) {
    return type[t] !~ / /
}

# What the names of flags begin with; a constant's name.
function prefix(t) {
    if (type[t] == "constant")
        return member[t, 1]
    match(member[t, 1], /^PKEYGUARD_[A-Z]+_/)
    return substr(member[t, 1], 1, RLENGTH)
}

# Users do not touch the members of some structs that they allocate.
function is_opaque(t) {
    return type[t] ~ /^struct/ && saved_text(text_of_type[t]) ~ /does not touch its members/
}
