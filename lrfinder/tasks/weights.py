"""Weights for a model of torchvision: read from a file or downloaded, and loaded with a new head where it must be."""

from __future__ import annotations

import argparse
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from lrfinder.errors import ConfigError, SetupError
from lrfinder.tasks.safetensors import is_safetensors, read_safetensors

__all__ = ["State", "load_state", "named_weights", "read_state"]

# Prefixes of DistributedDataParallel and AveragedModel, torch.compile, and a module that holds the model.
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.|model\.)+")
_CHECKPOINT = ("state_dict", "model_state_dict", "model", "model_ema")  # where training programs keep the weights
_UNSUPPORTED = re.compile(r"Unsupported global: GLOBAL (\S+)|Unsupported class (\S+)")
_LISTED_LAYERS = 5
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)$")  # as in torchvision's own files


class State(dict[str, Any]):
    """State dict of weights, with a note on what was taken from the file; "" for none."""

    note = ""


def named_weights(model: str, weights: str | Path) -> Any:
    """Member of torchvision's enum of weights for the model; None where ``weights`` is a file.

    Args:
        model: as torchvision spells it.
        weights: path of a file, or a name such as ``"DEFAULT"``, in upper or lower case.

    Raises:
        ConfigError: neither a file nor the name of weights for this model.
    """
    if Path(weights).is_file():
        return None
    entries = models.get_model_weights(model)
    name = str(weights).rsplit(".", 1)[-1].upper()
    if name not in entries.__members__:
        names = ", ".join(entries.__members__)
        raise ConfigError(f"`weights` must be a file or one of {names} for {model}; {str(weights)!r} is neither.")
    return entries[name]


def read_state(model: str, weights: str | Path) -> State:
    """State dict of a file of weights, or of torchvision's, which are downloaded unless they are in its cache.

    Raises:
        ConfigError: as :func:`named_weights`.
        SetupError: the file holds no state dict, or the download failed.
    """
    named = named_weights(model, weights)
    return _read_file(Path(weights)) if named is None else State(_download(named, model))


def load_state(
    model: nn.Module,
    state: State,
    num_classes: int,
    *,
    name: str,
    origin: str,
    head: re.Pattern[str] | None = None,
) -> list[str]:
    """Load the weights; a head for another number of classes keeps its random weights.

    Args:
        model: is changed in place.
        state: as :func:`read_state` returns it.
        num_classes: outputs of the model.
        name: of the model, for messages.
        origin: of the weights, for messages.
        head: finds the names of parameters that may have any other shape; None for those whose first dimension alone
            differs, and is ``num_classes`` in the model.

    Returns:
        The note of the weights and one about the head, where there are such.

    Raises:
        SetupError: the weights belong to another model.
    """
    own = model.state_dict()
    resized = [key for key in own if key in state and state[key].shape != own[key].shape]
    heads = [key for key in resized if (head.search(key) if head else _is_head(own[key], state[key], num_classes))]
    if wrong := [key for key in resized if key not in heads]:
        there, here = _shape(state[wrong[0]]), _shape(own[wrong[0]])
        differs = f"{wrong[0]}{_more(wrong)} is {there} in the weights and {here} in the model"
        raise _misfit(name, origin, f"{differs}{_layers(wrong)}")
    kept = {key: value for key, value in state.items() if key not in heads}
    try:
        missing, unexpected = model.load_state_dict(kept, strict=False)
    except RuntimeError as error:  # a tensor of a kind that cannot be copied, such as a sparse one
        raise _misfit(name, origin, str(error).strip().splitlines()[-1].strip().rstrip(".")) from error
    missing = [key for key in missing if key not in heads]
    # Auxiliary classifiers are dropped where the model has none.
    unexpected = [key for key in unexpected if not key.lower().startswith("aux")]
    if missing:
        raise _misfit(name, origin, f"{missing[0]}{_more(missing)} is missing in the weights{_layers(missing)}")
    if unexpected:
        raise _misfit(name, origin, f"the model has no {unexpected[0]}{_more(unexpected)}{_layers(unexpected)}")
    notes = [state.note] if state.note else []
    if heads and head is not None:
        notes.append(f"New layers, as {origin} has another number of classes or keypoints: {_layer_list(heads)}.")
    elif heads:
        notes.append(f"New classifier: {origin} has {state[heads[0]].shape[0]} classes, not {num_classes}.")
    return notes


def _is_head(own: Tensor, loaded: Tensor, num_classes: int) -> bool:
    same_rank = own.ndim == loaded.ndim > 0
    return same_rank and own.shape[0] == num_classes and own.shape[1:] == loaded.shape[1:]


def _download(named: Any, model: str) -> dict[str, Any]:
    """State of torchvision's weights, through its own constructor, which converts the names in older files."""
    try:
        state: dict[str, Any] = models.get_model(model, weights=named).state_dict()
    # A checksum that differs is a RuntimeError; what a damaged file in the cache raises depends on the damage.
    except (OSError, EOFError, LookupError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        reason = str(getattr(error, "reason", error)).splitlines()[0].rstrip(".")
        raise SetupError(
            f"cannot download the weights of {model}: {reason}. Fetch {named.url} yourself and give that file."
        ) from error
    return state


def _read_file(path: Path) -> State:
    """State of a file of ``torch.save`` (a state dict, or a checkpoint that holds one) or of safetensors."""
    content = _content(path)
    held = [key for key in _CHECKPOINT if isinstance(content, dict) and isinstance(content.get(key), dict)]
    for key in _CHECKPOINT:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise SetupError(f"{path} holds no state dict. Write it with torch.save(model.state_dict(), path).")
    # AveragedModel counts in n_averaged, beside the weights in module.*
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor) and key != "n_averaged"}
    names = {key: _WRAPPERS.sub("", str(key)) for key in tensors}
    if any(name != key for key, name in names.items()):
        # Beside a wrapped model, some trainers keep what else their module has, such as the weights of a loss.
        names = {key: name for key, name in names.items() if name != key}
    state = State({_OLD_DENSENET.sub(r"\1\2", name): tensors[key] for key, name in names.items()})
    if len(held) > 1:
        state.note = f"{path} holds {' and '.join(held)}; the weights are those of {held[0]}."
    return state


def _content(path: Path) -> Any:
    try:
        if is_safetensors(path):
            return read_safetensors(path)
        # torchvision's training program saves its arguments too: plain values in an object that does nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where the damage is
        raise SetupError(
            f"cannot read weights from {path}: {_damage(error)}. Write it with torch.save(model.state_dict(), path)."
        ) from error


def _damage(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    found = _UNSUPPORTED.search(str(error))
    if found is not None:
        return f"it holds more than tensors, namely {found[1] or found[2]}, which could run code when loaded"
    if "TorchScript" in str(error):
        return "it holds more than tensors, namely a TorchScript program"
    return "it is damaged, or not a file of weights"


def _misfit(name: str, origin: str, reason: str) -> SetupError:
    return SetupError(
        f"the weights {origin} do not fit {name}: {reason}. Give weights of {name}, trained at this image size."
    )


def _more(keys: list[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""


def _layers(keys: list[str]) -> str:
    """The layers that the keys belong to, where there is more than one key."""
    return f", of {_layer_list(keys)}" if len(keys) > 1 else ""


def _layer_list(keys: list[str]) -> str:
    layers = list(dict.fromkeys(key.rpartition(".")[0] for key in keys))
    more = f" and {len(layers) - _LISTED_LAYERS} more" if len(layers) > _LISTED_LAYERS else ""
    return f"{', '.join(layers[:_LISTED_LAYERS])}{more}"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
