"""
How the cost grows with the number of servers: processor seconds, exponents and a plot.

Start-up is taken off first, so that it does not hide growth.  An exponent of 1 is linear; 1.1 is
the most.  Run it from the repository's root: `python -m bench.growth --sizes 100,300,1000`.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.scale import cold, files, kept
from bench.scale.bench import Bench, Row, Unfinished, say
from bench.scale.measure import ROOT, run
from bench.scale.standin import Unavailable

MOST: Final = 1.1
ROWS: Final[Sequence[Callable[[Bench], Iterator[Row]]]] = (
    cold.first_apply,
    cold.cold_plan,
    cold.recorded,
    kept.controller_round,
    files.validate,
)
PLOT: Final = Path(__file__).parent / "growth.svg"
COLOURS: Final = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#b9770e")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, LINE = 760, 460, 70, 190, 30, 50, 16

Costs = Mapping[str, Mapping[int, float]]


def main() -> int:
    """Measure all sizes, print a table, draw it; return 1 when something grows too fast."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--sizes", default="100,300,1000", help="numbers of servers")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--bound", type=float, default=300, help="seconds of one process (300)")
    parser.add_argument("--plot", type=Path, default=PLOT, help=f"where to draw it ({PLOT.name})")
    parser.add_argument("--no-limit", action="store_true", help="exit 0 whatever grows")
    options = parser.parse_args()
    sizes = sorted(int(size) for size in options.sizes.split(","))
    try:
        costs = measure(sizes, options.rounds, options.bound)
    except Unavailable as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 69
    exponents = {name: exponent(points) for name, points in costs.items()}
    print("| processor seconds | " + " | ".join(f"{size:,}" for size in sizes) + " | exponent |")
    print("| --- |" + " --- |" * (len(sizes) + 1))
    for name, points in costs.items():
        cells = [f"{points[size]:.2f}" if size in points else "not done" for size in sizes]
        power = exponents[name]
        last = "" if power is None else f"{power:.2f}" + (" over" if power > MOST else " ok")
        print(f"| {name} | {' | '.join(cells)} | {last} |")
    options.plot.write_text(drawn(costs), "utf-8")
    print(f"\ndrawn in {options.plot}")
    over = any(power is None or power > MOST for power in exponents.values())
    return int(over and not options.no_limit)


def measure(sizes: Sequence[int], rounds: int, bound: float) -> Costs:
    """Return the processor seconds, start-up taken off, by what and by size."""
    costs: dict[str, dict[int, float]] = {}
    # A controller has started long before its round.
    bases = {"validate": _startup("validate", str(ROOT / "examples/config.yaml"))}
    bases["controller round"], usual = 0.0, _startup("plan", "--help")
    for size in sizes:
        with Bench(size, rounds=rounds, most=bound) as bench:
            for row in ROWS:
                try:
                    for one in row(bench):
                        if one.grows:
                            off = bases.get(one.grows, usual)
                            costs.setdefault(one.grows, {})[size] = max(one.cost - off, 0.001)
                except Unfinished as why:
                    say(f"{row.__name__} of {size:,}: {why}")
    return costs


def exponent(points: Mapping[int, float]) -> float | None:
    """Return the slope between the smallest and the largest size, both logarithmic."""
    if len(points) < 2:  # noqa: PLR2004  - a slope takes two
        return None
    few, many = min(points), max(points)
    return math.log(points[many] / points[few]) / math.log(many / few)


def drawn(costs: Costs) -> str:
    """Return the costs as an SVG with logarithmic axes; dotted is what would be linear."""
    every = [(size, cost) for points in costs.values() for size, cost in points.items()]
    x = _Axis([size for size, _ in every], LEFT, WIDTH - RIGHT)
    y = _Axis([cost for _, cost in every], HEIGHT - BOTTOM, TOP)
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [_text(LEFT, 18, "processor seconds by number of servers")]
    for value in x.decades:
        parts.append(f'<path d="M{x.at(value):.0f} {TOP}V{bottom}" stroke="#ddd"/>')
        parts.append(_text(x.at(value), bottom + 20, f"{value:,.0f}", anchor="middle"))
    for value in y.decades:
        parts.append(f'<path d="M{LEFT} {y.at(value):.0f}H{right}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, y.at(value) + 4, f"{value:g}", anchor="end"))
    free = HEIGHT
    lowest_first = sorted(costs.items(), key=lambda one: one[1][max(one[1])])
    for colour, (name, points) in zip(COLOURS, lowest_first, strict=False):
        few, many = min(points), max(points)
        path = "L".join(f"{x.at(size):.1f} {y.at(cost):.1f}" for size, cost in points.items())
        linear = f"{x.at(many):.1f} {y.at(points[few] * many / few):.1f}"
        line = f'fill="none" stroke="{colour}"'
        parts.append(f'<path d="M{path}" {line} stroke-width="2"/>')
        parts.append(
            f'<path d="M{x.at(few):.1f} {y.at(points[few]):.1f}L{linear}" {line}'
            ' stroke-dasharray="2 5"/>'
        )
        power = exponent(points)
        label = name if power is None else f"{name} ({power:.2f})"
        free = min(round(y.at(points[many])) + 4, free - LINE)  # labels stand clear of each other
        parts.append(_text(x.at(many) + 8, free, label, fill=colour))
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">'
    )
    return "\n".join([head, f'<rect {size} fill="white"/>', *parts, "</svg>\n"])


class _Axis:
    """From values to places, logarithmic, from whole decade to whole decade."""

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        self._low = math.floor(math.log10(min(values, default=1)))
        self._high = max(math.ceil(math.log10(max(values, default=1))), self._low + 1)
        self._begin, self._end = begin, end

    @property
    def decades(self) -> list[float]:
        return [10.0**power for power in range(self._low, self._high + 1)]

    def at(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._begin + share * (self._end - self._begin)


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = "black") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{fill}">{text}</text>'


def _startup(*words: str) -> float:
    command = [str(Path(sys.executable).parent / "jtr"), *words]
    return run(command, {"HOME": "/nonexistent"}, bound=60).processor


if __name__ == "__main__":
    sys.exit(main())
