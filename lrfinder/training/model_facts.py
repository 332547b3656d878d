"""Takes :class:`ModelFacts` from a model and its optimizer, before the first step.

It changes nothing, and it fails for no model: a fact that cannot be determined is None. The numbers are computed on the
device, and the host waits for them before the sweep, as trained weights are swept with a probe.
"""

from __future__ import annotations

import inspect
import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lrfinder.param_groups import epsilon, group_scales, mode_switches, optimizer_name, scales_of_initial_lrs
from lrfinder.record.facts import TRAINED_SHARE, ModelFacts
from lrfinder.schedules.forms import FORMS
from lrfinder.training.deferred import DeferredLosses
from lrfinder.training.joint import parts_of
from lrfinder.training.setup import TrainingSetup, needs_closure
from lrfinder.training.state.tensors import is_dense
from lrfinder.training.trained_weights import TrainedShares, trained_shares

__all__ = ["take_facts", "trained_groups", "trained_parameters"]

T = TypeVar("T")

_TRAINED_STEPS = 100  # in the optimizer's state; one of a few steps may have been made to be filled


def take_facts(setup: TrainingSetup) -> ModelFacts:
    """Take the facts of the model as it stands; those of its batches are added later.

    Sizes and root mean squares are known where all parameters concerned are plain tensors, and not lazy, quantised,
    sharded, sparse or on the meta device.
    """
    groups = trained_groups(setup.optimizer)
    rms = [_unless_it_fails(partial(_rms, group)) for group in groups]
    numbers = [*rms, _unless_it_fails(partial(_steps, setup.optimizer))]
    *weight_rms, steps = _unless_it_fails(partial(_read, numbers, setup.device)) or [None] * len(numbers)
    shares = _unless_it_fails(partial(trained_shares, setup.model, groups)) or TrainedShares()
    return ModelFacts(
        **(_unless_it_fails(partial(_sizes, setup.model, groups)) or {}),
        norm_layers=_unless_it_fails(partial(_norm_layers, setup.model)),
        pretrained=_pretrained(setup.pretrained, shares.whole, steps),
        trained=shares.by_group,
        frozen_trained=shares.frozen,
        weight_rms=tuple(value if value is not None and math.isfinite(value) else None for value in weight_rms),
        optimizer_steps=None if steps is None else int(steps),
        group_names=_unless_it_fails(partial(_group_names, setup)) or (),
        group_sizes=_unless_it_fails(partial(_group_sizes, groups)),
        epsilon=epsilon(setup.optimizer),
        initial_lrs=bool(_unless_it_fails(partial(scales_of_initial_lrs, setup.optimizer))),
        **_update_facts(setup),
    )


def _read(numbers: list[Tensor | None], device: torch.device) -> list[float | None]:
    """The numbers on the host; those on a GPU are read together."""
    on_device = [number for number in numbers if number is not None and number.is_cuda]
    queue = DeferredLosses(device, read_every=max(2, len(on_device)))
    for number in on_device:
        queue.put(number)
    read = iter(queue.flush())
    return [None if number is None else next(read) if number.is_cuda else number.item() for number in numbers]


def _pretrained(given: bool | None, trained: float | None, steps: float | None) -> bool | None:
    if given is not None:
        return given
    if steps is not None and steps >= _TRAINED_STEPS:
        return True
    return None if trained is None else trained >= TRAINED_SHARE


def _unless_it_fails(take: Callable[[], T]) -> T | None:
    # Models and optimizers of any kind are examined, and a range test must not fail for a missing fact.
    try:
        with torch.no_grad():
            return take()
    except Exception:
        return None


def _is_plain(parameter: Tensor) -> bool:
    return is_dense(parameter) and not parameter.is_meta


def trained_groups(optimizer: Any) -> list[list[Tensor]]:
    """Parameters of each group; none of one whose LR is 0, which trains nothing."""
    scales = _unless_it_fails(partial(group_scales, optimizer)) or (1.0,) * len(optimizer.param_groups)
    groups = zip(optimizer.param_groups, scales, strict=True)
    return [list(group["params"]) if scale else [] for group, scale in groups]


def trained_parameters(model: nn.Module, groups: list[list[Tensor]]) -> list[Tensor]:
    """Parameters of the model with gradients that are in one of the groups.

    Of an optimizer that holds others, as copies in float32, which does not show what it trains: all with gradients.
    """
    parameters = list(model.parameters())
    held = {id(parameter) for group in groups for parameter in group}
    shows = held <= {id(parameter) for parameter in parameters}
    return [each for each in parameters if each.requires_grad and (id(each) in held or not shows)]


