#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Do the tests notice mistakes? Makes one small mistake at a time in the library (a comparison, a
constant, a dropped call, a swapped mask), builds the tests with it and runs them. A mutant that no
test notices is a survivor: write the test that is missing, or name the mutant in EQUIVALENT.

By hand, after tests/run.sh has installed what it needs:

    python3 tests/mutate/mutate.py [--file src/key/pin.c]... [--count N] [--seed N] [--list | --again]

It works in .build/mutate and leaves the source alone; do not edit that meanwhile. A mutant runs the
suites of its folder natively, one after the other until one fails, then the other quick suites. What
is left runs in a guest with PKU, many mutants in one boot, while the next ones run natively.

Not run are mutants that do not compile, and those whose machine code is that of the source or of
another mutant. EQUIVALENT has the survivors that are known, in the form in which this prints them,
each with a reason. They are not run. What it says of the source must still be in the source.

Ends with 0 if there is no survivor but those. .build/mutate/outcomes has a line for each mutant,
.build/mutate/survivors the survivors.
"""

import argparse
import concurrent.futures
import glob
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

from mutants import mutants_of

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(SOURCE, ".build/mutate")
GUEST = os.path.join(BUILD, "guest")
KNOWN = os.path.join(HERE, "EQUIVALENT")
SURVIVORS = os.path.join(BUILD, "survivors")

# The suites that notice most mistakes of a folder in the shortest time, in order. The guest runs no
# others. The files of src/ itself have the name "src".
SUITES = {
    "pkru": "pkru pitfalls fault thread virtual revocation neighbour calls",
    "pkey": "pitfalls key debug thread virtual revocation neighbour virtual_stress failures calls",
    "key": "key debug guard thread fault failures neighbour virtual virtual_stress calls "
           "revocation",
    "region": "pitfalls guard failures fault neighbour virtual records calls region heap",
    "guard": "guard debug thread cplusplus virtual fault failures calls records",
    "thread": "thread pitfalls fault virtual cplusplus calls revocation",
    "fault": "fault pitfalls thread unload platform",
    "base": "pkeyguard key failures neighbour virtual revocation records processes region",
    "include": "guard debug thread cplusplus pitfalls virtual fault calls revocation region",
    "src": "pkeyguard platform records guard processes unload virtual heap",
    "heap": "malloc jemalloc failures calls records heap",
}
# The other suites that take less than a second natively.
FAST = ("pkeyguard platform key guard thread fault pitfalls neighbour debug failures virtual "
        "revocation cplusplus malloc jemalloc unload").split()
# They do next to nothing where there is no PKU: natively they run only the suite key.
ONLY_WITH_PKU = ("src/pkru/", "src/pkey/", "src/key/enforcement_pku", "src/key/enforcement_virtual",
                 "src/key/eviction", "src/key/pin", "src/key/virtual")
# A suite and its test case that the guest runs first, where that notices most of a file's mistakes.
FIRST_CASES = {
    "src/pkru/pkru_x86_64.c": ("virtual", "handlers"),
    "src/pkey/enlistment.c": ("virtual", "foreign threads"),
    "src/pkey/kernel_threads.c": ("virtual", "threads"),
    "src/pkey/own_pkru.c": ("revocation", "resets"),
    "src/pkey/pkey_allocator.c": ("revocation", "resets"),
    "src/pkey/pkeys.c": ("revocation", "everywhere"),
    "src/pkey/revocation.c": ("revocation", "everywhere"),
    "src/pkey/signal_round.c": ("revocation", "signals"),
    "src/pkey/thread_records.c": ("virtual", "threads"),
    "src/key/enforcement_pku.c": ("guard", "guards"),
    "src/key/enforcement_virtual.c": ("virtual", "basics"),
    "src/key/eviction.c": ("virtual", "sharing"),
    "src/key/pages.c": ("virtual", "failures"),
    "src/key/pin.c": ("virtual", "waiting"),
    "src/key/virtual_pool.c": ("virtual", "sharing"),
    "src/key/virtual_wait.c": ("virtual", "waiting"),
    "src/guard/virtual_guard.c": ("virtual", "basics"),
    "src/guard/waiting.c": ("virtual", "waiting"),
    "src/thread/saved_pins.c": ("thread", "virtual keys"),
}
ARGUMENTS = {"calls": ["9", "700", "8"]}  # as in tests/guest
GUEST_SECONDS = 400  # for a suite
BATCH = 12  # mutants in a boot of the guest


def folder_of(path):
    """The key of SUITES."""
    parts = path.split("/")
    return parts[1] if parts[0] == "src" and len(parts) == 3 else parts[0]


def run(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          **options)


def must_run(command, **options):
    done = run(command, **options)
    if done.returncode != 0:
        sys.exit(f"mutate.py: {' '.join(command)} failed:\n{done.stdout[-5000:]}")


# ---- which mutants ----

# keep_loaded.c only acts in plugins, and those of the suite unload have the unchanged library.
LEFT_OUT = ["src/base/keep_loaded.c"]


def library_files():
    found = [path for pattern in ("src/*.[ch]", "src/*/*.[ch]", "include/pkeyguard/**/*.h")
             for path in glob.glob(pattern, root_dir=SOURCE, recursive=True)]
    order = list(SUITES)
    return sorted((path for path in found if folder_of(path) != "tool" and path not in LEFT_OUT),
                  key=lambda path: (order.index(folder_of(path)), path))


def all_mutants(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8") as file:
        return mutants_of(path, file.read())


def choose(path, count, seed):
    """Chooses mutants by chance, but the same ones for a seed; second ones of a line come last."""
    mutants = all_mutants(path)
    random.Random(f"{seed} {path}").shuffle(mutants)
    of_line = Counter()
    ranks = {}
    for i, mutant in enumerate(mutants):
        ranks[i] = of_line[mutant.line]
        of_line[mutant.line] += 1
    chosen = sorted(ranks, key=ranks.get)[:count]
    return sorted((mutants[i] for i in chosen), key=lambda mutant: mutant.line)


def read_keys(path):
    """The keys of the mutants in a file, such as EQUIVALENT."""
    keys = set()
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    for i, line in enumerate(lines):
        if not line.startswith("@ "):
            continue
        parts = {"-": [], "+": []}
        for change in lines[i + 1:]:
            if change[:1] not in parts:
                break
            parts[change[0]].append(change[2:])
        place, _, function = line[2:].partition(" ")
        keys.add((place, function, "\n".join(parts["-"]), "\n".join(parts["+"])))
    return keys


def known_survivors():
    known = read_keys(KNOWN)
    made = {mutant.key() for path in {key[0] for key in known} for mutant in all_mutants(path)}
    if known - made:
        sys.exit("mutate.py: EQUIVALENT has mutants that the source does not have:\n" +
                 "\n".join(map(str, sorted(known - made))))
    return known


# ---- building ----

class Project:
    """The unchanged project, built for the native tests, and how its files are compiled."""

    def __init__(self):
        must_run(["cmake", "-S", SOURCE, "-B", BUILD, "-DCMAKE_BUILD_TYPE=None",
                  "-DCMAKE_C_FLAGS=-O1", "-DCMAKE_CXX_FLAGS=-O1", "-DPKEYGUARD_EXAMPLES=OFF",
                  "-DPKEYGUARD_NATIVE_TESTS_ONLY=ON", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"])
        suites = {suite for suites in SUITES.values() for suite in suites.split()} | set(FAST)
        targets = [name_of(suite) for suite in sorted(suites)]
        must_run(["cmake", "--build", BUILD, "--target", "guest_init", "pkeyguard_reporter", *targets])
        with open(os.path.join(BUILD, "compile_commands.json"), encoding="utf-8") as file:
            entries = json.load(file)
        self.compilations = {}  # by object
        for entry in entries:
            words = shlex.split(entry["command"])
            made = os.path.join(entry["directory"], words[words.index("-o") + 1])
            if os.path.exists(made):
                self.compilations[made] = (entry["directory"], words, entry["file"])
        self.library = [made for made in self.compilations if "/pkeyguard_objects.dir/" in made]
        self.sources_of = {made: self.read_dependencies(made) for made in self.compilations}

    def read_dependencies(self, made):
        with open(made + ".d", encoding="utf-8") as file:
            return set(file.read().replace("\\\n", " ").split())

    def objects_with(self, path, objects):
        """Those of the objects that are compiled from this file, or include it."""
        full = os.path.join(SOURCE, path)
        return [made for made in objects if full in self.sources_of[made]]


def name_of(suite):
    return suite if suite == "calls" else f"test_{suite}_native"


def program_of(suite):
    """The program without a mutant."""
    return os.path.join(BUILD, "tests", "fuzz" if suite == "calls" else "", name_of(suite))


class Build:
    """The objects and tests of one mutant."""

    def __init__(self, project, mutant, directory):
        self.project, self.mutant, self.directory = project, mutant, directory
        self.changed = os.path.join(directory, mutant.path)
        os.makedirs(os.path.dirname(self.changed))
        with open(self.changed, "w", encoding="utf-8") as file:
            file.write(mutant.text)
        self.objects = {}  # in place of the project's

    def compile(self, made):
        """Compiles what `made` was compiled from, with the mutant. False: it does not compile."""
        directory, words, source = self.project.compilations[made]
        own = os.path.join(self.directory, os.path.relpath(made, BUILD))
        os.makedirs(os.path.dirname(own), exist_ok=True)
        words = list(words)
        words[words.index("-o") + 1] = own
        if source == os.path.join(SOURCE, self.mutant.path):
            words[words.index(source)] = self.changed
        headers = [f"-I{self.directory}/include", f"-I{self.directory}/src", "-w"]
        if run(words[:1] + headers + words[1:], cwd=directory).returncode != 0:
            return False
        with open(own, "rb") as new, open(made, "rb") as old:
            if new.read() != old.read():
                self.objects[made] = own
        return True

    def compile_library(self):
        made = self.project.objects_with(self.mutant.path, self.project.library)
        return all(map(self.compile, made))

    def code(self):
        """What tells its machine code apart from that of other mutants."""
        code = []
        for made, own in sorted(self.objects.items()):
            with open(own, "rb") as file:
                code.append((made, file.read()))
        return tuple(code)

    def link(self, suite):
        """Returns the path of the suite's program, or None if it does not compile."""
        at = os.path.dirname(program_of(suite))
        with open(os.path.join(at, f"CMakeFiles/{name_of(suite)}.dir/link.txt"),
                  encoding="utf-8") as file:
            words = shlex.split(file.read())
        program = os.path.join(self.directory, name_of(suite))
        if os.path.exists(program):
            return program
        words[words.index("-o") + 1] = program
        parts = {i: os.path.normpath(os.path.join(at, word))
                 for i, word in enumerate(words) if word.endswith(".o")}
        for made in self.project.objects_with(self.mutant.path, parts.values()):
            if made not in self.objects and not self.compile(made):
                return None
        for i, made in parts.items():
            words[i] = self.objects.get(made, words[i])
        archive = next(i for i, word in enumerate(words) if word.endswith("/libpkeyguard.a"))
        words[archive:archive] = [self.objects[made] for made in self.project.library
                                  if made in self.objects]
        # Without symbols, because the guest holds its files in memory.
        return program if run(words + ["-s"], cwd=at).returncode == 0 else None

    def remove(self):
        """Also ends what a test has left behind."""
        for link in glob.glob("/proc/[0-9]*/exe"):
            try:
                if os.readlink(link).startswith(self.directory + "/"):
                    os.kill(int(link.split("/")[2]), signal.SIGKILL)
            except OSError:
                pass  # it has ended, or is not ours
        shutil.rmtree(self.directory)


