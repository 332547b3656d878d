"""torchvision's classification models made ready for training: size, head, weights, transform and loss.

What differs between the eighty models is handled here and nowhere else: the image sizes that they accept, their own
transforms, auxiliary classifiers, and new heads. This module does not read data: it needs only the size of the images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision import models

from lrfinder.tasks.forward import check_forward, size_error
from lrfinder.tasks.image_files import default_size
from lrfinder.tasks.memory import check_batch_memory
from lrfinder.tasks.weights import load_state, named_weights, read_state

__all__ = ["AuxiliaryLoss", "Classifier", "build_classifier"]

# Weight of each auxiliary loss: GoogLeNet, Szegedy et al., arXiv:1409.4842, section 5; for Inception v3 torchvision's
# fine-tuning tutorial.
_AUX_WEIGHTS = {"googlenet": 0.3, "inception_v3": 0.4}
_INCEPTION_AUX_SIZE = 299  # on smaller images nothing is left for its auxiliary classifier's 5x5 convolution


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model with what belongs to it.

    Args:
        model: in training mode, on the CPU.
        criterion: loss from the model's output, auxiliary outputs included, and the labels.
        transform: PIL image in colour to the tensor that the model takes, shape (3, image_size, image_size).
        image_size: pixels on a side.
        notes: what was chosen on the user's behalf, in sentences.
    """

    model: nn.Module
    criterion: Callable[[Any, Tensor], Tensor]
    transform: Callable[[Any], Tensor]
    image_size: int
    notes: tuple[str, ...]


class AuxiliaryLoss(nn.Module):
    """Cross-entropy of a model's output, plus ``weight`` times that of each auxiliary output, where there are any."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.form = f"auxiliary {weight}"

    def forward(self, output: Any, target: Tensor) -> Tensor:
        logits, *others = output if isinstance(output, tuple) else (output,)
        loss = nn.functional.cross_entropy(logits, target)
        for other in others:
            if other is not None:
                loss = loss + self.weight * nn.functional.cross_entropy(other, target)
        return loss


def build_classifier(
    name: str,
    *,
    num_classes: int,
    needed_size: int,
    image_size: int | None = None,
    weights: str | Path | None = None,
    batch_size: int = 2,
) -> Classifier:
    """A torchvision model for ``num_classes`` classes, with its transform and loss.

    Args:
        name: as torchvision spells it.
        num_classes: outputs of the model.
        needed_size: shorter side of a typical image: without weights, larger inputs than this are pointless.
        image_size: pixels on a side; None chooses.
        weights: a file of weights, or torchvision's name of some (downloaded unless they are in its cache); None starts
            from random weights.
        batch_size: images that the model must be able to take at once.

    Raises:
        ConfigError: unknown weights.
        SetupError: weights that do not fit, images too small for the model, or a batch too large for the memory.
    """
    usual = _transform(name, weights)
    own_size = int(usual.crop_size[0])
    size = image_size or (own_size if weights is not None else default_size(own_size, needed_size, _min_size(name)))
    check_batch_memory(batch_size, size)
    state = None if weights is None else read_state(name, weights)
    model = _construct(name, size, num_classes, state)
    notes = [f"Images at {size}x{size} pixels (in the data about {needed_size}, the model's own size is {own_size})."]
    notes += _auxiliary_note(name, model, size)
    if state is not None:
        notes += load_state(model, state, num_classes, name=name, origin=str(weights))
    check_forward(name, model, (batch_size, 3, size, size), **_size_words(name, size))
    return Classifier(
        model=model,
        criterion=_loss(name, model),
        transform=usual if size == own_size else _resized(usual, size),
        image_size=size,
        notes=tuple(notes),
    )


def _loss(name: str, model: Any) -> nn.Module:
    return AuxiliaryLoss(_AUX_WEIGHTS[name]) if name in _AUX_WEIGHTS and model.aux_logits else nn.CrossEntropyLoss()


def _transform(name: str, weights: str | Path | None) -> Any:
    """The transform of the named weights; the model's own for random weights and for a file."""
    named = None if weights is None else named_weights(name, weights)
    return (named or _usual_weights(name)).transforms()


def _auxiliary_note(name: str, model: nn.Module, size: int) -> list[str]:
    if name != "inception_v3" or model.aux_logits:
        return []
    if size < _INCEPTION_AUX_SIZE:
        return [f"Without the auxiliary classifier, which needs {_INCEPTION_AUX_SIZE} pixels."]
    return ["Without the auxiliary classifier, which the weights lack."]


def _usual_weights(name: str) -> Any:
    """The weights with the model's own transform: of those for the smallest images, torchvision's default."""
    entries = models.get_model_weights(name)
    return min(entries, key=lambda each: (each.meta["min_size"], each.transforms().crop_size, each != entries.DEFAULT))


def _min_size(name: str) -> int:
    return int(max(_usual_weights(name).meta["min_size"]))


def _resized(usual: Any, size: int) -> Any:
    """The model's transform for another size: same interpolation and normalisation, the whole shorter side kept."""
    return type(usual)(
        crop_size=size,
        resize_size=size,
        mean=tuple(usual.mean),
        std=tuple(usual.std),
        interpolation=usual.interpolation,
        antialias=usual.antialias,
    )


def _construct(name: str, size: int, num_classes: int, state: dict[str, Any] | None) -> nn.Module:
    arguments: dict[str, Any] = {"num_classes": num_classes}
    if name.startswith("vit_"):
        arguments["image_size"] = size
    elif name.startswith("maxvit_"):
        arguments["input_size"] = (size, size)
    elif name in _AUX_WEIGHTS:
        has_aux = state is None or any(key.lower().startswith("aux") for key in state)
        arguments["aux_logits"] = has_aux and (name != "inception_v3" or size >= _INCEPTION_AUX_SIZE)
        arguments["init_weights"] = state is None
        # Their published weights were trained on other channel statistics than the transform gives.
        arguments["transform_input"] = state is not None
    try:
        model: nn.Module = models.get_model(name, **arguments)
    except (ValueError, AssertionError) as error:
        raise size_error(name, error, **_size_words(name, size)) from error
    return model.train()


def _size_words(name: str, size: int) -> dict[str, Any]:
    own = _usual_weights(name).transforms().crop_size[0]
    return {"inputs": f"images of {size}x{size} pixels", "remedy": f"Set another `image_size`; its own is {own}."}
