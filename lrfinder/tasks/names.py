"""Names that users type in upper or lower case."""

from __future__ import annotations

from collections.abc import Iterable

from lrfinder.checks import check_choice

__all__ = ["check_name"]


def check_name(argument: str, value: str, allowed: Iterable[str], *, listed: str = "") -> str:
    """The allowed name that ``value`` is in upper or lower case; see :func:`lrfinder.checks.check_choice`.

    Raises:
        ConfigError: it is none of them.

    Example:
        >>> check_name("optimizer", "adamw", ["AdamW", "SGD"])
        'AdamW'
    """
    names = list(allowed)
    spelled = next((name for name in names if name.lower() == str(value).lower()), value)
    return check_choice(argument, spelled, names, listed=listed)
