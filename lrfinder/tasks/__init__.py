"""Models of torchvision with their data, loss and loaders, ready for a range test.

A family is one kind of task, such as classification. To add one, write a module whose ``build`` returns a
:class:`Task` of the settings, and add a row to ``FAMILIES``. Importing this module loads neither torch nor torchvision.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lrfinder.errors import ConfigError
from lrfinder.tasks.names import check_name
from lrfinder.tasks.user_code import check_form, is_reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lrfinder.tasks.settings import Settings

__all__ = ["FAMILIES", "OWN", "Family", "Task", "family_of", "model_names"]

_QUANTISED = "quantized_"
_OF_ONE_FAMILY = ("dataset", "masks")  # settings
_OWN_MODEL = "A model of your own is given as module:function, as in train.models:build."
_LISTED = "a model of torchvision (`lrfind models` lists them)"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model with everything that its training needs except an optimizer.

    Pass it on as ``LRFinder(task.model, optimizer, task.criterion, loss_fn=task.loss_fn)``.

    Args:
        title: model and data in one line.
        model: in training mode, on the CPU.
        train_loader: training batches; has a length.
        val_loader: validation batches; None where none were requested.
        criterion: scalar loss from the model's output and the batch's target; None where there is a ``loss_fn``.
        loss_fn: scalar loss from the model and a batch; None where there is a ``criterion``.
        notes: what was chosen on the user's behalf, in sentences.
        facts: the same and more for programs, JSON-ready.
    """

    title: str
    model: nn.Module
    train_loader: Any
    val_loader: Any = None
    criterion: Callable[[Any, Any], Tensor] | None = None
    loss_fn: Callable[[nn.Module, Any], Tensor] | None = None
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models of torchvision that train on the same kind of data with the same kind of loss.

    Args:
        module: full name of the module that builds tasks of this family.
        models: full name of the module of torchvision that registers the models.
        batch_size: samples in a batch by default: what torchvision's own training program has, per GPU.
        fake_batch_size: the same for made-up data, where that takes too much memory for a trial run; None for the same.
        own_option: setting that no other family has; "" for none.
    """

    module: str
    models: str
    batch_size: int
    fake_batch_size: int | None = None
    own_option: str = ""

    def model_names(self) -> list[str]:
        """Names of the models, sorted."""
        from torchvision.models import list_models

        return sorted(list_models(module=importlib.import_module(self.models)))

    def check_model(self, model: str) -> str:
        """The model's name as torchvision spells it; upper case is accepted.

        Raises:
            ConfigError: the family has no such model.
        """
        return check_name("model", model, self.model_names(), listed=_LISTED)

    def batch_size_of(self, settings: Settings) -> int:
        """The batch size that the settings have, or that of the family."""
        fake = self.fake_batch_size if settings.data == "fake" else None
        return settings.batch_size or fake or self.batch_size

    def build(self, settings: Settings) -> Task:
        """A task of this family; see ``build`` of its module.

        Raises:
            LRFinderError: a setting that cannot be used, or model, weights and data that do not fit together.
        """
        from lrfinder.tasks.settings import check_settings

        for option in _OF_ONE_FAMILY:
            if getattr(settings, option) and option != self.own_option:
                raise ConfigError(
                    f"`{option}` is of no use for {settings.model}. Leave it out, and give the data as `data`."
                )
        check_settings(settings)
        task: Task = importlib.import_module(self.module).build(settings, self.batch_size_of(settings))
        return task


FAMILIES: dict[str, Family] = {
    "classification": Family(
        module="lrfinder.tasks.classification",
        models="torchvision.models",
        batch_size=64,
        own_option="dataset",
    ),
    "segmentation": Family(
        module="lrfinder.tasks.segmentation",
        models="torchvision.models.segmentation",
        batch_size=8,
        own_option="masks",
    ),
    "detection": Family(module="lrfinder.tasks.detection", models="torchvision.models.detection", batch_size=2),
    "video": Family(
        module="lrfinder.tasks.video", models="torchvision.models.video", batch_size=24, fake_batch_size=2
    ),
    "optical_flow": Family(
        module="lrfinder.tasks.optical_flow", models="torchvision.models.optical_flow", batch_size=2
    ),
}

# Models of the user's own, named as module:function. No row: it has no names, and its build takes all settings.
OWN = Family(module="lrfinder.tasks.own", models="", batch_size=64)


def model_names(family: str | None = None) -> list[str]:
    """Names of the models of one family, or of all, sorted.

    Raises:
        ConfigError: there is no such family.
    """
    if family is not None:
        return FAMILIES[check_name("family", family, FAMILIES)].model_names()
    return sorted(name for each in FAMILIES.values() for name in each.model_names())


def family_of(model: str) -> Family:
    """The family that has the model; ``OWN`` for ``module:function``, which is not imported here.

    Raises:
        ConfigError: no family has it, or it is quantised.
    """
    check_form("model", model)
    if is_reference(model):
        return OWN
    families = {name: family for family in FAMILIES.values() for name in family.model_names()}
    if str(model).lower().startswith(_QUANTISED):
        plain = str(model).lower().removeprefix(_QUANTISED)
        instead = plain if plain in families else "a model without quantized_ in its name"
        raise ConfigError(
            f"{model} cannot be trained: its weights are whole numbers of 8 bits, which have no gradient. Train "
            f"{instead} and quantise it afterwards."
        )
    if any(sign in str(model) for sign in "./\\"):
        raise ConfigError(f"model must be {_LISTED}; got {model!r}. {_OWN_MODEL}")
    return families[check_name("model", model, families, listed=_LISTED)]
