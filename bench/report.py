"""Tables and pictures of what run.py measured: statistics, a page and a picture for each family, and a summary.

In the family growth, cases that differ in the number at the end of their names alone are steps of one curve; in the
family idle it is what stays resident that counts. Those two, and whole programs, are no part of the summary.

A value is the median of its repetitions; its spread is (highest - lowest) / median. "best" is the best of the peers
that are compared as a rule, glibc among them, and never of what --against adds. A mean is geometric, over ratios, and
every case counts once in it, whatever the number of threads at which it was run.
"""
import collections
import csv
import datetime
import math
import os
import shutil
import statistics
import subprocess
import sys

COLUMNS = ("date commit family case threads allocator repetition time_ns ops_per_s clock cpu_ns cpu_freeing_ns "
           "operations peak_rss_kib idle_rss_kib rss_before_kib live minor_faults major_faults mmap munmap madvise "
           "mremap brk disturbed_percent kept").split()
OURS = "cadastre"
PROGRAMS = "programs"  # the family of whole programs, which has no numbers of threads
GROWTH, IDLE = "growth", "idle"
APART = (PROGRAMS, GROWTH, IDLE)  # families that are run by options of their own
PEERS = ("glibc", "mimalloc", "jemalloc", "tcmalloc", "tbbmalloc")
DISTURBED = 10  # percent of the CPUs: from there on a wall-clock time says more of other processes than of malloc
BEHIND = 1.10  # of the best: worth a word in the summary
NAMED = 12  # cases at most, there
IDLE_FACTOR, IDLE_MORE = 1.2, 16 * 1024  # of what is live, and KiB: so much may a program at rest keep
HELD = 2048  # KiB above what the process had before: from there on a peak RSS says something of how blocks are kept

Point = collections.namedtuple("Point", "family case threads")


# -------------------------------------------------------------------------------------------------- statistics

def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def spread(values):
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0


class Runs:
    """The lines of a runs.csv. Lines whose repetition is no number are of passes that were not timed."""

    def __init__(self, path):
        self.values = collections.defaultdict(list)
        self.disturbed = set()
        self.points, self.allocators = [], []
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                point = Point(row["family"], row["case"], int(row["threads"]))
                name = row["allocator"]
                if point not in self.points:
                    self.points.append(point)
                if name not in self.allocators:
                    self.allocators.append(name)
                timed = row["repetition"].isdigit()
                if row["idle_rss_kib"]:
                    stays = float(row["idle_rss_kib"]) - float(row["rss_before_kib"])
                    self.values[point, name, "stays_kib", timed].append(stays)
                for column in COLUMNS[COLUMNS.index("time_ns"):]:
                    if row[column] and column != "clock":
                        self.values[point, name, column, timed].append(float(row[column]))
                if timed and row["clock"] != "cpu" and float(row["disturbed_percent"] or 0) > DISTURBED:
                    self.disturbed.add((point, name))

    def of_family(self, family):
        """The allocators that could run any of it."""
        return [name for name in self.allocators
                if any(self.all(p, name, "time_ns") for p in self.points if p.family == family)]

    def all(self, point, name, column, timed=True):
        return self.values.get((point, name, column, timed), [])

    def median(self, point, name, column, timed=True):
        values = self.all(point, name, column, timed)
        return statistics.median(values) if values else None

    def ratio(self, point, column, name, to):
        """Of medians; `to` is an allocator, or "best"."""
        ours = self.median(point, name, column)
        if to == "best":
            known = [self.median(point, peer, column) for peer in PEERS]
            other = min((v for v in known if v), default=None)
        else:
            other = self.median(point, to, column)
        return ours / other if ours and other else None

    def holds(self, point):
        """Whether the blocks of the case take memory that is worth the name, by glibc's measure."""
        peak, before = (self.median(point, "glibc", column) for column in ("peak_rss_kib", "rss_before_kib"))
        return peak is not None and peak - (before or 0) >= HELD

    def mean_ratio(self, column, name, to, of=lambda point: True):
        """Geometric mean over the cases that have such points, each the mean over its numbers of threads."""
        cases = collections.defaultdict(list)
        for point in filter(of, self.points):
            ratio = self.ratio(point, column, name, to)
            if ratio:
                cases[point.family, point.case].append(ratio)
        return geometric_mean(geometric_mean(ratios) for ratios in cases.values())

    def families(self):
        return list(dict.fromkeys(point.family for point in self.points))

    def cases(self, family):
        return list(dict.fromkeys(point.case for point in self.points if point.family == family))

    def curves(self, family):
        """The title of each curve, and its points as (x, point)."""
        found = collections.defaultdict(list)
        for point in (p for p in self.points if p.family == family):
            stem, step = curve_of(point)
            several = step is not None and len({p.threads for p in self.points if curve_of(p)[0] == stem}) > 1
            title = stem + (f", {point.threads} threads" if several else "")
            found[title].append((point.threads if step is None else step, point))
        return list(found.items())

    def of_case(self, family, case):
        return [point for point in self.points if (point.family, point.case) == (family, case)]

    def may_stay(self, point):
        """KiB that may stay resident, by the first allocator's measure of what is live: all do the same work."""
        kept = next((self.median(point, name, "kept") for name in self.allocators if self.all(point, name, "kept")), 0)
        return IDLE_FACTOR * kept / 1024 + IDLE_MORE


