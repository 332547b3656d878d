"""Checks of the numbers of an advice that comes from a file. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrfinder.checks import check_choice, check_lr
from lrfinder.errors import ConfigError
from lrfinder.tables.kinds import KINDS

__all__ = ["check_saved"]


def check_saved(fields: Mapping[str, Any]) -> None:
    """Check the learning rates among the fields of an ``Advice``: positive, finite, and in order.

    Raises:
        ConfigError: they are not.
    """
    for name in ("max_lr", "base_lr", "min_lr", "edge_lr", "ceiling", "diverged_lr"):
        if fields[name] is not None:
            check_lr(name, fields[name])
    for kind, lr in fields["peaks"]:
        check_lr(f"the peak of {check_choice('kind', kind, KINDS)}", lr)
    if fields["interval"] is None or fields["base_lr"] is None:
        return
    low, high = (check_lr("each end of interval", end) for end in fields["interval"])
    if not low <= fields["base_lr"] <= high:
        raise ConfigError(f"base_lr must lie in interval; got {fields['base_lr']:g} and ({low:g}, {high:g})")
    for name in ("max_lr", "base_lr"):
        if None not in (fields["min_lr"], fields[name]) and fields["min_lr"] > fields[name]:
            raise ConfigError(f"min_lr must not be above {name}; got {fields['min_lr']:g} and {fields[name]:g}")
