"""Classification of video: any of torchvision's video models, on sequences of frames with one label each."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms import functional as F

from lrfinder.tasks import FAMILIES, Task
from lrfinder.tasks.assemble import Loading, assemble
from lrfinder.tasks.augment import refused
from lrfinder.tasks.augment_images import augment_clips
from lrfinder.tasks.forward import check_forward
from lrfinder.tasks.frames import at_random, open_frames
from lrfinder.tasks.image_files import default_size
from lrfinder.tasks.memory import check_batch_memory
from lrfinder.tasks.samples import chosen_classes
from lrfinder.tasks.settings import Settings
from lrfinder.tasks.weights import load_state, read_state

__all__ = ["build", "build_video_model"]

# Frames that torchvision's weights were trained on: of Swin 32, of the others 16 (references/video_classification).
_FRAMES, _SWIN_FRAMES = 16, 32
# The pooling of S3D takes 7x7 of every 32 pixels, and MViT has an encoding of each position of 224 pixels.
_LEAST_SIZES = {"s3d": 224, "mvit_v1_b": 224, "mvit_v2_s": 224}


def build(settings: Settings, batch_size: int) -> Task:
    """A torchvision video model for the classes of the data, with its loss and loaders of clips.

    Data is ``"fake"`` (a moving square), or a folder laid out as ``<class>/<sequence>/*.jpg`` or as
    ``train/<class>/<sequence>/*.jpg`` and ``val/<class>/<sequence>/*.jpg``. Encoded video is refused. A clip is 16
    frames (of Swin transformers 32) from the middle of a sequence, or from a random place where training is augmented.

    Args:
        settings, batch_size: as in :func:`lrfinder.tasks.classification.build`, with clips.

    Raises:
        ConfigError: an unknown model or weights.
        SetupError: frames that cannot be read, or model, weights and data that do not fit together.

    Example:
        >>> from lrfinder.tasks.settings import Settings
        >>> task = build(Settings(model="mc3_18", data="fake"), 2)
        >>> print(task.title)
        mc3_18 on fake: 1,000 sequences, 4 classes
        >>> clips, labels = next(iter(task.train_loader))
        >>> clips.shape, labels.shape
        (torch.Size([2, 3, 16, 32, 32]), torch.Size([2]))
    """
    name, weights = FAMILIES["video"].check_model(settings.model), settings.weights
    frames = _SWIN_FRAMES if name.startswith("swin") else _FRAMES
    samples = open_frames(settings.data, frames, val=settings.val, num_classes=settings.num_classes)
    samples = samples.with_val(settings.val, settings.seed)
    classes = chosen_classes(samples, settings.num_classes)
    usual = models.get_model_weights(name).DEFAULT.transforms()
    own = int(usual.crop_size[0])
    smaller = default_size(own, samples.size, _LEAST_SIZES.get(name, 0))
    size = settings.image_size or (own if weights is not None else smaller)
    check_batch_memory(batch_size * frames, size)
    words = {"inputs": f"frames of {size}x{size} pixels", "remedy": f"Set another `image_size`; its own is {own}."}
    network, model_notes = build_video_model(name, classes, weights)
    check_forward(name, network, (batch_size, 3, frames, size, size), **words)
    augmentation = refused(settings) or augment_clips(usual, size)
    samples = replace(samples, train=at_random(samples.train)) if augmentation.steps else samples
    loading = Loading(
        settings=settings,
        batch_size=batch_size,
        transform=partial(_transformed, usual=usual, size=size),
        augmentation=augmentation,
        units="sequences",
    )
    sizes = f"in the data about {samples.size}, the model's own size is {own}"
    notes = (f"Clips of {frames} frames at {size}x{size} pixels ({sizes}).", *model_notes)
    known: dict[str, Any] = {"num_classes": classes, "image_size": size, "notes": notes}
    return assemble(name, samples, network, loading, criterion=nn.CrossEntropyLoss(), **known)


def build_video_model(name: str, num_classes: int, weights: str | Path | None) -> tuple[nn.Module, list[str]]:
    """The model in training mode, and notes on its weights; arguments as in :func:`build`."""
    state = None if weights is None else read_state(name, weights)
    network: nn.Module = models.get_model(name, weights=None, num_classes=num_classes)
    notes = [] if state is None else load_state(network, state, num_classes, name=name, origin=str(weights))
    return network.train(), notes


def _transformed(sample: tuple[list[Image.Image], int], *, usual: Any, size: int) -> tuple[Tensor, int]:
    """Frames with the shorter side resized and the middle taken, normalised as torchvision does, and the label.

    At the model's own size it resizes to what torchvision does; at another, to that size.
    """
    images, label = sample
    resized = list(usual.resize_size) if size == usual.crop_size[0] else [size]
    frames = []
    for image in images:
        frame = F.center_crop(F.resize(image, resized, antialias=True), [size])
        pixels = F.convert_image_dtype(F.pil_to_tensor(frame), torch.float)
        frames.append(F.normalize(pixels, mean=usual.mean, std=usual.std))
    return torch.stack(frames, dim=1), label