def curve_of(point):
    """The name of the curve that a point is on, and the step that it is there; None: the threads are what grows."""
    stem, _, step = point.case.rpartition("-")
    return (stem, int(step)) if point.family == GROWTH and step.isdigit() else (point.case, None)


# ------------------------------------------------------------------------------------------------------ tables

def table(rows):
    """Rows of cells, the first row the heading, as Markdown that is aligned too: the first column to the left."""
    first, *others = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    lines = ["| " + " | ".join([row[0].ljust(first), *(cell.rjust(w) for cell, w in zip(row[1:], others))]) + " |"
             for row in rows]
    lines.insert(1, "|" + "|".join(["-" * (first + 2), *("-" * (w + 1) + ":" for w in others)]) + "|")
    return "\n".join(lines) + "\n"


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def whole(value):
    return f"{value:,.0f}"


def two(ratio):
    return "-" if ratio is None else f"{ratio:.2f}"


def ratio_columns(runs):
    others = [name for name in runs.allocators if name not in PEERS and name != OURS]
    return ["best", "glibc", *others] if OURS in runs.allocators else []


def value_table(runs, family, column, scale, with_spread=True):
    """A row for each point: a cell for each allocator, and what ours is to others."""
    names, threaded = runs.of_family(family), family != PROGRAMS
    ratios = [to for to in ratio_columns(runs) if to in names or to == "best" and "glibc" in names]
    rows = [["case", *["threads"] * threaded, *names, *(f"{OURS}/{to}" for to in ratios)]]
    for point in (p for p in runs.points if p.family == family):
        unit, label = scale(runs, point)
        row = [point.case + label, *[str(point.threads)] * threaded]
        for name in names:
            values = runs.all(point, name, column)
            if not values:
                row.append("-")
                continue
            text = number(statistics.median(values) / unit)
            if with_spread and len(values) > 1:
                text += f" ({spread(values):.0%})"
            row.append(("~" if column == "time_ns" and (point, name) in runs.disturbed else "") + text)
        row += [two(runs.ratio(point, column, OURS, to)) for to in ratios]
        if any(runs.all(point, name, column) for name in names):
            rows.append(row)
    return table(rows) if len(rows) > 1 else ""


def time_scale(runs, point):
    """The unit in nanoseconds, and how it is said, where all are large."""
    least = min(filter(None, (runs.median(point, name, "time_ns") for name in runs.allocators)), default=0)
    return (1e6, " (ms)") if least > 1e7 else (1e3, " (us)") if least > 1e4 else (1, "")


def mebibytes(_runs, _point):
    return 1024, ""


