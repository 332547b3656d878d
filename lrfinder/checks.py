"""Checks of what users pass in, shared by all modules, so that a number is accepted everywhere or nowhere.

Each check returns the value as a plain Python number or string, or raises with the argument, the allowed range and what
was got. NumPy's numbers are accepted wherever Python's are. Standard library only.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

from lrfinder.errors import ConfigError

__all__ = [
    "check_callable",
    "check_choice",
    "check_count",
    "check_flag",
    "check_lr",
    "check_number",
    "check_part",
    "check_scales",
    "did_you_mean",
    "is_finite_number",
]

_MOST = 2**63 - 1  # what torch, and files that others read, can hold as a whole number
_WRITTEN = 10**30
_BEGINNING = 3  # letters of a name that say which is meant
_NEAR = 0.6  # similarity below which a name is none of those allowed


def check_number(name: str, value: Any, low: float, high: float = math.inf, *, open_ends: bool = False) -> float:
    """The value as a float, if it is a finite number from ``low`` to ``high`` (both excluded with ``open_ends``).

    Raises:
        ConfigError: anything else.

    Example:
        >>> check_number("gamma", 0.1, 0.0, 1.0)
        0.1
    """
    number = _finite(value)
    if number is None or not (low < number < high if open_ends else low <= number <= high):
        if high == math.inf:
            allowed = f"a finite number {'above' if open_ends else 'of at least'} {low:g}"
        else:
            allowed = f"a number from {low:g} to {high:g}{', both excluded' if open_ends else ''}"
        raise ConfigError(f"{name} must be {allowed}; got {_shown(value)}.")
    return number


def check_lr(name: str, value: Any) -> float:
    """The value as a float, if it is a positive finite number.

    Raises:
        ConfigError: anything else.
    """
    number = _finite(value)
    if number is None or number <= 0:
        raise ConfigError(f"{name} must be a positive finite number; got {_shown(value)}.")
    return number


def check_count(name: str, value: Any, low: int = 1, high: int = _MOST) -> int:
    """The value as an int, if it is a whole number from ``low`` to ``high``, by default the largest of 63 bits.

    Raises:
        ConfigError: anything else.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < low:
        raise ConfigError(f"{name} must be a whole number of at least {low}; got {_shown(value)}.")
    if int(value) > high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}; got {_shown(value)}.")
    return int(value)


def check_choice(name: str, value: Any, allowed: Iterable[str], *, listed: str = "") -> str:
    """The value, if it is one of the names allowed; else an error with the nearest of them.

    Args:
        name: of the argument.
        value: what was given.
        allowed: the names.
        listed: replaces the list of names in the message, as in ``"a model of torchvision"``.

    Raises:
        ConfigError: it is none of them.

    Example:
        >>> check_choice("mode", "exp", ("exp", "linear"))
        'exp'
    """
    names = list(allowed)
    if value not in names:
        listed = listed or f"one of {', '.join(names)}"
        got = f"a {type(value).__name__}" if "\n" in repr(value) else repr(value)  # as of an optimizer
        raise ConfigError(f"{name} must be {listed}; got {got}.{did_you_mean(value, names)}")
    return str(value)


def check_callable(name: str, value: Any, takes: str) -> None:
    """Refuse what cannot be called; None stands for nothing to call.

    Args:
        name: of the argument.
        value: the argument.
        takes: how it is called, as in ``"step_fn(batch)"``.

    Raises:
        ConfigError: it cannot be called.
    """
    if value is not None and not callable(value):
        raise ConfigError(f"{name} must be a function, called as {takes}; got a {type(value).__name__}.")


def check_flag(name: str, value: Any) -> bool | None:
    """The value, if it is True, False or None, which stands for unknown.

    Raises:
        ConfigError: anything else.
    """
    if value is None or isinstance(value, bool):
        return value
    raise ConfigError(f"{name} must be True, False, or None where it is not known; got {_shown(value)}.")


def check_part(name: str, value: Any) -> float | None:
    """The value as a float, if it is a number from 0 to 1; None for None.

    Raises:
        ConfigError: anything else.
    """
    return None if value is None else check_number(name, value, 0.0, 1.0)


def check_scales(scales: Any) -> tuple[float, ...]:
    """The scales of the parameter groups as floats, if the first that is not 0 is 1.

    Raises:
        ConfigError: anything else.
    """
    if hasattr(scales, "tolist"):  # an array or a tensor
        scales = scales.tolist()
    if not isinstance(scales, Sequence) or isinstance(scales, str):
        raise ConfigError(f"group_scales must be a list with one number per parameter group; got {scales!r}.")
    checked = tuple(check_number("each of group_scales", scale, 0.0) for scale in scales)
    if next(filter(None, checked), None) != 1:
        raise ConfigError(
            f"the first of group_scales that is not 0 must be 1, as the others are relative to it; got {checked}. "
            "Divide all of them by it."
        )
    return checked


def did_you_mean(value: Any, names: Iterable[str]) -> str:
    """The sentence `` Did you mean 'cosine'?`` with the nearest name, whatever its case; empty when none is near.

    A name that begins with the value goes before one that resembles it.
    """
    lower = {name.lower(): name for name in names}
    given = str(value).lower()
    begun = [name for name in lower if len(given) >= _BEGINNING and name.startswith(given)]
    near = begun or difflib.get_close_matches(given, lower, n=1, cutoff=_NEAR)
    return f" Did you mean {lower[near[0]]!r}?" if near else ""


def is_finite_number(value: Any) -> bool:
    """Whether the value is a finite int or float, which JSON can hold; True and False are none."""
    return isinstance(value, (int, float)) and _finite(value) is not None


def _finite(value: Any) -> float | None:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _shown(value: Any) -> str:
    """The value as Python writes it; of a whole number with many digits, only how many they are."""
    if isinstance(value, int) and abs(value) > _WRITTEN:
        # Python refuses to write out more than 4,300 digits.
        return f"a whole number of about {round(value.bit_length() * math.log10(2))} digits"
    return repr(value)
