"""How much the inputs of a new head vary between samples, as its first forward pass has them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.tables.heads import HEAD
from lrfinder.training.compiled import is_compiled
from lrfinder.training.model_facts import trained_groups, trained_parameters
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state.tensors import is_dense

__all__ = ["FeatureVariation", "watch_features"]


class FeatureVariation:
    """Looks at the inputs of layers in their first forward pass."""

    def __init__(self) -> None:
        self._seen: Tensor | None = None

    def share(self) -> float | None:
        """Share of their squared norm that varies, from 0 to 1: 1 where the mean is 0. None where nothing was seen."""
        share = None if self._seen is None else self._seen.item()
        return share if share is not None and 0 <= share <= 1 else None

    def look(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        """To be called before each forward pass."""
        features = inputs[0] if inputs else None
        if self._seen is not None or not isinstance(features, Tensor) or features.ndim < 2 or not is_dense(features):
            return
        # Inside vmap or jacrev a tensor stands for others, and is worth nothing after it.
        if features.is_complex() or torch._C._functorch.is_functorch_wrapped_tensor(features):
            return
        rows = features.detach().flatten(0, -2).float()
        if len(rows) > 1:
            varied = rows.var(0).sum()  # divided by n - 1, so that a small batch gives it without bias
            self._seen = (varied / rows.square().sum(1).mean()).clamp(max=1)


@contextlib.contextmanager
def watch_features(setup: TrainingSetup) -> Iterator[FeatureVariation]:
    """Context in which the trained layers are looked at, if they are few linear ones on frozen weights, or one alone.

    Ranks that train together see different samples and would need an exchange, and compiled code would be compiled
    again, so nothing is looked at there.
    """
    features = FeatureVariation()
    layers = [] if setup.ranks.together or is_compiled(setup.model) else _trained_linear(setup)
    hooks = [layer.register_forward_pre_hook(features.look) for layer in layers]
    try:
        yield features
    finally:
        for hook in hooks:
            hook.remove()


def _trained_linear(setup: TrainingSetup) -> list[nn.Module]:
    """The linear layers of a head, or the only one of a model; empty for other models."""
    trained = {id(each) for each in trained_parameters(setup.model, trained_groups(setup.optimizer))}
    layers, frozen = [], False
    for module in setup.model.modules():
        weights = [id(each) in trained for each in module.parameters(recurse=False) if each.ndim > 1]
        if any(weights) and not isinstance(module, nn.Linear):
            return []
        layers += [module] if any(weights) else []
        frozen = frozen or not all(weights)
    return layers if len(layers) == 1 or frozen and len(layers) <= HEAD.deepest else []
