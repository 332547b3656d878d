"""torchvision's own training of a model: the row of the table for the weights in use, and the optimizer it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lrfinder.tables.recipes import NoRecipe, ReferenceRecipe, missing_recipe, reference_recipe
from lrfinder.tasks.weights import named_weights

__all__ = ["default_norm_weight_decay", "default_optimizer", "torchvision_recipe"]

_TRANSFORMERS = ("vit_", "mvit_", "swin3d_")


def torchvision_recipe(model: str, weights: str | Path | None) -> ReferenceRecipe | NoRecipe | None:
    """The recipe of the named weights, or why there is none; None for a model that the table does not have.

    Args:
        model: as torchvision spells it.
        weights: torchvision's name of some, such as ``"DEFAULT"``; for None and for a file of weights the first recipe
            of the model counts.

    Raises:
        ConfigError: unknown weights.

    Example:
        >>> recipe = torchvision_recipe("resnet50", "DEFAULT")
        >>> recipe.weights, recipe.lr
        ('IMAGENET1K_V2', 0.5)
    """
    named = None if weights is None else named_weights(model, weights)
    entry = None if named is None else named.name
    return reference_recipe(model, entry) or missing_recipe(model, entry)


def default_optimizer(model: str, weights: str | Path | None) -> tuple[str, dict[str, Any]]:
    """Class name and options of the optimizer that torchvision trained a model with.

    Models without a recipe have AdamW if they are vision transformers, else SGD.

    Args:
        model, weights: as in :func:`torchvision_recipe`. Where the named weights have no recipe, others of the model
            count.

    Raises:
        ConfigError: unknown weights.

    Example:
        >>> default_optimizer("vit_b_16", None), default_optimizer("densenet121", None)
        (('AdamW', {'weight_decay': 0.3}), ('SGD', {}))
    """
    recipe = _usable_recipe(model, weights)
    if recipe is None:
        return ("AdamW" if model.startswith(_TRANSFORMERS) else "SGD"), {}
    return recipe.optimizer, recipe.optimizer_options


def default_norm_weight_decay(model: str, weights: str | Path | None) -> float | None:
    """Weight decay of normalisation layers in torchvision's training, where it is another than that of the rest.

    Args:
        model, weights: as in :func:`default_optimizer`.

    Raises:
        ConfigError: unknown weights.

    Example:
        >>> default_norm_weight_decay("swin_t", None), default_norm_weight_decay("resnet18", None)
        (0.0, None)
    """
    recipe = _usable_recipe(model, weights)
    return None if recipe is None else recipe.norm_weight_decay


def _usable_recipe(model: str, weights: str | Path | None) -> ReferenceRecipe | None:
    recipe = torchvision_recipe(model, weights)
    return recipe if isinstance(recipe, ReferenceRecipe) else reference_recipe(model)
