"""What does the whole product cost as the job grows? It should cost the same per unit of work.

CPU time of runs in this process with one thread, a run on one tiny image taken away, over Mpixels,
filters or images; for threads, wall time. The best of three runs or more counts, as memory that the
system has never handed out is dear. Rounds are interleaved; what a curve is worth is its
dearest point over its cheapest, within a round. Checked against scipy in float64.

    python benchmarks/curves.py [--quick] [--rounds 2] [--only size,images] [--json FILE]
        [--picture FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from pipeline.heap import keep_memory

keep_memory()  # as the command does: before numpy starts a thread

import numpy as np
from chart import Line, Panel, draw
from job import STATISTICS, Bank, Wanted, bank, deviation, gabor, wanted
from play import Point, block, cost
from timing import spread

Figures = dict[str, dict[str, Any]]
"""Of each curve its axes and lines, as JSON has them."""

BASIC = STATISTICS[:4]
"""What a scene tells in one pass over its pixels."""

LONG = 1.5
"""Seconds that a job has to take: a shorter one is run again, and the best run counts."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Lines of points that share axes; work: what a point's milliseconds are divided by."""

    axis: str
    unit: str
    lines: Mapping[str, Sequence[Point]]
    work: Callable[[Point], float]
    clock: Callable[[], float] = time.process_time


# ---------------------------------------------------------------- the curves
def curves(*, quick: bool) -> dict[str, Curve]:
    """All that is drawn; quick: small enough for a test."""
    mixed = dict(list(bank().items())[1 :: 12 if quick else 3])
    side, area = (64, 1 << 13) if quick else (1024, 1 << 24)
    sides = (64, 128) if quick else (256, 512, 1024, 2048, 4096, 8192, 16384)
    counts = (1, 2) if quick else (1, 3, 10, 30, 100, 200)
    edges = (3, 7) if quick else (3, 7, 11, 15, 21, 31, 63)
    folders = (2, 4) if quick else (10, 100, 1000, 10000)
    cores, shard = range(1, 2 if quick else len(os.sched_getaffinity(0)) + 1), 1 if quick else 64
    stripes, noise = ([*make(max(counts)).items()] for make in (gabors, partial(random, 7)))

    def sized(x: int, statistics: Sequence[str]) -> Point:
        return Point(x, x, max(1, area // x**2), mixed, statistics)

    def several(x: int, kernels: Bank) -> Point:
        return Point(x, side, 1, kernels)

    def filtered(point: Point) -> float:
        return point.pixels * len(point.kernels)

    return {
        "size": Curve(
            "edge of the image, pixels",
            "ms CPU / Mpixel",
            {
                ", ".join(BASIC): [sized(n, BASIC) for n in sides],
                "and percentiles": [sized(n, STATISTICS) for n in sides],
            },
            lambda point: point.pixels,
        ),
        "filters": Curve(
            "filters",
            "ms CPU / Mpixel / filter",
            {
                "Gabor 31 x 31": [several(n, dict(stripes[:n])) for n in counts],
                "random 7 x 7": [several(n, dict(noise[:n])) for n in counts],
            },
            filtered,
        ),
        "kernel": Curve(
            "edge of the kernel, pixels",
            "ms CPU / Mpixel / filter",
            {
                "random": [several(n, random(n, 8)) for n in edges],
                "separable": [several(n, separable(n, 8)) for n in edges],
            },
            filtered,
        ),
        "images": Curve(
            "images of 128 x 128",
            "ms CPU / image",
            {f"{len(mixed)} filters": [Point(n, 128, n, mixed) for n in folders]},
            lambda point: point.images,
        ),
        "threads": Curve(
            "threads",
            "ms wall / Mpixel",
            {f"{len(mixed)} filters": [Point(n, side, shard, mixed, threads=n) for n in cores]},
            lambda point: point.pixels,
            time.perf_counter,
        ),
    }


def gabors(count: int) -> Bank:
    """Of four wavelengths, in directions that the golden angle spreads: any first few are alike."""
    return {
        f"gabor_{i}": gabor((4.0, 6.0, 9.0, 13.5)[i % 4], 20 + 111.246 * i) for i in range(count)
    }


def random(edge: int, count: int) -> Bank:
    """Kernels that share nothing."""
    rng = np.random.default_rng(edge)
    return {f"random_{i}": rng.normal(size=(edge, edge)) / edge for i in range(count)}


def separable(edge: int, count: int) -> Bank:
    """Outer products of two random profiles."""
    rng = np.random.default_rng(edge)
    return {f"outer_{i}": np.outer(*rng.normal(size=(2, edge))) / edge for i in range(count)}


# ---------------------------------------------------------------- all of them
def measure(curves: Mapping[str, Curve], rounds: int, root: Path, long: float) -> Figures:
    """What each point of each line costs in each round, and how far it is off."""
    found: Figures = {
        name: {
            "axis": curve.axis,
            "unit": curve.unit,
            "lines": {
                line: {"x": [p.x for p in points], "costs": [[] for _ in points], "errors": []}
                for line, points in curve.lines.items()
            },
        }
        for name, curve in curves.items()
    }
    for turn, (name, curve) in product(range(rounds), curves.items()):
        for line, points in curve.lines.items():
            into, right = found[name]["lines"][line], Rights()
            for point, costs in zip(points, into["costs"], strict=True):
                seconds, out = cost(point, curve.clock, root, long)
                costs.append(1e3 * seconds / curve.work(point))
                if turn == 0:
                    into["errors"].append(deviation(out, "00000.tif", right.of(point))[0])
    return found


class Rights:
    """What is right along one line: each kernel on each picture is computed once."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, str], dict[str, float]] = {}

    def of(self, point: Point) -> Wanted:
        out: Wanted = {}
        for name, kernel in point.kernels.items():
            key = point.side, f"{name} {kernel.shape}"
            if key not in self.known:
                one = wanted(block(0, point.side), {name: kernel}, "reflect", point.copies)
                self.known[key] = one[name]
            asked = self.known[key].items()
            out[name] = {one: value for one, value in asked if one in {*point.statistics}}
        return out


def report(found: Figures, *, quick: bool) -> None:
    """Print each curve; quick: without costs, which say nothing of tiny jobs."""
    for name, curve in found.items():
        for line, points in curve["lines"].items():
            ratios = [max(costs) / min(costs) for costs in zip(*points["costs"], strict=True)]
            dearest = "" if quick else f", {curve['unit']}; dearest / cheapest {spread(ratios, 2)}"
            print(f"\n{name}: {line}{dearest}")
            for x, costs, error in zip(*points.values(), strict=True):
                cost = "" if quick else f"{spread(costs):>30}"
                print(f"{x:>8}  {cost}  worst statistic {error:.1e}")


def panels(found: Figures) -> list[Panel]:
    """The medians, as lines."""
    return [
        Panel(
            curve["unit"],
            curve["axis"],
            [
                Line(name, points["x"], [median(costs) for costs in points["costs"]])
                for name, points in curve["lines"].items()
            ],
        )
        for curve in found.values()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny jobs: says whether all is right")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", help="some curves, separated by commas")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--picture", type=Path, help="draw them here")
    options = parser.parse_args()
    chosen = curves(quick=options.quick)
    if options.only:
        chosen = {name: chosen[name] for name in options.only.split(",")}
    with tempfile.TemporaryDirectory() as name:
        found = measure(chosen, options.rounds, Path(name), 0 if options.quick else LONG)
    report(found, quick=options.quick)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    if options.picture:
        draw(panels(found), options.picture)


if __name__ == "__main__":
    main()
