"""Results as tables: what is kept of each step goes in, the lines of a page come out."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from advice_bench import store
from overhead_bench.cases import CASES
from overhead_bench.contestants import AGAIN, BARE, CONTESTANTS, DEFAULT, OURS
from overhead_bench.figures import growth, last_decade, quartiles, summary, verdict
from overhead_bench.memory import MEMORY_CASES, OFFLOADED

__all__ = ["KINDS", "NAMES", "blocks", "figures", "load"]

KINDS = ("ratio", "memory", "scale", "startup", "steps")
NAMES = {"cpu": "overhead", "cuda": "overhead-cuda"}
ALLOWED = 64e6  # bytes beside the state that a sweep may take
SLACK = 1e6  # bytes on the device: a batch drawn early, a loss for each step
_MB = 1e6
_STARTS = {"import lrfinder": "python -c pass", "lrfind --help": "import click", "lrfind show FILE": "import click"}


def load(out: Path, device: str) -> dict[str, Any]:
    """What is kept, by step; empty where nothing was measured."""
    return {kind: found for kind in KINDS if (found := store.load(out / NAMES[device], kind))}


# Figures: the JSON that a program reads.


def figures(results: dict[str, Any], device: str) -> dict[str, Any]:
    """Medians, quartiles and verdicts of everything there is."""
    made = {"ratio": _ratio, "memory": _memory, "scale": _scale, "startup": _startup}
    found = {kind: make(results[kind], device) for kind, make in made.items() if kind in results}
    return found | {kind: results[kind] for kind in ("steps",) if kind in results}


def _in_order(results: dict[str, Any], cases: dict[str, Any]) -> Iterable[tuple[str, Any, Any]]:
    return ((name, case, results[name]) for name, case in cases.items() if name in results)


def _ratio(results: dict[str, Any], device: str) -> dict[str, Any]:
    return {
        name: {
            "title": case.title,
            "batch_size": case.batch_size,
            "limit": case.limit,
            "steps": entry["steps"],
            "clock": entry["clock"],
            "turns": entry["turns"],
            "rows": (rows := summary(entry["seconds"], entry["steps"])),
            "unable": entry["unable"],
            "verdict": verdict(rows, case.limit),
        }
        for name, case, entry in _in_order(results, CASES[device])
    }


def _memory(results: dict[str, Any], device: str) -> dict[str, Any]:
    found = {}
    for name, case, entry in _in_order(results, MEMORY_CASES[device]):
        runs = entry["runs"]
        peaks = [peak for peak in ("host", "device", "pinned") if peak in runs[BARE][0]]
        bare = {peak: statistics.median(run[peak] for run in runs[BARE]) for peak in peaks}
        rows = {
            who: {peak: [value - bare[peak] for value in quartiles([run[peak] for run in own])] for peak in peaks}
            | {"imports": statistics.median(run["imports"] for run in own)}
            for who, own in runs.items()
        }
        found[name] = {
            "title": case.title,
            "state": runs[BARE][0]["state"],
            "runs": len(runs[BARE]),
            "bare": bare,
            "rows": rows,
            "unable": entry["unable"],
            "verdict": _memory_verdict(rows, runs[BARE][0]["state"]),
        }
    return found


def _memory_verdict(rows: dict[str, Any], state: float) -> list[str]:
    host = rows[OURS]["host"][1]
    lines = [
        f"on the host at most the size of the state and {ALLOWED / _MB:.0f} MB: "
        f"{'yes' if host <= state + ALLOWED else 'NO'} ({host / _MB:.0f} MB; the state has {state / _MB:.0f} MB)"
    ]
    if OFFLOADED in rows:
        device = rows[OFFLOADED]["device"][1]
        lines.append(
            f'with snapshot="cpu" no more on the device than the bare loop: {"yes" if device <= SLACK else "NO"} '
            f"({device / _MB:+.1f} MB)"
        )
    return lines


def _scale(results: dict[str, Any], device: str) -> dict[str, Any]:
    def points(kind: str, size: str) -> list[dict[str, Any]]:
        return sorted((entry for key, entry in results.items() if key.startswith(kind)), key=lambda entry: entry[size])

    def added(entry: dict[str, Any]) -> tuple[float, float, float]:
        return quartiles([own - bare for own, bare in zip(entry["sweep"], entry["bare"], strict=True)])

    sizes = [
        {"parameters": entry["parameters"], "snapshot": quartiles(entry["snapshot"]), "added": added(entry)}
        | {"bare": statistics.median(entry["bare"]), "steps": entry["steps"]}
        for entry in points("size", "parameters")
    ]
    lengths = [
        {"steps": entry["steps"], "added": added(entry)}
        | {part: quartiles(entry[part]) for part in ("deciding", "reading")}
        | {"bare": statistics.median(entry["bare"])}
        for entry in points("length", "steps")
    ]
    return {
        "sizes": sizes,
        "lengths": lengths,
        "of_size": growth([p["parameters"] for p in sizes], [p["snapshot"][1] for p in sizes]),
        "of_length": growth([p["steps"] for p in lengths], [p["deciding"][1] for p in lengths]),
    }


def _startup(results: dict[str, Any], device: str) -> dict[str, Any]:
    seconds = results["programs"]["seconds"]
    return {
        name: {
            "ms": [1e3 * value for value in quartiles(own)],
            "against": (other := _STARTS.get(name)),
            "more_ms": None if other is None else [1e3 * value for value in _paired(own, seconds[other], "-")],
            "times": None if other is None else list(_paired(own, seconds[other], "/")),
            "rounds": len(own),
        }
        for name, own in seconds.items()
    }


def _paired(own: list[float], other: list[float], sign: str) -> tuple[float, float, float]:
    pairs = zip(own, other, strict=True)
    return quartiles([a - b if sign == "-" else a / b for a, b in pairs])


# Tables: one block of lines for each, by name. The README has some of them.


def blocks(out: Path) -> dict[str, str]:
    """Everything that the README shows, by the name its marker has; what was not measured yet says how."""
    found = {}
    for device, page in NAMES.items():
        results = load(out, device)
        made = figures(results, device)
        parts = {
            "ratio": lambda cases: _joined(
                ratio_table(cases), promises(cases), [f"[Plot](scripts/results/{page}.png)."]
            ),
            "memory": lambda cases: _joined(memory_table(cases), promises(cases)),
            "scale": lambda points: f"{scale_sentence(points)} [Plot](scripts/results/{page}-scale.png).",
            "startup": lambda rows: _joined(startup_table(rows)),
            "steps": lambda rows: _joined(steps_table(rows)),
        }
        suffix = "" if device == "cpu" else f"-{device}"
        for kind, make in parts.items():
            command = kind if device == "cpu" else "gpu"
            missing = f"Not measured yet: `python scripts/bench_overhead {command}`."
            found[kind + suffix] = make(made[kind]) if kind in made else missing
        found[f"where{suffix}"] = "\n".join(f"{line}." for line in stamps(results))
    return found


def _joined(*parts: list[str]) -> str:
    return "\n\n".join("\n".join(part) for part in parts if part)


def stamps(results: dict[str, Any]) -> list[str]:
    """Where and when: each line once, however many entries share it."""
    return list(
        dict.fromkeys(entry["stamp"] for kind in results.values() for entry in kind.values() if "stamp" in entry)
    )


def promises(cases: dict[str, Any]) -> list[str]:
    """Whether they held, case by case: a promise that failed is seen first."""
    lines = [f"- {case['title']}: {'; '.join(case['verdict'])}" for case in cases.values()]
    return sorted(lines, key=lambda line: ": NO (" not in line)


def _table(head: list[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _range(values: Sequence[float], form: str) -> str:
    low, middle, high = values
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def ratio_table(cases: dict[str, Any]) -> list[str]:
    """Contestants against cases: the ratio to the bare loop."""
    names = [name for name in CONTESTANTS if name != BARE and any(name in _who(case) for case in cases.values())]
    return _table(
        ["", *(case["title"] for case in cases.values())],
        ([name, *(_ratio_cell(case, name) for case in cases.values())] for name in names),
    )


def _who(case: dict[str, Any]) -> set[str]:
    return {*case["rows"], *case["unable"]}


def _ratio_cell(case: dict[str, Any], name: str) -> str:
    if name not in case["rows"]:
        return f"not able: {case['unable'][name]}" if name in case["unable"] else ""
    row = case["rows"][name]
    low, high = row["ratio_quartiles"]
    return _range((low, row["ratio"], high), ".3f")


def case_tables(cases: dict[str, Any]) -> list[str]:
    """Each case by itself, with seconds."""
    lines: list[str] = []
    for case in cases.values():
        head = ["", "ratio to the bare loop", "seconds", "added per step", "slower than lrfinder in"]
        rows = []
        for name, row in case["rows"].items():
            rival = CONTESTANTS[name].rival
            added = "" if name == DEFAULT else f"{row['added_us_per_step']:,.0f} µs"  # its steps are fewer
            rows.append(
                [
                    name,
                    "1" if name == BARE else _ratio_cell(case, name),
                    f"{row['median_seconds']:.3f}",
                    added,
                    f"{row['slower_than_ours']} of {row['rounds']} rounds" if rival else "",
                ]
            )
        rows += [[name, f"not able: {why}", "", "", ""] for name, why in case["unable"].items()]
        rounds = case["rows"][BARE]["rounds"]
        lines += [
            f"### {case['title']}",
            "",
            f"Batch size {case['batch_size']}, {case['steps']} steps, {rounds} rounds, {case['clock']} time; "
            f"contestants change over after each {case['turns']}.",
            "",
            *_table(head, rows),
            "",
        ]
    return lines


def memory_table(cases: dict[str, Any]) -> list[str]:
    """Contestants against cases: peak beyond the bare loop's."""
    columns = [
        (case, peak)
        for case in cases.values()
        for peak in case["bare"]
        if any(abs(row[peak][1]) > SLACK for row in case["rows"].values())  # pinned memory: nobody takes any from torch
    ]
    names = list(dict.fromkeys(name for case in cases.values() for name in _who(case) if name != BARE))
    order = [*(name for name in (OURS, OFFLOADED) if name in names), *(n for n in CONTESTANTS if n in names)]
    head = [f"{case['title']}: {peak}" for case, peak in columns]
    rows = [["size of the state", *(f"{case['state'] / _MB:.0f} MB" for case, _ in columns), ""]]
    for name in dict.fromkeys(order):
        keeps = "a copy in the host's memory" if name == OFFLOADED else CONTESTANTS[name].keeps
        cells = [
            _mb(case["rows"][name][peak]) if name in case["rows"] else f"not able: {case['unable'].get(name, '')}"
            for case, peak in columns
        ]
        rows.append([name, *cells, keeps])
    return _table(["", *head, "keeps the state in"], rows)


