"""torchvision's models on batches of the user's own: sizes and losses follow from the first batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lrfinder.errors import ConfigError, SetupError
from lrfinder.tasks import FAMILIES, family_of
from lrfinder.tasks.classification_models import build_classifier
from lrfinder.tasks.detection import DetectionLoss
from lrfinder.tasks.detection_models import build_detector
from lrfinder.tasks.forward import check_forward
from lrfinder.tasks.optical_flow import FlowLoss, build_raft
from lrfinder.tasks.own_data import OwnData
from lrfinder.tasks.segmentation import SegmentationLoss, build_segmenter
from lrfinder.tasks.settings import Settings
from lrfinder.tasks.video import build_video_model
from lrfinder.training.contents import describe_batch, tensors_in

__all__ = ["FamilyModel", "family_model"]

_TAKES = {
    "classification": "images of shape (N, 3, height, width) and labels",
    "segmentation": "images of shape (N, 3, height, width) and masks of shape (N, height, width)",
    "detection": "a list of images of shape (3, height, width) and a list of dictionaries with boxes and labels",
    "video": "clips of shape (N, 3, frames, height, width) and labels",
    "optical_flow": "first and second images of shape (N, 3, height, width), flow, and where it is valid",
}
_DIMENSIONS = {"classification": 4, "segmentation": 4, "video": 5, "optical_flow": 4}
_COLOURS = 3  # second dimension of the images
_MASKS = 3  # dimensions of the masks of a batch
_FAMILY_BY_MODULE = {family.module: name for name, family in FAMILIES.items()}


@dataclass(frozen=True, kw_only=True)
class FamilyModel:
    """A model of torchvision for the user's batches.

    Args:
        name: as torchvision spells it.
        model: in training mode, on the CPU.
        num_classes: its outputs; None where it has no classes.
        image_size: pixels on a side, or height and width; of detection models, the shorter side that they resize to.
        notes: what was chosen on the user's behalf, in sentences.
        loss: ``criterion`` or ``loss_fn``.
        taken: settings that had an effect.
    """

    name: str
    model: nn.Module
    num_classes: int | None
    image_size: Any
    notes: tuple[str, ...]
    loss: Mapping[str, Any]
    taken: set[str]


def family_model(settings: Settings, data: OwnData) -> FamilyModel:
    """The model of torchvision that ``settings.model`` names, for the batches of ``data``.

    Raises:
        ConfigError: an unknown model or weights, or an unknown number of classes.
        SetupError: batches that are not those of the model's family, or weights that do not fit.
    """
    row = family_of(settings.model)
    name, family = row.check_model(settings.model), _FAMILY_BY_MODULE[row.module]
    if settings.loss is None and not _fits(family, data.first):
        raise _unfit(name, family, data)
    if family == "detection":
        return _detection(name, settings, data)
    inputs = next((each for each in tensors_in(data.first) if each.ndim == _DIMENSIONS[family]), None)
    if inputs is None:
        raise _unfit(name, family, data)
    shape, is_flow = tuple(inputs.shape), family == "optical_flow"
    classes = None if is_flow else _classes(name, settings, data)
    model, notes, loss = _BUILDERS[family](name, classes, settings.weights, shape)
    words = {"inputs": f"the batches of {data.name}", "remedy": f"They have the shape {shape}."}
    check_forward(name, model, *([shape] * (2 if is_flow else 1)), **words)
    height, width = shape[-2:]
    return FamilyModel(
        name=name,
        model=model,
        num_classes=classes,
        image_size=height if height == width else [height, width],
        notes=tuple(notes),
        loss=loss,
        taken={"weights"} if is_flow else {"num_classes", "weights"},
    )


# Each returns the model, notes, and the loss as in FamilyModel.
Built = tuple[nn.Module, Sequence[str], dict[str, Any]]


def _classification(name: str, classes: int, weights: Any, shape: tuple[int, ...]) -> Built:
    side = min(shape[2:])
    known: dict[str, Any] = {"num_classes": classes, "weights": weights, "batch_size": shape[0]}
    found = build_classifier(name, needed_size=side, image_size=side, **known)
    return found.model, found.notes[1:], {"criterion": found.criterion}  # the first tells how images are resized


def _segmentation(name: str, classes: int, weights: Any, shape: tuple[int, ...]) -> Built:
    model, notes = build_segmenter(name, classes, weights)
    return model, notes, {"criterion": SegmentationLoss.of(model)}


def _video(name: str, classes: int, weights: Any, shape: tuple[int, ...]) -> Built:
    return *build_video_model(name, classes, weights), {"criterion": nn.CrossEntropyLoss()}


def _optical_flow(name: str, classes: None, weights: Any, shape: tuple[int, ...]) -> Built:
    return *build_raft(name, weights), {"loss_fn": FlowLoss()}


_BUILDERS: dict[str, Callable[[str, Any, Any, tuple[int, ...]], Built]] = {
    "classification": _classification,
    "segmentation": _segmentation,
    "video": _video,
    "optical_flow": _optical_flow,
}


def _detection(name: str, settings: Settings, data: OwnData) -> FamilyModel:
    classes = _classes(name, settings, data)
    points = [each.shape[1] for each in _targets(data.first, "keypoints") if each.ndim == 3]
    known: dict[str, Any] = {"weights": settings.weights, "image_size": settings.image_size}
    model, size, notes = build_detector(name, classes, max(points, default=0), **known)
    return FamilyModel(
        name=name,
        model=model,
        num_classes=classes,
        image_size=size,
        notes=notes,
        loss={"loss_fn": DetectionLoss()},
        taken={"num_classes", "weights", "image_size"},
    )


def _classes(name: str, settings: Settings, data: OwnData) -> int:
    """Outputs of the model. Lists of names leave the background out, so they count for labels of a whole image only."""
    counted = _FAMILY_BY_MODULE[family_of(name).module] in ("classification", "video")
    classes = data.num_classes if counted else settings.num_classes
    if classes is None:
        else_ = ", or give the data set an attribute `classes`, a list" if counted else ", with the background"
        raise ConfigError(f"how many classes {data.name} has is not known. Set `num_classes`{else_}.")
    return classes


def _fits(family: str, batch: Any) -> bool:
    if not isinstance(batch, (list, tuple)) or len(batch) != (4 if family == "optical_flow" else 2):
        return False
    if family == "detection":
        images, targets = batch
        if not isinstance(images, (list, tuple)) or not isinstance(targets, (list, tuple)):
            return False
        return all(isinstance(each, Tensor) and each.ndim == 3 for each in images) and all(
            isinstance(each, Mapping) and {"boxes", "labels"} <= {*each} for each in targets
        )
    if not all(isinstance(each, Tensor) for each in batch):
        return False
    if batch[0].ndim != _DIMENSIONS[family] or batch[0].shape[1] != _COLOURS:
        return False
    return family != "segmentation" or batch[1].ndim == _MASKS


def _unfit(name: str, family: str, data: OwnData) -> SetupError:
    got = describe_batch(data.first)
    if isinstance(data.first, (list, tuple)):
        got = ", ".join(describe_batch(each) for each in data.first[:4]) or got
    return SetupError(f"{name} needs batches of {_TAKES[family]}; those of {data.name} are {got}.")


def _targets(batch: Any, key: str) -> list[Tensor]:
    targets = batch[1] if isinstance(batch, (list, tuple)) and len(batch) == 2 else []
    return [each[key] for each in targets if isinstance(each, Mapping) and isinstance(each.get(key), Tensor)]
