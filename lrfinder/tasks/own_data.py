"""The user's own data: the loaders or data sets that a function returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from lrfinder.errors import SetupError
from lrfinder.tasks.assemble import build_loader
from lrfinder.tasks.samples import listed, parted
from lrfinder.tasks.settings import Settings
from lrfinder.tasks.user_code import call, errors_explained, load_object
from lrfinder.training.contents import batch_size, describe_batch

__all__ = ["OwnData", "open_own"]

_RETURNS = "a DataLoader, a Dataset, or a pair (train, val) of either"


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """Loaders for a model and what is known of their batches.

    Args:
        name: what to call the data in print.
        train: training batches; has a length.
        val: validation batches; None where there are none.
        first: the first training batch, on the CPU.
        num_classes: where it is known.
        image_size: pixels on a side, where the images were made here.
        void: label that does not count in the loss, where there is one.
        notes: what was chosen on the user's behalf, in sentences.
        taken: settings that the user's function was given.
    """

    name: str
    train: Any
    val: Any
    first: Any
    num_classes: int | None
    image_size: int | None = None
    void: int | None = None
    notes: tuple[str, ...] = ()
    taken: set[str] = field(default_factory=set)

    @property
    def batch_size(self) -> int:
        """Samples in the first batch; 1 where that shows none."""
        return batch_size(self.first) or 1

    @property
    def samples(self) -> int:
        """Training samples: of the data set where the loader has one, else in as many batches as the first."""
        try:
            return len(self.train.dataset)
        except (AttributeError, TypeError):
            return len(self.train) * self.batch_size


def open_own(settings: Settings, batch_size: int) -> OwnData:
    """The data that ``settings.data`` names as ``module:function``.

    The function is given what it has parameters for: ``batch_size``, ``workers`` or ``num_workers``, ``image_size`` and
    ``num_classes`` where the user chose them, ``seed``, and ``val``, which says whether validation data is wanted.

    Args:
        settings: of the experiment.
        batch_size: for a data set, or for a function that needs it, where the user chose none.

    Raises:
        ConfigError: there is no such function, or it needs an argument that is not known here.
        SetupError: it fails, or returns no batches.
    """
    reference, size, workers = settings.data, settings.batch_size or batch_size, settings.worker_count
    given = {name: getattr(settings, name) for name in ("batch_size", "workers", "image_size", "num_classes")}
    given["num_workers"] = settings.workers
    found, taken = load_object("data", reference), set[str]()
    if callable(found) and not _is_data(found):
        known = {"seed": settings.seed, "val": settings.val}
        usual = {"batch_size": size, "workers": workers, "num_workers": workers}
        found, taken = call("data", reference, found, given=given, known=known, usual=usual)
    train, val = found if isinstance(found, tuple) and len(found) == 2 and all(map(_is_data, found)) else (found, None)
    _check_kind(reference, train, found)
    taken = {name.replace("num_workers", "workers") for name in taken}
    if _is_dataset(train):
        taken |= {"batch_size", "workers"}
        if settings.val and val is None:
            train, val = parted(train, settings.seed)
    elif settings.val and val is None:
        raise SetupError(
            f"`val` measures the loss on validation batches, and `data` {reference} gives training batches alone. "
            "Return a pair (train, val)."
        )
    train_loader = _loader(train, settings, size, train=True)
    return OwnData(
        name=reference,
        train=train_loader,
        val=_loader(val, settings, size, train=False) if settings.val else None,
        first=_first(reference, train_loader),
        num_classes=settings.num_classes or _count_classes(train),
        taken=taken,
    )


def _is_dataset(found: Any) -> bool:
    return isinstance(found, Dataset) and not isinstance(found, IterableDataset)


def _is_data(found: Any) -> bool:
    if isinstance(found, (type, str, bytes, Mapping, Tensor)):
        return False
    return _is_dataset(found) or (hasattr(found, "__iter__") and hasattr(found, "__len__"))


def _check_kind(reference: str, train: Any, found: Any) -> None:
    if isinstance(found, tuple) and train is found:  # not a pair of loaders or data sets
        raise SetupError(f"`data` {reference} must return {_RETURNS}; got {describe_batch(found)}.")
    if not _is_data(train):
        what = describe_batch(found)
        if hasattr(train, "__iter__") and not isinstance(train, (type, str, bytes, Mapping, Tensor)):
            what += ", which has no length"
        raise SetupError(f"`data` {reference} must return {_RETURNS}; got {what}.")
    try:
        with errors_explained(f"the length of `data` {reference} cannot be had"):
            length = len(train)
    except SetupError as error:
        if isinstance(error.__cause__, TypeError):  # of a loader over an IterableDataset
            raise SetupError(
                f"`data` {reference} returns a {type(train).__name__} without a length, which the schedule needs. Give "
                "its data set a method __len__."
            ) from error
        raise
    if not length:
        raise SetupError(f"`data` {reference} returns a {type(train).__name__} that is empty.")


def _loader(found: Any, settings: Settings, batch_size: int, *, train: bool) -> Any:
    """The loader itself, or one over the data set."""
    if not _is_dataset(found):
        return found
    with errors_explained(f"the first sample of `data` {settings.data} cannot be read"):
        sample = found[0]
    pair = isinstance(sample, (tuple, list)) and len(sample) == 2
    collate = listed if pair and isinstance(sample[1], Mapping) else None
    return build_loader(found, settings, batch_size, train=train, collate=collate, what="samples")


def _first(reference: str, loader: Any) -> Any:
    nothing = object()
    with errors_explained(f"the first batch of `data` {reference} cannot be loaded"):
        first = next(iter(loader), nothing)
    if first is nothing:
        raise SetupError(
            f"`data` {reference} gives no batch at all. Check that drop_last=True does not drop the only one."
        )
    return first


def _count_classes(found: Any) -> int | None:
    """The classes that a data set has as its attribute ``classes``; None where it has none."""
    for _ in range(4):  # a loader, over a part, of a data set
        classes = getattr(found, "classes", None)
        if isinstance(classes, (list, tuple)) and len(classes) > 1:
            return len(classes)
        found = getattr(found, "dataset", None)
    return None
