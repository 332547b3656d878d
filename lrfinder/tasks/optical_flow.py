"""Optical flow: torchvision's RAFT models, on pairs of images with the flow between them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms import functional as F

from lrfinder.errors import ConfigError, SetupError
from lrfinder.tasks import FAMILIES, Task
from lrfinder.tasks.assemble import Loading, assemble
from lrfinder.tasks.augment import Augmentation, refused
from lrfinder.tasks.augment_flow import FLOW_STEPS, augment_flow
from lrfinder.tasks.flow_data import open_flow
from lrfinder.tasks.forward import check_forward
from lrfinder.tasks.memory import check_batch_memory
from lrfinder.tasks.settings import Settings
from lrfinder.tasks.weights import load_state, read_state

__all__ = ["FlowLoss", "build", "build_raft"]

# Of torchvision's references/optical_flow: crops for FlyingChairs, weights of the predictions, and flow that counts.
_CROP_HEIGHT, _CROP_WIDTH = 368, 496
_GAMMA, _MAX_FLOW = 0.8, 400.0
_STEP = 8  # RAFT works at an eighth of the resolution
_LEAST = 128  # below, its coarsest correlations have less than two pixels on a side
_UNKNOWN = 1e9  # a .flo file marks unknown flow with larger values


class FlowLoss:
    """Mean absolute error of every prediction of RAFT, the last with the weight 1, each before it with 0.8 times that.

    Unknown flow and flow of 400 pixels or more do not count.
    """

    form = "optical flow"

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        first, second, flow, valid = batch
        flows = torch.stack(model(first, second))
        counted = valid & (flow.norm(dim=1) < _MAX_FLOW)
        errors = ((flows - flow).abs() * counted[:, None]).mean((1, 2, 3, 4))
        weights = _GAMMA ** torch.arange(len(errors) - 1, -1, -1, device=errors.device)
        loss: Tensor = (errors * weights).sum()
        return loss


def build(settings: Settings, batch_size: int) -> Task:
    """A RAFT model with its loss and loaders of pairs of images with their flow.

    Data is ``"fake"`` (a moving texture), or a folder with .flo files and images as in FlyingChairs or Sintel. As in
    torchvision's training, images are cropped and not resized, to 368x496 pixels or less where they are smaller;
    here from the middle. ``image_size`` is height and width of the crops, a multiple of 8, >= 128. With weights,
    BatchNorm is frozen, as torchvision does after its first stage. Flow has no classes.

    Args:
        settings, batch_size: as in :func:`lrfinder.tasks.classification.build`, with pairs of images.

    Raises:
        ConfigError: an unknown model or weights, a number of classes, or a size that RAFT does not take.
        SetupError: flow or images that cannot be read, or are too small.

    Example:
        >>> from lrfinder.tasks.settings import Settings
        >>> task = build(Settings(model="raft_small", data="fake"), 2)
        >>> print(task.title)
        raft_small on fake: 1,000 pairs of images
        >>> first, second, flow, valid = next(iter(task.train_loader))
        >>> first.shape, flow.shape, valid.shape
        (torch.Size([2, 3, 128, 128]), torch.Size([2, 2, 128, 128]), torch.Size([2, 128, 128]))
    """
    name = FAMILIES["optical_flow"].check_model(settings.model)
    classes, size = settings.num_classes, settings.image_size
    if classes is not None:
        raise ConfigError(f"{name} computes flow, which has no classes; got {classes}. Leave `num_classes` out.")
    if size is not None and (size < _LEAST or size % _STEP):
        raise ConfigError(f"`image_size` of {name} must be a multiple of {_STEP} from {_LEAST} on; got {size}.")
    samples = open_flow(settings.data, val=settings.val).with_val(settings.val, settings.seed)
    height, width = (size, size) if size else _crop(samples.train[0][0])
    check_batch_memory(2 * batch_size, max(height, width))
    network, notes = build_raft(name, settings.weights)
    shape = (batch_size, 3, height, width)
    check_forward(name, network, shape, shape, inputs=f"images of {width}x{height} pixels", remedy="Set `image_size`.")
    augmented = Augmentation.of(partial(_augmented, size=(height, width)), *FLOW_STEPS)
    loading = Loading(
        settings=settings,
        batch_size=batch_size,
        transform=partial(_transformed, height=height, width=width),
        augmentation=refused(settings) or augmented,
        units="pairs of images",
    )
    place = "The middle" if loading.augmentation.transform is None else "Parts"
    known: dict[str, Any] = {"image_size": [height, width]}
    known["notes"] = (f"{place} of the images, {width}x{height} pixels.", *notes)
    return assemble(name, samples, network, loading, loss_fn=FlowLoss(), **known)


def _crop(image: Image.Image) -> tuple[int, int]:
    """Height and width of the crops from images of this size."""
    sides = (min(_CROP_HEIGHT, image.height), min(_CROP_WIDTH, image.width))
    if min(sides) < _LEAST:
        raise SetupError(
            f"the images have {image.width}x{image.height} pixels; RAFT needs at least {_LEAST}x{_LEAST}. Give larger "
            "images with their flow."
        )
    return sides[0] // _STEP * _STEP, sides[1] // _STEP * _STEP


def build_raft(name: str, weights: str | Path | None) -> tuple[nn.Module, list[str]]:
    """The model in training mode, and notes on its weights; arguments as in :func:`build`."""
    state = None if weights is None else read_state(name, weights)
    network: nn.Module = models.get_model(name, weights=None).train()
    if state is None:
        return network, []
    norms = [(path, module) for path, module in network.named_modules() if type(module) is nn.BatchNorm2d]
    for path, module in norms:
        network.set_submodule(path, FrozenBatchNorm2d(module.num_features, module.eps))
    notes = load_state(network, state, 0, name=name, origin=str(weights))
    return network, [*notes, "BatchNorm is frozen, as in torchvision's fine-tuning."] if norms else notes


def _transformed(
    sample: tuple[Image.Image, Image.Image, np.ndarray], *, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The middle of both images from -1 to 1, of the flow, and where it is known."""
    *images, flow, valid = (F.center_crop(each, [height, width]) for each in _tensors(sample, height, width))
    first, second = (each.float() / 127.5 - 1 for each in images)
    return first, second, flow, valid


def _augmented(
    sample: tuple[Image.Image, Image.Image, np.ndarray], *, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return augment_flow(_tensors(sample, *size), size)


def _tensors(
    sample: tuple[Image.Image, Image.Image, np.ndarray], height: int, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both images as bytes, the flow with 0 where it is unknown, and where it is known.

    Raises:
        SetupError: the images are smaller than the crops.
    """
    first, second, values = sample
    if first.height < height or first.width < width:
        raise SetupError(
            f"an image has {first.width}x{first.height} pixels, less than the crops of {width}x{height}. Lower "
            "`image_size`, or leave such images out."
        )
    flow = torch.from_numpy(values)
    valid = (flow.abs() < _UNKNOWN).all(dim=0)  # False for nan
    return F.pil_to_tensor(first), F.pil_to_tensor(second), torch.where(valid, flow, 0.0), valid
