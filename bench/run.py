"""Runs the benchmark suite under several allocators in turn: scripts/bench finds these and starts it.

One process for each case, number of threads, allocator and repetition. A repetition goes through all points, and
through all allocators at each point, every time in another order, so that what disturbs the machine disturbs all alike.
Each run is a line of runs.csv as soon as it has ended; report.py makes tables and pictures of that file.
"""
import argparse
import collections
import csv
import datetime
import glob
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import report

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(HERE)
SUITE = os.path.join(ROOT, "build", "bench", "suite")
PROGRAMS = {}  # the script and its case for each case of whole programs

DISTURBED = report.DISTURBED
TRIES = 3  # of a run that others disturb
HANGS = 120  # seconds
HANGS_AS_PROGRAM = 600
COUNTED = ("mmap", "munmap", "madvise", "mremap", "brk")
COUNTED_ITERATIONS = 20  # the same work for every allocator, while its system calls are counted

# `length` is that of a run, `budget` in seconds, `threads` None for all.
Plan = collections.namedtuple("Plan", "repeats length budget threads counting")
FULL = Plan(5, ("--seconds", "0.15"), 55 * 60, None, True)
QUICK = Plan(3, ("--seconds", "0.02"), 150, (1, 2, 8), False)
PLANS = {report.GROWTH: Plan(3, ("--seconds", "0.1"), 30 * 60, None, False),
         report.IDLE: Plan(3, ("--iterations", "1"), 30 * 60, None, False)}

Allocator = collections.namedtuple("Allocator", "name library version")
Point = collections.namedtuple("Point", "family case threads environment hot")


class Failed(Exception):
    """Nothing more can be measured; the text says what to do."""


class RunFailed(Exception):
    """One run gave no result; the text says how to see it again."""


def fields(line):
    """The record key=value key=value... as a dictionary. The path that may follow as malloc= may have spaces in it."""
    words, found, path = line.strip().partition(" malloc=")
    record = dict(word.split("=", 1) for word in words.split() if "=" in word)
    return {**record, "malloc": path} if found else record


# ---------------------------------------------------------------------------------------------------- progress

class Progress:
    """A line on standard error: redrawn in place on a terminal, elsewhere a plain line every ten seconds."""

    def __init__(self):
        self.terminal = sys.stderr.isatty()
        self.last = 0

    def show(self, text):
        if self.terminal:
            sys.stderr.write("\r\033[K" + text[: shutil.get_terminal_size().columns - 1])
        elif time.monotonic() - self.last >= 10:
            sys.stderr.write(text + "\n")
            self.last = time.monotonic()
        sys.stderr.flush()

    def end(self):
        if self.terminal:
            sys.stderr.write("\r\033[K")


# ------------------------------------------------------------------------------------------- a single run

