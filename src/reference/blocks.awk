# SPDX-License-Identifier: MIT
# For man.awk: saves comments, and splits them into blocks: paragraphs, items of lists, examples and
# parameters.

# Saves the comment that was read. Returns its number, which is not 0.
function save_comment(    i) {
    saved_size[++count_of_saved] = comment_size
    for (i = 1; i <= comment_size; i++)
        saved[count_of_saved, i] = comment[i]
    return count_of_saved
}

function save_line(line) {
    saved_size[++count_of_saved] = 1
    saved[count_of_saved, 1] = line
    return count_of_saved
}

function saved_text(id,    i, text) {
    for (i = 1; i <= saved_size[id]; i++)
        text = text saved[id, i] " "
    return text
}

# What the comment says about parameters.
function parameters_text(id,    i, text) {
    split_blocks(id)
    for (i = 1; i <= blocks; i++)
        if (kind[i] == "parameter")
            text = text block[i]
    return text
}

function add_block(what, text) {
    kind[++blocks] = what
    block[blocks] = text
}

# Sets kind[1..blocks] and block[1..blocks] to those of a saved comment.
function split_blocks(id,    i, line, last) {
    blocks = 0
    for (i = 1; i <= saved_size[id]; i++) {
        line = saved[id, i]
        last = i == 1 || saved[id, i - 1] == "" ? "" : kind[blocks]
        if (line == "")
            continue
        if (line ~ /^@[a-z_]+/)
            add_block("parameter", line)
        else if (line ~ /^ - /)
            add_block("item", substr(line, 4))
        else if (last ~ /item|parameter/ && line ~ /^ /)
            continue_block(line)
        else if (line ~ /^    / && kind[blocks] == "example")
            block[blocks] = block[blocks] (last == "" ? "\n\n" : "\n") substr(line, 5)
        else if (line ~ /^    /)
            add_block("example", substr(line, 5))
        else if (line ~ /^(Returns|Thread:) / || last == "")
            add_block("paragraph", line)
        else if (last == "paragraph")
            continue_block(line)
        else
            complain("this line must be indented, or follow an empty line: " line)
    }
}

function continue_block(line) {
    sub(/^ +/, "", line)
    block[blocks] = block[blocks] " " line
}

# Splits a saved comment into blocks, and sets section_of[1..blocks] to the section of a manual page
# that each belongs to. What threads and signal handlers may do is no block: it is in attributes. In
# since is the version since which the function exists.
function split_sections(id,    i, now) {
    split_blocks(id)
    split("", section_of)
    now = "description"
    attributes = since = ""
    for (i = 1; i <= blocks; i++) {
        if (block[i] ~ /^Returns /)
            now = "result"
        if (now == "result" && kind[i] == "item") {
            now = "errors"
            # The sentence that the list belongs to.
            if (block[i - 1] !~ /^Returns /)
                section_of[i - 1] = "errors"
        }
        section_of[i] = kind[i] == "parameter" ? "parameters" : now
    }
    if (match(block[blocks], /(^| )Since [0-9.]+[.]$/)) {
        since = substr(block[blocks], RSTART)
        gsub(/.*Since |[.]$/, "", since)
        block[blocks] = substr(block[blocks], 1, RSTART - 1)
    }
    if (block[blocks] ~ /^Thread: /)
        attributes = block[blocks]
    if (attributes != "" || block[blocks] == "")
        blocks--
}