def pair_table(runs, family, first, second, timed, form):
    """A row for each point, with two sums of columns in each cell: "12 / 3"."""
    names = runs.of_family(family)
    rows = [["case", "threads", *names]]
    for point in (p for p in runs.points if p.family == family):
        cells = []
        for name in names:
            sums = [[runs.median(point, name, column, timed) for column in columns] for columns in (first, second)]
            known = all(v is not None for values in sums for v in values)
            cells.append(" / ".join(form(sum(values)) for values in sums) if known else "-")
        if set(cells) != {"-"}:
            rows.append([point.case, str(point.threads), *cells])
    return table(rows) if len(rows) > 1 else ""


def scaling_table(runs, family):
    """The throughput of as many threads as there are CPUs, over that of one."""
    cpus = os.cpu_count() or 1
    names = runs.of_family(family)
    rows = [["case", "threads", *names]]
    for case in runs.cases(family):
        points = runs.of_case(family, case)
        several = [p for p in points if 1 < p.threads <= cpus]
        if points[0].threads != 1 or not several:
            continue
        cells = []
        for name in names:
            one, more = (runs.median(p, name, "ops_per_s") for p in (points[0], several[-1]))
            cells.append(two(more / one if one and more else None))
        rows.append([case, str(several[-1].threads), *cells])
    return table(rows) if len(rows) > 1 else ""


def growth_table(runs):
    """What an operation costs at the end of each curve, over what it costs at its start. In CPU time, which other
    processes disturb less; and where there are more threads than CPUs, nothing of the waiting is lost in it."""
    names = runs.of_family(GROWTH)
    rows = [["curve", "from", "to", *names]]
    for title, points in runs.curves(GROWTH):
        (start, first), (end, last) = points[0], points[-1]
        ends = [[runs.median(point, name, "cpu_ns") for point in (first, last)] for name in names]
        rows.append([title, whole(start), whole(end), *(two(b / a if a and b else None) for a, b in ends)])
    return table(rows)


def idle_table(runs):
    names = runs.of_family(IDLE)
    rows = [["case", "threads", "live", "may stay", *names]]
    for point in (p for p in runs.points if p.family == IDLE):
        may, cells = runs.may_stay(point), []
        for name in names:
            stays = runs.median(point, name, "stays_kib")
            cells.append("-" if stays is None else f"{stays / 1024:.1f}" + ("!" if stays > may else ""))
        rows.append([point.case, str(point.threads), f"{(may - IDLE_MORE) / IDLE_FACTOR / 1024:.1f}",
                     f"{may / 1024:.1f}", *cells])
    rows.append(["**too much, of all**", "", "", "", *(str(sum(row[4 + i].endswith("!") for row in rows[1:]))
                                                      for i in range(len(names)))])
    return table(rows)


# ---------------------------------------------------------------------------------------------------- pictures