class Runner:
    """Runs points under allocators, and checks that the preload took effect."""

    def __init__(self, scratch, errors=None):
        self.scratch, self.errors = scratch, errors
        self.links = {}

    def preloadable(self, library):
        """LD_PRELOAD cannot name a path with a space or a colon in it: such a one gets a link."""
        if not re.search(r"[\s:]", library):
            return library
        if library not in self.links:
            directory = tempfile.mkdtemp(dir=self.scratch)
            self.links[library] = os.path.join(directory, re.sub(r"[\s:]", "-", os.path.basename(library)))
            os.symlink(library, self.links[library])
        return self.links[library]

    def environment(self, allocator, point):
        env = dict(os.environ)
        if allocator.library:
            env["LD_PRELOAD"] = self.preloadable(allocator.library)
        env.update(setting.split("=", 1) for setting in point.environment.split())
        return env

    @staticmethod
    def verify(allocator, record):
        """The program says in which file its malloc lies."""
        malloc = record["malloc"]
        if allocator.library:
            expected = malloc == os.path.realpath(allocator.library)
        else:
            expected = os.path.basename(malloc).startswith(("libc.", "libc-"))
        if not expected:
            raise Failed(f"{allocator.name} is not what was measured: malloc lies in {malloc}. Can it be preloaded? "
                         f"Try:  LD_PRELOAD={allocator.library} true")

    def start(self, allocator, point, length, idle=False, before=()):
        """Starts a run and waits for its record: (process, record), or (process, None) where it cannot be run."""
        command = [*before, SUITE, "--run", f"{point.family}/{point.case}", "--threads", str(point.threads), *length]
        if idle:
            command.append("--idle")
        process = subprocess.Popen(command, env=self.environment(allocator, point), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=self.errors, text=True, start_new_session=True)
        watchdog = threading.Timer(HANGS, process.kill)
        watchdog.start()
        try:
            record = fields(process.stdout.readline())
            if not idle or not record:
                process.stdout.close()
                process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            watchdog.cancel()
        if "skipped" in record:
            return process, None
        if not record or process.returncode:
            raise RunFailed(f"{point.environment} LD_PRELOAD={allocator.library} {shlex.join(command)}")
        self.verify(allocator, record)
        return process, record

    def count_calls(self, allocator, point):
        """The memory system calls of a fixed amount of work."""
        log = os.path.join(self.scratch, "strace")
        env = self.environment(allocator, point)
        before = ["strace", "-f", "--seccomp-bpf", "-qq", "-c", "-U", "name,calls", "-e", "trace=" + ",".join(COUNTED),
                  "-o", log, "env", "LD_PRELOAD=" + env.get("LD_PRELOAD", "")]
        plain = Allocator(allocator.name, "", allocator.version)  # not into strace itself
        command = [*before, SUITE, "--run", f"{point.family}/{point.case}", "--threads", str(point.threads),
                   "--iterations", str(COUNTED_ITERATIONS)]
        try:
            done = subprocess.run(command, env=self.environment(plain, point), stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, timeout=HANGS)
        except subprocess.TimeoutExpired:
            raise RunFailed(shlex.join(command)) from None
        record = fields(done.stdout)
        if "skipped" in record:
            return None
        if done.returncode or not record:
            raise RunFailed(shlex.join(command))
        self.verify(allocator, record)
        calls = dict.fromkeys(COUNTED, 0)
        with open(log) as lines:
            for line in lines:
                words = line.split()
                if words and words[0] in calls:
                    calls[words[0]] = int(words[1])
        return {**record, **calls}

    def run_program(self, allocator, point):
        """A whole program: its script verifies the preload itself, and gives - for what it does not measure."""
        script, case = PROGRAMS[point.case]
        command = [script, self.preloadable(allocator.library) if allocator.library else "", case]
        log = os.path.join(self.scratch, "program")
        with open(log, "w") as errors, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                                        stderr=errors, text=True) as process:
            watchdog = threading.Timer(HANGS_AS_PROGRAM, process.terminate)
            watchdog.start()
            try:
                record = fields(process.stdout.read())
            finally:
                watchdog.cancel()
        if process.returncode or "time_ns_per_op" not in record:
            with open(log) as said:
                last = said.read().strip().splitlines()[-1:]
            raise RunFailed(shlex.join(command) + "".join(f" (it said: {line})" for line in last))
        record["time_ns"], record["cpu_ns"] = record.pop("time_ns_per_op"), record.pop("cpu_ns_per_op", "-")
        return {key: value for key, value in record.items() if value != "-"}


# ---------------------------------------------------------------------------------------------- all the runs

