/* SPDX-License-Identifier: MIT */
/*
 * format.c - describes a fault in words. Signal handlers call it, so it does not use snprintf(3).
 */
#include <pkeyguard/fault.h>

#include <errno.h>

struct text {
    char *buffer;  /* the caller's */
    size_t size;   /* of the buffer, in bytes */
    size_t length; /* bytes of the text, including what did not fit */
};

static void append_string(struct text *text, const char *string)
{
    for (; *string != '\0'; string++, text->length++) {
        if (text->length + 1 < text->size)
            text->buffer[text->length] = *string;
    }
}

/* Of other code, which may have any bytes. */
static void append_printable(struct text *text, const char *string)
{
    for (; *string != '\0'; string++) {
        char one[] = {*string, '\0'};

        if (*string < ' ' || *string > '~')
            one[0] = '?';
        append_string(text, one);
    }
}

static void append_number(struct text *text, uintmax_t number, unsigned base)
{
    char digits[24], *first = digits + sizeof(digits);

    *--first = '\0';
    do {
        *--first = "0123456789abcdef"[number % base];
        number /= base;
    } while (number != 0);
    append_string(text, base == 16 ? "0x" : "");
    append_string(text, first);
}

static void append_region(struct text *text, const struct pkeyguard_fault *fault)
{
    if (fault->region_name[0] == '\0') {
        append_string(text, "a region without a name");
    } else {
        append_string(text, "region '");
        append_string(text, fault->region_name);
        append_string(text, "'");
    }
}

static void append_place(struct text *text, const struct pkeyguard_fault *fault)
{
    static const char *const accesses[] = {[PKEYGUARD_READ_ACCESS] = "read",
                                           [PKEYGUARD_WRITE_ACCESS] = "write",
                                           [PKEYGUARD_EXECUTE_ACCESS] = "execution"};
    bool before = fault->offset < 0;
    uintmax_t bytes =
        before ? -(uintmax_t)fault->offset : (uintmax_t)fault->offset - fault->region_size + 1;

    append_string(text, accesses[fault->access]);
    if (fault->kind == PKEYGUARD_FAULT_GUARD_PAGE) {
        append_string(text, " ");
        append_number(text, bytes, 10);
        append_string(text, bytes == 1 ? " byte " : " bytes ");
        append_string(text, before ? "before the start of " : "past the end of ");
        append_region(text, fault);
    } else if (fault->kind == PKEYGUARD_FAULT_RECORDS) {
        append_string(text, fault->access == PKEYGUARD_WRITE_ACCESS ? " to " : " of ");
        append_string(text, "the library's own records");
    } else {
        append_string(text, fault->access == PKEYGUARD_WRITE_ACCESS ? " to " : " of ");
        append_region(text, fault);
        append_string(text, before ? " - " : " + ");
        append_number(text, before ? bytes : (uintmax_t)fault->offset, 16);
    }
}

/*
 * True if the region's own page rights forbid the access, so that no guard helps. Pages without a
 * pkey are also stopped by page rights if no guard has them open: then the rights are too little.
 */
static bool forbidden_by_page_rights(const struct pkeyguard_fault *fault)
{
    bool writes = fault->access == PKEYGUARD_WRITE_ACCESS;

    return fault->page_rights_forbid ||
           (fault->kind == PKEYGUARD_FAULT_BY_PAGE &&
            (fault->key_number > 0 ||
             fault->rights >= (writes ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY)));
}

/* Returns the words for the missing rights, which a scope would give. */
static const char *lacking_rights(const struct pkeyguard_fault *fault)
{
    bool by_key = fault->kind == PKEYGUARD_FAULT_BY_KEY;

    if (fault->initial_rights)
        return "this thread has no access: it is older than the key, or in a signal handler";
    if (fault->rights == PKEYGUARD_NO_ACCESS)
        return by_key ? "this thread has no access" : "no guard has it open";
    /* The key may be open by its default rights, without a guard. */
    return by_key ? "this thread has it read-only" : "no guard has it open for writing";
}

static void append_reason(struct text *text, const struct pkeyguard_fault *fault)
{
    if (fault->kind == PKEYGUARD_FAULT_GUARD_PAGE) {
        append_string(text, "an index or a length is out of bounds");
    } else if (fault->kind == PKEYGUARD_FAULT_RECORDS) {
        append_string(text, "pkeyguard_protect_records() protects them; the pointer is wrong");
    } else if (forbidden_by_page_rights(fault)) {
        append_string(text, "its page rights forbid it; see pkeyguard_region_protect()");
    } else if (fault->access == PKEYGUARD_EXECUTE_ACCESS) {
        append_string(text, "its key is closed; code needs a dedicated key, or a key whose default "
                            "rights are PKEYGUARD_READ_ONLY");
    } else {
        append_string(text, lacking_rights(fault));
        append_string(text, fault->access == PKEYGUARD_WRITE_ACCESS ? "; open a write scope"
                                                                    : "; open a read scope");
        if (fault->initial_rights)
            append_string(text, ", or call pkeyguard_thread_reset() for the default rights");
    }
}

static void append_thread_and_code(struct text *text, const struct pkeyguard_fault *fault)
{
    if (fault->thread != 0) {
        append_string(text, " in thread ");
        append_number(text, (uintmax_t)fault->thread, 10);
        append_string(text, " '");
        append_printable(text, fault->thread_name);
        append_string(text, "'");
    }
    if (fault->code == NULL)
        return;
    append_string(text, " at ");
    append_printable(text, fault->code_file);
    append_string(text, fault->code_file[0] != '\0' ? " + " : "");
    append_number(text, fault->code_file[0] != '\0' ? fault->code_offset : (uintptr_t)fault->code,
                  16);
}

int pkeyguard_fault_format(const struct pkeyguard_fault *fault, char *buffer, size_t size)
{
    struct text text = {.buffer = buffer, .size = size};

    append_place(&text, fault);
    append_string(&text, ": ");
    append_reason(&text, fault);
    append_string(&text, " (");
    if (fault->key_number > 0) {
        append_string(&text, "pkey ");
        append_number(&text, (uintmax_t)fault->key_number, 10);
        append_string(&text, ", ");
    }
    append_string(&text, "address ");
    append_number(&text, (uintptr_t)fault->address, 16);
    append_string(&text, ")");
    append_thread_and_code(&text, fault);
    if (size > 0)
        buffer[text.length < size ? text.length : size - 1] = '\0';
    return text.length < size ? 0 : -ERANGE;
}