# ---- running natively ----

def passes(program, suite, seconds):
    """Runs a suite. A process that does not end is stopped; libcheck then stops its children."""
    process = subprocess.Popen([program, *ARGUMENTS.get(suite, [])], start_new_session=True,
                               cwd=os.path.join(BUILD, "tests"), stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        process.terminate()
        time.sleep(1)
        return False
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def native_suites(path):
    if path.startswith(ONLY_WITH_PKU):
        return ["key"]
    suites = SUITES[folder_of(path)].split()
    return suites + [suite for suite in FAST if suite not in suites]


def measure_suites(paths):
    """Runs the suites without a mutant. Returns how many seconds each may take with one."""
    limits = {}
    for suite in {suite for path in paths for suite in native_suites(path)}:
        begun = time.monotonic()
        if not passes(program_of(suite), suite, 300):
            sys.exit(f"mutate.py: {suite} fails without a mutant")
        limits[suite] = 20 + 5 * (time.monotonic() - begun)
    return limits


class Tally:
    """What became of each mutant."""

    def __init__(self):
        self.counts = {}  # of each file
        self.lock = threading.Lock()
        self.survivors = []
        self.outcomes = open(os.path.join(BUILD, "outcomes"), "w", encoding="utf-8", buffering=1)

    def note(self, mutant, outcome, by=""):
        with self.lock:
            self.counts.setdefault(mutant.path, Counter())[outcome] += 1
            text = str(mutant).replace("\n", "\n  ")
            self.outcomes.write(f"{outcome} {by}: line {mutant.line}\n  {text}\n")
            if outcome == "survived":
                self.survivors.append(mutant)
                print(f"\nline {mutant.line}\n{mutant}", flush=True)
                with open(SURVIVORS, "a", encoding="utf-8") as file:
                    file.write(f"{mutant}\n")

    def print(self):
        columns = ["listed", "broken", "same", "native", "guest", "survived"]
        print(f"\n{'made':>35}" + "".join(f"{column:>9}" for column in columns))
        total = Counter()
        for path, counts in [*self.counts.items(), ("all", total)]:
            print(f"{path:<30}{sum(counts.values()):>5}" +
                  "".join(f"{counts[column]:>9}" for column in columns))
            total += counts
        print("listed: in EQUIVALENT; broken: does not compile; same: the machine code is that of "
              "the source or\nof another mutant; native, guest: where a test failed")


class NativeRun:
    def __init__(self, project, tally, limits, work):
        self.project, self.tally, self.limits, self.work = project, tally, limits, work
        self.codes = set()
        self.lock = threading.Lock()

    def is_new(self, build):
        with self.lock:
            code = hash(build.code())
            new = bool(build.objects) and code not in self.codes
            self.codes.add(code)
            return new

    def __call__(self, numbered):
        """Returns the mutant's build if it survives."""
        number, mutant = numbered
        build = Build(self.project, mutant, os.path.join(self.work, str(number)))
        if not build.compile_library():
            outcome, by = "broken", ""
        # The tests may have other code even if the library has the same.
        elif not self.is_new(build) and not mutant.path.startswith("include/"):
            outcome, by = "same", ""
        else:
            outcome, by = self.first_failure(build)
        if outcome == "survived":
            return build
        self.tally.note(mutant, outcome, by)
        build.remove()
        return None

    def first_failure(self, build):
        for suite in native_suites(build.mutant.path):
            program = build.link(suite)
            if program is None:
                return "broken", suite
            if not passes(program, suite, self.limits[suite]):
                return "native", suite
        return "survived", ""


# ---- running in the guest ----

def guest_job(name, programs, first_case):
    words = [",".join([program, *ARGUMENTS.get(suite, [])]) for suite, program in programs.items()]
    if first_case:
        suite, case = first_case
        words.insert(0, programs[suite] + "@" + case.replace(" ", "+"))
    script = os.path.join(HERE, "first_failure.sh")
    return "\t".join([name, str(GUEST_SECONDS * len(words)), "PKEYGUARD_TEST_EXPECT=pku",
                      f"/bin/sh {script} {GUEST_SECONDS} {' '.join(words)}"]) + "\n"


def boot(name, jobs, first_cases):
    """Runs jobs, which are programs by the names of suites. Returns the last line of each one that
    failed, "" if it did not, None if the guest stopped before."""
    guest = os.path.join(GUEST, name)
    shutil.rmtree(guest, ignore_errors=True)
    os.makedirs(guest)
    for part in ("vmlinuz", "init"):
        os.symlink(os.path.join(GUEST, part), os.path.join(guest, part))
    with open(os.path.join(guest, "jobs"), "w", encoding="utf-8") as file:
        file.writelines(guest_job(job, programs, first_cases.get(job))
                        for job, programs in jobs.items())
    files = [os.path.join(HERE, "first_failure.sh"), "/usr/bin/timeout",
             os.path.join(BUILD, "libpkeyguard/reporter.so"), *glob.glob(f"{BUILD}/tests/plugin_*.so"),
             *(program for programs in jobs.values() for program in programs.values())]
    seconds = sum(GUEST_SECONDS * len(programs) for programs in jobs.values())
    environment = {"GUEST_CPUS": "1", "GUEST_MEMORY": "2048", "GUEST_TIMEOUT": str(seconds)}
    run(["sh", os.path.join(SOURCE, "tests/guest/boot.sh"), guest, os.path.join(guest, "jobs"), *files],
        env=os.environ | environment)
    results = {}
    for job in jobs:
        path = os.path.join(guest, "results", job)
        results[job] = None
        if os.path.exists(path + ".status"):
            with open(path + ".status", encoding="utf-8") as status, \
                    open(path + ".log", encoding="utf-8", errors="replace") as log:
                last = (log.read().splitlines() or [""])[-1]
                results[job] = "" if status.read() == "exit 0\n" else last
    os.remove(os.path.join(guest, "initramfs"))
    return results


def check_guest():
    """Runs the suites without a mutant, once for a build."""
    must_run(["sh", os.path.join(SOURCE, "tests/guest/fetch-kernel.sh"), GUEST, "6.12"])
    suites = {suite for suites in SUITES.values() for suite in suites.split()}
    programs = {suite: program_of(suite) for suite in suites}
    checked = os.path.join(GUEST, "checked")
    if os.path.exists(checked) and \
            all(os.path.getmtime(program) < os.path.getmtime(checked) for program in programs.values()):
        return
    failed = boot("none", {"none": programs}, {})["none"]
    if failed != "":
        sys.exit(f"mutate.py: in the guest without a mutant: {failed}")
    open(checked, "w", encoding="utf-8").close()


def run_in_guest(builds, tally):
    jobs, first_cases = {}, {}
    if not builds:
        return
    for build in builds:
        programs = {suite: build.link(suite)
                    for suite in SUITES[folder_of(build.mutant.path)].split()}
        name = os.path.basename(build.directory)
        jobs[name] = programs
        first_cases[name] = FIRST_CASES.get(build.mutant.path)
    results = boot(next(iter(jobs)), jobs, first_cases)
    for build in builds:
        failed = results[os.path.basename(build.directory)]
        if failed is None:
            failed = "the guest stopped"
        tally.note(build.mutant, "guest" if failed else "survived", failed)
        build.remove()


def main():
    parser = argparse.ArgumentParser(description="mutation testing of the library")
    parser.add_argument("--file", action="append", help="only mutants of this file")
    parser.add_argument("--count", type=int, default=12, help="mutants of each file (12)")
    parser.add_argument("--seed", type=int, default=1, help="chooses them (1)")
    parser.add_argument("--jobs", type=int, default=1, help="how many run natively at a time (1)")
    parser.add_argument("--guests", type=int, default=1, help="how many guests run at a time (1)")
    parser.add_argument("--list", action="store_true", help="only print them")
    parser.add_argument("--again", action="store_true", help="only those that survived the last run")
    options = parser.parse_args()

    paths = options.file or library_files()
    known = known_survivors()
    if options.again:
        again = read_keys(SURVIVORS)
        mutants = [mutant for path in paths for mutant in all_mutants(path) if mutant.key() in again]
    else:
        mutants = [mutant for path in paths for mutant in choose(path, options.count, options.seed)]
    if options.list:
        print(*mutants, sep="\n")
        return 0

    os.nice(10)
    project = Project()
    limits = measure_suites(paths)
    check_guest()
    work = os.path.join(BUILD, "work")
    shutil.rmtree(work, ignore_errors=True)
    open(SURVIVORS, "w", encoding="utf-8").close()
    tally = Tally()
    for mutant in mutants:
        if mutant.key() in known:
            tally.note(mutant, "listed")
    left = [mutant for mutant in mutants if mutant.key() not in known]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool, \
            concurrent.futures.ThreadPoolExecutor(options.guests) as guest:
        boots, alive = [], []
        for build in pool.map(NativeRun(project, tally, limits, work), enumerate(left)):
            alive += [build] if build else []
            if len(alive) == BATCH:
                boots.append(guest.submit(run_in_guest, alive, tally))
                alive = []
        boots.append(guest.submit(run_in_guest, alive, tally))
        for done in boots:
            done.result()
    tally.print()
    return 1 if tally.survivors else 0


if __name__ == "__main__":
    sys.exit(main())
