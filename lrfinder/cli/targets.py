"""Files that a command is asked to write, checked before it does anything else. No torch."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lrfinder.errors import ConfigError

__all__ = ["PAGE_ENDINGS", "check_ending", "check_target", "page_path"]

PAGE_ENDINGS = (".html", ".htm")


def check_ending(option: str, path: Path, *endings: str) -> None:
    """Check the ending of a file to write: another might be that of a file of another kind, such as the result.

    Raises:
        ConfigError: it has another.
    """
    if path.suffix.lower() not in endings:
        raise ConfigError(f"{option} takes a file that ends in {' or '.join(endings)}; got {str(path)!r}.")


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
    check_ending(option, path, *endings)
    if path.is_dir():
        raise ConfigError(f"cannot write to {option} {path}: it is a folder. Give a file name inside it.")
    try:
        tempfile.NamedTemporaryFile(dir=path.parent).close()
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
    check_target("--html", path, *PAGE_ENDINGS)
    return path
