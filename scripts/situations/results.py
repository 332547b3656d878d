"""What was run, in one file that grows as runs end and is never half-written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrfinder.files import write_atomic

__all__ = ["FILE", "add", "key", "load"]

FILE = "situations.json"


def key(cell: str, seed: int) -> str:
    """Name of a run, as in ``"char_gpt | 0"``."""
    return f"{cell} | {seed}"


def load(out: Path) -> dict[str, dict[str, Any]]:
    """By :func:`key`: ``sweeps``, a curve each, and ``trainings``, those of a grid each."""
    found = json.loads((out / FILE).read_text(encoding="utf-8")) if (out / FILE).exists() else {}
    return {"sweeps": found.get("sweeps", {}), "trainings": found.get("trainings", {})}


def add(out: Path, kind: str, name: str, result: Any) -> None:
    """Keep a result: instead of the one before for a sweep, after those before for a training."""
    content = load(out)  # now, as another program may have added to it
    content[kind][name] = [*content[kind].get(name, ()), result] if kind == "trainings" else result
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / FILE, "{\n" + ",\n".join(f'"{each}": {_lines(content[each])}' for each in content) + "\n}\n")


def _lines(runs: Mapping[str, Any]) -> str:
    """One run a line."""
    compact = (f"{json.dumps(name)}:{json.dumps(runs[name], separators=(',', ':'))}" for name in sorted(runs))
    return "{\n" + ",\n".join(compact) + "\n}"
