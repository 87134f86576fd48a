#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""prove.py - proves that C functions return true for every value of their arguments

usage: prove.py FILE.ll

Reads what clang made of a file of tests/proofs (LLVM's textual IR, optimised, with everything
inlined) and writes each function whose name begins with prove_ as a formula over bit-vectors of the
full width. z3 then looks for arguments with which the function returns false. Prints "NAME: proven"
or "NAME: false for ARGUMENTS". Exits with 0 if everything is proven, with 3 if something is false,
and with another status if it cannot tell. The function may abort, as the
library does when a heap's metadata makes no sense.

What it does not know makes it fail, or is taken for any value: memory that clang did not turn into
values, and the results of calls. A function must have no loop. Undefined behaviour, which clang
assumes not to happen, is the business of UBSan.
"""
import re
import subprocess
import sys

REFUTED = 3
VALUE = r"(%[\w.]+|-?\d+|true|false|null|undef|poison)"
FLAGS = r"(?:(?:nuw|nsw|exact|inbounds|disjoint|nneg|samesign) )*"
TYPE = r"(i\d+|ptr|[%\w.]+\*)"
BINARY = {
    "add": "bvadd", "sub": "bvsub", "mul": "bvmul", "and": "bvand", "or": "bvor", "xor": "bvxor",
    "shl": "bvshl", "lshr": "bvlshr", "ashr": "bvashr", "udiv": "bvudiv", "urem": "bvurem",
    "sdiv": "bvsdiv", "srem": "bvsrem",
}
ORDER = {"ult": "bvult", "ule": "bvule", "ugt": "bvugt", "uge": "bvuge", "slt": "bvslt",
         "sle": "bvsle", "sgt": "bvsgt", "sge": "bvsge", "eq": "="}


def width(type_name):
    return int(type_name[1:]) if re.fullmatch(r"i\d+", type_name) else 64


def bits(count, number):
    return f"(_ bv{number % (1 << count)} {count})"


def bit(condition):
    return f"(ite {condition} #b1 #b0)"


def split_into_blocks(lines, first):
    blocks = {first: []}
    label = first
    for line in lines:
        line = re.split(r", !| #|;", line)[0].strip()
        if match := re.fullmatch(r"([\w.]+):", line):
            label = match[1]
            blocks[label] = []
        elif line:
            blocks[label].append(line)
    return blocks


def in_order(blocks):
    """Returns the labels so that each block comes after those that branch to it."""
    order, open_blocks = [], []

    def visit(label):
        if label in open_blocks:
            raise ValueError("a loop")
        if label not in order:
            open_blocks.append(label)
            for after in re.findall(r"label %([\w.]+)", " ".join(blocks[label])):
                visit(after)
            open_blocks.remove(label)
            order.append(label)

    visit(next(iter(blocks)))
    return order[::-1]


class Function:
    """One function of the IR, as SMT-LIB commands."""

    def __init__(self, name, parameters, lines):
        self.name = name
        self.commands = []
        self.widths = {}
        self.edges = {}  # (from, to): when that branch is taken
        self.reached = {}  # block: when it is reached
        self.wrong = []  # when the function returns false
        self.block = None
        self.aborts = False
        self.arguments = []
        for type_name, value in re.findall(TYPE + r" [^%]*(%\d+)", parameters):
            self.unknown(value, width(type_name))
            self.arguments.append(value)
        # The first block's label, which may be left out, is the number after the arguments.
        blocks = split_into_blocks(lines, str(len(self.arguments)))
        for label in in_order(blocks):
            self.enter(label)
            for line in blocks[label]:
                self.translate(line)

    def enter(self, label):
        if self.block is None:
            condition = "true"
        else:
            into = [taken for (_, to), taken in self.edges.items() if to == label]
            condition = "(or false " + " ".join(into) + ")"
        self.block = label
        self.aborts = False
        self.reached[label] = f"|reached {label}|"
        self.commands.append(f"(define-fun |reached {label}| () Bool {condition})")

    def unknown(self, name, count):
        self.widths[name] = count
        self.commands.append(f"(declare-const |{name}| (_ BitVec {count}))")

    def define(self, name, count, term):
        self.widths[name] = count
        self.commands.append(f"(define-fun |{name}| () (_ BitVec {count}) {term})")

    def value(self, text, count):
        if text.startswith("%"):
            return f"|{text}|"
        if text in ("undef", "poison"):
            raise ValueError("an undefined value")
        constants = {"true": 1, "false": 0, "null": 0}
        return bits(count, constants[text] if text in constants else int(text))

    def branch(self, to, condition):
        taken = f"(and {self.reached[self.block]} {condition})"
        before = self.edges.get((self.block, to))
        self.edges[self.block, to] = f"(or {before} {taken})" if before else taken

    def translate(self, line):
        if match := re.fullmatch(r"(%[\w.]+) = (.*)", line):
            self.assign(match[1], match[2])
        elif match := re.fullmatch(r"br label %([\w.]+)", line):
            self.branch(match[1], "true")
        elif match := re.fullmatch(rf"br i1 {VALUE}, label %([\w.]+), label %([\w.]+)", line):
            condition = self.value(match[1], 1)
            self.branch(match[2], f"(= {condition} #b1)")
            self.branch(match[3], f"(= {condition} #b0)")
        elif match := re.fullmatch(rf"ret i1 {VALUE}", line):
            self.wrong.append(f"(and {self.reached[self.block]} (= {self.value(match[1], 1)} #b0))")
        elif line == "unreachable":
            if not self.aborts:
                raise ValueError("clang found undefined behaviour")
        elif re.match(r"(tail |musttail )?call void @", line):
            self.aborts = "@spans_abort" in line
        elif not re.match(r"store |fence ", line):
            raise ValueError(line)

    def assign(self, name, text):
        if match := re.fullmatch(rf"(\w+) {FLAGS}{TYPE} {VALUE}, {VALUE}", text):
            count = width(match[2])
            self.define(name, count, f"({BINARY[match[1]]} {self.value(match[3], count)} "
                                     f"{self.value(match[4], count)})")
        elif match := re.fullmatch(rf"icmp {FLAGS}(\w+) {TYPE} {VALUE}, {VALUE}", text):
            count = width(match[2])
            left, right = self.value(match[3], count), self.value(match[4], count)
            unequal = match[1] == "ne"
            term = f"({ORDER['eq' if unequal else match[1]]} {left} {right})"
            self.define(name, 1, bit(f"(not {term})" if unequal else term))
        elif match := re.fullmatch(rf"select i1 {VALUE}, {TYPE} {VALUE}, {TYPE} {VALUE}", text):
            count = width(match[2])
            values = f"{self.value(match[3], count)} {self.value(match[5], count)}"
            self.define(name, count, f"(ite (= {self.value(match[1], 1)} #b1) {values})")
        elif match := re.fullmatch(rf"(\w+) {FLAGS}{TYPE} {VALUE} to {TYPE}", text):
            self.convert(name, match[1], width(match[2]), match[3], width(match[4]))
        elif match := re.fullmatch(rf"freeze {TYPE} {VALUE}", text):
            self.define(name, width(match[1]), self.value(match[2], width(match[1])))
        elif match := re.fullmatch(rf"getelementptr {FLAGS}i8, {TYPE} {VALUE}, i64 {VALUE}", text):
            self.define(name, 64, f"(bvadd {self.value(match[2], 64)} {self.value(match[3], 64)})")
        elif match := re.fullmatch(rf"phi {TYPE} (.*)", text):
            self.merge(name, width(match[1]), match[2])
        elif match := re.fullmatch(rf"extractvalue .* (%[\w.]+), (\d)", text):
            part = f"{match[1]}.{match[2]}"
            self.define(name, self.widths[part], f"|{part}|")
        elif match := re.fullmatch(r"(?:tail )?call .*@llvm\.([a-z.]+)\.i(\d+)\((.*)\)", text):
            operands = [self.value(operand.split()[-1], int(match[2]))
                        for operand in match[3].split(", ")]
            self.intrinsic(name, match[1], int(match[2]), operands)
        elif match := re.match(rf"(?:load|load atomic) (?:volatile )?{TYPE}", text):
            self.unknown(name, width(match[1]))
        elif re.match(r"getelementptr|alloca|load|bitcast", text):
            self.unknown(name, 64)  # an address of memory
        else:
            raise ValueError(text)

    def convert(self, name, how, before, text, after):
        term = self.value(text, before)
        if how == "trunc" or after < before:
            term = f"((_ extract {after - 1} 0) {term})"
        elif after > before:
            extend = "sign_extend" if how == "sext" else "zero_extend"
            term = f"((_ {extend} {after - before}) {term})"
        self.define(name, after, term)

    def merge(self, name, count, text):
        pairs = re.findall(rf"\[ {VALUE}, %([\w.]+) \]", text)
        term = bits(count, 0)
        for value, source in pairs:
            taken = self.edges[source, self.block]
            term = f"(ite {taken} {self.value(value, count)} {term})"
        self.define(name, count, term)

    def intrinsic(self, name, what, count, operands):
        one = operands[0]
        if what == "uadd.with.overflow":
            wide = [f"((_ zero_extend 1) {operand})" for operand in operands]
            self.define(f"{name}.0", count, f"(bvadd {one} {operands[1]})")
            carry = f"((_ extract {count} {count}) (bvadd {wide[0]} {wide[1]}))"
            self.define(f"{name}.1", 1, carry)
        elif what == "ctlz":
            term = bits(count, count)
            for position in range(count):
                found = f"(= ((_ extract {position} {position}) {one}) #b1)"
                term = f"(ite {found} {bits(count, count - 1 - position)} {term})"
            self.define(name, count, term)
        else:
            raise ValueError(what)

    def counterexample(self):
        """Returns arguments with which the function is wrong, or None if there are none."""
        wrong = "(or false " + " ".join(self.wrong) + ")"
        names = " ".join(f"|{argument}|" for argument in self.arguments)
        script = "\n".join(["(set-logic QF_BV)", *self.commands, f"(assert {wrong})", "(check-sat)",
                            f"(get-value ({names}))"])
        # With this option z3 needs two thirds of the time.
        answer = subprocess.run(["z3", "-in", "sat.acce=true"], input=script, text=True,
                                check=False, stdout=subprocess.PIPE).stdout
        if answer.startswith("unsat"):
            return None
        if not answer.startswith("sat"):
            raise ValueError(answer)
        return " ".join(answer.split("\n", 1)[1].split())


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    definition = r"^define [^\n]*i1 @prove_(\w+)\(([^\n]*)\{\n(.*?)^\}"
    found = re.findall(definition, text, re.M | re.S)
    for name, parameters, body in found:
        answer = Function(name, parameters, body.split("\n")).counterexample()
        print(f"{name}: proven" if answer is None else f"{name}: false for {answer}")
        if answer is not None:
            return REFUTED
    if not found:
        raise ValueError("no function to prove")
    return 0


sys.exit(main())
