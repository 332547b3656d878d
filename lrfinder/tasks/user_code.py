"""The user's own code, named as ``module:function``: imported, called, and explained where it fails.

Nothing is imported but what the user named. Standard library only.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lrfinder.checks import did_you_mean
from lrfinder.errors import ConfigError, LRFinderError, SetupError

__all__ = ["any_reference", "call", "check_form", "errors_explained", "is_reference", "load_object"]

_OURS = str(Path(__file__).resolve().parent.parent)
_LIBRARIES = (_OURS, *{os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")})
_IN_WORKER = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+)', re.MULTILINE)
_WORKER_MARK = "in DataLoader worker process"  # such an error has the worker's whole traceback as its message
_NEAR_FORM = re.compile(r"(?P<module>[^:]*?)(?:\.py)?:(?P<name>[^\\/]*)")
_LISTED = 8  # names in a message
_ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)  # which are passed nothing
_DRIVE = re.compile(r"[A-Za-z]:(?:[\\/]|$)")


def is_reference(text: object) -> bool:
    """Whether a text is ``module:function``: two names of Python, dotted or not, and no path of a file or folder.

    Example:
        >>> is_reference("train.models:build"), is_reference("resnet18"), is_reference("C:\\\\photos")
        (True, False, False)
    """
    module, colon, path = str(text).partition(":")
    dotted = (part for side in (module, path) for part in side.split("."))
    named = bool(colon) and all(part.isidentifier() for part in dotted) and not module.endswith(".py")
    return named and not os.path.exists(str(text))


def any_reference(*texts: object) -> bool:
    """Whether one of the texts is ``module:function``; None is none."""
    return any(map(is_reference, texts))


def check_form(option: str, text: object) -> None:
    """Refuse a text that resembles ``module:function`` and is none, nor the path of a file or folder.

    Args:
        option: that has the text.
        text: as the user gave it.

    Raises:
        ConfigError: it is such a text.
    """
    text = str(text)
    found = _NEAR_FORM.fullmatch(text)
    if found is None or is_reference(text) or os.path.exists(text) or _DRIVE.match(text):
        return
    module = os.path.normpath(found["module"]).replace(os.sep, ".").replace("/", ".") if found["module"] else ""
    meant = f"{module}:{found['name']}"
    hint = f" Did you mean {meant!r}?" if is_reference(meant) else ""
    raise ConfigError(
        f"`{option}` must name a module of Python, a colon, and a function in it, as in train.models:build; got "
        f"{text!r}.{hint}"
    )


def load_object(option: str, reference: str) -> Any:
    """What ``module:function`` names; the module is imported.

    Args:
        option: that has the reference.
        reference: as in :func:`is_reference`.

    Raises:
        ConfigError: there is no such module, or nothing of that name in it.
        SetupError: the module raises an error, or ends the program, when it is imported.

    Example:
        >>> load_object("model", "collections:OrderedDict.fromkeys").__name__
        'fromkeys'
    """
    name, _, path = reference.partition(":")
    with errors_explained(f"`{option}` {reference} cannot be imported"):
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there, and imports another that is not
            raise ConfigError(
                f"`{option}` {reference} cannot be imported: there is no module {error.name!r} in the current folder "
                f"or among the packages that are installed.{_near_module(error.name)}"
            ) from error
        where = name
        for part in path.split("."):
            if not hasattr(found, part):
                names = [each for each in dir(found) if not each.startswith("_")]
                near = did_you_mean(part, names) or _own_names(found, names, name)
                raise ConfigError(f"`{option}` {reference}: {where} has no {part!r}.{near}")
            found, where = getattr(found, part), f"{where}.{part}"
    return found


def call(
    option: str,
    reference: str,
    function: Callable[..., Any],
    *,
    given: Mapping[str, Any],
    known: Mapping[str, Any] | None = None,
    usual: Mapping[str, Any] | None = None,
) -> tuple[Any, set[str]]:
    """What the user's function returns for what it has parameters for, and the names of ``given`` that it was passed.

    Args:
        option: that names the function.
        reference: how it does.
        function: the function.
        given: what the user chose, by the name of the parameter; None where they did not.
        known: what is passed to a parameter of that name besides; None where it is not known.
        usual: what is passed to a parameter of that name that has no default.

    Raises:
        ConfigError: it needs an argument that is not offered.
        SetupError: it raises an error.
    """
    known, usual = known or {}, usual or {}
    chosen = {name: value for some in (known, given) for name, value in some.items() if value is not None}
    arguments: dict[str, Any] = {}
    for each in _parameters(function):
        needed = each.default is each.empty
        offered = {**usual, **chosen} if needed else chosen
        if each.name in offered and each.kind is not each.POSITIONAL_ONLY:
            arguments[each.name] = offered[each.name]
        elif needed:
            listed = ", ".join(map(repr, sorted({*given, *known, *usual})))
            else_ = f"Give it a default; what can be passed is {listed}."
            remedy = f"Set `{each.name}`." if each.name in given else else_
            raise ConfigError(f"`{option}` {reference} needs {each.name!r}, whose value is not known. {remedy}")
    with errors_explained(f"`{option}` {reference} failed"):
        return function(**arguments), {name for name in arguments if given.get(name) is not None}


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a function in C
        return []
    return [each for each in parameters if each.kind not in _ANY]


@contextmanager
def errors_explained(what: str) -> Iterator[None]:
    """Raise SetupError, with the error and its place in the user's code, for an error in the block that is not ours.

    Args:
        what: failed, as the beginning of the sentence.
    """
    try:
        yield
    except (LRFinderError, MemoryError):
        raise
    except SystemExit as error:
        raise SetupError(
            f"{what}: it ends the program{_place(error)}. Put what a module runs by itself under "
            'if __name__ == "__main__".'
        ) from error
    except Exception as error:
        raise SetupError(f"{what}: {_reason(error)}{_place(error)}.") from error


def _reason(error: Exception) -> str:
    """Class and message of the error, in one line."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if _WORKER_MARK in str(error):
        return lines[-1].rstrip(".")
    if isinstance(error, SyntaxError):
        lines = [error.msg]
    first = lines[0].rstrip(".:") if lines else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _place(error: BaseException) -> str:
    """Where in the user's code, in parentheses; empty where no line of it is involved."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if _WORKER_MARK in str(error):
        places += [(found["file"], int(found["line"])) for found in _IN_WORKER.finditer(str(error))]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno))
    users = [(file, line) for file, line in places if not _is_library(file)]
    if not users:
        return ""
    file, line = users[-1]
    return f" ({_from_here(file)}, line {line})"


def _is_library(file: str) -> bool:
    return file.startswith("<") or os.path.realpath(file).startswith(tuple(f"{each}{os.sep}" for each in _LIBRARIES))


def _from_here(file: str) -> str:
    path, here = Path(file).resolve(), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _own_names(found: Any, names: list[str], module: str) -> str:
    """Which names there are, of those that the module defines itself and that can be called; empty for none."""
    own = [each for each in names if getattr(getattr(found, each), "__module__", None) == module]
    listed = ", ".join(own[:_LISTED]) + (" and others" if len(own) > _LISTED else "")
    return f" It has {listed}." if own else ""


def _near_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    folders = list(getattr(sys.modules.get(parent), "__path__", [])) if parent else [os.getcwd()]
    near = did_you_mean(last, [each.name for each in pkgutil.iter_modules(folders)])
    return near if not parent else near.replace("'", f"'{parent}.", 1)
