"""Text for the terminal, whatever characters names from outside contain and whatever the terminal can show."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress

import click

from lrfinder.numbers import printable

__all__ = ["LateError", "abandon_output", "echo", "with_options"]


class LateError(Exception):
    """The sweep ran, and something after it failed; the message has what failed and what is saved."""


def echo(text: str, *, err: bool = False) -> None:
    """Print the lines of ``text`` on stdout, or on stderr with ``err``, with escapes for what cannot be shown.

    Raises:
        OSError: the output is closed, or its disk is full.
    """
    stream = sys.stderr if err else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    shown = "\n".join(map(printable, text.split("\n")))
    click.echo(shown.encode(encoding, "backslashreplace").decode(encoding), err=err)


def abandon_output() -> None:
    """Discard what is left in the buffer of stdout and all that follows, after writing to it has failed."""
    # Python would otherwise write the buffer again at its exit, fail again, and change the exit status.
    with suppress(OSError, AttributeError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def with_options(message: str, command: click.Command | None) -> str:
    """The message with options and arguments of the command in place of the library's arguments.

    These are recognised in backquotes, as the first word of "NAME must ...", and by an underscore in their name.
    """
    parameters = command.params if command is not None else []
    shown = {each: each.opts[0] if isinstance(each, click.Option) else each.human_readable_name for each in parameters}
    options = {each.name: name for each, name in shown.items() if each.name}
    message = re.sub(r"^(\w+)(?= must\b)", lambda first: options.get(first[1], first[1]), message)
    message = re.sub(r"`(\w+)`", lambda quoted: options.get(quoted[1], quoted[0]), message)
    # Not within a path, a quoted value or another name.
    snake = r"(?<![\w./\\'\"=-])([a-z]+(?:_[a-z]+)+)(?![\w/\\'\"-]|\.\w)"
    return re.sub(snake, lambda found: options.get(found[1], found[1]), message)