def _mb(values: Sequence[float]) -> str:
    if len(set(values)) == 1:  # of a single run
        return f"{values[0] / _MB:+.0f} MB"
    return _range([value / _MB for value in values], "+.0f") + " MB"


def import_lines(cases: dict[str, Any]) -> list[str]:
    """What of it are imports."""
    rows = next(iter(cases.values()))["rows"]
    parts = ", ".join(f"{name} {row['imports'] / _MB:.0f} MB" for name, row in rows.items() if name in CONTESTANTS)
    return [f"Of that on the host, imports before the call: {parts}."]


def scale_sentence(made: dict[str, Any]) -> str:
    """How both costs grow, in words."""
    parts = []
    for what, kind, points, size, cost in (
        ("Taking and restoring the snapshot", "of_size", made["sizes"], "parameters", "snapshot"),
        ("Deciding on the next learning rate and the stop", "of_length", made["lengths"], "steps", "deciding"),
    ):
        if not points:  # not measured
            continue
        first, last = points[0], points[-1]
        law = ""
        if made[kind] is not None:
            last_ones = last_decade([point[size] for point in points], [point[cost][1] for point in points])
            each = ", ".join(f"{1e9 * seconds / number:,.1f}" for number, seconds in last_ones)
            law = (
                f"; over the last decade it grows with their number to the power {made[kind]:.2f} "
                f"({each} ns for each of them)"
            )
        parts.append(
            f"{what} costs {1e3 * first[cost][1]:.2g} ms with {first[size]:,} {size} and {1e3 * last[cost][1]:.3g} ms "
            f"with {last[size]:,}{law}."
        )
    return " ".join(parts)


