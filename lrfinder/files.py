"""Files: atomic writes (to a temporary name beside the target, then renamed), and the JSON of saved values."""

from __future__ import annotations

import json
import math
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from lrfinder.errors import ConfigError, FileFormatError
from lrfinder.numbers import printable

__all__ = ["json_text", "read_json", "read_value", "saved_content", "write_atomic", "write_json", "write_together"]

T = TypeVar("T")

_MOST_DIGITS = sys.float_info.max_10_exp
_MOST_LETTERS = 300  # of what is quoted from a file


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write ``content`` to ``path`` so that a reader sees the old file or the whole new one, never a part.

    Args:
        path: target file; its folder must exist and be writable.
        content: text (written as UTF-8) or bytes.

    Returns:
        The path written.

    Raises:
        ConfigError: the folder is missing or cannot be written, or ``path`` is no path.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigError(f"a file must be named by a text or a path; got {path!r}.")
    write_together({Path(path): content})
    return Path(path)


def write_together(contents: Mapping[Path, str | bytes]) -> None:
    """Write several files that belong together: all of them, or none where one cannot be written.

    Each is replaced as by :func:`write_atomic`. Only a kill of the process can leave new files beside old ones.

    Args:
        contents: text (written as UTF-8) or bytes for each path.

    Raises:
        ConfigError: a folder is missing, or a file cannot be written; the message has the first of them.
    """
    # Named before they are made, so that an interrupt leaves none of them.
    staged = {target: _temporary(target) for target in contents}
    kept = {target: _temporary(target) for target in contents} if len(contents) > 1 else {}
    try:
        for target, content in contents.items():
            with _write_errors_explained(target):
                _refuse_folder(target)
                _create(staged[target], content.encode("utf-8") if isinstance(content, str) else content)
        for target, old in kept.items():  # of a single file there is nothing to take back
            with _write_errors_explained(target):
                if target.exists():
                    _create(old, target.read_bytes())
        _replace_all(staged, kept)
    finally:
        for temporary in (*staged.values(), *kept.values()):
            with suppress(OSError):  # that the folder is missing, or cannot be written, is reported already
                temporary.unlink()


def _replace_all(staged: Mapping[Path, Path], kept: Mapping[Path, Path]) -> None:
    """Rename each temporary file to its target; after a failure, restore the old files."""
    try:
        for target, temporary in staged.items():
            with _write_errors_explained(target):
                os.replace(temporary, target)
    except BaseException:
        for target, old in kept.items():
            if staged[target].exists():  # not replaced yet
                continue
            if old.exists():
                os.replace(old, target)
            else:
                target.unlink(missing_ok=True)
        raise


def _temporary(target: Path) -> Path:
    """Name of a hidden file beside the target, which no other writer uses."""
    return target.parent / f".{target.name[:40]}.{secrets.token_hex(8)}"


def _create(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)


def _refuse_folder(target: Path) -> None:
    if target.is_dir():
        raise ConfigError(f"cannot write {target}: it is a folder. Give a file name inside it.")


@contextmanager
def _write_errors_explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"cannot write {target}: {error.strerror or error}. Give a path in a folder that exists and is writable."
        ) from error


def write_json(path: str | os.PathLike[str], kind: str, content: dict[str, Any]) -> Path:
    """Write ``content`` as strict JSON (no NaN), marked with its ``kind``, which :func:`read_json` checks."""
    return write_atomic(path, json_text(kind, content))


def json_text(
    kind: str, content: dict[str, Any], *, first: dict[str, Any] | None = None, indent: int | None = 1
) -> str:
    """The text that :func:`write_json` writes: strict JSON with a line feed at its end; ``first`` stands before it.

    Raises:
        ValueError: a number is nan or infinite.
    """
    document = {**(first or {}), "format": f"lrfinder.{kind}", "version": 1, **content}
    return json.dumps(document, indent=indent, allow_nan=False) + "\n"


def read_value(path: str | os.PathLike[str], kind: str, build: Callable[[dict[str, Any]], T]) -> T:
    """The value that ``build`` makes of a document of that kind.

    Raises:
        FileFormatError: as by :func:`read_json`, or ``build`` refuses the content; the path is in the message.
    """
    content = read_json(path, kind)
    try:
        return build(content)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {_quoted(str(error))}") from error


def read_json(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Read a document that :func:`write_json` wrote as ``kind``.

    Raises:
        FileFormatError: the file is missing, unreadable, not JSON, of another kind, or of a newer version.
    """
    made_by = "result.save(path) or `lrfind run`" if kind == "result" else f"lrfinder, as a {kind}"
    try:
        text = Path(path).read_text(encoding="utf-8")
        document = json.loads(text, parse_constant=_refuse, parse_float=_finite_float, parse_int=_float_sized_int)
    except OSError as error:
        raise FileFormatError(f"cannot read {path}: {error.strerror}. Give a file written by {made_by}.") from error
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not valid JSON ({error}). Give a file written by {made_by}.") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != f"lrfinder.{kind}":
        what = f"marked {_quoted(repr(found))}" if found is not None else "JSON of another program"
        if found is None and isinstance(document, dict) and {"curve", "advice", "files"} <= document.keys():
            what = "what `lrfind run --json` prints"  # a user keeps it, as other programs read it
            made_by += ", which it names under files"
        raise FileFormatError(f"{path} is {what}, not an lrfinder {kind}. Give a file written by {made_by}.")
    if document.get("version") != 1:
        raise FileFormatError(
            f"{path} has format version {_quoted(repr(document.get('version')))}; this lrfinder reads version 1. "
            "Upgrade lrfinder to read it."
        )
    return {key: value for key, value in document.items() if key not in ("format", "version")}


def _quoted(text: str) -> str:
    """The text on one line, cut where it is long."""
    line = printable(text).replace("\n", "\\n")
    return line if len(line) <= _MOST_LETTERS else f"{line[:_MOST_LETTERS]}..."


@contextmanager
def saved_content(what: str, hint: str) -> Iterator[None]:
    """Raise FileFormatError for any error in the block, which builds a value from saved content.

    Args:
        what: name of the value, as in ``"curve"``.
        hint: what the user can do, as a sentence.

    Example:
        >>> with saved_content("curve", hint="Run the range test again."):
        ...     lr = float({"loss": 1.0}["lr"])
        Traceback (most recent call last):
        lrfinder.errors.FileFormatError: the saved curve is damaged: 'lr' is missing. Run the range test again.
    """
    try:
        yield
    except FileFormatError:  # of a value inside this one, which names it already
        raise
    except KeyError as error:
        raise FileFormatError(f"the saved {what} is damaged: {error} is missing. {hint}") from error
    except (AttributeError, IndexError, TypeError, ValueError, OverflowError) as error:
        reason = str(error).removesuffix(".")
        raise FileFormatError(f"the saved {what} is damaged: {reason}. {hint}") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a value that it may hold")


def _finite_float(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


def _float_sized_int(digits: str) -> int:
    # Whatever is computed with it becomes a float at some point.
    return int(digits) if len(digits) < _MOST_DIGITS else _refuse(f"a whole number of {len(digits)} digits")
