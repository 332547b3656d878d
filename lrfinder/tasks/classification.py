"""torchvision's classification models made ready for a range test: size, head, weights, transform and loss.

What differs between the eighty models stands here and nowhere else: the image sizes they can take, their own
transforms, auxiliary classifiers, and heads to be exchanged. It knows no data: what the images need is a number.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from lrfinder.errors import ConfigError, SetupError

__all__ = ["Classifier", "build_classifier", "check_model_name", "model_names"]

_SIZE_STEP = 32  # total stride of nearly every network here
# Weight of each auxiliary loss: GoogLeNet, Szegedy et al., arXiv:1409.4842, section 5; for Inception v3 torchvision's
# fine-tuning tutorial.
_AUX_WEIGHTS = {"googlenet": 0.3, "inception_v3": 0.4}
_INCEPTION_AUX_SIZE = 299  # on smaller images nothing is left for its auxiliary classifier's 5x5 convolution
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")  # DistributedDataParallel, torch.compile
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)$")  # as in torchvision's own files


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model with what belongs to it.

    Args:
        model: in training mode, on the CPU.
        criterion: loss from the model's output, auxiliary outputs included, and the labels.
        transform: PIL image in colour to the tensor the model takes, shape (3, image_size, image_size).
        image_size: pixels on a side.
        notes: what was chosen on the user's behalf, in sentences.
    """

    model: nn.Module
    criterion: Callable[[Any, Tensor], Tensor]
    transform: Callable[[Any], Tensor]
    image_size: int
    notes: tuple[str, ...]


class AuxiliaryLoss(nn.Module):
    """Cross-entropy of a model's output plus a part of that of its auxiliary outputs, where it gives any."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, output: Any, target: Tensor) -> Tensor:
        logits, *others = output if isinstance(output, tuple) else (output,)
        loss = nn.functional.cross_entropy(logits, target)
        for other in others:
            if other is not None:
                loss = loss + self.weight * nn.functional.cross_entropy(other, target)
        return loss


def model_names() -> list[str]:
    """Names of torchvision's classification models, sorted."""
    return sorted(models.list_models(module=models))


def check_model_name(name: str) -> str:
    """The name as torchvision spells it.

    Raises:
        ConfigError: torchvision has no such classification model.
    """
    known = model_names()
    if name.lower() in known:
        return name.lower()
    near = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise ConfigError(
        f"torchvision has no classification model {name!r}. {hint}`lrfind models` lists all {len(known)} of them."
    )


def build_classifier(
    name: str,
    *,
    num_classes: int,
    needed_size: int,
    image_size: int | None = None,
    weights: str | None = None,
    batch_size: int = 2,
) -> Classifier:
    """A torchvision model for ``num_classes`` classes, with its transform and loss.

    Args:
        name: as in :func:`model_names`.
        num_classes: outputs of the model.
        needed_size: shorter side of a usual image: without weights, larger inputs than this are pointless.
        image_size: pixels on a side; None chooses.
        weights: a file of weights, or torchvision's name of some (downloaded unless they are in its cache); None starts
            from random weights.
        batch_size: images that the model must be able to take at once.

    Raises:
        ConfigError: unknown model or weights.
        SetupError: weights that do not fit, or images too small for the model.
    """
    name = check_model_name(name)
    named = None if weights is None or Path(weights).is_file() else _named_weights(name, weights)
    usual = (named or _usual_weights(name)).transforms()
    own_size = int(usual.crop_size[0])
    if image_size is not None:
        size = image_size
    elif weights is not None:
        size = own_size
    else:
        size = _default_size(own_size, needed_size, _min_size(name))
    state = None
    if weights is not None:
        state = _download(named, name) if named is not None else _read_weights(Path(weights))
    model = _construct(name, size, num_classes, state)
    notes = [f"Images at {size}x{size} pixels (in the data about {needed_size}, the model's own size is {own_size})."]
    if name == "inception_v3" and not model.aux_logits:
        why = f"needs {_INCEPTION_AUX_SIZE} pixels" if size < _INCEPTION_AUX_SIZE else "the weights lack"
        notes.append(f"Without the auxiliary classifier, which {why}.")
    if state is not None:
        notes += _load(model, state, num_classes, name=name, origin=str(weights))
    _check_forward(name, model, size, batch_size)
    return Classifier(
        model=model,
        criterion=AuxiliaryLoss(_AUX_WEIGHTS[name]) if name in _AUX_WEIGHTS else nn.CrossEntropyLoss(),
        transform=usual if size == own_size else _resized(usual, size),
        image_size=size,
        notes=tuple(notes),
    )


