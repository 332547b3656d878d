"""The optimizer of an experiment: torchvision's where none is named, over the parts of the model that are trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from lrfinder.errors import ConfigError, SetupError
from lrfinder.tasks.groups import AUXILIARY, freeze, parameter_groups
from lrfinder.tasks.layers import head_names
from lrfinder.tasks.optimizers import build_optimizer
from lrfinder.tasks.reference import default_optimizer, default_rates
from lrfinder.tasks.settings import Settings

__all__ = ["Grouped", "grouped_optimizer"]

_SCALES = ("head_lr_scale", "layer_decay")
_DECAYS = ("norm_weight_decay", "bias_weight_decay")


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """An optimizer with what was chosen for it.

    Args:
        optimizer: over the parameters that are trained.
        settings: with ``norm_weight_decay`` as it is in force.
        aux_lr_scale: that in force, as in :func:`lrfinder.tasks.groups.parameter_groups`; None for 1.
        lr_of: part of the model that its learning rate is for, as in ``"the head"``; None where everything that is
            trained has the same one.
        notes: what is frozen and how the groups differ, in sentences.
    """

    optimizer: torch.optim.Optimizer
    settings: Settings
    aux_lr_scale: float | None
    lr_of: str | None
    notes: tuple[str, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """The settings in force, JSON-ready."""
        given = {name: getattr(self.settings, name) for name in (*_SCALES, *_DECAYS)}
        parts = {"aux_lr_scale": self.aux_lr_scale, "lr_of": self.lr_of}
        return {"freeze": list(self.settings.freeze), **given, **parts}


def grouped_optimizer(settings: Settings, name: str, model: nn.Module) -> Grouped:
    """Freeze what the settings name and build the optimizer.

    Args:
        settings: of the experiment.
        name: of the model, as torchvision spells it.
        model: on its device; is changed in place.

    Raises:
        LRFinderError: a setting that cannot be used with the model or the optimizer.
    """
    frozen = freeze(model, settings.freeze)
    usual = default_optimizer(name, settings.weights)
    optimizer, usual_options = usual if settings.optimizer is None else (settings.optimizer, {})
    notes = _frozen_notes(model, frozen, random=settings.weights is None)
    recipe = default_rates(name, settings.weights) if settings.optimizer is None else {}
    if settings.norm_weight_decay is None and _has_norms(model):
        settings = replace(settings, norm_weight_decay=recipe.get("norm_weight_decay"))
        if settings.norm_weight_decay is not None:
            decay = f"{settings.norm_weight_decay:g}"
            notes += (f"Weight decay of normalisation layers is {decay}, as in torchvision's recipe.",)
    options = {each: getattr(settings, each) for each in (*_SCALES, *_DECAYS)}
    if not any(options[each] is not None for each in _SCALES) and _has_auxiliary(model):
        options["aux_lr_scale"] = recipe.get("aux_lr_scale")
    given = {each for each, value in options.items() if value is not None}
    groups: Any = parameter_groups(model, **options) if given or settings.freeze else model.parameters()
    built = build_optimizer(optimizer, settings.optimizer_options, groups, usual=usual_options)
    if (wrong := sorted(given & set(_DECAYS))) and "weight_decay" not in built.defaults:
        name = type(built).__name__
        raise ConfigError(f"`{wrong[0]}` is of no use for {name}, which has no weight decay. Leave it out.")
    lr_of = _lr_of(model, built, frozen)
    aux = options.get("aux_lr_scale")
    if aux is not None:
        notes += (f"The learning rate is that of {lr_of}, which has {aux:g} times that, as in torchvision's recipe.",)
    elif given & set(_SCALES):
        notes += (f"The learning rate is that of {lr_of}; the {len(built.param_groups)} groups keep their ratios.",)
    return Grouped(optimizer=built, settings=settings, aux_lr_scale=aux, lr_of=lr_of, notes=notes)


def _frozen_notes(model: nn.Module, frozen: list[str], *, random: bool) -> tuple[str, ...]:
    if not frozen:
        return ()
    sizes = {name: each.numel() for name, each in model.named_parameters()}
    share = sum(sizes[name] for name in frozen) / sum(sizes.values())
    notes = [f"Frozen: {len(frozen)} of {len(sizes)} parameter tensors, with {share:.1%} of all elements."]
    if any(isinstance(module, nn.modules.batchnorm._NormBase) and not module.training for module in model.modules()):
        notes.append("Frozen BatchNorm normalises with its running statistics and keeps them, as in evaluation.")
    return (*notes, *(["What is frozen has random weights, as no weights are given."] if random else []))


def _has_norms(model: nn.Module) -> bool:
    try:
        return len(parameter_groups(model, norm_weight_decay=0.0)) > 0
    except SetupError:
        return False


def _has_auxiliary(model: nn.Module) -> bool:
    """Whether an auxiliary classifier is trained, and not alone."""
    trained = [name.startswith(AUXILIARY) for name, each in model.named_parameters() if each.requires_grad]
    return any(trained) and not all(trained)


def _lr_of(model: nn.Module, optimizer: torch.optim.Optimizer, frozen: list[str]) -> str | None:
    groups = optimizer.param_groups
    if len({group["lr"] for group in groups}) > 1:
        part = groups[0]["name"].partition(", ")[0]
        return "the head" if part == "head" else part if part.startswith("all but") else f"the layer {part}"
    if not frozen:
        return None
    try:
        head = head_names(model)
    except SetupError:  # a model without one
        return None
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    return "the head" if trained <= head else None