def _sizes(model: nn.Module, groups: list[list[Tensor]]) -> dict[str, Any] | None:
    parameters = list(model.parameters())
    if not all(map(_is_plain, parameters)):
        return None
    trained = trained_parameters(model, groups)
    ids, trainable = {id(each) for each in trained}, sum(each.numel() for each in trained)
    places = _places(model, ids)
    # The first dimension is that of the outputs, in Linear and convolutions (transposed ones aside) and embeddings.
    fan_in = [weight.numel() // len(weight) for weight in parameters if weight.ndim >= 2 and weight.numel()]
    return {
        "trainable": trainable,
        "frozen": sum(each.numel() for each in parameters) - trainable,
        "depth": len(fan_in),
        "trainable_depth": sum(each.ndim >= 2 for each in trained) + places["interleaved"] * _factors(model, ids),
        **places,
        "fan_in": (min(fan_in), statistics.median_low(fan_in), max(fan_in)) if fan_in else None,
    }


def _places(model: nn.Module, trained: set[int]) -> dict[str, bool]:
    """Where the trained parameters are; see :class:`ModelFacts`."""
    meetings = 0
    for module in model.modules():
        parts = [[each] for each in module.parameters(recurse=False)]
        parts += [list(child.parameters()) for child in module.children()]
        whole = [{id(each) in trained for each in part} for part in parts]
        meetings += {True} in whole and {False} in whole
    recurrent = (each for each in model.modules() if isinstance(each, (nn.RNNBase, nn.RNNCellBase)))
    return {
        "interleaved": meetings > 1,  # a frozen network and what is on it meet once
        "recurrent": any(id(weight) in trained for each in recurrent for weight in each.parameters()),
    }


def _factors(model: nn.Module, trained: set[int]) -> int:
    """Modules with trained vectors and no weight, as the factors of IA3."""
    parts = (list(module.parameters(recurse=False)) for module in model.modules())
    return sum(any(id(each) in trained for each in part) and all(each.ndim < 2 for each in part) for part in parts)


def _norm_layers(model: nn.Module) -> tuple[tuple[str, int], ...]:
    """Modules without layers inside named after a norm; ``Normalize`` is a transform of the inputs."""
    held = (nn.ParameterDict, nn.ParameterList)  # in which Keras has the parameters of a layer
    layers = [module for module in model.modules() if all(isinstance(child, held) for child in module.children())]
    names = [type(module).__name__ for module in layers]
    return tuple(sorted(Counter(name for name in names if re.search("Norm(?!ali[sz]e)", name)).items()))


def _group_names(setup: TrainingSetup) -> tuple[str, ...]:
    groups = setup.optimizer.param_groups
    # A factor names its group too: who gives a scheduler of timm the advice has to divide it by that factor.
    factors = [f"lr_scale {group['lr_scale']:.3g}" if group.get("lr_scale") else None for group in groups]
    names = [group.get("name", factor) for group, factor in zip(groups, factors, strict=True)]
    return tuple(map(str, names)) if None not in names else ()


def _group_sizes(groups: list[list[Tensor]]) -> tuple[int, ...] | None:
    if not all(_is_plain(parameter) for group in groups for parameter in group):
        return None
    return tuple(sum(each.numel() for each in group if each.requires_grad) for group in groups)


def _rms(parameters: list[Tensor]) -> Tensor | None:
    if not all(_is_plain(parameter) and parameter.is_floating_point() for parameter in parameters):
        return None
    weights = [parameter for parameter in parameters if parameter.ndim >= 2 and parameter.numel()]
    if not weights:
        return None
    # In float32 at least: the sum of squares of a float16 tensor overflows.
    norms = [
        torch.linalg.vector_norm(weight, dtype=torch.promote_types(weight.dtype, torch.float32)) for weight in weights
    ]
    total: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(weights[0].device, torch.float32) for norm in norms]))
    return total / math.sqrt(sum(weight.numel() for weight in weights))


def _steps(optimizer: Any) -> Tensor | None:
    """Largest step count in the optimizer's state, where it keeps any."""
    if not optimizer.state:
        return torch.zeros((), device="cpu")
    counts = [state["step"] for state in optimizer.state.values() if isinstance(state, Mapping) and "step" in state]
    on_host = [float(count) for count in counts if not (isinstance(count, Tensor) and count.is_cuda)]
    on_device = [count.float().reshape(()) for count in counts if isinstance(count, Tensor) and count.is_cuda]
    if on_device:
        return torch.stack(on_device).max()
    return torch.tensor(max(on_host), device="cpu") if on_host else None


def _update_facts(setup: TrainingSetup) -> dict[str, Any]:
    """Fields of how the training makes its updates, by name, which the printed lines have to do as well."""
    parts = parts_of(setup.optimizer)
    return {
        "ranks": setup.ranks.size,
        "accumulation_steps": setup.accumulation_steps,
        "clip_grad_norm": setup.clip_grad_norm,
        "amp_dtype": None if setup.amp_dtype is None else str(setup.amp_dtype).removeprefix("torch."),
        "grad_scaler": getattr(setup.grad_scaler, "is_enabled", lambda: setup.grad_scaler is not None)(),
        "device": setup.device.type,
        "optimizers": tuple((optimizer_name(part), len(part.param_groups)) for part in parts) if parts[1:] else None,
        "closure": setup.step_fn is None and needs_closure(setup.optimizer),
        "train_mode": _train_mode(setup),
        "form": _form(setup),
    }


def _form(setup: TrainingSetup) -> str:
    """What the printed lines have to compute: what the loss names, and for any other function of the user a call."""
    form = _named_form(setup.criterion or setup.loss_fn)
    if "trainer" in (form, _named_form(setup.step_fn)):
        return "trainer"
    if setup.step_fn is not None:
        return "two-part step" if isinstance(setup.step_fn, tuple) else "step"
    other = "own loss" if setup.criterion is None else "plain"
    return form if isinstance(form, str) and form in FORMS else other


def _named_form(function: Any) -> Any:
    return inspect.getattr_static(function, "form", None)  # runs no __getattr__ of the user's


def _train_mode(setup: TrainingSetup) -> tuple[str, ...]:
    """Names, in the printed lines, of a model in eval mode and of optimizers with two modes."""
    parts = parts_of(setup.optimizer)
    places = [place for place, part in enumerate(parts) if mode_switches(part) is not None]
    optimizers = [f"optimizers[{place}]" if len(parts) > 1 else "optimizer" for place in places]
    return (*([] if setup.model.training else ["model"]), *optimizers)
