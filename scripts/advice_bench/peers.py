"""What the other finders suggest for a cell, each from its own package and at that package's defaults.

Each sweep has a task of its own, built anew, so all of them start from the same weights and see the same batches. Only
Lightning's are in another order from the second epoch on: it ends an epoch by the loader's length, and the sampler
draws once more when it is run to its end. Everything runs on the CPU, from a learning rate of 1e-7, as in the README of
torch-lr-finder.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

import peers
from advice_bench.tasks import Cell, build

__all__ = ["suggest"]

LOWEST = 1e-7


def suggest(cell: Cell, seed: int, *, cache: Path) -> dict[str, dict[str, Any]]:
    """Suggestions of every installed finder.

    Args:
        cell: what would be trained.
        seed: decides weights and order of the data, as in a training.
        cache: where first trainings are kept, for :func:`build`.

    Returns:
        By rule, in the order of :data:`peers.RULES`: ``lr``, None where the finder raises or suggests nothing finite;
        ``batches``, the optimizer steps of the sweep; ``why``, the reason for None, else empty.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name in filter(peers.installed, peers.PEERS):
        task, peer = build(cell, seed, lr=LOWEST, cache=cache), peers.PEERS[name]
        with tempfile.TemporaryDirectory() as folder, peers.silenced(), _counted() as count:
            try:
                found = peer.prepare(task.model, task.optimizer, cell.loss, task.loader, peers.How(folder=folder))()()
            except Exception as error:
                found = dict.fromkeys(peer.rules, error)
        rows |= {rule: {**_reading(found[rule]), "batches": count()} for rule in peer.rules}
    return rows


def _reading(suggestion: Any) -> dict[str, Any]:
    if isinstance(suggestion, Exception):
        return {"lr": None, "why": f"{type(suggestion).__name__}: {suggestion}".partition("\n")[0][:120]}
    if suggestion is None:
        return {"lr": None, "why": "no suggestion"}
    lr = float(suggestion)
    return {"lr": lr, "why": ""} if math.isfinite(lr) else {"lr": None, "why": f"suggests {lr}"}


@contextlib.contextmanager
def _counted() -> Iterator[Callable[[], int]]:
    """Counts the steps of every optimizer there is: fastai makes its own."""
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    handle = register_optimizer_step_post_hook(count)
    try:
        yield lambda: steps
    finally:
        handle.remove()
