"""The templates of this folder: whatever they are filled with is escaped, and no character of it controls anything."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lrfinder.numbers import printable

__all__ = ["ENVIRONMENT"]


def _shown(value: Any) -> Any:
    """What an expression of a template becomes; the result of a macro is escaped already."""
    return "\n".join(map(printable, value.split("\n"))) if type(value) is str else value


ENVIRONMENT = Environment(
    loader=PackageLoader("lrfinder.display"), autoescape=True, undefined=StrictUndefined, finalize=_shown
)