COLOURS = ("#7f7f7f", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#d62728", "#8c564b", "#e377c2", "#bcbd22", "#17becf")


def colours(allocators):
    """The same allocator has the same colour in every picture."""
    known = [*PEERS, OURS]
    others = [name for name in allocators if name not in known]
    return {name: COLOURS[(known + others).index(name) % len(COLOURS)] for name in allocators}


LOGARITHMIC = 20  # a panel whose values differ by more than so many times has a logarithmic scale


def amount(x):
    """A label for it that is short."""
    for unit, letter in ((10**6, "M"), (10**3, "k")):
        if x >= unit and x % unit == 0:
            return f"{x // unit}{letter}"
    return str(x)


def panel(runs, steps, column, factor, title):
    """One panel: lines over the (x, point) of a curve or, where there is but one, bars."""
    points = [point for _, point in steps]
    names = [name for name in runs.allocators if any(runs.all(p, name, column) for p in points)]
    colour, lines, blocks = colours(runs.allocators), [], []
    every = [value * factor for p in points for name in names for value in runs.all(p, name, column)]
    logarithmic = min(every) > 0 and max(every) > LOGARITHMIC * min(every)
    bars = len(points) == 1
    for index, name in enumerate(names):
        rows = []
        for x, point in steps:
            values = [v * factor for v in runs.all(point, name, column)]
            if values:
                rows.append(f"{index if bars else x} {statistics.median(values)} {min(values)} {max(values)}")
        blocks.append("$d%d << EOD\n%s\nEOD\n" % (index, "\n".join(rows)))
        style = "3:4:(0.8) with boxerrorbars fs solid 0.6" if bars else "3:4 with yerrorlines pt 7 ps 0.5 lw 1.5"
        lines.append(f"$d{index} using 1:2:{style} lc rgb '{colour[name]}'")
    script = "".join(blocks) + f"set title '{title}'\n"
    script += "set logscale y\n" if logarithmic else "unset logscale y\n"
    script += "set yrange [*:*]\n" if logarithmic else "set yrange [0:*]\n"
    if bars:
        script += f"unset logscale x\nset xrange [-0.7:{len(names) - 0.3}]\nunset xtics\n"
    else:
        script += f"set logscale x 2\nset xrange [{steps[0][0] * 0.8}:{steps[-1][0] * 1.25}]\n"
        script += "set xtics font ',8' (%s)\n" % ", ".join(f"'{amount(x)}' {x}" for x, _ in steps)
    return script + "plot " + ", ".join(lines) + "\n"


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def draw(script, output, name, width, height):
    for terminal, suffix in (("pngcairo", "png"), ("svg", "svg")):
        path = os.path.join(output, f"{name}.{suffix}")
        text = f"set terminal {terminal} noenhanced size {width},{height} font 'sans,10' background 'white'\n" \
               f"set output {quoted(path)}\n{script}"
        if subprocess.run(["gnuplot", "-"], input=text, text=True).returncode:
            print(f"gnuplot could not draw {path}", file=sys.stderr)


def legend_labels(runs, names, top):
    """The names in their colours, in a row across the picture: only once, in the first panel."""
    colour = colours(runs.allocators)
    return "".join(f"set label {quoted(name)} at screen {0.04 + index * 0.92 / len(names):.3f},screen {top:.4f} "
                   f"textcolor rgb '{colour[name]}' font ',11'\n"
                   for index, name in enumerate(names))


def speed_and_memory(runs, steps, title):
    """Throughput, or in the family growth the CPU time of an operation, and peak RSS beside it."""
    column, units, label = "ops_per_s", ((1e6, "M"), (1e3, "k"), (1, "")), "/s"
    if steps[0][1].family == GROWTH:
        column, units, label = "cpu_ns", ((1e6, "ms"), (1e3, "us"), (1, "ns")), ""
    most = max(v for _, p in steps for name in runs.allocators for v in runs.all(p, name, column))
    factor, letter = next((scale for scale in units if most > scale[0]), units[-1])
    return panel(runs, steps, column, 1 / factor, f"{title}: {letter}{label}") + "unset label\n" + \
        panel(runs, steps, "peak_rss_kib", 1 / 1024, f"{title}: MiB")


def idle_memory(runs, steps, title):
    """What stays, and a black line for what may."""
    bound = "$bound << EOD\n" + "".join(f"{x} {runs.may_stay(p) / 1024}\n" for x, p in steps) + "EOD\n"
    drawn = panel(runs, steps, "stays_kib", 1 / 1024, f"{title}: MiB")
    line = "$bound with lines lw 2 lc rgb 'black', " if len(steps) > 1 else ""
    return bound + drawn.replace("\nplot ", "\nplot " + line)


def draw_family(runs, family, output):
    """A panel or two for each curve."""
    curves, names = runs.curves(family), runs.of_family(family)
    draw_curve, panels, what = speed_and_memory, 2, "operations a second by threads, and peak RSS beside it"
    if family == GROWTH:
        what = "CPU time of an operation, and peak RSS beside it"
    elif family == IDLE:
        draw_curve, panels, what = idle_memory, 1, "what stays resident, by threads; black: what may"
    across = min(4, panels * len(curves))
    down = math.ceil(panels * len(curves) / across)
    height = 240 * down + 90
    top = 1 - 80 / height
    script = f"set multiplot layout {down},{across} rowsfirst margins 0.05,0.99,{25 / height:.4f},{top:.4f} " \
             f"spacing 0.045,{55 / height:.4f} title '{family}: {what}'\nunset key\nset grid y\n" \
             "set tics font ',8'\n"
    script += legend_labels(runs, names, 1 - 42 / height)
    for title, steps in curves:
        script += draw_curve(runs, steps, title) + "unset label\n"
    draw(script + "unset multiplot\n", output, family, 320 * across, height)


def draw_summary(runs, output):
    """The means of time and memory to glibc, an allocator beside the other."""
    colour = colours(runs.allocators)
    script = "set multiplot layout 1,2\nunset key\nset grid y\nset style fill solid 0.6\n" \
             "set boxwidth 0.8\nset xtics rotate by -20\n"
    for column, title in (("time_ns", "time to glibc''s"), ("peak_rss_kib", "peak RSS to glibc''s")):
        means = [(name, runs.mean_ratio(column, name, "glibc")) for name in runs.allocators]
        means = [(name, mean) for name, mean in means if mean]
        if not means:
            return False
        script += f"set title '{title}, geometric mean of all cases'\nset xtics (" \
                  + ", ".join(f"{quoted(name)} {i}" for i, (name, _) in enumerate(means)) \
                  + f")\nset xrange [-0.6:{len(means) - 0.4}]\nset yrange [0:{1.15 * max(m for _, m in means)}]\n" \
                  + "".join(f"$d{i} << EOD\n{i} {mean}\nEOD\n" for i, (_, mean) in enumerate(means)) \
                  + "plot " + ", ".join(
                      f"$d{i} with boxes lc rgb '{colour[name]}', $d{i} using 1:2:(sprintf('%.2f', $2)) with labels "
                      "offset 0,0.6" for i, (name, _) in enumerate(means)) + "\n"
    draw(script + "unset multiplot\n", output, "summary", 900, 320)
    return True


# ------------------------------------------------------------------------------------------------------- pages

def first_line(*command):
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def field_of(path, key):
    with open(path) as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith(key)), "unknown")


