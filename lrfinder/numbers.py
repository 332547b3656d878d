"""Learning rates for display: two significant digits, which is the precision of a sweep."""

from __future__ import annotations

__all__ = ["format_lr", "round_lr"]


def round_lr(lr: float) -> float:
    """The learning rate to two significant digits.

    Example:
        >>> round_lr(0.031622)
        0.032
    """
    return float(f"{lr:.2g}")


def format_lr(lr: float) -> str:
    """The learning rate in two significant digits, as text.

    Example:
        >>> format_lr(0.031622), format_lr(1e-5), format_lr(150.0)
        ('0.032', '1e-05', '150')
    """
    return f"{round_lr(lr):g}"
