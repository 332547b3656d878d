"""Errors caused by what the user passed in.

    LRFinderError
    ├── ConfigError (ValueError)            a number or a name that cannot be used
    ├── SetupError (ValueError)             model, optimizer, loader or device that do not fit together
    ├── BatchError (TypeError)              a batch or a loss the training step cannot use
    ├── FileFormatError (ValueError)        a file that is not ours, or is damaged
    ├── RestoreError (RuntimeError)         a part of the training state could not be restored
    ├── RankError (RuntimeError)            another rank of a distributed run failed, or did not call
    ├── NoAdviceError (RuntimeError)        a learning rate was requested, and the curve has none
    └── MissingDependencyError (ImportError) an optional package is not installed, or too old

Each message gives what was got, what is allowed and what to do. Each class also derives from the builtin that a
caller would expect, so ``except ValueError`` works. May import nothing of the package.
"""

from __future__ import annotations

__all__ = [
    "BatchError",
    "ConfigError",
    "FileFormatError",
    "LRFinderError",
    "MissingDependencyError",
    "NoAdviceError",
    "RankError",
    "RestoreError",
    "SetupError",
]


class LRFinderError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(LRFinderError, ValueError):
    """A number or a name that cannot be used."""


class SetupError(LRFinderError, ValueError):
    """Model, optimizer, loader or device do not fit together."""


class BatchError(LRFinderError, TypeError):
    """A batch or a loss the training step cannot use."""


class FileFormatError(LRFinderError, ValueError):
    """A file that is not ours, or is damaged."""


class NoAdviceError(LRFinderError, RuntimeError):
    """A learning rate was requested, and the curve has none."""


class RankError(LRFinderError, RuntimeError):
    """Another rank of a distributed run failed, did not call, or called with something else."""


class RestoreError(LRFinderError, RuntimeError):
    """A part of the training state that could not be put back as it was; all the rest is."""


class MissingDependencyError(LRFinderError, ImportError):
    """An optional package is not installed, or too old; the message has the line that installs it."""

    def __init__(self, package: str, extra: str, fault: str = "is not installed") -> None:
        super().__init__(f'{package} {fault}. Install it with: pip install "lrfinder[{extra}]"')
