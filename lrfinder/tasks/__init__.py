"""Models of torchvision with their data, loss and loaders, ready for a range test.

A family is one kind of task, such as classification. To add one, write a module whose ``build`` returns a
:class:`Task`, and add a row to ``FAMILIES``. Importing this module loads neither torch nor torchvision.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lrfinder.tasks.names import check_name

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["FAMILIES", "Family", "Task", "family_of", "model_names"]

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
    """

    module: str
    models: str

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

    def build(self, model: str, data: str, **options: Any) -> Task:
        """A task of this family; see ``build`` of its module.

        Raises:
            LRFinderError: an option that cannot be used, or model, weights and data that do not fit together.
        """
        task: Task = importlib.import_module(self.module).build(model, data, **options)
        return task


FAMILIES: dict[str, Family] = {
    "classification": Family(module="lrfinder.tasks.classification", models="torchvision.models"),
}


def model_names() -> list[str]:
    """Names of the models of all families, sorted."""
    return sorted(name for family in FAMILIES.values() for name in family.model_names())


def family_of(model: str) -> Family:
    """The family that has the model.

    Raises:
        ConfigError: no family has it.
    """
    families = {name: family for family in FAMILIES.values() for name in family.model_names()}
    return families[check_name("model", model, families, listed=_LISTED)]