def circumstances(commit, allocators, repeats, lacking, failures):
    """What the figures were taken on: without it they cannot be compared with any others."""
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
            huge = file.read().strip()
    except OSError:
        huge = "unknown"
    system = os.uname()
    return "\n".join((
        f"- machine: {field_of('/proc/cpuinfo', 'model name')}, {os.cpu_count()} CPUs, "
        f"{int(field_of('/proc/meminfo', 'MemTotal').split()[0]) >> 20} GiB; load at the end {os.getloadavg()[0]:.1f}",
        f"- kernel: {system.sysname} {system.release} {system.machine}; transparent huge pages: {huge}",
        f"- compiler: {first_line('gcc', '--version')}",
        "- allocators: " + ", ".join(f"{a.name} {a.version}" for a in allocators) + "; all at their defaults",
        f"- commit {commit}, {datetime.date.today()}, whole repetitions: {repeats}",
        *(f"- not compared, for want of it: {package} (`scripts/bench --install` gets it)" for package in lacking),
        *(f"- failed: {failure}" for failure in failures),
    )) + "\n"


READING = (
    "Medians; in parentheses the spread, (highest - lowest) / median. "
    f"`~`: other processes had more than {DISTURBED}% of the CPUs during a run that the wall clock times, in every "
    "try. `best`: the best of the peers, glibc among them.\n")


def case_lines(runs, family, legend):
    """What each case is; the steps of a curve in one line."""
    named = {}
    for point in (p for p in runs.points if p.family == family):
        stem, step = curve_of(point)
        named.setdefault(stem if step is None else stem + "-N", legend.get((family, point.case), ("", "")))
    return [f"- `{name}`: {what} ({unit})\n" for name, (unit, what) in named.items()]