def _usual_weights(name: str) -> Any:
    """The weights whose transform is the model's own: of those for the smallest images, torchvision's default."""
    entries = models.get_model_weights(name)
    return min(entries, key=lambda each: (each.meta["min_size"], each.transforms().crop_size, each != entries.DEFAULT))


def _min_size(name: str) -> int:
    return int(max(_usual_weights(name).meta["min_size"]))


def _default_size(own_size: int, needed_size: int, min_size: int) -> int:
    """The model's own size, or less when the images are smaller; a multiple of 32."""
    wanted = max(needed_size, min_size)
    return min(own_size, -(-wanted // _SIZE_STEP) * _SIZE_STEP)


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
        raise _size_error(name, size, error) from error
    return model.train()


def _check_forward(name: str, model: nn.Module, size: int, batch_size: int) -> None:
    """Refuse sizes the model cannot train on, by a pass on the meta device: shapes only, nothing is computed."""
    meta = {
        key: torch.empty_like(value, device="meta")
        for key, value in (*model.named_parameters(), *model.named_buffers())
    }
    images = torch.empty(batch_size, 3, size, size, device="meta")
    try:
        torch.func.functional_call(model, meta, (images,))
    except (ValueError, AssertionError, RuntimeError) as error:
        raise _size_error(name, size, error, batch_size) from error


def _size_error(name: str, size: int, error: Exception, batch_size: int = 2) -> SetupError:
    reason = str(error).splitlines()[0].rstrip(".")
    if batch_size < 2 and "more than 1 value per channel" in reason:
        return SetupError(f"{name} has BatchNorm, which cannot train on single images; give --batch-size 2 or more.")
    return SetupError(
        f"{name} cannot be trained on images of {size}x{size} pixels: {reason}. Give another --image-size; its own is "
        f"{_usual_weights(name).transforms().crop_size[0]}."
    )


def _named_weights(name: str, weights: str) -> Any:
    entries = models.get_model_weights(name)
    wanted = weights.rsplit(".", 1)[-1].upper()
    if wanted not in entries.__members__:
        names = ", ".join(entries.__members__)
        raise ConfigError(f"--weights must be a file or one of {names} for {name}; {weights!r} is neither.")
    return entries[wanted]


def _download(named: Any, name: str) -> dict[str, Any]:
    """State of torchvision's weights, through its own constructor, which knows the quirks of the older files."""
    try:
        state: dict[str, Any] = models.get_model(name, weights=named).state_dict()
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise SetupError(
            f"cannot download the weights of {name}: {reason}. Fetch {named.url} yourself and give that file."
        ) from error
    return state


def _read_weights(path: Path) -> dict[str, Any]:
    """State of a file that ``torch.save`` wrote: a state dict, or a checkpoint that holds one."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # What a damaged file raises depends on where the damage is.
    except (OSError, EOFError, LookupError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise SetupError(
            f"cannot read weights from {path}: it is damaged, or holds more than tensors. Write it with "
            "torch.save(model.state_dict(), path)."
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise SetupError(f"{path} holds no state dict. Write it with torch.save(model.state_dict(), path).")
    return {_OLD_DENSENET.sub(r"\1\2", _WRAPPERS.sub("", key)): value for key, value in content.items()}


def _load(model: nn.Module, state: dict[str, Any], num_classes: int, *, name: str, origin: str) -> list[str]:
    """Fill the model; a head for another number of classes stays as it was initialised, and a note says so."""
    own = model.state_dict()
    resized = [key for key in own if key in state and state[key].shape != own[key].shape]
    heads = [key for key in resized if own[key].shape[0] == num_classes and own[key].shape[1:] == state[key].shape[1:]]
    if wrong := [key for key in resized if key not in heads]:
        there, here = _shape(state[wrong[0]]), _shape(own[wrong[0]])
        raise _misfit(name, origin, f"{wrong[0]}{_more(wrong)} is {there} there and {here} in the model")
    kept = {key: value for key, value in state.items() if key not in heads}
    missing, unexpected = model.load_state_dict(kept, strict=False)
    missing = [key for key in missing if key not in heads]
    # Auxiliary classifiers are dropped where the model has none.
    unexpected = [key for key in unexpected if not key.lower().startswith("aux")]
    if missing:
        raise _misfit(name, origin, f"{missing[0]}{_more(missing)} is missing there")
    if unexpected:
        raise _misfit(name, origin, f"the model has no {unexpected[0]}{_more(unexpected)}")
    if not heads:
        return []
    return [f"New classifier: {origin} has {state[heads[0]].shape[0]} classes, not {num_classes}."]


def _misfit(name: str, origin: str, reason: str) -> SetupError:
    mend = f"Give weights of {name}, trained at this image size."
    return SetupError(f"the weights {origin} do not fit {name}: {reason}. {mend}")


def _more(keys: list[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
