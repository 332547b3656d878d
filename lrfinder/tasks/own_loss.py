"""The loss of a training: one of ``torch.nn``, the user's own, or the one that fits the batches of the user's data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torchvision.models.segmentation import FCN, LRASPP, DeepLabV3

from lrfinder.errors import BatchError, ConfigError, SetupError
from lrfinder.tasks import Task
from lrfinder.tasks.detection import DetectionLoss
from lrfinder.tasks.names import check_name
from lrfinder.tasks.segmentation import SegmentationLoss
from lrfinder.tasks.settings import Settings
from lrfinder.tasks.user_code import any_reference, call, check_form, errors_explained, is_reference, load_object
from lrfinder.training.contents import describe_batch
from lrfinder.training.losses import HOW_TO_LOSS_FN

__all__ = ["OutputLoss", "OwnLoss", "fitting_loss", "own_code_explained", "with_loss"]

_OF_DICTIONARIES = [each.forward for each in (DeepLabV3, FCN, LRASPP)]
_HOW = "Give `loss` as module:function, a function whose first parameter is named model: it gets model and batch."


class OwnLoss:
    """The user's ``loss_fn(model, batch)``."""

    form = "own loss"

    def __init__(self, function: Callable[[Any, Any], Tensor]) -> None:
        self.function = function

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        return self.function(model, batch)


class OutputLoss:
    """The entry ``loss`` of the output, for batches that are dictionaries, as many language models return it.

    Args:
        name: of the model, for a message.
    """

    form = "output"

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        output = model(**batch)
        if not isinstance(output, Mapping) or output.get("loss") is None:
            raise BatchError(
                f"the batches are dictionaries, and {self.name} returns {describe_batch(output)} for them, without a "
                f"'loss' in it. {_HOW}"
            )
        loss: Tensor = output["loss"]
        return loss


def fitting_loss(model: nn.Module, name: str, data: str, batch: Any, *, void: int | None = None) -> dict[str, Any]:
    """The loss that fits a batch, as ``criterion`` or ``loss_fn``: cross-entropy for inputs with their labels.

    The losses that the model returns are taken for a dictionary and for images with a dictionary each. The classes of
    torchvision for segmentation have their own, except subclasses with another ``forward``, which may return a tensor.

    Args:
        model: that is trained.
        name: of the model.
        data: name of the data.
        batch: the first one.
        void: label that does not count; None for none.

    Raises:
        SetupError: none fits.

    Example:
        >>> fitting_loss(nn.Linear(1, 2), "mine:build", "mine:loader", ("inputs", "labels"))
        {'criterion': CrossEntropyLoss()}
    """
    if isinstance(batch, Mapping):
        return {"loss_fn": OutputLoss(name)}
    if isinstance(batch, (list, tuple)) and len(batch) == 2:
        targets = batch[1]
        if isinstance(targets, (list, tuple)) and targets and all(isinstance(each, Mapping) for each in targets):
            return {"loss_fn": DetectionLoss()}
        if type(model).forward in _OF_DICTIONARIES:
            return {"criterion": SegmentationLoss.of(model)}
        return {"criterion": nn.CrossEntropyLoss() if void is None else nn.CrossEntropyLoss(ignore_index=void)}
    raise SetupError(f"no loss is known for the batches of {data}: the first is {describe_batch(batch)}. {_HOW}")


def with_loss(task: Task, loss: str | None) -> Task:
    """The task with the loss that the user named; None leaves it as it is.

    Args:
        task: of any model and data.
        loss: a class of ``torch.nn``, such as ``"MSELoss"``, or ``module:function``. A function whose first parameter
            is named ``model`` gets model and batch; any other, and a module of torch, gets output and target. A class
            is built without arguments, except that one of torch leaves out the labels that mark no class in masks.

    Raises:
        ConfigError: there is no such loss.
        SetupError: the user's module or class raises an error.
    """
    if loss is None:
        return task
    chosen = _chosen(loss, task.facts.get("ignore_index"))
    return replace(task, **{"criterion": None, "loss_fn": None, **chosen})


def _chosen(loss: str, void: int | None) -> dict[str, Any]:
    check_form("loss", loss)
    if not is_reference(loss):
        class_ = getattr(nn, check_name("loss", loss, _losses()))
        leaves_out = void is not None and "ignore_index" in inspect.signature(class_).parameters
        return {"criterion": class_(ignore_index=void) if leaves_out else class_()}
    found = load_object("loss", loss)
    if isinstance(found, type):
        found, _ = call("loss", loss, found, given={})
    if not callable(found):
        raise ConfigError(f"`loss` {loss} must be a function or a module of torch; got a {type(found).__name__}.")
    if isinstance(found, nn.Module):
        return {"criterion": found}
    with errors_explained(f"`loss` {loss} has no parameters that can be read"):
        names = list(inspect.signature(found).parameters)
    return {"loss_fn": OwnLoss(found)} if names[:1] == ["model"] else {"criterion": found}


def _losses() -> list[str]:
    """Names of the losses of torch that take an output and a target and need no arguments."""
    found = []
    for name, each in vars(nn).items():
        if name.endswith("Loss") and isinstance(each, type):
            needed = [one for one in inspect.signature(each).parameters.values() if one.default is one.empty]
            takes = inspect.signature(getattr(each, "forward")).parameters
            if not needed and len(takes) == 3:  # with self
                found.append(name)
    return sorted(found)


@contextmanager
def own_code_explained(settings: Settings) -> Iterator[None]:
    """Errors of the user's code in a training become one sentence with their place; those of others stay as they are.

    Args:
        settings: of the experiment.

    Raises:
        SetupError, BatchError: in place of such an error.
    """
    own = any_reference(settings.model, settings.data, settings.loss)
    failed = f"the training of {settings.model} on {settings.dataset or settings.data} failed"
    try:
        with errors_explained(failed) if own else nullcontext():
            yield
    except BatchError as error:
        if HOW_TO_LOSS_FN not in str(error):
            raise
        raise BatchError(str(error).replace(HOW_TO_LOSS_FN, _HOW)) from error
