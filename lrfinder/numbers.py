"""Learning rates and names for display: two significant digits, as precise as a sweep; visible characters alone."""

from __future__ import annotations

import math
import re
import sys

__all__ = ["clamp_lr", "format_lr", "geometric_mean", "printable", "round_lr"]

# Control characters, marks that change the direction of text, line separators, and halves of surrogate pairs.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_SMALLEST, _LARGEST = 5e-324, 1.7e308  # the second of two digits, below the largest float


def clamp_lr(lr: float) -> float:
    """The learning rate, held within the positive finite floats.

    Example:
        >>> clamp_lr(0.1), clamp_lr(0.0), clamp_lr(float("inf"))
        (0.1, 5e-324, 1.7e+308)
    """
    return min(max(lr, _SMALLEST), _LARGEST)


def geometric_mean(low: float, high: float) -> float:
    """Square root of the product of two positive numbers, also where the product itself is no float.

    Example:
        >>> geometric_mean(2.0, 8.0), geometric_mean(2.0**600, 2.0**800) == 2.0**700
        (4.0, True)
    """
    product = low * high
    return math.sqrt(product) if sys.float_info.min <= product < math.inf else math.sqrt(low) * math.sqrt(high)


def round_lr(lr: float) -> float:
    """The learning rate to two significant digits.

    Example:
        >>> round_lr(0.031622)
        0.032
    """
    return min(float(f"{lr:.2g}"), max(lr, _LARGEST))


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
