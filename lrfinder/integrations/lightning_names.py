"""Lightning under either of its names, ``lightning.pytorch`` and ``pytorch_lightning``: the same code, other classes.

A trainer runs only modules and raises only exceptions of its own package, so what is compared with its classes is
looked up in the package that the trainer is from. Base classes are those of the package that is installed.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from lrfinder.errors import MissingDependencyError

_NAMES = ("lightning.pytorch", "pytorch_lightning")


def _installed() -> str:
    for name in _NAMES:
        try:
            importlib.import_module(name)  # by itself: a name that it lacks below is another error
        except ImportError as error:
            missing = error
        else:
            return name
    raise MissingDependencyError("lightning", "lightning") from missing


INSTALLED = _installed()
"""The package that base classes are from."""

Callback: Any = importlib.import_module(f"{INSTALLED}.callbacks").Callback
DummyLogger: Any = importlib.import_module(f"{INSTALLED}.loggers.logger").DummyLogger

__all__ = ["Callback", "DummyLogger", "package_of", "part"]


def package_of(trainer: object) -> str:
    """Name of the package that a trainer is from; of the one that is installed for other objects."""
    known = (base.__module__.removesuffix(".trainer.trainer") for base in type(trainer).__mro__)
    return next((name for name in known if name in _NAMES), INSTALLED)


def part(trainer: object, path: str) -> Any:
    """What is at a dotted path in the package that the trainer is from.

    Example:
        >>> part(None, "callbacks.ModelCheckpoint").__name__
        'ModelCheckpoint'
    """
    return pkgutil.resolve_name(f"{package_of(trainer)}.{path}")
