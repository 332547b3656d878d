"""The trainings that made torchvision's weights: a row per entry of weights, each with its link and source.

The rows are in ``torchvision_recipes.csv``. Weights that torchvision ported, quantised or did not document have a row
with the reason instead. Imports no torch.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from lrfinder.checks import check_count
from lrfinder.tables.optimizers import find_optimizer

__all__ = [
    "STEP_SIZE",
    "NoRecipe",
    "ReferenceRecipe",
    "is_comparable",
    "missing_recipe",
    "recipe_rows",
    "reference_recipe",
    "scaled_lr",
    "scaling",
]

STEP_SIZE = ("momentum", "eps")
"""Options that change which learning rate is right."""

_OPTIONS = ("momentum", "weight_decay", "nesterov", "alpha", "eps")  # of the optimizer


@dataclass(frozen=True, kw_only=True)
class ReferenceRecipe:
    """How torchvision trained one entry of weights from random ones, or a detector from a trained backbone.

    Args:
        model: name of the model, as in ``"resnet18"``.
        weights: name of the entry, as in ``"IMAGENET1K_V1"``.
        optimizer: class name in ``torch.optim``.
        lr: peak learning rate; > 0.
        batch: images in an update, over all GPUs.
        momentum: None where the optimizer has none.
        weight_decay: of all weights.
        norm_weight_decay: of normalisation layers, where it is another.
        aux_lr_scale: learning rate of the auxiliary classifier of segmentation divided by that of the rest; None for 1.
        clip_grad_norm: largest norm of the gradient; None where it is not clipped.
        nesterov, alpha, eps: options of the optimizer; None where they are torch's defaults.
        schedule: kind of schedule, as in ``lrfinder.schedules.KINDS``. The polynomial one of segmentation counts as
            ``"linear"``.
        epochs: length of the training.
        warmup_epochs: part of them in which the learning rate rises; None where that is counted in iterations.
        augment: policy of automatic augmentation (``"ta_wide"``, ``"ra"`` or ``"imagenet"``), or of detection the whole
            augmentation (``"hflip"``, ``"multiscale"``, ``"lsj"``, ``"ssd"`` or ``"ssdlite"``); None for no more than
            what every training of the family has.
        random_erase: probability that a part of an image is erased; None for 0.
        label_smoothing, mixup, cutmix: of the loss and of the targets; None for none.
        link: page that torchvision names as the recipe.
        source: what the numbers were read from.
    """

    model: str
    weights: str
    optimizer: str
    lr: float
    batch: int
    momentum: float | None
    weight_decay: float | None
    norm_weight_decay: float | None
    aux_lr_scale: float | None
    clip_grad_norm: float | None
    nesterov: bool | None
    alpha: float | None
    eps: float | None
    schedule: str
    epochs: float | None
    warmup_epochs: float | None
    augment: str | None
    random_erase: float | None
    label_smoothing: float | None
    mixup: float | None
    cutmix: float | None
    link: str
    source: str

    @property
    def optimizer_options(self) -> dict[str, Any]:
        """Keyword arguments of the optimizer, its learning rate aside. Every parameter has the same weight decay."""
        return {name: getattr(self, name) for name in _OPTIONS if getattr(self, name) is not None}


@dataclass(frozen=True, kw_only=True)
class NoRecipe:
    """Weights without a recipe.

    Args:
        model, weights, link: as in :class:`ReferenceRecipe`.
        reason: why there is none, as the end of a sentence.
        source: what says so.
    """

    model: str
    weights: str
    reason: str
    link: str
    source: str


def reference_recipe(model: str, weights: str | None = None) -> ReferenceRecipe | None:
    """The training that made the weights of a model of torchvision; None where there is no such row.

    Args:
        model: as torchvision spells it.
        weights: name of the entry; None takes the first one with a recipe.

    Example:
        >>> recipe = reference_recipe("vit_b_16")
        >>> recipe.optimizer, recipe.lr, recipe.batch, recipe.optimizer_options
        ('AdamW', 0.003, 4096, {'weight_decay': 0.3})
        >>> reference_recipe("resnet50").lr, reference_recipe("resnet50", "IMAGENET1K_V2").lr
        (0.1, 0.5)
        >>> reference_recipe("densenet121") is None
        True
    """
    return next((row for row in _rows_of(model, weights) if isinstance(row, ReferenceRecipe)), None)


def missing_recipe(model: str, weights: str | None = None) -> NoRecipe | None:
    """The row that gives the reason why there is no recipe; None where there is one, or for unknown weights.

    Example:
        >>> missing_recipe("efficientnet_b0").reason
        'ported from timm'
        >>> missing_recipe("resnet18") is None
        True
    """
    if reference_recipe(model, weights) is not None:
        return None
    return next((row for row in _rows_of(model, weights) if isinstance(row, NoRecipe)), None)


def scaling(optimizer: str) -> str:
    """Law by which a learning rate follows the batch size: ``"linear"`` or ``"square root"``.

    Adam and its kin, Adagrad, Adadelta, Adafactor and LAMB scale by the square root, all others linearly, RMSprop
    among them. This is the rule of timm (train.py of github.com/huggingface/pytorch-image-models, where no
    ``--lr-base-scale`` is given).

    Example:
        >>> scaling("SGD"), scaling("RMSprop"), scaling("AdamW")
        ('linear', 'linear', 'square root')
    """
    return "square root" if any(part in optimizer.lower() for part in ("ada", "lamb")) else "linear"


def scaled_lr(recipe: ReferenceRecipe, batch_size: int) -> float:
    """Learning rate of the recipe at another batch size, by the law of :func:`scaling`.

    Args:
        recipe: of torchvision.
        batch_size: samples in an update, >= 1: accumulated batches and all processes count.

    Raises:
        ConfigError: the batch size is not a positive whole number.

    Example:
        >>> scaled_lr(reference_recipe("resnet18"), 64)
        0.025
        >>> scaled_lr(reference_recipe("vit_b_16"), 64)
        0.000375
    """
    ratio = check_count("batch_size", batch_size) / recipe.batch
    return recipe.lr * (ratio**0.5 if scaling(recipe.optimizer) == "square root" else ratio)


def is_comparable(recipe: ReferenceRecipe, optimizer: str, options: Mapping[str, Any]) -> bool:
    """Whether an optimizer makes steps of the same size as that of the recipe at the same learning rate.

    Args:
        recipe: of torchvision.
        optimizer: class name.
        options: those that differ from torch's defaults.

    Example:
        >>> [is_comparable(reference_recipe("resnet18"), "SGD", {"momentum": each}) for each in (0.9, 0.5)]
        [True, False]
    """
    theirs = recipe.optimizer_options
    if find_optimizer(recipe.optimizer) != find_optimizer(optimizer):
        return False
    return all(theirs.get(name) == options.get(name) for name in STEP_SIZE)


@functools.cache
def recipe_rows() -> tuple[ReferenceRecipe | NoRecipe, ...]:
    """All rows, by model; of each the plain entries come first, in the order of their versions."""
    text = (resources.files("lrfinder.tables") / "torchvision_recipes.csv").read_text(encoding="utf-8")
    lines = csv.DictReader(text.splitlines())
    rows = [_row(entry, line) for line in lines for entry in line["weights"].split()]
    # Plain entries have the shortest names: IMAGENET1K_V1 before IMAGENET1K_SWAG_E2E_V1, COCO_V1 before COCO_LEGACY.
    return tuple(sorted(rows, key=lambda row: (row.model, len(row.weights), row.weights)))


def _rows_of(model: str, weights: str | None) -> list[ReferenceRecipe | NoRecipe]:
    return [row for row in recipe_rows() if row.model == model and weights in (None, row.weights)]


def _row(entry: str, line: Mapping[str, str]) -> ReferenceRecipe | NoRecipe:
    model, weights = entry.split(".")
    link, source = line["link"], line["source"]
    if line["reason"]:
        return NoRecipe(model=model, weights=weights, reason=line["reason"], link=link, source=source)
    return ReferenceRecipe(
        model=model,
        weights=weights,
        optimizer=line["optimizer"],
        lr=float(line["lr"]),
        batch=int(line["batch"]),
        momentum=_number(line["momentum"]),
        weight_decay=_number(line["weight_decay"]),
        norm_weight_decay=_number(line["norm_weight_decay"]),
        aux_lr_scale=_number(line["aux_lr_scale"]),
        clip_grad_norm=_number(line["clip_grad_norm"]),
        nesterov=True if line["nesterov"] else None,
        alpha=_number(line["alpha"]),
        eps=_number(line["eps"]),
        schedule=line["schedule"],
        epochs=_number(line["epochs"]),
        warmup_epochs=_number(line["warmup_epochs"]),
        augment=line["augment"] or None,
        random_erase=_number(line["random_erase"]),
        label_smoothing=_number(line["label_smoothing"]),
        mixup=_number(line["mixup"]),
        cutmix=_number(line["cutmix"]),
        link=link,
        source=source,
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
