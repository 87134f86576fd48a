# SPDX-License-Identifier: MIT
# Makes manual pages of section 3 from the comments of our headers: one for each function and macro,
# or for several that share a comment, and one for each header.
#
# usage: awk -v directory=DIRECTORY -v date=DATE -v version=VERSION -f comments.awk -f blocks.awk
#            -f declarations.awk -f roff.awk -f man.awk HEADER...
#
# It prints an error and fails if a comment is not as comments.awk says.

BEGIN {
    attribute_name["Thread"] = "Calling thread"
    attribute_name["Signal"] = "Signal handlers"
    attribute_name["Fork"] = "Fork children"
    read_headers()
    for (i = 1; i <= count_of_headers; i++)
        write_header(headers[i])
    for (i = 1; i <= count_of_pages; i++)
        write_page(i)
    exit failed
}

# ---- Pages

function begin_page(name) {
    this_page = name
    page = ""
    split("", refers_to)
    split("", is_parameter)
    put(".\\\" Made from the comments in the headers.")
    put(".TH " name " 3 " date " \"libpkeyguard " version "\" libpkeyguard")
    # Long names leave gaps in lines that are filled to the right margin.
    put(".ad l")
    section("NAME")
}

function write(name,    file) {
    file = directory "/" name ".3"
    printf "%s", page > file
    close(file)
}

function write_page(p,    i, count, name, line) {
    header = header_of[p]
    begin_page(title[p])
    put_names(names_of[p])
    section("LIBRARY")
    put("libpkeyguard (" italic("\\-lpkeyguard") ")")
    section("SYNOPSIS")
    put(".nf\n" bold("#include <pkeyguard.h>") "\n.PP")
    put_enumerations(declarations_of[p])
    count = split(declarations_of[p], line, "\n") - 1
    for (i = 1; i <= count; i++)
        put_declaration(line[i])
    put(".fi")
    put_sections(p)
    put_see_also()
    write(title[p])
    page = ".so man3/" title[p] ".3\n"
    for (name in page_of)
        if (page_of[name] == title[p] && name != title[p])
            write(name)
}

function write_header(name,    p) {
    header = name
    begin_page(page_of_header[header])
    put(page_of_header[header] " \\- " brief_of_header[header])
    section("LIBRARY")
    put("libpkeyguard (" italic("\\-lpkeyguard") ")")
    section("SYNOPSIS")
    put(bold("#include <" header ">"))
    section("DESCRIPTION")
    split_sections(text_of_header[header])
    put_blocks(1)
    put_types_of_header()
    section("FUNCTIONS AND MACROS")
    for (p = 1; p <= count_of_pages; p++)
        if (header_of[p] == header)
            put_contents(names_of[p])
    if (this_page == "pkeyguard")
        put_headers()
    put_see_also()
    write(page_of_header[header])
}

# The names on a page, as a header's page lists them.
function put_contents(names,    i, k, count, line, name, tag) {
    count = split(names, line, "\n") - 1
    for (i = 1; i <= count; i++) {
        split(name_part(line[i]), name, ", ")
        tag = ""
        for (k = 1; k in name; k++)
            tag = tag (k > 1 ? ",\n.TQ\n" : "") bold_name(name[k]) "(3)"
        tagged(tag)
        put_text(what_part(line[i]))
    }
}

# The pages of the other headers.
function put_headers(    i) {
    section("HEADERS")
    for (i = 1; i <= count_of_headers; i++)
        if (headers[i] != header) {
            tagged(reference(page_of_header[headers[i]], 3))
            put_text(brief_of_header[headers[i]])
        }
}

# Of "name, name - what they are".
function name_part(line) {
    sub(/ - .*/, "", line)
    return line
}

function what_part(line) {
    sub(/^[^-]* - /, "", line)
    return line
}

function put_names(names,    i, count, line) {
    count = split(names, line, "\n") - 1
    # Names are not hyphenated.
    put(".nh")
    for (i = 1; i <= count; i++)
        put((i > 1 ? ".br\n" : "") name_part(line[i]) " \\- " escape(what_part(line[i])))
    put(".hy")
}

# The pages that this one mentions, its header's, the tour and the command.
function put_see_also(    name, list, count, i) {
    refers_to["pkeyguard (1)"] = refers_to["pkeyguard (3)"] = 1
    refers_to[page_of_header[header] " (3)"] = 1
    for (name in refers_to) {
        if (name == this_page " (3)")
            continue
        for (i = ++count; i > 1 && is_before(name, list[i - 1]); i--)
            list[i] = list[i - 1]
        list[i] = name
    }
    section("SEE ALSO")
    for (i = 1; i <= count; i++)
        put(".BR \\%" escape_code(list[i]) (i < count ? "," : ""))
}

