"""Settings of an experiment: what ``lrfind run`` takes, as a value with the defaults."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from lrfinder.checks import check_count, check_lr
from lrfinder.errors import ConfigError
from lrfinder.record.curve import SweepConfig

__all__ = ["Settings", "check_settings", "check_together"]

_LEAST_LR, _MOST_LR = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of an experiment: model, data, optimizer and sweep. All but the model have defaults.

    Args:
        model: name of a model of torchvision, in upper or lower case, or ``module:function`` for a model of your own;
            see :func:`lrfinder.tasks.own.build`.
        data, dataset, root, download, masks, weights, num_classes, image_size: as in ``build`` of the model's family,
            such as :func:`lrfinder.tasks.classification.build`, and for a model of your own as in
            :func:`lrfinder.tasks.own_files.open_files`. Data too may be ``module:function``.
        loss: as in :func:`lrfinder.tasks.own_loss.with_loss`; None takes the family's, and for a model of your own the
            one that fits the batches.
        batch_size: samples in a batch; None takes the family's.
        augment: of the training samples: ``"recipe"``, as torchvision's training program does, or ``"none"``.
        val: measure the loss on validation images, ``val_batches`` of them per iteration.
        optimizer, optimizer_options: as in :func:`lrfinder.tasks.optimizers.build_optimizer`. Where the optimizer is
            None, both are those of torchvision's recipe, apart from options that are given.
        freeze: names and patterns of what is not trained, as in :func:`lrfinder.tasks.groups.freeze`.
        head_lr_scale, layer_decay, norm_weight_decay, bias_weight_decay: as in
            :func:`lrfinder.tasks.groups.parameter_groups`. Where the optimizer and ``norm_weight_decay`` are None, the
            latter is that of torchvision's recipe. Where the optimizer and the first two are None, so is the learning
            rate of an auxiliary classifier of segmentation: 10 times that of the rest.
        accumulation_steps, clip_grad_norm: as in :class:`lrfinder.LRFinder`.
        device: ``"auto"`` takes the first CUDA or MPS device where there is one, else the CPU.
        amp: mixed precision: ``"bf16"``, ``"fp16"`` or None.
        workers: processes that load images; None takes none on the CPU and up to 8 elsewhere.
        start_lr, end_lr, num_iter, mode: as in :meth:`lrfinder.LRFinder.range_test`.
        seed: of the weights, the order of the batches and the images held out; 0 to 2**64 - 1.
    """

    model: str
    data: str = "digits"
    dataset: str | None = None
    root: str = "data"
    download: bool = False
    masks: str | None = None
    weights: str | None = None
    num_classes: int | None = None
    image_size: int | None = None
    loss: str | None = None
    optimizer: str | None = None
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    freeze: tuple[str, ...] = ()
    head_lr_scale: float | None = None
    layer_decay: float | None = None
    norm_weight_decay: float | None = None
    bias_weight_decay: float | None = None
    batch_size: int | None = None
    augment: str = "recipe"
    accumulation_steps: int = 1
    clip_grad_norm: float | None = None
    device: str = "auto"
    amp: str | None = None
    workers: int | None = None
    start_lr: float | None = None
    end_lr: float | None = None
    num_iter: int | None = None
    mode: str = "exp"
    val: bool = False
    val_batches: int = 4
    seed: int = 0


# Settings that have no effect, each with what they need (True) or exclude (False).
_TOGETHER = (
    ("data", "dataset", False),
    ("root", "dataset", True),
    ("download", "dataset", True),
    ("val_batches", "val", True),
)


def check_together(settings: Settings, given: Collection[str] | None = None) -> None:
    """Reject settings that would have no effect beside, or without, another one.

    Args:
        settings: all of them.
        given: names of those that the user gave; None takes those that differ from their defaults.

    Raises:
        ConfigError: there is such a setting.

    Example:
        >>> check_together(Settings(model="resnet18", val_batches=8))
        Traceback (most recent call last):
        lrfinder.errors.ConfigError: `val_batches` has no effect without `val`. Set `val` too, or leave it out.
    """
    if given is None:
        given = {each.name for each in fields(Settings) if getattr(settings, each.name) != each.default}
    for name, other, needed in _TOGETHER:
        there = bool(getattr(settings, other))
        if name not in given or there == needed:
            continue
        if needed:
            raise ConfigError(f"`{name}` has no effect without `{other}`. Set `{other}` too, or leave it out.")
        raise ConfigError(f"`{name}` and `{other}` both say which data to use. Give one of them.")


def check_settings(settings: Settings) -> None:
    """Reject numbers that torch cannot hold, and settings without effect, before anything is built.

    Raises:
        ConfigError: one is out of its range, or of no use.
    """
    check_together(settings)
    if not settings.data:
        raise ConfigError("`data` must be digits, fake or a folder; got an empty name.")
    for name in ("accumulation_steps", "val_batches"):
        check_count(name, getattr(settings, name))
    for name in ("start_lr", "end_lr"):
        value = getattr(settings, name)
        if value is not None and not _LEAST_LR <= check_lr(name, value) <= _MOST_LR:
            allowed = f"a float32 number, from {_LEAST_LR:.2g} to {_MOST_LR:.2g}"
            raise ConfigError(f"{name} must be {allowed}; got {value!r}.")
    if settings.num_iter is not None:
        check_count("num_iter", settings.num_iter, 2)
    if settings.start_lr is not None and settings.end_lr is not None:
        SweepConfig(start_lr=settings.start_lr, end_lr=settings.end_lr, num_iter=2)  # rejects an end below the start
