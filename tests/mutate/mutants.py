# SPDX-License-Identifier: MIT
"""Makes the mutants of a C file: copies of it, each with one small mistake.

Works on tokens, without a parser. It cannot tell whether a mutant compiles.
"""

import re
from dataclasses import dataclass


@dataclass
class Mutant:
    path: str
    line: int  # of the change, from 1
    function: str
    before: str  # the changed lines
    after: str
    text: str  # the whole changed file

    def key(self):
        """How EQUIVALENT names it: line numbers change too often."""
        return self.path, self.function, self.before, self.after

    def __str__(self):
        shown = [f"@ {self.path} {self.function}"]
        shown += ["- " + line for line in self.before.split("\n")]
        shown += ["+ " + line for line in self.after.split("\n")]
        return "\n".join(shown)


# What takes the place of a token.
TOKENS = {
    "<": ["<="], "<=": ["<"], ">": [">="], ">=": [">"], "==": ["!="], "!=": ["=="],
    "&&": ["||"], "||": ["&&"], "!": [""], "~": [""],
    "+": ["-"], "-": ["+"], "+=": ["-="], "-=": ["+="], "++": ["--"], "--": ["++"],
    "<<": [">>"], ">>": ["<<"], "&": ["|"], "|": ["&"], "&=": ["|="], "|=": ["&="],
}
NAMES = {}
for one, other in [
    ("true", "false"), ("readers", "writers"), ("to_read", "to_nothing"),
    ("PKEY_AD", "PKEY_WD"), ("RELATIVE_AD", "RELATIVE_WD"), ("EVERY_AD", "~EVERY_AD"),
    ("PKEYGUARD_READ_ONLY", "PKEYGUARD_READ_WRITE"), ("PROT_READ", "PROT_WRITE"),
    ("pkey_bits", "wd_bit"), ("GUARD_WIDENS", "GUARD_RESTRICTS"), ("low", "high"),
]:
    NAMES[one] = [other]
    NAMES[other] = [one]
NAMES |= {
    "PKEY_BITS": ["PKEY_AD", "PKEY_WD"], "RELATIVE_BITS": ["RELATIVE_AD"],
    "PKEYGUARD_NO_ACCESS": ["PKEYGUARD_READ_ONLY"], "PROT_NONE": ["PROT_READ"],
    "__ATOMIC_ACQUIRE": ["__ATOMIC_RELAXED"], "__ATOMIC_RELEASE": ["__ATOMIC_RELAXED"],
    "__ATOMIC_SEQ_CST": ["__ATOMIC_RELAXED"], "__ATOMIC_ACQ_REL": ["__ATOMIC_RELAXED"],
    "memory_order_acquire": ["memory_order_relaxed"],
    "memory_order_release": ["memory_order_relaxed"],
    "memory_order_seq_cst": ["memory_order_relaxed"],
}

TOKEN = re.compile(r"""(?P<name>[A-Za-z_]\w*) | (?P<number>0[xX][0-9a-fA-F]+|\d+)[uUlL]*
    | (?P<operator>->|\.\.\.|<<=|>>=|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[-+<>&|!~])""", re.X)
# A call, an assignment or a change of a counter, at the beginning of a line.
STATEMENT = re.compile(r"[ \t]+(?!(?:return|if|while|for|switch|case|else|do|goto|sizeof)\b)"
                       r"(?:\(void\))?(?:\+\+|--|\*)*[A-Za-z_][\w.>\[\]*-]*(?: (?:[-+|&]|<<|>>)?= |\(|\+\+;|--;)")


def blank(text, pattern):
    """Overwrites what matches with spaces, so that offsets stay."""
    return re.sub(pattern, lambda match: re.sub(r"[^\n]", " ", match.group()), text,
                  flags=re.S | re.M)


def code_only(text):
    """The code without what cannot have a mistake that counts."""
    text = blank(text, r"/\*.*?\*/|//[^\n]*|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)+'")
    text = blank(text, r"^[ \t]*#(?:[^\n\\]|\\.)*")
    return blank(text, r"__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)|\b_?[sS]tatic_assert\([^;]*;")


def close_of(code, at):
    """The offset of the bracket that closes the one at `at`."""
    depth = 0
    for i in range(at, len(code)):
        depth += {"(": 1, ")": -1}.get(code[i], 0)
        if depth == 0:
            return i
    return len(code)


def blocks_of(code):
    """(begin, end, name) of each block of the outermost level; enums have no name."""
    depth = 0
    last = 0
    for match in re.finditer(r"[{};]", code):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if match.group() == "{" and depth == 1:
            begin = match.start()
            head = code[last:begin]
        if depth == 0:
            if match.group() == "}":
                named = re.search(r"(\w+)\s*\(", head)
                is_list = re.search(r"\b(struct|union)\s*\w*\s*$", head)
                if not is_list:
                    yield begin, match.end(), named.group(1) if named else ""
            last = match.end()


def changes_of(code, begin, end):
    """Yields (begin, end, replacement) for each change of the block."""
    for match in re.finditer(r"\b(?:if|while) \(", code[begin:end]):
        opened = begin + match.end() - 1
        closed = close_of(code, opened)
        yield opened, closed + 1, "(!" + code[opened:closed + 1] + ")"
    for match in re.finditer(r"\breturn (-E[A-Z]+|[^;]+);", code[begin:end]):
        if match.group(1) not in ("0", "NULL", "true", "false"):
            yield begin + match.start(1), begin + match.end(1), "0"
    for match in re.finditer(r"\b(?:break|continue);", code[begin:end]):
        yield begin + match.start(), begin + match.end() - 1, ""
    start = begin
    for line in code[begin:end].splitlines(keepends=True):
        ended = code[:start].rstrip()[-1:] in list(";{}:)")
        if STATEMENT.match(line) and (ended or code[:start].rstrip().endswith("else")):
            first = start + len(line) - len(line.lstrip())
            yield first, code.index(";", first), ""
        start += len(line)
    for match in TOKEN.finditer(code, begin, end):
        token = match.group(match.lastgroup)
        at = match.start(match.lastgroup)
        # Only operators with two operands; others are signs, addresses and pointers.
        binary = match.lastgroup != "operator" or token not in list("+-&|") or \
            re.search(r"[\w\])] $", code[:at]) and code[at + len(token)] in " \n"
        if match.lastgroup == "number":
            number = int(token, 0) if token.startswith("0x") else int(token)
            others = [str(number + 1)] + ([str(number - 1)] if number > 1 else [])
        else:
            others = (NAMES if match.lastgroup == "name" else TOKENS).get(token, []) if binary else []
        for other in others:
            yield at, at + len(token), other


def mutants_of(path, text):
    """Every mutant of a file."""
    code = code_only(text)
    found = []
    for begin, end, function in blocks_of(code):
        for first, last, other in changes_of(code, begin, end):
            # A replacement made of the code has lost its strings: take them from the text.
            if last - first > 1 and other.startswith("(!"):
                other = "(!" + text[first:last] + ")"
            changed = text[:first] + other + text[last:]
            line_begin = text.rfind("\n", 0, first) + 1
            line_end = text.index("\n", last)
            before = text[line_begin:line_end]
            after = before[:first - line_begin] + other + before[last - line_begin:]
            strip = lambda lines: "\n".join(line.strip() for line in lines.split("\n"))
            found.append(Mutant(path, text.count("\n", 0, first) + 1, function,
                                strip(before), strip(after), changed))
    return found
