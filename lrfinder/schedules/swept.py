"""Parameter groups of a training beside those of the range test: whose number the advice is. Works without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lrfinder.errors import SetupError
from lrfinder.param_groups import group_scales, optimizer_name

__all__ = ["check_as_swept", "scales_as_swept"]

_SAME = 1e-3  # relative difference of equal scales: those in tensors drift through a schedule of many steps


def scales_as_swept(optimizer: Any, swept: Sequence[float]) -> tuple[float, ...]:
    """LR of each group divided by that of the group that was the reference in the range test, shape (groups,).

    The first group that learns now and learned then has the scale of the range test; the others keep their ratio to it.

    Args:
        optimizer: as it is now: groups may have been added, frozen or given another LR since.
        swept: scales of the groups in the range test.

    Raises:
        SetupError: the same scales in another order, or as :func:`lrfinder.param_groups.group_scales`.

    Example:
        >>> from types import SimpleNamespace
        >>> groups = [{"lr": 0.1}, {"lr": 0.5}]  # the first had a learning rate of 0 in the range test
        >>> scales_as_swept(SimpleNamespace(param_groups=groups), (0.0, 1.0))
        (0.2, 1.0)
    """
    scales = group_scales(optimizer)
    if not _alike(scales, swept) and _alike(_sorted_parts(scales), _sorted_parts(swept)):
        raise SetupError(
            "the parameter groups are in another order than in the range test: they had learning rates of "
            f"{_in_words(swept)} times that of the reference group, and now of {_in_words(scales)}. Pass them in the "
            "same order."
        )
    both = ((now, then) for now, then in zip(scales, swept, strict=False) if now and then)
    now, then = next(both, (1.0, 1.0))
    return scales if now == then else tuple(scale / now * then for scale in scales)


def check_as_swept(optimizer: Any, swept: Sequence[float], name: str) -> None:
    """Refuse an optimizer that is not as in the range test.

    Args:
        optimizer: as it is now.
        swept: scales of its groups in the range test.
        name: of the optimizer then; "" if unknown.

    Raises:
        SetupError: another class, or other ratios of the learning rates of its groups; where all have one, the groups
            may be more or fewer.
    """
    if name not in ("", optimizer_name(optimizer)):
        raise SetupError(
            f"the result is of a training with {name}; got {optimizer_name(optimizer)}. Run the range test again."
        )
    scales = group_scales(optimizer)
    if not _alike(scales, swept) and len({*scales, *swept}) > 1:
        raise SetupError(
            f"the parameter groups had learning rates of {_in_words(swept)} times that of the reference group in the "
            f"range test, and now of {_in_words(scales)}. Run the range test again."
        )


def _alike(scales: Sequence[float], others: Sequence[float]) -> bool:
    return len(scales) == len(others) and all(
        math.isclose(mine, other, rel_tol=_SAME) for mine, other in zip(scales, others, strict=True)
    )


def _sorted_parts(scales: Sequence[float]) -> list[float]:
    """The scales relative to the largest, without their order."""
    return sorted(scale / max(scales) for scale in scales)


def _in_words(scales: Sequence[float]) -> str:
    return f"({', '.join(f'{scale:g}' for scale in scales)})"
