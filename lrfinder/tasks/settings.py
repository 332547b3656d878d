"""Settings of an experiment: what ``lrfind run`` takes, as a value with the defaults."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from lrfinder.checks import check_count, check_lr
from lrfinder.errors import ConfigError, SetupError
from lrfinder.record.curve import SweepConfig
from lrfinder.training.setup import resolve_device

__all__ = ["Settings", "check_settings", "check_together", "pick_device"]

_LEAST_LR, _MOST_LR = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
_USUAL_WORKERS, _MOST_WORKERS = 8, 256  # each is a process with a torch of its own


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of an experiment: model, data, optimizer and sweep. All but the model have defaults.

    Args:
        model: name of a model of torchvision, in upper or lower case, or ``module:function`` for a model of your own;
            see :func:`lrfinder.tasks.own.build`.
        data: ``"digits"`` (1,797 images shipped with the package), ``"fake"`` (noise), a folder or file as in ``build``
            of the model's family, such as :func:`lrfinder.tasks.segmentation.build`, and for a model of your own as in
            :func:`lrfinder.tasks.own_files.open_files`; or ``module:function``. For ``build`` of the classification
            family also samples of your own, as :func:`lrfinder.tasks.images.labelled_images` makes them.
        dataset: name of one of torchvision's data sets for classification, to use instead of ``data``.
        root: folder that holds ``dataset``.
        download: fetch ``dataset`` to ``root`` if it is not there.
        masks: folder of the masks for the images in ``data``.
        weights: a file of weights, or torchvision's name of some, such as ``"DEFAULT"`` (downloaded unless they are in
            its cache); None starts from random weights.
        num_classes: outputs of the model, >= 2; None takes the number of classes in the data.
        image_size: pixels on a side, >= 1; None takes the model's own, or less where the images are smaller and there
            are no weights.
        loss: as in :func:`lrfinder.tasks.own_loss.with_loss`; None takes the family's, and for a model of your own the
            one that fits the batches.
        batch_size: samples in a batch; None takes the family's.
        augment: ``"recipe"`` changes training samples at random as torchvision's training program does, with the policy
            of the model's recipe; ``"none"`` trains on them as they are validated. The digits, fake data and
            torchvision's data sets of characters and signs are never changed.
        val: measure the loss on validation images, ``val_batches`` of them per iteration. Where the data has no
            validation part, one training sample in five is held out for it.
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
        workers: processes that load images, 0 to 256; None takes none on the CPU and up to 8 elsewhere.
        start_lr, end_lr, num_iter, mode: as in :meth:`lrfinder.LRFinder.range_test`.
        seed: of the weights, the order of the batches, the images held out and what augmentation draws; 0 to
            2**64 - 1.
    """

    model: str
    data: Any = "digits"
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

    @property
    def worker_count(self) -> int:
        """Processes that load images. On the CPU they would compete with the model."""
        if self.workers is not None:
            return self.workers
        return 0 if pick_device(self.device).type == "cpu" else min(_USUAL_WORKERS, os.cpu_count() or 1)


def pick_device(name: str) -> torch.device:
    """The device of that name; for ``"auto"`` a CUDA or MPS device where there is one, else the CPU.

    Raises:
        SetupError: the name is not a device, or the device cannot be used here.
    """
    if name != "auto":
        device = resolve_device(name)
        if device.type == "meta":
            raise SetupError("device meta computes nothing, so there is no loss to measure. Use cpu, cuda or mps.")
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


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
    for name, low in (("num_classes", 2), ("image_size", 1), ("batch_size", 1), ("num_iter", 2)):
        if getattr(settings, name) is not None:
            check_count(name, getattr(settings, name), low)
    for name in ("accumulation_steps", "val_batches"):
        check_count(name, getattr(settings, name))
    if settings.workers is not None:
        check_count("workers", settings.workers, 0, _MOST_WORKERS)
    check_count("seed", settings.seed, 0, 2**64 - 1)
    for name in ("start_lr", "end_lr"):
        value = getattr(settings, name)
        if value is not None and not _LEAST_LR <= check_lr(name, value) <= _MOST_LR:
            allowed = f"a float32 number, from {_LEAST_LR:.2g} to {_MOST_LR:.2g}"
            raise ConfigError(f"{name} must be {allowed}; got {value!r}.")
    if settings.start_lr is not None and settings.end_lr is not None:
        SweepConfig(start_lr=settings.start_lr, end_lr=settings.end_lr, num_iter=2)  # rejects an end below the start
