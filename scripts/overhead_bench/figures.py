"""What measurements say: medians and quartiles, whether a promise held, how a cost grows. Numbers in, numbers out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from overhead_bench.contestants import AGAIN, BARE, CONTESTANTS, OURS

__all__ = ["batches_by_rule", "growth", "last_decade", "quartiles", "summary", "verdict"]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; a single value is all three."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def summary(seconds: dict[str, list[float]], steps: int) -> dict[str, dict[str, Any]]:
    """Per contestant: median and quartiles of the ratio to the bare loop of the same round, and microseconds a step.

    The bare loop runs twice in each round. The second is compared with the first, and all others with the mean of both,
    which is known better.
    """
    first, both = seconds[BARE], seconds[BARE]
    if AGAIN in seconds:
        both = [(one + other) / 2 for one, other in zip(first, seconds[AGAIN], strict=True)]
    rows = {}
    for name, times in seconds.items():
        bares = first if name in (BARE, AGAIN) else both
        low, middle, high = quartiles([own / bare for own, bare in zip(times, bares, strict=True)])
        added = [(own - bare) / steps * 1e6 for own, bare in zip(times, bares, strict=True)]
        rows[name] = {
            "ratio": middle,
            "ratio_quartiles": [low, high],
            "median_seconds": statistics.median(times),
            "added_us_per_step": statistics.median(added),
            "slower_than_ours": sum(a > b for a, b in zip(times, seconds[OURS], strict=True)),
            "rounds": len(times),
        }
    return rows


def verdict(rows: dict[str, dict[str, Any]], limit: float) -> list[str]:
    """The two promises, and whether they held.

    Against a peer the rounds are counted: with about half of them slower it is an even race, whatever the medians say.
    """
    ours, again = rows[OURS], rows[AGAIN]
    low, high = again["ratio_quartiles"]
    lines = [
        f"at most {limit:.2f} times the bare loop: {'yes' if ours['ratio'] <= limit else 'NO'} ({ours['ratio']:.3f}; "
        f"the bare loop against itself: {low:.3f} to {high:.3f})"
    ]
    shares = {name: row["slower_than_ours"] / row["rounds"] for name, row in rows.items() if CONTESTANTS[name].rival}
    if shares:
        nearest = min(shares, key=shares.__getitem__)
        share = shares[nearest]
        chance = 1 / math.sqrt(ours["rounds"])  # two standard deviations of a fair coin's share
        answer = "yes" if share > 0.5 + chance else "NO" if share < 0.5 - chance else "even, as far as this can tell"
        lines.append(
            f"less than every other finder: {answer} ({nearest} comes nearest: {rows[nearest]['ratio']:.3f}, slower in "
            f"{share:.0%} of the rounds)"
        )
    return lines


def last_decade(sizes: Sequence[float], costs: Sequence[float]) -> list[tuple[float, float]]:
    """The sizes of the last decade, a little more, and their costs."""
    return [(size, cost) for size, cost in zip(sizes, costs, strict=True) if size >= sizes[-1] / 12]


def growth(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """The power of the size with which the cost grows, over the last decade of sizes: below, fixed parts count.

    Args:
        sizes: rising, > 0.
        costs: > 0.

    Returns:
        The slope of the logarithms; None with fewer than three sizes in the last decade.
    """
    last = last_decade(sizes, costs)
    if len(last) < 3:
        return None
    return float(np.polyfit(*np.log(np.array(last).T), 1)[0])


def batches_by_rule(sweeps: dict[str, Any], peers: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Batches of a call with no numbers given, over the tasks and seeds of the benchmark of advice.

    Args:
        sweeps: our curves.
        peers: by rule, what the other finders said and took. A finder with several rules makes one sweep for all.
    """
    used = {OURS: [curve["batches"] for curve in sweeps.values()]}
    for name in (name for name, contestant in CONTESTANTS.items() if contestant.rival):
        rules = [rule for run in peers.values() for rule in run if rule.startswith(name)][:1]
        used[name] = [run[rule]["batches"] for run in peers.values() for rule in rules if rule in run]
    return {name: {"quartiles": quartiles(counts), "runs": len(counts)} for name, counts in used.items() if counts}
