"""What the other parts of a model have beside a learning rate, as parts of a sentence. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["other_parts", "scales_in_words"]

_LISTED = 6  # groups whose scales are written out


def other_parts(setup: Mapping[str, Any]) -> str:
    """Learning rates of the other parts, as in ", 10 times that for the head"; "" where there are none.

    Example:
        >>> other_parts({"lr_of": "all but the head", "head_lr_scale": 10.0, "layer_decay": None})
        ', 10 times that for the head'
    """
    scale, decay, aux = (setup.get(name) for name in ("head_lr_scale", "layer_decay", "aux_lr_scale"))
    if aux is not None:
        return f", {aux:g} times that for the auxiliary classifier"
    if decay is None:
        return "" if scale is None else f", {scale:g} times that for the head"
    first = f"{1 / scale:.3g} times that for the last layer before it, then " if scale is not None else ""
    return f", {first}{decay:g} times as much for each layer further from the output"


def scales_in_words(scales: Sequence[float], names: Sequence[str] = ()) -> str:
    """The scales of parameter groups with their names; of many groups the smallest and the largest.

    Example:
        >>> scales_in_words((1.0, 10.0), ("all but the head", "head")), scales_in_words([0.5**i for i in range(9)])
        ('1 (all but the head), 10 (head)', '0.00391 to 1')
    """
    if len(scales) > _LISTED:
        return f"{min(scales):.3g} to {max(scales):.3g}"
    if len(names) != len(scales):
        return ", ".join(f"{scale:g}" for scale in scales)
    return ", ".join(f"{scale:g} ({name})" for scale, name in zip(scales, names, strict=True))
