"""The ``lrfind`` command: a mouth for the library. Each command parses, calls and prints; nothing is computed here.

The commands import what they need when they run, so ``lrfind --help`` loads no torch, and nor does ``lrfind show``.
"""

from __future__ import annotations

import errno
from typing import Any

import click

from lrfinder import __version__
from lrfinder.cli.completion import completion
from lrfinder.cli.models import models
from lrfinder.cli.run import run
from lrfinder.cli.schedule import schedule
from lrfinder.cli.show import show
from lrfinder.errors import LRFinderError, NoAdviceError

__all__ = ["main"]

_INTERRUPTED = 130  # what a shell expects of a program ended by Ctrl-C
_WORKER_MARK = "DataLoader worker process"


class _Unusable(click.ClickException):
    """One line on stderr, ``Error: ...``, and an exit status."""

    exit_code = 2

    def __init__(self, error: Exception) -> None:
        message = str(error)
        if _WORKER_MARK in message:  # torch hands on a worker's error with its whole traceback as the message
            message = message.strip().splitlines()[-1].partition(": ")[2]
        super().__init__(" ".join(message.split()))


class _NoAdvice(_Unusable):
    """The same, where nothing is wrong but the curve."""

    exit_code = 1


class _Commands(click.Group):
    """The one place where a user's fault becomes a sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NoAdviceError as error:
            raise _NoAdvice(error) from error
        except LRFinderError as error:
            raise _Unusable(error) from error
        except KeyboardInterrupt:
            click.echo("\nInterrupted; nothing was written.", err=True)
            ctx.exit(_INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `lrfind models | head`: click ends quietly
                raise
            raise _Unusable(error) from error


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  lrfind run resnet18
  lrfind run mobilenet_v3_small --data photos --weights DEFAULT
  lrfind show lrfind-out/resnet18.json
  lrfind schedule lrfind-out/resnet18.json --kind cosine --epochs 30

\b
Exit status:
  0    done
  1    the sweep ran, but its curve gives no advice
  2    something given cannot be used; one line says what and why
  130  interrupted with Ctrl-C

`lrfind completion --help` shows how to complete names with Tab.""",
)
@click.version_option(__version__, package_name="lrfinder", prog_name="lrfind")
def main() -> None:
    """Find the learning rate of a torchvision model before you train it."""


for _command in (run, models, show, schedule, completion):
    main.add_command(_command)
