"""The layers of a model from its input to its head, as layer-wise decay of the learning rate counts them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn
from torchvision.models.maxvit import MaxVitBlock
from torchvision.models.optical_flow import RAFT
from torchvision.ops import FeaturePyramidNetwork

from lrfinder.errors import SetupError

__all__ = ["head_names", "layers"]

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_STAGES = (MaxVitBlock,)  # named as if they were one block each
_ALIKE = 3  # blocks of one class in a container that make what holds it a part of the chain
# Children of a model of which the last layer has an output for each class.
_CLASSIFIERS = re.compile(r"fc|head|heads|classifier|aux_classifier|aux\d|AuxLogits")
# The same by name, where a child has several such layers or others after them.
_PREDICTORS = re.compile(
    r"classifier\.(?:low|high)_classifier\.|roi_heads\.(?:box_predictor|mask_predictor\.mask_fcn_logits"
    r"|keypoint_predictor)\.|head\.classification_head\.(?:cls_logits|module_list\.\d+(?:\.1)?)\.(?:weight|bias)$"
)


def head_names(model: nn.Module) -> frozenset[str]:
    """Names of the parameters of the head: the layers that have an output for each class, auxiliary ones too.

    They are what is replaced for another number of classes: of VGG the last of three dense layers alone. Of a model
    that is built otherwise than torchvision's, the last layer counts.

    Args:
        model: any module.

    Raises:
        SetupError: a model of optical flow, which has no classes, or a model without a layer.

    Example:
        >>> from torchvision.models import squeezenet1_1
        >>> sorted(head_names(squeezenet1_1()))
        ['classifier.1.bias', 'classifier.1.weight']
    """
    if isinstance(model, RAFT):
        raise SetupError(
            "a model of optical flow has no head: its outputs are no classes, and no layer is replaced. Leave out "
            "`head_lr_scale` and `layer_decay`, and name the layers to `freeze`."
        )
    names = [name for name, _ in model.named_parameters()]
    if found := frozenset(name for name in names if _PREDICTORS.match(name)):
        return found
    parts = [part for name, part in model.named_children() if _CLASSIFIERS.fullmatch(name)]
    own = {id(parameter) for part in parts or [model] for parameter in _last_layer(part).parameters()}
    return frozenset(name for name, parameter in model.named_parameters() if id(parameter) in own)


def _last_layer(part: nn.Module) -> nn.Module:
    leaves = [module for module in part.modules() if not any(module.children()) and _has_weight(module)]
    if not leaves:
        raise SetupError(f"the {type(part).__name__} has no layer with weights, so no head. Give a model that has one.")
    return leaves[-1]


def layers(model: nn.Module) -> list[tuple[str, list[str]]]:
    """Path and parameter names of each layer, from input to head, each parameter in one of them.

    A layer is a block: one of those in a row in ``layer1`` or ``features``, of an encoder, or a convolution between
    them. Normalisation and embeddings count with the layer before them, at the beginning with the one after. The last
    layer is the head with auxiliary classifiers; where the model has a ``backbone``, it is all that is outside of that,
    with its feature pyramid, as in detectron2's ViTDet.

    Raises:
        SetupError: as :func:`head_names`.

    Example:
        >>> from torchvision.models import squeezenet1_1
        >>> [path for path, _ in layers(squeezenet1_1())][::3]
        ['features.0', 'features.6', 'features.10', 'head']
    """
    head = head_names(model)
    trunk = dict(model.named_children()).get("backbone", model)
    prefix = "" if trunk is model else "backbone."
    where = {id(parameter): name for name, parameter in model.named_parameters()}
    chain: list[tuple[str, list[str]]] = []
    waiting: list[str] = []  # at the beginning, before the first layer with a weight
    for path, module, starts in _pieces(trunk, prefix, isinstance(trunk, _CONTAINERS)):
        whole = starts or not any(module.children())
        own = [where.pop(id(each)) for each in module.parameters(whole) if id(each) in where]
        own = [name for name in own if name not in head]
        if not starts and chain:
            chain[-1][1].extend(own)
        elif not starts or not own:
            waiting += own
        else:
            chain.append((path, waiting + own))
            waiting = []
    placed = {name for _, names in chain for name in names}
    rest = [name for name, _ in model.named_parameters() if name not in placed]
    return [*chain, ("head" if trunk is model else "all but the backbone", rest)]


def _pieces(module: nn.Module, prefix: str, in_row: bool) -> Iterator[tuple[str, nn.Module, bool]]:
    """Path and module of each piece of the chain, in order, and whether a layer begins with it."""
    yield prefix.rstrip("."), module, False  # for parameters of its own, such as a class token
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, FeaturePyramidNetwork) or name.lower().startswith("aux"):
            continue
        if not any(child.children()):
            yield path, child, _has_weight(child)
        elif _is_row(child, in_row) or (not in_row and _holds_row(child)):
            yield from _pieces(child, f"{path}.", isinstance(child, (*_CONTAINERS, *_STAGES)))
        else:
            yield path, child, True


def _is_row(module: nn.Module, in_row: bool) -> bool:
    """Whether the children are layers of their own; a convolution with its normalisation in a row of blocks is one."""
    if isinstance(module, _CONTAINERS):
        return not in_row or any(any(child.children()) for child in module.children())
    return isinstance(module, _STAGES)


def _holds_row(module: nn.Module) -> bool:
    """Whether a container in it has several blocks of one class, as the encoder of a transformer."""
    for each in module.modules():
        if isinstance(each, _CONTAINERS):
            kinds = [type(child) for child in each.children() if any(child.children())]
            if any(kinds.count(kind) >= _ALIKE for kind in kinds):
                return True
    return False


def _has_weight(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.ndim > 1