# Orders "name (section)" by section, then by name.
function is_before(one, other,    section_of_one, section_of_other) {
    section_of_one = substr(one, length(one) - 1, 1)
    section_of_other = substr(other, length(other) - 1, 1)
    return section_of_one != section_of_other ? section_of_one < section_of_other : one < other
}

# ---- Declarations

# The values of the enumerations that the declarations name.
function put_enumerations(declarations,    t, k, line) {
    for (t = 1; t <= count_of_types; t++) {
        if (type[t] !~ /^enum ./ || !index(declarations, type[t] " "))
            continue
        put(bold(type[t] " {"))
        line = "    "
        for (k = 1; k <= members[t]; k++) {
            if (length(line member[t, k]) > 70) {
                put(bold(line))
                line = "    "
            }
            line = line member[t, k] (k < members[t] ? ", " : "")
        }
        put(bold(line) "\n" bold("};") "\n.PP")
    }
}

# A prototype, or a macro as it is used. Lines have up to 71 characters; man(1) indents them by 7.
function put_declaration(text,    at, indent, i, count, list, line, width) {
    if (text ~ /^#/ && text !~ /\(/) {
        put(bold(text))
        return
    }
    sub(/^#define /, "", text)
    match(text, /[A-Za-z_]+\(/)
    at = indent = RSTART + RLENGTH - 1
    count = split_list(substr(text, at + 1), list)
    for (i = 1; i <= count; i++)
        if (at + length(list[i]) > 71)
            indent = 8
    line = bold(substr(text, 1, at))
    width = at
    for (i = 1; i <= count; i++) {
        if (i == 1 ? indent < at : width + 1 + length(list[i]) > 71) {
            put(line)
            line = sprintf("%" indent "s", "")
            width = indent
        } else if (i > 1) {
            line = line " "
            width++
        }
        line = line parameter(list[i])
        width += length(list[i])
    }
    put(line use_of_macro(text))
}

# What follows a macro's parameters where it is used.
function use_of_macro(text) {
    if (text ~ /^pkeyguard_try_scoped_/)
        return " { ... }\n" bold("    else") " { ... }"
    if (text ~ /^pkeyguard_scoped_/)
        return " { ... }"
    return text ~ /^pkeyguard_auto_/ ? bold(";") : ""
}

# Splits "int a, char b);" after the commas that are outside parentheses.
function split_list(text, list,    i, character, open, count) {
    split("", list)
    count = 1
    for (i = 1; i <= length(text); i++) {
        character = substr(text, i, 1)
        open += (character == "(") - (character == ")")
        if (character == " " && list[count] ~ /,$/ && open == 0)
            count++
        else
            list[count] = list[count] character
    }
    return count
}

# Returns a parameter, as "char *name," or "int (*name)(int));", with its name in italics.
function parameter(text,    at, name, tail) {
    at = match(text, /\(\*[a-z_]+\)/) ? RSTART + 2 : match(text, /[A-Za-z_]+(\[\])?[,);]*$/)
    name = substr(text, at)
    match(name, /^[A-Za-z_]+/)
    if (name ~ /^void\)/)
        return bold(text)
    tail = substr(name, RLENGTH + 1)
    name = substr(name, 1, RLENGTH)
    is_parameter[name] = 1
    return bold(substr(text, 1, at - 1)) italic(name) bold(tail)
}

# ---- Sections

# A paragraph right after a section's title needs no macro. fresh: this is such a place.
function section(name) {
    put(".SH " name)
    fresh = 1
}

function subsection(name) {
    put(".SS " name)
    fresh = 1
}

function paragraph() {
    if (!fresh)
        put(".PP")
    fresh = 0
}

function tagged(tag) {
    put(".TP\n" tag)
    fresh = 0
}

# What the comments of a page say.
function put_sections(p,    general, before, empty) {
    general = general_of[p]
    before = page
    section("DESCRIPTION")
    empty = page
    split_sections(text_of[p])
    put_blocks(0)
    put_parameters()
    put_types(title[p])
    if (general) {
        split_sections(general)
        put_blocks(1)
    }
    if (page == empty)
        page = before
    split_sections(text_of[p])
    put_result()
    if (attributes == "" && general)
        split_sections(general)
    put_attributes()
    put_history(p)
}