def family_page(runs, family, legend):
    """The page of a family: what its cases are, and its tables."""
    cases, sections = "".join(case_lines(runs, family, legend)), []

    def section(title, text, body):
        if body:
            sections.append(f"## {title}\n\n{text}\n{body}")

    if family == IDLE:
        section("What stays", "MiB: resident one second after the load ended, less what was before it. May stay: "
                f"{IDLE_FACTOR} of what is live, and {IDLE_MORE >> 10} MiB; `!`: more did.\n", idle_table(runs))
        return cases + "\n" + "\n".join(sections)
    units = {legend.get((family, case), ("operation", ""))[0] for case in runs.cases(family)}
    unit = units.pop() if len(units) == 1 else "operation"
    is_program = family == PROGRAMS
    if family == GROWTH:
        section("Growth", "CPU time of an operation at the end of each curve, over that at its start.\n",
                growth_table(runs))
        section("CPU time", f"Nanoseconds per {unit}, of all threads.\n",
                value_table(runs, family, "cpu_ns", time_scale))
    else:
        section("Time", f"Nanoseconds per {unit}" + (", by the wall clock.\n" if is_program else
                                                     ", of all threads together; with one thread, CPU time.\n"),
                value_table(runs, family, "time_ns", time_scale))
        section("Scaling", "Throughput, over that of one thread.\n", scaling_table(runs, family))
    section("Peak RSS", "MiB.\n", value_table(runs, family, "peak_rss_kib", mebibytes))
    section("Idle RSS", "MiB, one second after " + ("the load ended.\n" if is_program else
                                                    "all was freed, without a further call of the allocator.\n"),
            value_table(runs, family, "idle_rss_kib", mebibytes, with_spread=False))
    if family == "cross-thread":
        section("CPU time", f"Nanoseconds of CPU per {unit}: of the process (waiting too) / of those threads that only "
                "free (without waiting).\n", pair_table(runs, family, ["cpu_ns"], ["cpu_freeing_ns"], True, number))
    if is_program:
        section("CPU time", f"Nanoseconds per {unit}, of the program's processes.\n",
                value_table(runs, family, "cpu_ns", time_scale))
    section("System calls and page faults", "Of the same small amount of work for each, start-up included: calls of "
            "mmap, munmap, madvise, mremap and brk / page faults.\n",
            pair_table(runs, family, ["mmap", "munmap", "madvise", "mremap", "brk"], ["minor_faults", "major_faults"],
                       False, whole))
    return cases + "\n" + "\n".join(sections)


def mean_table(runs, column):
    best = [to for to in ratio_columns(runs) if to == "best"]
    rows = [["geometric mean, to glibc", *runs.allocators, *(f"{OURS}/{to}" for to in best)]]

    def add(label, of):
        means = [runs.mean_ratio(column, name, "glibc", of) for name in runs.allocators]
        if any(means):
            rows.append([label, *map(two, means), *(two(runs.mean_ratio(column, OURS, to, of)) for to in best)])

    for family in runs.families():
        add(family, lambda point: point.family == family)
    several = len(runs.families()) > 1
    if several:
        add("**all**", lambda point: True)
    if several and column.endswith("rss_kib"):
        add(f"**those that hold {HELD >> 10} MiB**", runs.holds)
    return table(rows)


def behind(runs, column):
    """In which cases ours is behind the best, the worst number of threads of each, worst first."""
    worst = {}
    for point in runs.points:
        ratio = runs.ratio(point, column, OURS, "best")
        if ratio and ratio > BEHIND:
            worst[point.family, point.case] = max(worst.get((point.family, point.case), (0, 0)), (ratio, point.threads))
    ordered = sorted(worst.items(), key=lambda item: -item[1][0])
    named = [f"{family}/{case} ({ratio:.1f} times" + (f", threads: {threads})" if threads else ")")
             for (family, case), (ratio, threads) in ordered]
    more = f", and {len(named) - NAMED} more cases" if len(named) > NAMED else ""
    return ", ".join(named[:NAMED]) + more if named else "none"


def summary_page(runs):
    spreads = [spread(runs.all(p, name, "time_ns")) for p in runs.points for name in runs.allocators
               if len(runs.all(p, name, "time_ns")) > 1]
    columns = [("Time", "time_ns"), ("Peak RSS", "peak_rss_kib"), ("Idle RSS", "idle_rss_kib")]
    if runs.families() == [PROGRAMS]:
        columns.insert(1, ("CPU time", "cpu_ns"))
    text = "\n".join(f"## {title}\n\n{mean_table(runs, column)}" for title, column in columns)
    if OURS in runs.allocators:
        for column, what in (("time_ns", "time"), ("peak_rss_kib", "peak RSS")):
            text += f"\nMore than a tenth behind the best in {what}: {behind(runs, column)}.\n"
    if spreads:
        text += f"\nNoise: half of the times have a spread below {statistics.median(spreads):.0%}, nine in ten below " \
                f"{sorted(spreads)[int(len(spreads) * 0.9)]:.0%}.\n"
    return text


