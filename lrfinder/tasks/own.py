"""Models and data of the user's own, named as ``module:function``, in any combination with torchvision's and ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from lrfinder.errors import ConfigError, SetupError
from lrfinder.tasks import Task, family_of
from lrfinder.tasks.own_data import OwnData, open_own
from lrfinder.tasks.own_family import FamilyModel, family_model
from lrfinder.tasks.own_files import open_files
from lrfinder.tasks.own_loss import fitting_loss
from lrfinder.tasks.settings import Settings
from lrfinder.tasks.user_code import call, is_reference, load_object
from lrfinder.tasks.weights import State, load_state, read_state

__all__ = ["build"]

_EXPLAINED = ("batch_size", "workers", "image_size", "num_classes", "weights")


def build(settings: Settings) -> Task:
    """The task of an experiment whose model or data is the user's own.

    A function for the model gets what it has parameters for: ``num_classes`` and ``image_size`` where they are known,
    and ``weights`` where the user gave some; it returns a module of torch. What one for the data gets and returns is
    said at :func:`lrfinder.tasks.own_data.open_own`. A model of torchvision has the size and the outputs that the
    batches need; a model of the user's own gets those of :func:`lrfinder.tasks.own_files.open_files`.

    Args:
        settings: with ``model`` or ``data``, or both, as ``module:function``.

    Raises:
        ConfigError: there is no such function, or a setting that nothing takes.
        SetupError: a function fails or returns something else, or model, weights and data do not fit together.

    Example:
        >>> from lrfinder.tasks.settings import Settings
        >>> task = build(Settings(model="torchvision.models:squeezenet1_1", batch_size=8))
        >>> print(task.title)
        torchvision.models:squeezenet1_1 on digits: 1,797 samples
    """
    _check_sources(settings)
    own = is_reference(settings.data) and settings.dataset is None
    data = open_own(settings, family_of(settings.model).batch_size) if own else open_files(settings)
    found = _own_model(settings, data) if is_reference(settings.model) else family_model(settings, data)
    _check_taken(settings, data.taken | found.taken)
    return Task(
        title=f"{found.name} on {data.name}: {data.samples:,} samples",
        model=found.model,
        train_loader=data.train,
        val_loader=data.val,
        notes=(*data.notes, *found.notes),
        facts={
            "model": found.name,
            "weights": settings.weights,
            "data": data.name,
            "train_images": data.samples,
            "num_classes": found.num_classes,
            "image_size": found.image_size,
            "batch_size": data.batch_size,
            "augment": "none",
            **({} if data.void is None else {"ignore_index": data.void}),
        },
        **found.loss,
    )


def _own_model(settings: Settings, data: OwnData) -> FamilyModel:
    reference, taken = settings.model, set[str]()
    known: dict[str, Any] = {"num_classes": data.num_classes, "image_size": data.image_size}
    model = load_object("model", reference)
    if not isinstance(model, nn.Module):
        if not callable(model):
            raise ConfigError(
                f"`model` {reference} must be a function or a class that gives a torch.nn.Module; it is a "
                f"{type(model).__name__}."
            )
        given = {name: getattr(settings, name) for name in ("num_classes", "image_size", "weights")}
        model, taken = call("model", reference, model, given=given, known=known, usual={"weights": None})
    if not isinstance(model, nn.Module):
        raise ConfigError(f"`model` {reference} must return a torch.nn.Module; got a {type(model).__name__}.")
    if any(isinstance(each, nn.UninitializedParameter) for each in model.parameters()):
        raise SetupError(
            f"`model` {reference} returns a {type(model).__name__} with a parameter that was never initialised (a lazy "
            "module). Run one batch through the model before it is returned."
        )
    notes: list[str] = []
    if settings.weights is not None and "weights" not in taken:
        notes = _load(model, settings, data)
        taken.add("weights")
    loss = {} if settings.loss is not None else fitting_loss(model, reference, data.name, data.first, void=data.void)
    return FamilyModel(name=reference, model=model.train(), notes=tuple(notes), loss=loss, taken=taken, **known)


def _load(model: nn.Module, settings: Settings, data: OwnData) -> list[str]:
    """Load a file of weights into the model."""
    path = str(settings.weights)
    if not Path(path).is_file():
        raise ConfigError(
            f"`weights` must be a file for `model` {settings.model}, which has no parameter of the name weights; got "
            f"{path!r}."
        )
    state = read_state(settings.model, path)
    # Reading takes off the prefix of a module that holds the model, which may be the model's own.
    own = {key.removeprefix("model."): key for key in model.state_dict()}
    renamed = State({own.get(key, key): value for key, value in state.items()})
    renamed.note = state.note
    return load_state(model, renamed, data.num_classes or 0, name=settings.model, origin=path)


def _check_sources(settings: Settings) -> None:
    """Refuse options that say where other data is."""
    other = settings.dataset or (settings.data if is_reference(settings.data) else None)
    if settings.masks is not None and other is not None:
        raise ConfigError(
            f"`masks` says where the masks of a folder of images are, and the data is {other}. Leave it out, or give "
            "the folder as `data`."
        )


def _check_taken(settings: Settings, taken: set[str]) -> None:
    """Refuse settings without an effect."""
    unused = [name for name in _EXPLAINED if getattr(settings, name) is not None and name not in taken]
    if unused:
        own = [each for each in (settings.model, settings.data) if is_reference(each)]
        raise ConfigError(
            f"`{unused[0]}` would have no effect: {' and '.join(own)} {'has' if len(own) == 1 else 'have'} no "
            f"parameter of the name {unused[0]!r}. Add one, or leave `{unused[0]}` out."
        )
