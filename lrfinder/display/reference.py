"""torchvision's own recipe beside the advice, in words and as plain values. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrfinder.advice.published import published_lr
from lrfinder.numbers import format_lr
from lrfinder.tables.recipes import STEP_SIZE, NoRecipe, ReferenceRecipe, is_comparable, scaled_lr, scaling

__all__ = ["reference_facts", "reference_lines", "reference_sentence"]


def reference_sentence(row: ReferenceRecipe | NoRecipe | None, setup: Mapping[str, Any]) -> str:
    """The learning rate of torchvision's recipe at the user's batch, and what to know before comparing it.

    Args:
        row: of the table; without a recipe the sentence is empty.
        setup: as in :func:`reference_lines`.

    Example:
        >>> from lrfinder.tables.recipes import reference_recipe
        >>> setup = {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}, "batch_size": 64}
        >>> setup |= {"accumulation_steps": 1, "weights": None}
        >>> reference_sentence(reference_recipe("resnet18"), setup)
        "torchvision's recipe at your batch: 0.025 (SGD)."
    """
    if not isinstance(row, ReferenceRecipe):
        return ""
    what = row.optimizer
    if not _is_comparable(row, setup):
        yours = _described(setup["optimizer"], setup["optimizer_options"])
        what = f"{_described(row.optimizer, row.optimizer_options)}, not comparable with {yours}"
    elif setup["weights"] is not None:
        what = f"{row.optimizer}, from random weights"
    return f"torchvision's recipe at your batch: {format_lr(scaled_lr(row, _batch(setup)))} ({what})."


def reference_lines(row: ReferenceRecipe | NoRecipe | None, setup: Mapping[str, Any]) -> list[str]:
    """Sentences on torchvision's own training of the model; none where the table does not have it.

    Args:
        row: of the table.
        setup: of the user's training, with ``optimizer``, ``optimizer_options`` (those that differ from torch's
            defaults), ``batch_size``, ``accumulation_steps``, and ``weights`` (None for random ones).
    """
    if row is None:
        return []
    if isinstance(row, NoRecipe):
        return [f"torchvision has no recipe of its own for {row.model}: {row.reason}, {row.link}"]
    if not _is_comparable(row, setup):
        yours = _described(setup["optimizer"], setup["optimizer_options"])
        return [
            f"torchvision's recipe is for {_described(row.optimizer, row.optimizer_options)}, lr {row.lr:g} at a batch "
            f"of {row.batch}, and not comparable with {yours}, {row.link}"
        ]
    batch = _batch(setup)
    law = "linearly" if scaling(row.optimizer) == "linear" else "by the square root"
    lines = [
        f"torchvision's recipe at your batch of {batch}: lr {format_lr(scaled_lr(row, batch))} ({row.optimizer}, "
        f"{row.lr:g} at {row.batch}, scaled {law}), {row.link}"
    ]
    if setup["weights"] is not None:
        return [*lines, "It is for random weights. Fine-tuning takes a lower one as a rule, so they are not compared."]
    return lines


def reference_facts(row: ReferenceRecipe | NoRecipe | None, setup: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same for programs, JSON-ready: the row, and where it is a recipe, its learning rate at the user's batch.

    ``comparable`` says whether the learning rate may be compared with the advice; ``text`` has the sentences.
    """
    if row is None:
        return None
    facts = {**dataclasses.asdict(row), "text": reference_lines(row, setup)}
    if isinstance(row, NoRecipe):
        return facts
    batch = _batch(setup)
    return {
        **facts,
        "your_batch": batch,
        "scaling": scaling(row.optimizer),
        "scaled_lr": scaled_lr(row, batch),
        "comparable": published_lr(row, setup) is not None,
    }


def _is_comparable(row: ReferenceRecipe, setup: Mapping[str, Any]) -> bool:
    return is_comparable(row, setup["optimizer"], setup["optimizer_options"])


def _batch(setup: Mapping[str, Any]) -> int:
    return int(setup["batch_size"] * setup["accumulation_steps"])


def _described(optimizer: str, options: Mapping[str, Any]) -> str:
    numbers = {name: options.get(name) for name in STEP_SIZE}
    known = {name: value for name, value in numbers.items() if isinstance(value, float | int) and value}
    chosen = ", ".join(f"{name}={value:g}" for name, value in known.items())
    return f"{optimizer}({chosen})" if chosen else optimizer
