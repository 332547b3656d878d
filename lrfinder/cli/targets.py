"""Files that a command is asked to write, checked before it does anything else. No torch."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lrfinder.errors import ConfigError

__all__ = ["check_target", "page_path"]


def check_target(option: str, path: Path | None, *endings: str) -> None:
    """Check that the file can be written; None is no file.

    Args:
        option: that names the file, as in ``"--csv"``.
        path: the file.
        endings: that it may have, in upper or lower case.

    Raises:
        ConfigError: another ending, a folder of that name, or a folder that cannot be written to.
    """
    if path is None:
        return
    if path.suffix.lower() not in endings:  # it might replace a file of another kind, such as the result
        raise ConfigError(f"{option} takes a file that ends in {' or '.join(endings)}; got {str(path)!r}.")
    if path.is_dir():
        raise ConfigError(f"cannot write to {option} {path}: it is a folder. Give a file name inside it.")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot write to {option} {path}: {error.strerror}. Give a file in a folder that exists and is writable."
        ) from error


def page_path(given: str | None, beside: Path) -> Path | None:
    """The file of ``--html``, checked: as given, or ``beside`` where the option has no value; None without it.

    Raises:
        ConfigError: as by :func:`check_target`.
    """
    path = None if given is None else Path(given) if given else beside
    check_target("--html", path, ".html", ".htm")
    return path
