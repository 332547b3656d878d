"""torchvision's detection models made ready for training: classes, size, weights, and what is frozen with weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import nn
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d

from lrfinder.errors import SetupError
from lrfinder.tasks.weights import load_state, named_weights, read_state

__all__ = ["build_detector"]

# Parameters that torchvision freezes where the weights are trained (trainable_backbone_layers), by the model's name.
_FROZEN = {
    "fasterrcnn_mobilenet": re.compile(r"^backbone\.body\.[0-6]\."),
    "ssd300_vgg16": re.compile(r"^backbone\.features\.[0-3]\."),
    "ssdlite320": re.compile(r"(?!)"),
    "": re.compile(r"^backbone\.body\.(?:conv1|bn1|layer1)\."),
}
_KEEPS_BATCHNORM = re.compile(r"^ssdlite|_v2$")  # torchvision trains the BatchNorm of these also with trained weights
_HEAD = re.compile(r"^roi_heads\.(?:box_predictor|mask_predictor|keypoint_predictor)\.|^head\.classification_head\.")
_OLD_EPS = re.compile(r"^(?:fasterrcnn|maskrcnn|keypointrcnn|retinanet)_resnet50_fpn$")  # trained with eps=0


def build_detector(
    name: str, num_classes: int, num_keypoints: int, *, weights: str | Path | None, image_size: int | None
) -> tuple[nn.Module, int, tuple[str, ...]]:
    """A torchvision detection model in training mode, the shorter side that it resizes images to, and notes.

    Args:
        name: as torchvision spells it.
        num_classes: outputs of the model, with the background.
        num_keypoints: of an object; 0 where the model has none.
        weights: a file of weights, or torchvision's name of some; None starts from random weights.
        image_size: shorter side that the model resizes images to; None takes the model's own.

    Raises:
        ConfigError: unknown weights.
        SetupError: weights that do not fit, or a size that the model does not take.
    """
    state = None if weights is None else read_state(name, weights)
    arguments: dict[str, Any] = {"num_classes": num_classes, "weights_backbone": None}
    if num_keypoints:
        arguments["num_keypoints"] = num_keypoints
    model: nn.Module = models.get_model(name, weights=None, **arguments)
    size, notes = _set_size(name, model, image_size)
    if state is not None:
        _freeze(name, model, old_eps=_is_old(name, weights))
        notes += load_state(model, state, num_classes, name=name, origin=str(weights), head=_HEAD)
        notes += _frozen_notes(model)
    return model.train(), size, tuple(notes)


def _set_size(name: str, model: Any, size: int | None) -> tuple[int, list[str]]:
    resize = model.transform
    if resize.fixed_size is not None:
        own = resize.fixed_size[0]
        if size not in (None, own):
            raise SetupError(
                f"{name} takes images of {own}x{own} pixels alone. Set `image_size` to {own}, or leave it out."
            )
        return own, [f"Images at {own}x{own} pixels."]
    own, longest = resize.min_size[-1], resize.max_size
    if size is not None:
        resize.min_size, resize.max_size = (size,), size * longest // own
    used = size or own
    return used, [f"Images with a shorter side of {used} pixels (the model's own is {own})."]


def _freeze(name: str, model: nn.Module, *, old_eps: bool) -> None:
    """Freeze what torchvision does where the weights are trained."""
    for path, module in list(model.named_modules()):
        if type(module) is nn.BatchNorm2d and not _KEEPS_BATCHNORM.search(name):
            frozen = FrozenBatchNorm2d(module.num_features, 0.0 if old_eps else module.eps)
            model.set_submodule(path, frozen)
    pattern = next(pattern for beginning, pattern in _FROZEN.items() if name.startswith(beginning))
    for path, parameter in model.named_parameters():
        if pattern.search(path):
            parameter.requires_grad_(False)


def _frozen_notes(model: nn.Module) -> list[str]:
    notes = []
    if any(isinstance(module, FrozenBatchNorm2d) for module in model.modules()):
        notes.append("BatchNorm keeps the statistics and factors of the weights (FrozenBatchNorm2d).")
    if not all(parameter.requires_grad for parameter in model.parameters()):
        notes.append("The first layers of the backbone are frozen, as in torchvision's fine-tuning.")
    return notes


def _is_old(name: str, weights: str | Path | None) -> bool:
    named = None if weights is None else named_weights(name, weights)
    return named is not None and _OLD_EPS.search(name) is not None and named.name.startswith("COCO_")