def write(results, output, legend, allocators, about):
    """All pages and pictures of a runs.csv, and the tables on standard output."""
    runs = Runs(results)
    if not runs.points:
        print("Nothing was measured.")
        return
    order = [a.name for a in allocators]
    runs.allocators.sort(key=order.index)
    pictures = shutil.which("gnuplot")
    for family in runs.families():
        page = family_page(runs, family, legend)
        picture = ""
        if pictures:
            draw_family(runs, family, output)
            picture = f"![{family}]({family}.svg)\n\n"
        with open(os.path.join(output, family + ".md"), "w") as file:
            file.write(f"# {family}\n\n{picture}{page}\n{READING}\n{about}")
        print(f"# {family}\n\n{page}")
    if runs.families()[0] in (GROWTH, IDLE):
        print(f"{READING}\n{about}\nWritten to {output}" + ("" if pictures else "; no pictures, for want of gnuplot"))
        return
    page, picture = summary_page(runs), ""
    if runs.families() != [PROGRAMS]:
        if pictures and draw_summary(runs, output):
            picture = "![means](summary.svg)\n\n"
        with open(os.path.join(output, "README.md"), "w") as file:
            file.write("# Benchmark results\n\nWritten by `scripts/bench`; every run is a line of "
                       f"[{os.path.basename(results)}]({os.path.basename(results)}).\n\n{picture}{page}\n{READING}"
                       "\n## Families\n\n" + "".join(f"- [{f}]({f}.md)\n" for f in runs.families()) + "\n" + about)
    print(f"# Summary\n\n{page}\n{READING}\n{about}\nWritten to {output}" +
          ("" if pictures else "; no pictures, for want of gnuplot"))


# --------------------------------------------------------------------------------------------------- self-test

def self_test():
    """Whether the statistics are what they are called, as (passed, name)."""
    runs = Runs(os.devnull)
    runs.allocators = ["glibc", "mimalloc", OURS]
    for threads, ours in ((1, 10), (2, 40)):
        point = Point("f", "c", threads)
        runs.points.append(point)
        for name, values in (("glibc", [20, 20, 20]), ("mimalloc", [8, 100, 10]), (OURS, [ours, ours, ours * 9])):
            runs.values[point, name, "time_ns", True] = values
    first = runs.points[0]
    grown, rested = Runs(os.devnull), Runs(os.devnull)
    grown.allocators, rested.allocators = ["glibc"], ["glibc", OURS]
    for case, threads, cpu in (("c-10", 1, 7), ("c-10", 8, 5), ("c-20", 1, 7), ("c-20", 8, 15)):
        grown.points.append(Point(GROWTH, case, threads))
        for column in ("cpu_ns", "time_ns"):
            grown.values[grown.points[-1], "glibc", column, True] = [cpu]
    rested.points.append(Point(IDLE, "c", 1))
    for name, stays in (("glibc", 28.0), (OURS, 28.1)):
        for column, value in (("stays_kib", stays * 1024), ("kept", 10 << 20), ("time_ns", 1)):
            rested.values[rested.points[0], name, column, True] = [value]
    return [
        (runs.median(first, "mimalloc", "time_ns") == 10 and abs(spread([8, 100, 10]) - 9.2) < 1e-9,
         "medians and spreads"),
        (runs.ratio(first, "time_ns", OURS, "best") == 1 and runs.ratio(first, "time_ns", OURS, "glibc") == 0.5,
         "ratios to the best and to glibc"),
        (abs(runs.mean_ratio("time_ns", OURS, "glibc") - 1) < 1e-9, "geometric means"),
        (behind(runs, "time_ns") == "f/c (4.0 times, threads: 2)", "what is behind is named"),
        (growth_table(grown).splitlines()[3].replace(" ", "") == "|c,8threads|10|20|3.00|", "growth along a curve"),
        (idle_table(rested).splitlines()[2].replace(" ", "") == "|c|1|10.0|28.0|28.0|28.1!|",
         "what may stay, and what is too much"),
    ]
