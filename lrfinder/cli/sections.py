"""Options of a command below headings in its help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

__all__ = ["SectionedCommand", "options_below"]

Command = Callable[..., Any]

_HEADING: dict[str, str] = {}  # by name of the parameter


class SectionedCommand(click.Command):
    """A command whose help lists the options given by :func:`options_below` below their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                sections.setdefault(_HEADING.get(param.name or "", "Help"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def options_below(sections: dict[str, tuple[Callable[[Command], Any], ...]]) -> Callable[[Command], Command]:
    """Decorator that gives a command all these options, in the order of its help.

    Args:
        sections: options by heading.
    """

    def decorate(command: Command) -> Command:
        for heading, options in reversed(sections.items()):
            for option in reversed(options):
                command = option(command)
                _HEADING[vars(command)["__click_params__"][-1].name] = heading
        return command

    return decorate