class Session:
    """The points times the allocators times the repetitions, and what has been measured of them."""

    def __init__(self, runner, points, allocators, plan, results, commit):
        self.runner, self.points, self.allocators, self.plan = runner, points, allocators, plan
        self.commit = commit
        self.progress = Progress()
        self.started = time.monotonic()
        self.done = 0
        self.idling = []
        self.impossible = set()
        self.failures = []
        self.interrupted = False
        self.repeats_done = 0
        self.file = open(results, "w", newline="")
        self.csv = csv.DictWriter(self.file, report.COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        self.csv.writeheader()

    def write(self, point, allocator, repetition, record):
        if "ops_per_s" not in record and "time_ns" in record:
            record["ops_per_s"] = f"{1e9 / float(record['time_ns']):.0f}"
        self.csv.writerow({
            **record, "date": datetime.datetime.now().isoformat("T", "seconds"), "commit": self.commit,
            "family": point.family, "case": point.case, "threads": point.threads, "allocator": allocator.name,
            "repetition": repetition, "disturbed_percent": record.get("others", ""),
        })
        self.file.flush()

    def reap(self, wait=False):
        """Takes in the runs that have idled for their second meanwhile."""
        for entry in self.idling[:]:
            process, point, allocator, repetition, record = entry
            if wait or process.poll() is not None:
                record.update(fields(process.stdout.read()))
                process.stdout.close()
                process.wait()
                self.write(point, allocator, repetition, record)
                self.idling.remove(entry)

    def elapsed(self):
        return time.monotonic() - self.started

    def time_left(self, total):
        if self.done < 10:
            return ""
        left = self.elapsed() / self.done * (total - self.done)
        if self.plan.budget:
            left = max(0, min(left, self.plan.budget - self.elapsed()))
        return f"; {left / 60:.0f} min left" if left >= 90 else f"; {left:.0f} s left"

    def on_schedule(self, total):
        return not self.plan.budget or self.elapsed() < self.plan.budget * max(self.done, 1) / total

    def calmest(self, allocator, point, repetition, total):
        """Where wall time counts and others had more than DISTURBED percent of the CPUs, the run says more of them than
        of malloc: it is made again, and if the machine does not calm down the calmest one is kept."""
        best = None
        idle = repetition == 1 or point.family == report.IDLE
        on_the_wall = point.family not in report.APART
        for _ in range(TRIES):
            process, record = self.runner.start(allocator, point, self.plan.length, idle)
            if record is None:
                self.impossible.add((point, allocator))
                return
            if best is None or int(record["others"]) < int(best[1]["others"]):
                if best:
                    self.discard(best[0])
                best = process, record
            else:
                self.discard(process)
            if not on_the_wall or record["clock"] == "cpu" or int(best[1]["others"]) <= DISTURBED or \
                    not self.on_schedule(total):
                break
        if idle:
            self.idling.append((best[0], point, allocator, repetition, best[1]))
        else:
            self.write(point, allocator, repetition, best[1])

    @staticmethod
    def discard(process):
        process.kill()
        process.wait()
        process.stdout.close()

    def fail(self, point, allocator, failure):
        command = str(failure).replace(ROOT + os.sep, "")
        self.failures.append(f"{point_name(point)} under {allocator.name}; to see it again: {command}")

    def one(self, point, allocator, repetition, total):
        try:
            if point.family == report.PROGRAMS:
                self.write(point, allocator, repetition, self.runner.run_program(allocator, point))
            else:
                self.calmest(allocator, point, repetition, total)
        except RunFailed as failure:
            self.impossible.add((point, allocator))
            self.fail(point, allocator, failure)

    def pass_over(self, what, repetition, total, action):
        """All points and allocators once; the allocators in another order at each point."""
        for index, point in enumerate(self.points):
            for turn in range(len(self.allocators)):
                allocator = self.allocators[(turn + index + repetition) % len(self.allocators)]
                if (point, allocator) not in self.impossible:
                    self.progress.show(f"run {self.done + 1} of {total} ({what}): {point_name(point)}, {allocator.name}"
                                       + self.time_left(total))
                    action(point, allocator)
                self.done += 1
                self.reap()

    def count(self, point, allocator):
        if point.threads > 8:
            return
        try:
            record = self.runner.count_calls(allocator, point)
        except RunFailed as failure:
            self.fail(point, allocator, failure)
            return
        if record:
            # The times of a traced run say nothing.
            times = ("time_ns", "cpu_ns", "cpu_freeing_ns")
            self.write(point, allocator, "counted", {k: v for k, v in record.items() if k not in times})

    def run(self):
        plan, size = self.plan, len(self.points) * len(self.allocators)
        counting = plan.counting and self.points[0].family != report.PROGRAMS and can_trace()
        total = size * (plan.repeats + counting)
        try:
            for repetition in range(1, plan.repeats + 1):
                began = self.elapsed()
                self.pass_over(f"repetition {repetition} of {plan.repeats}", repetition, total,
                               lambda point, allocator: self.one(point, allocator, repetition, total))
                self.repeats_done = repetition
                took = self.elapsed() - began
                if repetition == 1 and counting:
                    self.pass_over("counting system calls", 0, total, self.count)
                if plan.budget and repetition < plan.repeats and self.elapsed() + took > plan.budget:
                    self.progress.end()
                    print(f"Stopped after {repetition} of {plan.repeats} repetitions: time is up.", file=sys.stderr)
                    break
        except KeyboardInterrupt:
            self.interrupted = True
            self.progress.end()
            print("Interrupted: what is finished is kept.", file=sys.stderr)
        finally:
            self.reap(wait=True)
            self.progress.end()
            self.file.close()


# ------------------------------------------------------------------------------------------------- what to run

def suite_points():
    listed = subprocess.run([SUITE, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout
    points, legend = [], {}
    for line in listed.splitlines():
        name, threads, unit, environment, hot, what = line.split("\t")
        family, case = name.split("/")
        legend[family, case] = (unit, what)
        points += [Point(family, case, int(n), environment, hot == "hot") for n in threads.split(",")]
    return points, legend


def program_points():
    points, legend = [], {}
    for script in sorted(glob.glob(os.path.join(glob.escape(HERE), "programs", "*.sh"))):
        if os.access(script, os.X_OK):
            name = os.path.basename(script)[:-3]
            listed = subprocess.run([script, "--cases"], stdout=subprocess.PIPE, text=True, check=True).stdout
            for case in listed.split():
                PROGRAMS[f"{name}-{case}"] = script, case
                points.append(Point(report.PROGRAMS, f"{name}-{case}", 0, "", False))
                legend[report.PROGRAMS, f"{name}-{case}"] = "operation", f"bench/programs/{name}.sh, {case}"
    return points, legend


def can_trace():
    """Containers may forbid it."""
    traced = subprocess.run(["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "true"], stderr=subprocess.DEVNULL)
    if traced.returncode:
        print("System calls are not counted: strace cannot trace here.", file=sys.stderr)
    return traced.returncode == 0


def point_name(point):
    return f"{point.family}/{point.case}" + (f"/{point.threads}" if point.threads else "")


# ------------------------------------------------------------------------------------------------ instructions

def instructions(runner, allocator, point, iterations):
    log = os.path.join(runner.scratch, "callgrind")
    runner.start(allocator, point, ["--iterations", str(iterations)],
                 before=["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--log-file=" + log])
    with open(log) as lines:
        found = re.search(r"Collected : (\d+)", lines.read())
    if not found:
        raise Failed("valgrind counted nothing; try:  valgrind --tool=callgrind true")
    return int(found.group(1))


def count_instructions(runner, points, allocators, output):
    """Instructions per pair of the hot cases: the difference of two lengths, so that start-up and warming cancel."""
    short, long, pairs = 100, 300, 200 * 1000
    progress, table = Progress(), []
    hot = [p for p in points if p.hot and p.threads == 1]
    if not hot:
        raise Failed("--filter leaves no case whose instructions can be counted: those of one thread that hardly "
                     "enter the kernel (small/pair, small/batch-fifo, small/replace-10k, contention/one-size)")
    for point in hot:
        values = []
        for allocator in allocators:
            progress.show(f"counting the instructions of {point_name(point)}, {allocator.name}")
            values.append((instructions(runner, allocator, point, long) -
                           instructions(runner, allocator, point, short)) / pairs)
        table.append([f"{point.family}/{point.case}", *(f"{v:.1f}" for v in values)])
    progress.end()
    text = report.table([["instructions per pair", *(a.name for a in allocators)], *table])
    with open(os.path.join(output, "instructions.md"), "w") as file:
        file.write("# Instructions per malloc and free, by callgrind\n\n" + text)
    print(text)


# --------------------------------------------------------------------------------------------------- self-test

def self_test(scratch):
    """Whether the harness sees what it is to see, as TAP: a planted slowdown, a planted leak, a library that cannot be
    preloaded. The statistics are report.py's own to test."""
    outcomes = report.self_test()
    runner = Runner(scratch)
    planted = {name: Allocator(name, os.path.join(ROOT, "build", "bench", f"planted-{name}.so"), "planted")
               for name in ("nothing", "delay", "leak")}
    points = [p for p in suite_points()[0] if point_name(p) in ("small/pair/1", "contention/bursts/2")]
    results = os.path.join(scratch, "runs.csv")
    session = Session(runner, points, [Allocator("glibc", "", "")] + list(planted.values()),
                      Plan(2, ("--iterations", "20"), None, None, False), results, "self-test")
    session.run()
    runs = report.Runs(results)

    def median(name, column, case):
        return next(runs.median(p, name, column) for p in runs.points if p.case == case)

    slow, plain = median("delay", "time_ns", "pair"), median("nothing", "time_ns", "pair")
    outcomes.append((slow > 3 * plain, f"a planted delay is seen: {slow:.0f} ns per pair, without it {plain:.0f}"))
    leaking, plain = (median(name, "idle_rss_kib", "bursts") / 1024 for name in ("leak", "nothing"))
    outcomes.append((leaking > plain + 4, f"a planted leak is seen: {leaking:.1f} MiB stay, without it {plain:.1f}"))
    runner.errors = subprocess.DEVNULL  # the loader's, of what now follows
    text = os.path.join(scratch, "text.so")
    with open(text, "w") as file:
        file.write("no library\n")
    for name, library in (("a file that is no library", text), ("a library that is gone", text + ".gone")):
        try:
            runner.start(Allocator("text", library, ""), points[0], ["--iterations", "1"])
            outcomes.append((False, name + " is refused"))
        except Failed as failure:
            outcomes.append(("is not what was measured" in str(failure), name + " is refused"))
    strange = os.path.join(scratch, "a name: with spaces.so")
    shutil.copy(planted["nothing"].library, strange)
    _, record = runner.start(Allocator("strange", strange, ""), points[0], ["--iterations", "1"])
    outcomes.append((record["malloc"] == strange, "a library whose path has spaces and a colon is measured"))
    for number, (passed, name) in enumerate(outcomes, 1):
        print("ok" if passed else "not ok", number, "-", name)
    print(f"1..{len(outcomes)}")
    return 0 if all(passed for passed, _ in outcomes) else 1


# --------------------------------------------------------------------------------------------------------- main

def main():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--allocator", nargs=3, action="append", default=[], metavar=("NAME", "LIBRARY", "VERSION"))
    parser.add_argument("--lacking", action="append", default=[], metavar="PACKAGE")
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--output", default="")
    parser.add_argument("--filter", default="")
    parser.add_argument("--repeats", type=int, default=0)
    for flag in ("--quick", "--callgrind", "--self-test", *("--" + family for family in report.APART)):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))  # and not without clearing up
    scratch = tempfile.mkdtemp(prefix="cadastre-bench.")
    try:
        if options.self_test:
            return self_test(scratch)
        try:
            wanted = re.compile(options.filter)
        except re.error as error:
            raise Failed(f"--filter {options.filter}: not a regular expression: {error}") from None
        apart = next((family for family in report.APART if getattr(options, family)), "")
        plan = QUICK if options.quick else PLANS.get(apart, FULL)
        if options.repeats:
            plan = plan._replace(repeats=options.repeats, budget=None)
        points, legend = program_points() if options.programs else suite_points()
        points = [p for p in points if wanted.search(point_name(p)) and
                  (p.family == apart if apart else p.family not in report.APART) and
                  (options.programs or not plan.threads or p.threads in plan.threads)]
        if not points:
            raise Failed(f"--filter {options.filter}: no point has such a name; build/bench/suite --list names the "
                         "cases, and after a slash follow the threads, as in contention/bursts/8")
        partial = options.quick or options.filter
        output = options.output or os.path.join(ROOT, *(["build", "bench", "results"] if partial else
                                                        ["bench", "results"]))
        os.makedirs(output, exist_ok=True)
        allocators = [Allocator(name, library, version) for name, library, version in options.allocator]
        runner = Runner(scratch)
        if options.callgrind:
            count_instructions(runner, points, allocators, output)
            return 0
        results = os.path.join(output, (apart or "runs") + ".csv")
        session = Session(runner, points, allocators, plan, results, options.commit)
        session.run()
        report.write(results, output, legend, allocators,
                     report.circumstances(options.commit, allocators, session.repeats_done, options.lacking,
                                          session.failures))
        return 130 if session.interrupted else 1 if session.failures else 0
    except Failed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
