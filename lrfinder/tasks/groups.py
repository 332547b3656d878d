"""What of a model is trained, and parameter groups for learning rates by depth and weight decay by kind of parameter.

The advice of a range test is for the first group; the finder keeps the ratios of the others to it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from lrfinder.checks import check_lr, check_number, did_you_mean
from lrfinder.errors import ConfigError, SetupError
from lrfinder.tasks.layers import head_names, layers

__all__ = ["ALL_BUT_HEAD", "AUXILIARY", "freeze", "parameter_groups"]

ALL_BUT_HEAD = "all-but-head"
"""Pattern for everything that has no output for each class. No layer of torch can have this name."""

AUXILIARY = "aux_classifier."
"""Beginning of the names of parameters of the auxiliary classifier that torchvision's models for segmentation have."""

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)  # as torchvision's references/classification/utils.py
_NAMED_NORM = re.compile(r"Norm(?!ali[sz]e)")  # LlamaRMSNorm, LayerNorm2d, EvoNorm2dS0; not NormalizedLinear
_LEAST_SCALE = 1e-30  # below it, learning rates are 0 in single precision
_LISTED = 8  # names in a message


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Leave parameters as they are: no gradient is computed for them, and BatchNorm keeps its running statistics.

    A BatchNorm whose parameters are frozen normalises with its running statistics as in evaluation, also after
    ``model.train()``: so do Keras, timm's ``freeze`` and torchvision's detectors (fastai's ``train_bn`` does not).

    Args:
        model: is changed in place.
        patterns: names of parameters or modules as in ``model.named_parameters()``, or globs over them, such as
            ``"layer1"``, ``"features.*"`` or ``"*.bias"``; ``"all-but-head"`` for all but the head, which is what
            :func:`lrfinder.tasks.layers.head_names` has.

    Returns:
        Names of the frozen parameters; none without patterns.

    Raises:
        ConfigError: a pattern that fits no name.
        SetupError: nothing would be left to train, or the model has no head. The model is unchanged then.

    Example:
        >>> from torchvision.models import squeezenet1_1
        >>> model = squeezenet1_1()
        >>> frozen = freeze(model, ["all-but-head"])
        >>> [name for name, each in model.named_parameters() if each.requires_grad]
        ['classifier.1.weight', 'classifier.1.bias']
    """
    parameters = dict(model.named_parameters())
    paths = [path for path, _ in model.named_modules() if path]
    frozen = {name for pattern in patterns for name in _fitting(model, str(pattern), parameters, paths)}
    if frozen and not any(each.requires_grad and name not in frozen for name, each in parameters.items()):
        raise SetupError(
            f"`freeze` {', '.join(map(str, patterns))} leaves nothing to train. Leave out what is to be trained."
        )
    for name in frozen:
        parameters[name].requires_grad_(False)
    for path, module in model.named_modules():
        if isinstance(module, _NormBase) and _is_frozen(path, module, frozen, patterns):
            module.register_forward_pre_hook(_in_evaluation)
            module.eval()
    return [name for name in parameters if name in frozen]


def _is_frozen(path: str, module: nn.Module, frozen: set[str], patterns: Sequence[str]) -> bool:
    names = [f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)]
    if not names:  # no factors of its own: only its name says whether it belongs to what is frozen
        return any(each == ALL_BUT_HEAD or fnmatchcase(above, each) for each in patterns for above in _and_above(path))
    return frozen.issuperset(names)


def _in_evaluation(module: nn.Module, inputs: Any) -> None:
    module.eval()  # model.train() has set it to training


def _fitting(model: nn.Module, pattern: str, parameters: Iterable[str], paths: Iterable[str]) -> list[str]:
    if pattern == ALL_BUT_HEAD:
        head = head_names(model)
        return [name for name in parameters if name not in head]
    found = [name for name in parameters if any(fnmatchcase(each, pattern) for each in _and_above(name))]
    if not found:
        near = did_you_mean(pattern, [*paths, *parameters]) or f" Its parts are {_listed(model)}."
        raise ConfigError(
            f"`freeze` {pattern!r} fits no layer of the model.{near} For everything except the last layer write "
            f"{ALL_BUT_HEAD}."
        )
    return found


def _and_above(name: str) -> Iterator[str]:
    """The name and those of the modules that it is in, as in "layer1.0.conv1.weight", "layer1.0.conv1", "layer1.0"."""
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(len(parts), 0, -1))


def _listed(model: nn.Module) -> str:
    names = [name for name, child in model.named_children() if any(True for _ in child.parameters())]
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def parameter_groups(
    model: nn.Module,
    *,
    lr: float = 1.0,
    head_lr_scale: float | None = None,
    layer_decay: float | None = None,
    aux_lr_scale: float | None = None,
    norm_weight_decay: float | None = None,
    bias_weight_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Groups for an optimizer, of the parameters that are trained; each has a ``name`` besides.

    Args:
        model: with what is frozen frozen.
        lr: learning rate of the first group; > 0.
        head_lr_scale: the head has this times the learning rate that it has otherwise; > 0.
        layer_decay: learning rate of a layer divided by that of the next one towards the head, whose is ``lr``; > 0
            and <= 1. As ``param_groups_layer_decay`` in timm and BEiT; the layers are those of
            :func:`lrfinder.tasks.layers.layers`. Without it, ``lr`` is that of all but the head.
        aux_lr_scale: the module ``aux_classifier`` has this times ``lr``, as in torchvision's training of segmentation;
            > 0. Alone: neither with ``head_lr_scale`` nor with ``layer_decay``.
        norm_weight_decay: of normalisation layers; >= 0. None for the optimizer's. They are those of torch, and modules
            with ``Norm`` in the name of their class whose own parameters have one dimension.
        bias_weight_decay: of every ``bias``, also of normalisation layers, as in torchvision's training; >= 0.

    Raises:
        ConfigError: a number out of its range.
        SetupError: a number that changes nothing, or learning rates that are too far apart.

    Example:
        >>> from torchvision.models import squeezenet1_1
        >>> groups = parameter_groups(squeezenet1_1(), lr=0.01, head_lr_scale=10, bias_weight_decay=0)
        >>> [(group["name"], group["lr"], group.get("weight_decay")) for group in groups][1:3]
        [('all but the head, biases', 0.01, 0.0), ('head', 0.1, None)]
    """
    lr, decays = check_lr("lr", lr), _weight_decays(norm_weight_decay, bias_weight_decay)
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    head_lr_scale, layer_decay = _scale("head_lr_scale", head_lr_scale), _scale("layer_decay", layer_decay, 1.0)
    if aux_lr_scale is None:
        parts = _parts(model, trained, head_lr_scale, layer_decay)
    elif head_lr_scale is None and layer_decay is None:
        parts = _auxiliary_parts(trained, aux_lr_scale)
    else:
        raise ConfigError("`aux_lr_scale` cannot be given with `head_lr_scale` or `layer_decay`. Leave it out.")
    kinds = _kinds(model, trained, decays)
    groups = []
    for (part, scale, names), kind in itertools.product(parts, ("", "norms", "biases")):
        if own := [trained[name] for name in names if kinds[name] == kind]:
            name = ", ".join(filter(None, (part, kind))) or "weights"
            groups.append({"params": own, "lr": lr * (scale / parts[0][1]), "name": name})
            groups[-1] |= {"weight_decay": decays[kind]} if kind else {}
    return groups


def _scale(name: str, value: Any, high: float = float("inf")) -> float | None:
    if value is None:
        return None
    number = check_number(f"`{name}`", value, 0.0, high)
    if number == 0:
        raise ConfigError(f"`{name}` must be above 0; got {value!r}. To leave layers as they are, use `freeze`.")
    return number


def _weight_decays(norms: Any, biases: Any) -> dict[str, float]:
    given = {"norms": ("`norm_weight_decay`", norms), "biases": ("`bias_weight_decay`", biases)}
    return {kind: check_number(name, value, 0.0) for kind, (name, value) in given.items() if value is not None}


def _parts(
    model: nn.Module, trained: dict[str, nn.Parameter], head_lr_scale: float | None, layer_decay: float | None
) -> list[tuple[str, float, list[str]]]:
    """Name, scale of the learning rate and parameters of each part; the first is what a learning rate is for."""
    head = head_names(model) if head_lr_scale is not None or layer_decay is not None else frozenset()
    if head_lr_scale is not None and not 0 < len(head & trained.keys()) < len(trained):
        which = "the head is frozen" if not head & trained.keys() else "only the head is trained"
        raise SetupError(f"`head_lr_scale` is of no use where {which}. Leave it out, or freeze other layers.")
    every = [("", 1.0, list(trained))] if layer_decay is None else _decayed(model, layer_decay)
    every = [(part, scale, [name for name in names if name in trained]) for part, scale, names in every]
    if layer_decay is not None and sum(bool(names) for _, _, names in every) < 2:
        raise SetupError("`layer_decay` is of no use where one layer is trained. Leave it out, or freeze less.")
    if head_lr_scale is not None:
        own = ("head", head_lr_scale, [name for name in trained if name in head])
        every = [(part, scale, [name for name in names if name not in head]) for part, scale, names in every]
        rest = [(part or "all but the head", scale, names) for part, scale, names in every]
        every = [*rest, own] if layer_decay is None else [own, *rest]
    return [part for part in every if part[2]]


def _auxiliary_parts(trained: dict[str, nn.Parameter], aux_lr_scale: float) -> list[tuple[str, float, list[str]]]:
    rest = [name for name in trained if not name.startswith(AUXILIARY)]
    if not 0 < len(rest) < len(trained):
        which = "only aux_classifier is trained" if trained and not rest else "no aux_classifier is trained"
        raise SetupError(f"`aux_lr_scale` is of no use where {which}. Leave it out.")
    own = [name for name in trained if name.startswith(AUXILIARY)]
    scale = check_lr("`aux_lr_scale`", aux_lr_scale)
    return [("all but the auxiliary classifier", 1.0, rest), ("auxiliary classifier", scale, own)]


def _decayed(model: nn.Module, layer_decay: float) -> list[tuple[str, float, list[str]]]:
    chain = layers(model)[::-1]
    least = layer_decay ** (len(chain) - 1)
    if least < _LEAST_SCALE:
        raise SetupError(
            f"`layer_decay` {layer_decay:g} leaves the first of {len(chain)} layers {least:.0e} of the learning rate, "
            "which is nothing. Give a number nearer to 1."
        )
    return [(path, layer_decay**distance, names) for distance, (path, names) in enumerate(chain)]


def _is_norm(module: nn.Module) -> bool:
    """Whether it normalises. Of a class that torch does not have, name and shapes have to agree.

    The name alone has the linear layer of a cosine classifier; the shapes alone have PReLU and LayerScale.
    """
    if isinstance(module, _NORMS):
        return True
    # One value per channel, also in the shape (1, C, 1, 1); (1, C) is the weight of a linear layer with one output.
    own = module.parameters(recurse=False)
    slim = all(each.ndim != 2 and each.numel() == max(each.shape, default=1) for each in own)
    return slim and _NAMED_NORM.search(type(module).__name__) is not None


def _kinds(model: nn.Module, trained: dict[str, nn.Parameter], decays: dict[str, float]) -> dict[str, str]:
    """By the name of a parameter, the kind that has a weight decay of its own, or ""."""
    norms = {id(each) for part in model.modules() if _is_norm(part) for each in part.parameters(False)}
    kinds = {}
    for name, each in trained.items():
        is_bias = "biases" in decays and name.rpartition(".")[2] == "bias"
        kinds[name] = "biases" if is_bias else "norms" if "norms" in decays and id(each) in norms else ""
    for kind, option in (("norms", "norm_weight_decay"), ("biases", "bias_weight_decay")):
        if kind in decays and kind not in kinds.values():
            raise SetupError(f"`{option}` is of no use where no {kind} are trained. Leave it out.")
    return kinds
