"""torchvision's own recipe beside the advice, in words and as plain values. No torch.

Each function takes a run, or None for a test made in Python, of which there is nothing to say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrfinder.advice.published import published_lr
from lrfinder.numbers import format_lr
from lrfinder.record.run import RunRecord
from lrfinder.tables.recipes import STEP_SIZE, NoRecipe, ReferenceRecipe, is_comparable, scaled_lr, scaling

__all__ = ["reference_facts", "reference_lines", "reference_sentence"]


def reference_sentence(run: RunRecord | None) -> str:
    """The learning rate of torchvision's recipe at the user's batch, and what to know before comparing it.

    Without a recipe the sentence is empty.

    Example:
        >>> setup = {"model": "resnet18", "data": "digits", "optimizer": "SGD", "optimizer_options": {"momentum": 0.9}}
        >>> setup |= {"weights": None, "batch_size": 64, "accumulation_steps": 1, "steps_per_epoch": 28}
        >>> reference_sentence(RunRecord(setup=setup, schedule="cosine", epochs=10, entry="IMAGENET1K_V1"))
        "torchvision's recipe at your batch: 0.025 (SGD)."
    """
    row = None if run is None else run.reference
    if run is None or not isinstance(row, ReferenceRecipe):
        return ""
    what = row.optimizer
    if not _is_comparable(row, run):
        what = f"{_described(row.optimizer, row.optimizer_options)}, not comparable with {_yours(run)}"
    elif run.setup["weights"] is not None:
        what = f"{row.optimizer}, from random weights"
    return f"torchvision's recipe at your batch: {format_lr(scaled_lr(row, run.batch))} ({what})."


def reference_lines(run: RunRecord | None) -> list[str]:
    """Sentences on torchvision's own training of the model; none where the table does not have it."""
    row = None if run is None else run.reference
    if run is None or row is None:
        return []
    if isinstance(row, NoRecipe):
        return [f"torchvision has no recipe of its own for {row.model}: {row.reason}, {row.link}"]
    if not _is_comparable(row, run):
        return [
            f"torchvision's recipe is for {_described(row.optimizer, row.optimizer_options)}, lr {row.lr:g} at a batch "
            f"of {row.batch}, and not comparable with {_yours(run)}, {row.link}"
        ]
    law = "linearly" if scaling(row.optimizer) == "linear" else "by the square root"
    lines = [
        f"torchvision's recipe at your batch of {run.batch}: lr {format_lr(scaled_lr(row, run.batch))} "
        f"({row.optimizer}, {row.lr:g} at {row.batch}, scaled {law}), {row.link}"
    ]
    if run.setup["weights"] is not None:
        return [*lines, "It is for random weights. Fine-tuning takes a lower one as a rule, so they are not compared."]
    return lines


def reference_facts(run: RunRecord | None) -> dict[str, Any] | None:
    """The same for programs, JSON-ready: the row, and where it is a recipe, its learning rate at the user's batch.

    ``comparable`` says whether the learning rate may be compared with the advice; ``text`` has the sentences.
    """
    row = None if run is None else run.reference
    if run is None or row is None:
        return None
    facts = {**dataclasses.asdict(row), "text": reference_lines(run)}
    if isinstance(row, NoRecipe):
        return facts
    return {
        **facts,
        "your_batch": run.batch,
        "scaling": scaling(row.optimizer),
        "scaled_lr": scaled_lr(row, run.batch),
        "comparable": published_lr(row, run.setup) is not None,
    }


def _is_comparable(row: ReferenceRecipe, run: RunRecord) -> bool:
    return is_comparable(row, run.setup["optimizer"], run.setup["optimizer_options"])


def _yours(run: RunRecord) -> str:
    return _described(run.setup["optimizer"], run.setup["optimizer_options"])


def _described(optimizer: str, options: Mapping[str, Any]) -> str:
    numbers = {name: options.get(name) for name in STEP_SIZE}
    known = {name: value for name, value in numbers.items() if isinstance(value, float | int) and value}
    chosen = ", ".join(f"{name}={value:g}" for name, value in known.items())
    return f"{optimizer}({chosen})" if chosen else optimizer
