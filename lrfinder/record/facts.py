"""Facts about a model and its optimizer before any step, as a field of a curve. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from lrfinder.checks import check_choice, check_count, check_flag, check_number, check_part
from lrfinder.errors import ConfigError

__all__ = ["TRAINED_SHARE", "ModelFacts"]

TRAINED_SHARE = 0.1
"""Weights count as trained where this share of their elements shows signs of training."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model and its optimizer as they were before the first step. None stands for unknown.

    Weights are parameters of two or more dimensions; biases and the scales of normalisation layers are left out.

    Args:
        trainable: number of parameters (elements) that are trained: with gradients, and in a group whose LR is not 0.
        frozen: number of the others (elements).
        depth: number of weights.
        trainable_depth: number of trainable weights; within a frozen network, modules that train vectors alone, as
            factors of its features, count as well.
        recurrent: whether recurrent layers are trained.
        interleaved: whether trained and frozen weights alternate, as with adapters; not so for a head on a frozen
            network, or for a student beside a frozen teacher.
        feature_variation: share of the squared norm of the inputs of a linear head that varies within the first batch,
            from 0 to 1; 1 where their mean is 0. None for other models.
        fan_in: smallest, median and largest number of inputs to one output of a weight; None without weights.
        weight_rms: root mean square of the weights of each parameter group, shape (groups,); None in place of a group
            without weights.
        norm_layers: (class name, number) of each kind of normalisation layer, in order of the name.
        pretrained: whether the weights have been trained before: as the user says, else as the weights show.
        trained: share of the trainable elements of each parameter group that are in layers whose weights show signs of
            training, shape (groups,); 0 to 1. None in place of a group of which too little can be said.
        frozen_trained: the same of the elements that are frozen, or in no group; None where there are none as well.
        optimizer_steps: steps in the optimizer's state; 0 where that is empty.
        epsilon: smallest ``eps`` of the parameter groups, as adaptive optimizers have it.
        initial_lrs: whether the ratios of the parameter groups are those of their ``initial_lr``, as a schedule of
            their optimizer has not begun or has ended.
        ranks: processes that train the model together.
        batch_size: samples in a batch, of all ranks together; of batches of different sizes the median of the first.
        targets: whole numbers in the targets of a batch, where each sample has several, as the tokens of a
            language model or the pixels of a mask; None where a sample has one.
        full_batch: whether every step trains on all batches of the loader, so that its gradient has no noise.
        loader_batches: batches that the loader gives before it ends.
        same_target: whether all samples of the first batch had the same target, from a loader not known to shuffle.
        accumulation_steps: batches per optimizer step.
        clip_grad_norm: largest global gradient norm; None for no clipping.
        gradient_norm: norm of the gradient of the first batch, where it is clipped; else None.
        amp_dtype: ``"bfloat16"`` or ``"float16"`` under autocast; None without.
        grad_scaler: whether there was a GradScaler, and not one that is switched off.
        device: kind of device, as in ``"cuda"``.
        maximize: whether the optimizer raises the loss, as with ``maximize=True``.
        optimizers: (class name, number of parameter groups) of each optimizer, where several were stepped together.
        group_names: ``name`` of each parameter group; empty where one of them has none.
        group_sizes: trainable elements of each parameter group, shape (groups,); None where unknown.
        closure: whether ``optimizer.step`` needs a closure.
        train_mode: names of what has to be put into training mode: ``"model"``, ``"optimizer"``, ``"optimizers[0]"``.
        form: how the loss was computed: by a ``step_fn``, by a ``loss_fn``, or as one of :mod:`lrfinder.tasks`; see
            :mod:`lrfinder.schedules.forms`.

    Example:
        >>> import dataclasses
        >>> facts = ModelFacts(trainable=26122, depth=2, norm_layers=(("BatchNorm2d", 1),))
        >>> ModelFacts.from_dict(dataclasses.asdict(facts)) == facts
        True
    """

    trainable: int | None = None
    frozen: int | None = None
    depth: int | None = None
    trainable_depth: int | None = None
    recurrent: bool | None = None
    interleaved: bool | None = None
    feature_variation: float | None = None
    fan_in: tuple[int, int, int] | None = None
    weight_rms: tuple[float | None, ...] | None = None
    norm_layers: tuple[tuple[str, int], ...] | None = None
    pretrained: bool | None = None
    trained: tuple[float | None, ...] | None = None
    frozen_trained: float | None = None
    optimizer_steps: int | None = None
    epsilon: float | None = None
    initial_lrs: bool = False
    ranks: int = 1
    batch_size: int | None = None
    targets: int | None = None
    full_batch: bool = False
    loader_batches: int | None = None
    same_target: bool = False
    accumulation_steps: int = 1
    clip_grad_norm: float | None = None
    gradient_norm: float | None = None
    amp_dtype: str | None = None
    grad_scaler: bool = False
    device: str | None = None
    maximize: bool = False
    optimizers: tuple[tuple[str, int], ...] | None = None
    group_names: tuple[str, ...] = ()
    group_sizes: tuple[int, ...] | None = None
    closure: bool = False
    train_mode: tuple[str, ...] = ()
    form: str = "plain"

    def __post_init__(self) -> None:
        # What is not finite says nothing, and JSON cannot hold it.
        object.__setattr__(self, "clip_grad_norm", _finite(self.clip_grad_norm))
        object.__setattr__(self, "epsilon", _finite(self.epsilon))
        object.__setattr__(self, "gradient_norm", _finite(self.gradient_norm))
        if self.weight_rms is not None:
            object.__setattr__(self, "weight_rms", tuple(map(_finite, self.weight_rms)))

    @property
    def weight_norm(self) -> float | None:
        """Norm of all trained parameters, about: from the root mean square of the weights; None where unknown."""
        rms = self.weight_rms or ()
        sizes = self.group_sizes if self.group_sizes and len(self.group_sizes) == len(rms) else (1,) * len(rms)
        known = [(size, value) for size, value in zip(sizes, rms, strict=True) if size and value is not None]
        if not known or not self.trainable:
            return None
        mean_square = sum(size * value * value for size, value in known) / sum(size for size, _ in known)
        return math.sqrt(self.trainable * mean_square)

    def updates_per_epoch(self, given: int | None = None, accumulation_steps: int | None = None) -> int | None:
        """Updates in a pass over the loader, an incomplete one at its end included; None where that is unknown.

        Args:
            given: number that is given for it, which then counts; None for none.
            accumulation_steps: batches per update of the training; None for those of the range test.

        Raises:
            ConfigError: the number is that of the batches, of which several make an update.
        """
        if accumulation_steps is None:
            accumulation_steps = self.accumulation_steps
        per_update = check_count("accumulation_steps", accumulation_steps)
        updates = None if not self.loader_batches else -(-self.loader_batches // per_update)
        if given is None or given == updates:
            return updates
        if given == self.loader_batches:
            raise ConfigError(
                f"steps_per_epoch counts updates; got {given}, the number of batches, of which "
                f"{per_update} make an update. Give {updates}: the schedule would end after {per_update} times as many "
                "epochs."
            )
        return given

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ModelFacts:
        """Facts from the dictionary that ``dataclasses.asdict`` makes of them, before or after it was JSON.

        Raises:
            AttributeError, TypeError, ValueError: a field is unknown, or has not the type it should have.
        """
        optional = {each.name for each in fields(cls) if each.default is None}
        known = {name: value for name, value in dict(content).items() if value is not None or name not in optional}
        return cls(**{name: _READ[name](value) if name in _READ else value for name, value in known.items()})


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _three(numbers: Any) -> tuple[int, int, int]:
    smallest, median, largest = map(int, numbers)
    return smallest, median, largest


def _counted(pairs: Any) -> tuple[tuple[str, int], ...]:
    return tuple((str(name), int(count)) for name, count in pairs)


def _texts(texts: Any) -> tuple[str, ...]:
    return tuple(map(str, texts))


def _device(name: Any) -> str:
    if not str(name).isidentifier():
        raise ConfigError(f"device must be the name of one, as in 'cuda'; got {str(name)!r}.")
    return str(name)


# What makes a field of a value from JSON, or refuses it.
_READ: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("trainable", "frozen", "depth", "trainable_depth", "optimizer_steps"), int),
    **dict.fromkeys(("batch_size", "targets", "loader_batches"), int),
    **dict.fromkeys(("full_batch", "same_target", "maximize", "closure", "grad_scaler", "initial_lrs"), bool),
    **dict.fromkeys(("norm_layers", "optimizers"), _counted),
    **dict.fromkeys(("group_names", "train_mode"), _texts),
    **{name: partial(check_flag, name) for name in ("pretrained", "recurrent", "interleaved")},
    **{name: partial(check_part, name) for name in ("frozen_trained", "feature_variation")},
    **{name: partial(check_count, name) for name in ("accumulation_steps", "ranks")},
    **{name: partial(check_number, name, low=0.0) for name in ("epsilon", "gradient_norm")},
    "clip_grad_norm": partial(check_number, "clip_grad_norm", low=0.0, open_ends=True),
    "amp_dtype": partial(check_choice, "amp_dtype", allowed=("bfloat16", "float16")),
    "fan_in": _three,
    "weight_rms": lambda values: tuple(None if value is None else float(value) for value in values),
    "trained": lambda shares: tuple(check_part("each of trained", share) for share in shares),
    "group_sizes": lambda sizes: tuple(map(int, sizes)),
    "form": str,
    "device": _device,
}