# The blocks of the description. with_titles: a paragraph may begin with a title.
function put_blocks(with_titles,    i) {
    for (i = 1; i <= blocks; i++)
        if (section_of[i] == "description")
            put_block(kind[i], block[i], with_titles)
}

function put_block(what, text, with_titles,    name) {
    if (what == "item")
        put_item(text)
    else if (what == "example") {
        paragraph()
        put_example(text)
    } else {
        if (with_titles &&
            match(text, /^[A-Z][a-z-]+( [a-z]+)?( [a-z]+)?( [a-z]+)?( [a-z]+)?([.] |$)/)) {
            name = substr(text, 1, RLENGTH)
            text = substr(text, RLENGTH + 1)
            sub(/[.] $/, "", name)
            subsection(name)
        }
        if (text != "") {
            paragraph()
            put_text(text)
        }
    }
}

function put_item(text) {
    put(".IP \\(bu 2")
    fresh = 0
    put_text(text)
}

function put_parameters(    i, list, first) {
    for (i = 1; i <= blocks; i++) {
        if (section_of[i] != "parameters")
            continue
        if (!first++ && !fresh)
            subsection("Parameters")
        list = block[i]
        sub(/: .*/, "", list)
        gsub(/@/, "", list)
        gsub(/, /, "\\fP, \\fI", list)
        tagged(italic(list))
        sub(/^[^:]*: /, "", block[i])
        put_text(block[i])
    }
}

function put_result(    i, heading) {
    for (i = 1; i <= blocks; i++)
        if (section_of[i] == "result" || section_of[i] == "errors") {
            if (section_of[i] != heading)
                section(section_of[i] == "result" ? "RETURN VALUE" : "ERRORS")
            heading = section_of[i]
            if (section_of[i + 1] == "errors")
                sub(/ or:$/, " or one of the errors below.", block[i])
            if (section_of[i + 1] == "errors")
                sub(/ changed:$/, " changed, one of the errors below.", block[i])
            if (kind[i] == "item" && match(block[i], /^(-E[A-Z]+(, )?)+: /)) {
                tagged(bold(escape_code(substr(block[i], 1, RLENGTH - 2))))
                put_text(substr(block[i], RLENGTH + 1))
            } else
                put_block(kind[i], block[i], 0)
        }
}

function put_attributes(    rest, name) {
    if (attributes == "")
        return
    section("ATTRIBUTES")
    rest = " " attributes
    while (match(rest, / (Thread|Signal|Fork): /)) {
        name = substr(rest, RSTART + 1, RLENGTH - 3)
        rest = substr(rest, RSTART + RLENGTH)
        tagged(attribute_name[name])
        put_text(match(rest, / (Signal|Fork): /) ? substr(rest, 1, RSTART - 1) : rest)
    }
}

function put_history(p,    when) {
    when = since
    split_sections(text_of[p])
    if (since != "")
        when = since
    if (when == "") {
        complain(title[p] ": the comment does not say since which version it exists")
        return
    }
    section("HISTORY")
    put("Since libpkeyguard " when ".")
}

# ---- Types

# The types that this page describes.
function put_types(page,    t) {
    for (t = 1; t <= count_of_types; t++)
        if (page_of_type[t] == page) {
            subsection(type[t] == "enum" ? "Flags" : type[t] == "constant" ? "Constant" : type[t])
            put_type(t)
        }
}

function put_type(t,    k) {
    put_saved(text_of_type[t], 0)
    if (is_opaque(t))
        return
    for (k = 1; k <= members[t]; k++) {
        if (lead[t, k])
            put_saved(lead[t, k], 0)
        tagged(bold(member[t, k]))
        put_saved(text_of_member[t, k], 1)
    }
}

# below_tag: the text belongs to a tag, which indents it.
function put_saved(id, below_tag,    i) {
    split_blocks(id)
    for (i = 1; i <= blocks; i++) {
        if (!below_tag)
            paragraph()
        else if (i > 1)
            put(".IP")
        put_text(block[i])
    }
}

function put_types_of_header(    t, any) {
    for (t = 1; t <= count_of_types; t++) {
        if (header_of_type[t] != header || page_of_type[t] == "none")
            continue
        if (!any++)
            section("TYPES")
        subsection(has_no_name(t) ? prefix(t) (type[t] == "enum" ? "*" : "") : type[t])
        if (page_of_type[t] == "")
            put_type(t)
        else
            put("See " reference(page_of_type[t], 3) ".")
    }
}
