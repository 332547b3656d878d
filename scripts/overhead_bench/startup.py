"""How long the package and the command take to start, each against the smallest process that could do it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from advice_bench import store

__all__ = ["PROGRAMS", "measure"]

PYTHON = (sys.executable, "-c")
FILE = "result.json"
PROGRAMS: dict[str, tuple[str, ...]] = {
    "python -c pass": (*PYTHON, "pass"),
    "import lrfinder": (*PYTHON, "import lrfinder"),
    "import click": (*PYTHON, "import click"),
    "lrfind --help": ("lrfind", "--help"),
    "lrfind show FILE": ("lrfind", "show", FILE),
}


def measure(advice: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each program in each round, in an order that rotates; the first round does not count.

    Args:
        advice: folder with the sweeps of the benchmark of advice; ``lrfind show`` reads the first.
        rounds: at least 1.
    """
    command = Path(sys.executable).with_name("lrfind")
    if not command.exists():
        raise click.ClickException(f"there is no {command.name} beside {Path(sys.executable).name}: pip install -e .")
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    names = list(PROGRAMS)
    with tempfile.TemporaryDirectory() as folder:
        _save_result(advice, Path(folder, FILE))
        for turn in range(-1, rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                arguments = [str(command) if part == "lrfind" else part for part in PROGRAMS[name]]
                begin = time.perf_counter()
                subprocess.run(arguments, cwd=folder, stdout=subprocess.DEVNULL, check=True)
                if turn >= 0:
                    seconds[name].append(time.perf_counter() - begin)
    return seconds


def _save_result(advice: Path, path: Path) -> None:
    from lrfinder.advice.advise import advise
    from lrfinder.record.curve import LossCurve
    from lrfinder.result import RangeTestResult

    curve = LossCurve.from_dict(next(iter(store.load(advice, "sweep").values())))
    RangeTestResult(curve=curve, advice=advise(curve)).save(path)