def scale_tables(made: dict[str, Any]) -> list[str]:
    sizes = (
        [
            f"{point['parameters']:,}",
            _range([1e3 * value for value in point["snapshot"]], ".2f") + " ms",
            _range([1e3 * value for value in point["added"]], ".1f") + " ms",
            f"{1e3 * point['bare']:.1f} ms",
        ]
        for point in made["sizes"]
    )
    lengths = (
        [
            f"{point['steps']:,}",
            _range([1e3 * value for value in point["added"]], ".1f") + " ms",
            _range([1e3 * value for value in point["deciding"]], ".2f") + " ms",
            _range([1e3 * value for value in point["reading"]], ".1f") + " ms",
            f"{1e3 * point['bare']:.1f} ms",
        ]
        for point in made["lengths"]
    )
    lines = []
    if made["sizes"]:
        lines += [
            f"An MLP with AdamW, by its number of parameters; sweeps of {made['sizes'][0]['steps']} steps:",
            "",
            *_table(["parameters", "snapshot taken and restored", "a sweep adds", "bare loop"], sizes),
            "",
        ]
    if made["lengths"]:
        lines += [
            "The MLP 64-32-10 with AdamW, by the number of steps. Reading the curve comes on top, when the advice is "
            "asked for:",
            "",
            *_table(["steps", "a sweep adds", "of that, deciding", "reading its curve", "bare loop"], lengths),
            "",
        ]
    return lines[:-1]


def startup_table(made: dict[str, Any]) -> list[str]:
    rows = []
    for name, row in made.items():
        against = row["against"]
        rows.append(
            [
                f"`{name}`",
                _range(row["ms"], ".0f") + " ms",
                (
                    ""
                    if against is None
                    else f"{row['more_ms'][1]:+.0f} ms, {_range(row['times'], '.2f')} times `{against}`"
                ),
            ]
        )
    return _table(["", "process, start to end", "against"], rows)


def steps_table(made: dict[str, Any]) -> list[str]:
    ordered = sorted(made.items(), key=lambda item: item[1]["quartiles"][1])
    return _table(["", "batches"], ([name, _range(row["quartiles"], ".0f")] for name, row in ordered))


def clock_lines(device: str) -> list[str]:
    """What each contestant there does on the clock, in its own docstring's words."""
    return [
        f"- **{name}**: {' '.join((contestant.prepare.__doc__ or '').split()).removeprefix('On the clock: ')}"
        for name, contestant in CONTESTANTS.items()
        if name != AGAIN and device in contestant.on
    ]
