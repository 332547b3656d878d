"""The cells of cells.csv, whose columns are the fields of :class:`~situations.cell.Cell`, with their builders."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path

from situations import heads, images, language, sentences, whole
from situations.cell import Cell, Training

__all__ = ["CELLS"]

BUILDERS: dict[str, Callable[[Path, int], Training]] = {
    "cifar_tutorial": images.tutorial,
    "digits_mnist": images.digits,
    "effnet_cifar_sgd": partial(images.efficientnet, optimizer="SGD"),
    "effnet_cifar_adamw": partial(images.efficientnet, optimizer="AdamW"),
    "effnet_cifar_sgd-head": partial(images.efficientnet, optimizer="SGD", head=True),
    "effnet_cifar_adamw-head": partial(images.efficientnet, optimizer="AdamW", head=True),
    "minilm_sst2": partial(sentences.minilm, texts="sst2"),
    "minilm_sst2-head": partial(sentences.minilm, texts="sst2", mode="head"),
    "minilm_sst2-lora": partial(sentences.minilm, texts="sst2", mode="lora"),
    "minilm_stdlib77": partial(sentences.minilm, texts="stdlib77"),
    "textgenrnn_stdlib": language.textgenrnn,
    "lstm_lm": language.word_lstm,
    "char_gpt": language.char_gpt,
    "onet_cifar": images.onet,
}


def head(name: str) -> Callable[[Path, int], Training]:
    """Builder of a head alone, from a name as in ``"head-effnet-sgd-32-200"``: trunk, optimizer, batch and steps."""
    _, trunk, optimizer, batch, _, *hidden = name.split("-")
    return partial(heads.head, trunk=trunk, optimizer=optimizer, batch=int(batch), hidden=bool(hidden))


def tuned(name: str) -> Callable[[Path, int], Training]:
    """Builder of a trunk tuned whole or by LoRA, from a name as in ``"whole-onet-adamw-16-300"`` or ``"lora-..."``."""
    way, trunk, optimizer, batch, _ = name.split("-")
    return partial(whole.whole, trunk=trunk, optimizer=optimizer, batch=int(batch), lora=way == "lora")


NAMED = {"head": head, "whole": tuned, "lora": tuned}  # by the first word of the name


def cells() -> tuple[Cell, ...]:
    with open(Path(__file__).with_suffix(".csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        Cell(
            build=BUILDERS.get(row["name"]) or NAMED[row["name"].split("-")[0]](row["name"]),
            steps=int(row["steps"]),
            seeds=int(row["seeds"]),
            centre=float(row["centre"]),
            published=float(row["published"]) if row["published"] else None,
            needs=tuple(row["needs"].split()),
            clip=float(row["clip"]) if row["clip"] else None,
            warmup=int(row["warmup"]),
            floor=float(row["floor"]),
            **{name: row[name] for name in ("name", "situation", "schedule", "folder", "split", "source")},
        )
        for row in rows
    )


CELLS = cells()
