"""The cells of cells.csv, whose columns are the fields of :class:`~situations.cell.Cell`, with their builders."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from situations import crystals, embeddings, examples, fresh, heads, images, language, linear, optimizers, papers
from situations import reviews, scratch, sentences, ways, whole
from situations.adapters import ADAPTERS
from situations.cell import Cell, Training

from lrfinder.tables.recipes import reference_recipe, scaled_lr

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
    "hours_mlp": scratch.hours,
    "digits_resnet": scratch.digits,
    "cifar_mlp": scratch.dense,
    "sst2_gru": reviews.gru,
    "sst2_transformer": reviews.transformer,
    "sst2_lstm": reviews.lstm,
    "gru_lm": reviews.gru_lm,
    "cifar_vit": scratch.vit,
    "cifar_wrn": scratch.convolutional,
    **{f"fresh_{name}": getattr(fresh, name) for name in fresh.__all__},
    "mnist_cnn": partial(examples.digits, optimizer=torch.optim.Adadelta, lr=1.0),
    "mnist_hogwild": partial(examples.digits, optimizer=torch.optim.SGD, lr=0.01, momentum=0.5),
    "mnist_rnn": examples.rows_of_digits,
    "vae": examples.vae,
    "super_resolution": examples.super_resolution,
    "gcn": examples.graph,
    "word_transformer": examples.transformer_lm,
    "lenet_sigmoid": papers.lenet,
    "resnet20": papers.resnet20,
    "names_rnn": examples.names,
    "siren": papers.siren,
    "ddpm": papers.diffusion,
    "unet_dice": papers.unet,
    "census_mlp": papers.perceptron,
    "minilm_pairs": papers.pairs,
}


def builder(name: str) -> Callable[[Path, int], Training]:
    """Builder of a cell, from its name.

    In ``"head-effnet-sgd-32-200"``, ``"whole-onet-adamw-16-300"`` and those with part, live, linear, an adapter and
    the ways of :data:`situations.ways.WAYS`, that holds trunk or data, optimizer, batch and steps, in
    ``"embed-clip-words-adam-300"`` loss, data, optimizer and steps, in ``"tv-resnet18"`` the model, in
    ``"opt-lion-digits-mlp"`` the optimizer and the network. What follows "~" is the highest norm of a gradient.
    """
    name = name.partition("~")[0]
    kind, *parts = name.split("-")
    if kind == "tv":
        return partial(scratch.recipe, model=parts[0])
    if kind == "head":
        trunk, optimizer, batch, _, *hidden = parts
        return partial(heads.head, trunk=trunk, optimizer=optimizer, batch=int(batch), hidden=bool(hidden))
    if kind == "linear":
        source, optimizer, batch, _ = parts
        return partial(linear.linear, source=source, optimizer=optimizer, batch=int(batch))
    if kind == "embed":
        loss, source, optimizer, _ = parts
        return partial(embeddings.embeddings, loss=loss, source=source, optimizer=optimizer)
    if kind == "opt":
        optimizer, *network = parts
        return partial(optimizers.small, optimizer=optimizer, network="-".join(network))
    if kind in ways.WAYS:
        trunk, optimizer, batch, _ = parts
        return partial(ways.tuned, way=kind, trunk=trunk, optimizer=optimizer, batch=int(batch))
    if kind in ("whole", "part", "live") or kind in ADAPTERS:
        trunk, optimizer, batch, _ = parts
        if trunk == "chgnet":
            return partial(crystals.chgnet, kind=kind, optimizer=optimizer, batch=int(batch))
        return partial(whole.whole, kind=kind, trunk=trunk, optimizer=optimizer, batch=int(batch))
    return BUILDERS[name]


def published(row: Mapping[str, str]) -> tuple[float | None, str]:
    """The published learning rate and its source, which for models of torchvision are in the table of recipes."""
    recipe = reference_recipe(row["name"].removeprefix("tv-"))
    if recipe is not None:
        return scaled_lr(recipe, scratch.RECIPE_BATCH), f"torchvision, {recipe.source}"
    return float(row["published"]) if row["published"] else None, row["source"]


def cell(row: Mapping[str, str]) -> Cell:
    lr, source = published(row)
    return Cell(
        build=builder(row["name"]),
        steps=int(row["steps"]),
        seeds=int(row["seeds"]),
        centre=float(row["centre"]),
        published=lr,
        source=source,
        needs=tuple(row["needs"].split()),
        clip=float(row["clip"]) if row["clip"] else None,
        warmup=int(row["warmup"]),
        floor=float(row["floor"]),
        **{name: row[name] for name in ("name", "situation", "schedule", "folder", "split")},
    )


def cells() -> tuple[Cell, ...]:
    with open(Path(__file__).with_suffix(".csv"), encoding="utf-8", newline="") as file:
        return tuple(map(cell, csv.DictReader(file)))


CELLS = cells()
