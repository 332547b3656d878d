"""What was run around a sweep: model, data, training and versions, and the schedule that it was for. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lrfinder.checks import check_choice, check_count
from lrfinder.errors import ConfigError
from lrfinder.tables.kinds import KINDS
from lrfinder.tables.recipes import NoRecipe, ReferenceRecipe, missing_recipe, reference_recipe

__all__ = ["RunRecord"]

_TEXTS = ("model", "data", "optimizer")
_COUNTS = ("batch_size", "accumulation_steps", "steps_per_epoch")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A range test as ``lrfind run`` set it up.

    Args:
        setup: settings in force, JSON-ready; those of :attr:`lrfinder.tasks.experiment.Experiment.facts`. Needed are
            ``model``, ``data``, ``optimizer``, ``optimizer_options``, ``weights``, ``batch_size``,
            ``accumulation_steps`` and ``steps_per_epoch``.
        schedule: kind of schedule that the training will have.
        epochs: length of that training; >= 1.
        entry: torchvision's name of the weights whose recipe is shown beside the advice; None for no recipe.

    Raises:
        ConfigError: a setting is missing, or not what it should be.

    Example:
        >>> setup = {"model": "resnet18", "data": "digits", "optimizer": "SGD", "optimizer_options": {"momentum": 0.9}}
        >>> setup |= {"weights": None, "batch_size": 64, "accumulation_steps": 2, "steps_per_epoch": 14}
        >>> run = RunRecord(setup=setup, schedule="cosine", epochs=10, entry="IMAGENET1K_V1")
        >>> run.batch, run.total_steps, run.reference.lr
        (128, 140, 0.1)
    """

    setup: Mapping[str, Any] = field(hash=False)
    schedule: str
    epochs: int
    entry: str | None = None

    def __post_init__(self) -> None:
        setup = json.loads(json.dumps(dict(self.setup)))  # tuples of options become lists, as in the file
        for name in _TEXTS:
            if not isinstance(setup.get(name), str):
                raise ConfigError(f"{name} must be a text; got {setup.get(name)!r}.")
        for name in _COUNTS:
            check_count(name, setup.get(name))
        if not isinstance(setup.get("optimizer_options"), dict):
            raise ConfigError(f"optimizer_options must be a dictionary; got {setup.get('optimizer_options')!r}.")
        for name, value in (("weights", setup.get("weights")), ("entry", self.entry)):
            if value is not None and not isinstance(value, str):
                raise ConfigError(f"{name} must be a text or None; got {value!r}.")
        check_choice("schedule", self.schedule, KINDS)
        object.__setattr__(self, "epochs", check_count("epochs", self.epochs))
        object.__setattr__(self, "setup", setup)
        check_count("batch_size times accumulation_steps", self.batch)
        check_count("epochs times steps_per_epoch", self.total_steps)

    @property
    def subject(self) -> tuple[str, str]:
        """Names of model and data."""
        return str(self.setup["model"]), str(self.setup["data"])

    @property
    def batch(self) -> int:
        """Samples in an update: accumulated batches count."""
        return int(self.setup["batch_size"] * self.setup["accumulation_steps"])

    @property
    def total_steps(self) -> int:
        """Updates in the training that the schedule is for."""
        return int(self.epochs * self.setup["steps_per_epoch"])

    @property
    def reference(self) -> ReferenceRecipe | NoRecipe | None:
        """How torchvision trained the model, or why that is not known; None for a model without a row."""
        if self.entry is None:
            return None
        model = self.setup["model"]
        return reference_recipe(model, self.entry) or missing_recipe(model, self.entry)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary; :meth:`from_dict` gives an equal record back."""
        return {"setup": self.setup, "schedule": self.schedule, "epochs": self.epochs, "entry": self.entry}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RunRecord:
        """Record from :meth:`to_dict`.

        Raises:
            TypeError, ValueError: a part is missing, unknown or damaged.
        """
        return cls(**content)
