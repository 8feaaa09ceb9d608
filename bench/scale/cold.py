"""
Rows of commands: a plan when nothing is to be done, the first apply, a plan without visits.
"""

import sys
from collections.abc import Iterator

from bench.scale.bench import Bench, Row, Unfinished, middle, pairs, say, told
from bench.scale.measure import child, median, run

BIG = 10_000


def cold_plan(bench: Bench) -> Iterator[Row]:
    """Plan servers on which nothing is to be done, by a new process."""
    yield from _plan(bench, bench.servers, bench.rounds, ratio=2.0, memory=100)


def libraries(bench: Bench) -> Iterator[Row]:
    """Do what a plan asks through the libraries that it uses, and nothing else."""
    fleet = bench.converged(bench.servers)
    job = fleet.job()
    limits, runs, found = pairs(
        lambda: fleet.limit(job, bound=bench.bound),
        lambda: child("libraries", str(job), bound=bench.bound),
        bench.rounds,
    )
    unharmed(fleet.standins.totals())
    what = f"the same talk, {bench.servers:,}, by aiohttp and json alone"
    yield Row(what, found, None, "x limit", told(middle(runs), middle(limits)))


def big_plan(bench: Bench) -> Iterator[Row]:
    """Plan ten times as many."""
    count = bench.servers * 10
    yield from _plan(bench, count, 1, ratio=2.2, memory=400)


def _plan(bench: Bench, count: int, rounds: int, *, ratio: float, memory: float) -> Iterator[Row]:
    fleet = bench.converged(count)
    job = fleet.job()
    fleet.standins.reset()
    limits, runs, found = pairs(
        lambda: fleet.limit(job, bound=bench.bound),
        lambda: fleet.jtr("plan", str(fleet.docs), *bench.many, bound=bench.bound),
        rounds,
    )
    unharmed(fleet.standins.totals())
    jtr = middle(runs)
    what = f"plan, nothing to do, {count:,} x {bench.exchanges}, cold"
    more = told(jtr, middle(limits))
    yield Row(what, found, ratio, "x limit", more, grows="plan", cost=jtr.processor)
    yield Row(f"{what}: memory", jtr.memory, memory, "MiB")


def first_apply(bench: Bench) -> Iterator[Row]:
    """Write all credentials of servers that hold none."""
    fleet = bench.fleet(bench.servers)
    fleet.settled()
    job = fleet.job(applies=True)
    limits, runs, ratios, counts = [], [], [], {}
    for number in range(min(bench.rounds, 3)):
        fleet.fill(empty=True)
        limits.append(fleet.limit(job, bound=bench.bound))
        fleet.fill(empty=True)
        fleet.begin_ledger(f"first-{number}")
        fleet.standins.reset()
        apply = ["apply", str(fleet.docs), "--auto-approve", *bench.many]
        runs.append(fleet.jtr(*apply, bound=bench.bound))
        ratios.append(runs[-1].wall / limits[-1].wall)
        say(f"round {number + 1}: limit {limits[-1].wall:.2f} s, jtr {runs[-1].wall:.2f} s")
        counts = fleet.standins.totals()
        unharmed(counts)
        if left := fleet.stale():
            raise Unfinished(f"{left} servers lack what was applied")
    bench.wrote(bench.servers)
    writes = bench.servers * bench.exchanges
    what = f"first apply, {bench.servers:,} ({writes:,} writes)"
    jtr = middle(runs)
    more = told(jtr, middle(limits))
    yield Row(what, median(ratios), 2.5, "x limit", more, grows="first apply", cost=jtr.processor)
    each = {key: count / bench.servers for key, count in counts.items()}
    looks = f"{each['lists']:.1f} exchange lists, {each['logs']:.1f} logs"
    yield Row(f"{what}: requests a server", each["requests"], 25, "", looks)


def commits(bench: Bench) -> Iterator[Row]:
    """Count what the ledger makes durable while one server gets its first credentials."""
    fleet = bench.fleet(bench.servers)
    bench.changed(bench.servers)
    fleet.fill(empty=True)
    fleet.begin_ledger("commits")
    fleet.settled()
    fleet.standins.reset()
    note = fleet.home / "commit-times"
    note.unlink(missing_ok=True)
    document = str(fleet.docs / f"{fleet.names[0]}.yaml")
    apply = [str(note), "apply", document, "--auto-approve", *bench.many]
    child("count_commits", *apply, bound=bench.bound, environment=fleet.environment)
    first = fleet.standins.each()[0]["firstSave"]
    times = [float(line) for line in note.read_text().split()]
    if not first or not times:
        raise Unfinished("nothing was written")
    before = sum(time < first for time in times)
    more = f"{len(times)} in all for {bench.exchanges} exchanges"
    yield Row("durable commits before a server's first save", before, 1, "", more)


def recorded(bench: Bench) -> Iterator[Row]:
    """Plan from the last observations, against visiting."""
    fleet = bench.converged(bench.servers)
    plan = ["plan", str(fleet.docs), *bench.many]
    visits, runs, ratio = pairs(
        lambda: fleet.jtr(*plan, bound=bench.bound),
        lambda: fleet.jtr(*plan, "--recorded", bound=bench.bound),
        min(bench.rounds, 3),
    )
    jtr, visit = middle(runs), middle(visits)
    more = f"{told(jtr)}; visiting {visit.wall:.2f} s"
    what = f"plan --recorded, {bench.servers:,}"
    yield Row(what, ratio, 0.5, "x a visit", more, grows="plan --recorded", cost=jtr.processor)


def one_plan(bench: Bench) -> Iterator[Row]:
    """Plan one server, start-up included, against a bare Python."""
    fleet = bench.converged(bench.servers)
    document = str(fleet.docs / f"{fleet.names[0]}.yaml")
    bare, runs, ratio = pairs(
        lambda: run([sys.executable, "-c", "pass"], {}, bound=bench.bound),
        lambda: fleet.jtr("plan", document, bound=bench.bound),
        2 * bench.rounds + 1,
    )
    jtr, python = middle(runs), middle(bare)
    more = f"{told(jtr)}; python {python.wall * 1000:.0f} ms"
    yield Row("plan of one server, with start-up", ratio, 22, "x python -c pass", more)


def unharmed(counts: dict[str, int]) -> None:
    """Refuse figures of a run in which a server was asked what it does not take."""
    if counts["fatal"] or counts["refused"]:
        raise Unfinished(f"{counts['fatal']} fatal requests, {counts['refused']} refused logins")
