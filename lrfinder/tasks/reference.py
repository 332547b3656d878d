"""torchvision's own training of a model: the row of the table for the weights in use, and the optimizer it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lrfinder.tables.recipes import NoRecipe, ReferenceRecipe, missing_recipe, reference_recipe
from lrfinder.tasks.user_code import is_reference
from lrfinder.tasks.weights import named_weights

__all__ = ["default_optimizer", "default_rates", "nearest_recipe", "torchvision_recipe"]

_ADAMW = ("vit_", "mvit_", "swin3d_", "raft_")


def torchvision_recipe(model: str, weights: str | Path | None) -> ReferenceRecipe | NoRecipe | None:
    """The recipe of the named weights, or why there is none; None for a model that the table does not have.

    Args:
        model: as torchvision spells it, or a model of the user's own.
        weights: torchvision's name of some, such as ``"DEFAULT"``; for None and for a file of weights the first recipe
            of the model counts.

    Raises:
        ConfigError: unknown weights.

    Example:
        >>> recipe = torchvision_recipe("resnet50", "DEFAULT")
        >>> recipe.weights, recipe.lr
        ('IMAGENET1K_V2', 0.5)
    """
    if is_reference(model):
        return None
    named = None if weights is None else named_weights(model, weights)
    entry = None if named is None else named.name
    return reference_recipe(model, entry) or missing_recipe(model, entry)


def nearest_recipe(model: str, weights: str | Path | None) -> ReferenceRecipe | None:
    """The recipe of the named weights; where these have none, the first of the model; None where it has none at all.

    Args:
        model, weights: as in :func:`torchvision_recipe`.

    Raises:
        ConfigError: unknown weights.

    Example:
        >>> nearest_recipe("vit_b_16", "IMAGENET1K_SWAG_E2E_V1").augment
        'ra'
    """
    recipe = torchvision_recipe(model, weights)
    return recipe if isinstance(recipe, ReferenceRecipe) else reference_recipe(model)


def default_optimizer(model: str, weights: str | Path | None) -> tuple[str, dict[str, Any]]:
    """Class name and options of the optimizer that torchvision trained a model with.

    Models without a recipe have AdamW if they are vision transformers or RAFT, else SGD.

    Args:
        model, weights: as in :func:`nearest_recipe`.

    Raises:
        ConfigError: unknown weights.

    Example:
        >>> default_optimizer("vit_b_16", None), default_optimizer("densenet121", None)
        (('AdamW', {'weight_decay': 0.3}), ('SGD', {}))
    """
    if is_reference(model):
        return "SGD", {}
    recipe = nearest_recipe(model, weights)
    if recipe is None:
        return ("AdamW" if model.startswith(_ADAMW) else "SGD"), {}
    return recipe.optimizer, recipe.optimizer_options


def default_rates(model: str, weights: str | Path | None) -> dict[str, float | None]:
    """What torchvision's training has apart from the optimizer's options: for each setting its value, or None.

    Args:
        model, weights: as in :func:`default_optimizer`.

    Raises:
        ConfigError: unknown weights.

    Example:
        >>> default_rates("swin_t", None), default_rates("fcn_resnet50", None)
        ({'norm_weight_decay': 0.0, 'aux_lr_scale': None}, {'norm_weight_decay': None, 'aux_lr_scale': 10.0})
    """
    recipe = nearest_recipe(model, weights)
    return {name: getattr(recipe, name, None) for name in ("norm_weight_decay", "aux_lr_scale")}
