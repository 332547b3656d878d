"""``key=value`` arguments, as ``--opt`` and ``--option`` take them."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from lrfinder.errors import ConfigError

__all__ = ["parse_pairs"]


def parse_pairs(option: str, pairs: Iterable[str]) -> dict[str, Any]:
    """The pairs as a dictionary; each value is a Python literal or else a bare word.

    Args:
        option: name of the option they were given with, for the message.
        pairs: as typed.

    Raises:
        ConfigError: a pair without ``=``.

    Example:
        >>> parse_pairs("--opt", ["betas=(0.9, 0.99)", "nesterov=True", "line_search_fn=strong_wolfe"])
        {'betas': (0.9, 0.99), 'nesterov': True, 'line_search_fn': 'strong_wolfe'}
    """
    parsed = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ConfigError(f"{option} takes KEY=VALUE, as in {option} gamma=0.1; got {pair!r}.")
        try:
            parsed[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parsed[key] = value
    return parsed
