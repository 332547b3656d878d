"""The pages: overhead.md, .json and the plots, for each device there are results of, and the tables of the README."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lrfinder.files import write_atomic
from overhead_bench import drawing, tables

__all__ = ["filled", "write"]

_MARKED = re.compile(r"(<!-- overhead: ([\w-]+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)
_TITLES = {"cpu": "What a range test costs", "cuda": "What a range test costs on a GPU"}


def write(out: Path, readme: Path | None) -> list[Path]:
    """Write whatever there are results of.

    Args:
        out: folder of the results.
        readme: a page with marked blocks to fill, or None.

    Returns:
        The files written.
    """
    written = []
    for device, name in tables.NAMES.items():
        results = tables.load(out, device)
        if not results:
            continue
        made = tables.figures(results, device)
        written += [
            write_atomic(out / f"{name}.json", json.dumps({"where": tables.stamps(results), **made}, indent=1) + "\n"),
            write_atomic(out / f"{name}.md", page(results, made, device)),
        ]
        if "ratio" in made:
            written.append(drawing.ratios(made["ratio"], out / f"{name}.png"))
        if "scale" in made:
            written.append(drawing.scales(made["scale"], out / f"{name}-scale.png"))
    if readme is not None:
        text = readme.read_text(encoding="utf-8")
        written.append(write_atomic(readme, filled(text, tables.blocks(out))))
    return written


def filled(text: str, blocks: dict[str, str]) -> str:
    """The page with every ``<!-- overhead: NAME -->`` to ``<!-- end -->`` holding that block; without one it stays."""
    return _MARKED.sub(
        lambda match: f"{match[1]}{blocks[match[2]]}\n{match[3]}" if match[2] in blocks else match[0], text
    )


def page(results: dict[str, Any], made: dict[str, Any], device: str) -> str:
    name = tables.NAMES[device]
    lines = [f"# {_TITLES[device]}", "", *(f"{line}  " for line in tables.stamps(results)), ""]
    if "ratio" in made:
        lines += [
            "## Time",
            "",
            "One whole call against the bare training loop of as many steps: the mean of two of them in the same "
            "round. Ratio: median (quartiles). The calls of a round are under way at once and change over after "
            "an update, 20 ms apart or more (where a GPU or workers would go on meanwhile, after whole calls). *Bare "
            "loop, again* is the second against the first, and shows what the measurement itself leaves open. For all "
            "of them alike, glibc keeps the memory that a step gives back: whether it does is otherwise a matter of "
            "chance, and costs a step of ResNet-18 up to a tenth.",
            "",
            *tables.ratio_table(made["ratio"]),
            "",
            *tables.promises(made["ratio"]),
            "",
            f"![Ratios]({name}.png)",
            "",
            "On the clock, beside the steps:",
            "",
            *tables.clock_lines(device),
            "",
            *tables.case_tables(made["ratio"]),
        ]
    if "memory" in made:
        runs = ", ".join(f"{case['runs']}" for case in made["memory"].values())
        lines += [
            "## Memory",
            "",
            "Peak beyond that of the bare loop, each in fresh processes; the optimizer has its moments already. Median "
            f"(quartiles) of runs: {runs}.",
            "",
            *tables.memory_table(made["memory"]),
            "",
            *tables.import_lines(made["memory"]),
            "",
            *tables.promises(made["memory"]),
            "",
        ]
    if "scale" in made:
        lines += [
            "## Growth",
            "",
            tables.scale_sentence(made["scale"]),
            "",
            *tables.scale_tables(made["scale"]),
            "",
            f"![Growth]({name}-scale.png)",
            "",
        ]
    if "startup" in made:
        rounds = next(iter(made["startup"].values()))["rounds"]
        lines += [
            "## Start",
            "",
            f"Whole processes, taking turns, {rounds} rounds: median (quartiles).",
            "",
            *tables.startup_table(made["startup"]),
            "",
        ]
    if "steps" in made:
        lines += [
            "## Batches",
            "",
            "Of a call with no numbers given, over the tasks and seeds of the benchmark of advice: median (quartiles).",
            "",
            *tables.steps_table(made["steps"]),
            "",
        ]
    command = "python scripts/bench_overhead " + ("all" if device == "cpu" else "gpu")
    return "\n".join([*lines, f"Made by `{command}`."]) + "\n"
