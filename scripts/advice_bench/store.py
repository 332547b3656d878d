"""Results as files: one JSON file for each kind of run, which grows as runs end and is never half-written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrfinder.files import write_atomic

__all__ = ["key", "load", "save"]


def key(job: Sequence[Any]) -> str:
    """Name of a result: cell, seed and what was asked, as in ``"digits-mlp Adam constant | 0 | 0.25"``."""
    return " | ".join(str(part) for part in job if part != "")


def load(folder: Path, kind: str) -> dict[str, Any]:
    path = folder / f"{kind}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def save(folder: Path, kind: str, results: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(
        f"{json.dumps(name)}:{json.dumps(results[name], separators=(',', ':'))}" for name in sorted(results)
    )
    write_atomic(folder / f"{kind}.json", "{\n" + lines + "\n}\n")
