"""Learning rates and names for display: two significant digits, as precise as a sweep; visible characters alone."""

from __future__ import annotations

import re

__all__ = ["format_lr", "printable", "round_lr"]

# Control characters, marks that change the direction of text, line separators, and halves of surrogate pairs.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


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


def printable(text: str) -> str:
    """The text with an escape in place of each character that would control a terminal, or that UTF-8 cannot hold.

    Names of files, classes and optimizers come from outside and can contain any character.

    Example:
        >>> print(printable("cat\x1b[2J"), printable("größe"))
        cat\\x1b[2J größe
    """
    return _INVISIBLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
