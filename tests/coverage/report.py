#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Shows what the suites reach of the library: report.py UNTAKEN < JSON OF GCOV

Runs in the project's root. Prints a table of the folders of src/, and each line whose branches that
are not taken are not all in UNTAKEN: its number, and what UNTAKEN lacks. Fails if there is such a
line.
"""
import collections
import json
import re
import sys


class Line:
    def __init__(self):
        self.count = 0
        self.branches = []

    def add(self, line):
        """Adds what gcov says about this line of one object file: a header has one for each."""
        counts = [branch["count"] for branch in branches_of(line)]
        self.count += line["count"]
        if len(counts) > len(self.branches):
            counts, self.branches = self.branches, counts
        for i, count in enumerate(counts):
            self.branches[i] += count

    def untaken(self):
        # A process that is killed in the midst of a function leaves less than nothing.
        return sum(count <= 0 for count in self.branches)


def branches_of(line):
    """Without the two ways on after a call: it returns, or an exception passes through it."""
    branches, kept = line["branches"], []
    for i, branch in enumerate(branches):
        with_next = i + 1 < len(branches) and branches[i + 1]["throw"] and branch["fallthrough"]
        if not branch["throw"] and not with_next:
            kept.append(branch)
    return kept


def read_gcov(stream):
    """The lines, by file, function and number."""
    lines = collections.defaultdict(Line)
    for report in stream:
        for file in json.loads(report)["files"]:
            if file["file"].startswith("src/"):
                for line in file["lines"]:
                    key = file["file"], line.get("function_name", "-"), line["line_number"]
                    lines[key].add(line)
    return lines


def print_folders(lines):
    rows = collections.defaultdict(lambda: [0, 0, 0, 0])
    for (file, _, _), line in lines.items():
        for row in rows[file.rpartition("/")[0]], rows["all"]:
            row[0] += line.count > 0
            row[1] += 1
            row[2] += len(line.branches) - line.untaken()
            row[3] += len(line.branches)

    def share(reached, of):
        return f"{reached:6} of {of:5} {100 * reached / of:6.1f} %"

    print(f"{'folder':12}{'lines':>24}{'branches':>26}")
    for name in sorted(rows, key=lambda name: (name == "all", name)):
        print(f"{name:12}{share(*rows[name][:2])}  {share(*rows[name][2:])}")


def find_untaken(lines):
    """How many branches of each line are not taken, and the line's number."""
    untaken, numbers, sources = collections.Counter(), {}, {}
    for (file, function, number), line in sorted(lines.items()):
        if line.untaken() == 0:
            continue
        if file not in sources:
            with open(file, encoding="utf-8") as source:
                sources[file] = source.read().splitlines()
        key = file, function, sources[file][number - 1].strip()
        untaken[key] += line.untaken()
        numbers.setdefault(key, number)
    return untaken, numbers


def read_listed(path):
    """UNTAKEN's head describes its format."""
    listed, why = collections.Counter(), None
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            entry = re.fullmatch(r"  (\S+) (\S+) (\d+): (.*)\n", line)
            if entry and why:
                listed["src/" + entry[1], entry[2], entry[4]] += int(entry[3])
            elif line.startswith(" "):
                sys.exit(f"{path}: not understood: {line}")
            elif line.strip() and not line.startswith("#"):
                why = line
    return listed


def main():
    lines = read_gcov(sys.stdin)
    print_folders(lines)
    untaken, numbers = find_untaken(lines)
    listed = read_listed(sys.argv[1])
    for key in sorted(listed - untaken):
        print(f"taken this time, or not there: {' '.join(key)}")
    missing = untaken - listed
    for key in sorted(missing, key=lambda key: (key[0], numbers[key])):
        file, function, text = key
        print(f"{numbers[key]:5}:  {file.removeprefix('src/')} {function} {missing[key]}: {text}")
    print(f"{sum(untaken.values())} branches are not taken, {sum(missing.values())} not listed")
    sys.exit(1 if missing else 0)


main()
