"""What was run, in one file that grows as runs end and is never half-written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advice_bench.results import key
from lrfinder.files import write_atomic

__all__ = ["ADVICE_RESULTS", "FILE", "add", "key", "load"]

ADVICE_RESULTS = Path(__file__).resolve().parents[1] / "results" / "advice"  # of the small networks
FILE = "situations.json"


def load(out: Path) -> dict[str, dict[str, Any]]:
    """By :func:`key`: ``sweeps``, a curve each, ``refined``, the record of a trial search, ``peers`` and what each
    suggests, ``trainings`` of a grid."""
    found = json.loads((out / FILE).read_text(encoding="utf-8")) if (out / FILE).exists() else {}
    return {kind: found.get(kind, {}) for kind in ("sweeps", "refined", "peers", "trainings")}


def add(out: Path, kind: str, name: str, result: Any) -> None:
    """Keep a result: after those before for a training, else instead of the one before."""
    content = load(out)  # now, as another program may have added to it
    content[kind][name] = [*content[kind].get(name, ()), result] if kind == "trainings" else result
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / FILE, "{\n" + ",\n".join(f'"{each}": {_lines(content[each])}' for each in content) + "\n}\n")


def _lines(runs: Mapping[str, Any]) -> str:
    """One run a line."""
    compact = (f"{json.dumps(name)}:{json.dumps(runs[name], separators=(',', ':'))}" for name in sorted(runs))
    return "{\n" + ",\n".join(compact) + "\n}"
