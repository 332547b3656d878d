"""What of a model is trained and in which parameter groups, and the lines that make them. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lrfinder.checks import check_lr, check_number
from lrfinder.errors import ConfigError

__all__ = ["Grouping"]

_SCALES = ("head_lr_scale", "layer_decay", "aux_lr_scale")
_DECAYS = ("norm_weight_decay", "bias_weight_decay")


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """An optimizer with parameter groups, for the printed lines.

    Args:
        optimizer: class name in ``torch.optim``.
        optimizer_options: its keyword arguments, its learning rate aside.
        freeze: as in :func:`lrfinder.tasks.groups.freeze`.
        head_lr_scale, layer_decay, aux_lr_scale, norm_weight_decay, bias_weight_decay: as in
            :func:`lrfinder.tasks.groups.parameter_groups`.

    Raises:
        ConfigError: a value that cannot be part of the lines.

    Example:
        >>> print("\\n".join(Grouping(optimizer="SGD", optimizer_options={"momentum": 0.9}, head_lr_scale=10).lines))
        groups = parameter_groups(model, head_lr_scale=10.0)
        optimizer = SGD(groups, momentum=0.9)
    """

    optimizer: str
    optimizer_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    freeze: tuple[str, ...] = ()
    head_lr_scale: float | None = None
    layer_decay: float | None = None
    aux_lr_scale: float | None = None
    norm_weight_decay: float | None = None
    bias_weight_decay: float | None = None

    def __post_init__(self) -> None:
        options = json.loads(json.dumps(dict(self.optimizer_options)))  # tuples are lists, as in a file
        for name in (self.optimizer, *options):
            if not isinstance(name, str) or not name.isidentifier():
                raise ConfigError(f"optimizer and the names of its options must be names of Python; got {name!r}.")
        if isinstance(self.freeze, str) or not all(isinstance(each, str) for each in self.freeze):
            raise ConfigError(f"freeze must be a list of names; got {self.freeze!r}.")
        object.__setattr__(self, "optimizer_options", options)
        object.__setattr__(self, "freeze", tuple(self.freeze))
        for name in (*_SCALES, *_DECAYS):
            if (value := getattr(self, name)) is not None:
                number = check_lr(name, value) if name in _SCALES else check_number(name, value, 0.0)
                object.__setattr__(self, name, number)

    @classmethod
    def from_setup(cls, setup: Mapping[str, Any]) -> Grouping | None:
        """The groups of a run, from its settings; None where there is one group that has everything."""
        names = ("freeze", *_SCALES, *_DECAYS)
        given = {name: setup[name] for name in names if setup.get(name) not in (None, [], ())}
        if not given:
            return None
        return cls(optimizer=setup["optimizer"], optimizer_options=setup["optimizer_options"], **given)

    @property
    def imports(self) -> list[str]:
        """Lines to import what :attr:`lines` name."""
        names = "freeze, parameter_groups" if self.freeze else "parameter_groups"
        return [f"from lrfinder.tasks.groups import {names}", f"from torch.optim import {self.optimizer}"]

    @property
    def lines(self) -> list[str]:
        """Lines that freeze layers of ``model`` and build ``optimizer``. A scheduler sets its learning rates."""
        frozen = [f"freeze(model, {list(self.freeze)!r})"] if self.freeze else []
        numbers = {name: getattr(self, name) for name in (*_SCALES, *_DECAYS)}
        given = self.optimizer_options.items()
        options = {name: tuple(value) if isinstance(value, list) else value for name, value in given}
        groups = _call("parameter_groups", "model", {name: each for name, each in numbers.items() if each is not None})
        return [*frozen, f"groups = {groups}", f"optimizer = {_call(self.optimizer, 'groups', options)}"]


def _call(function: str, first: str, arguments: Mapping[str, Any]) -> str:
    return f"{function}({', '.join([first, *(f'{name}={value!r}' for name, value in arguments.items())])})"
