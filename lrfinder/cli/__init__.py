"""Command-line interface: parse options, call the library, print.

The commands import what they need when they run, so ``lrfind --help`` and ``lrfind show`` load no torch.
"""

from __future__ import annotations

import errno
import time
from typing import Any

import click

from lrfinder import __version__
from lrfinder.cli.completion import completion
from lrfinder.cli.launchers import OtherRankError
from lrfinder.cli.models import models
from lrfinder.cli.run import run
from lrfinder.cli.schedule import schedule
from lrfinder.cli.show import show
from lrfinder.cli.terminal import LateError, abandon_output, echo, with_options
from lrfinder.errors import LRFinderError, NoAdviceError
from lrfinder.numbers import printable

__all__ = ["main"]

_INTERRUPTED = 130  # the status by which a shell recognises Ctrl-C
_CLOSED_PIPE = 141  # and a closed pipe
_FIRST_RANK = 3.0  # seconds that it has to print why; a launcher ends all ranks when one has ended
_WORKER_MARK = "DataLoader worker process"


class _Unusable(click.ClickException):
    """One line on stderr, ``Error: ...``, and an exit status."""

    exit_code = 2

    def __init__(self, error: Exception, command: click.Command | None) -> None:
        message = str(error)
        if _WORKER_MARK in message:  # torch passes on a worker's error with its whole traceback as the message
            message = message.strip().splitlines()[-1].partition(": ")[2]
        super().__init__(printable(with_options(" ".join(message.split()), command)))


class _NoAdvice(_Unusable):
    """The same with another status: the input is valid, but the curve gives no advice."""

    exit_code = 1


class _Late(_Unusable):
    """The same with another status: the sweep ran, and what it measured is saved or printed."""

    exit_code = 3


class _Commands(click.Group):
    """The one place where an error in the input becomes a sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OtherRankError:
            time.sleep(_FIRST_RANK)
            ctx.exit(_Unusable.exit_code)
        except NoAdviceError as error:
            raise _NoAdvice(error, self._command(ctx)) from error
        except LateError as error:
            raise _Late(error, self._command(ctx)) from error
        except LRFinderError as error:
            raise _Unusable(error, self._command(ctx)) from error
        except KeyboardInterrupt as interrupt:
            echo(f"\nInterrupted; {str(interrupt) or 'nothing was written'}.", err=True)
            ctx.exit(_INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `lrfind models | head`
                abandon_output()
                ctx.exit(_CLOSED_PIPE)
            raise _Unusable(error, self._command(ctx)) from error

    def _command(self, ctx: click.Context) -> click.Command | None:
        return self.commands.get(ctx.invoked_subcommand or "")


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  lrfind run resnet18
  lrfind run mobilenet_v3_small --data photos --weights DEFAULT
  lrfind show lrfind-out/resnet18-sgd.json
  lrfind schedule lrfind-out/resnet18-sgd.json --kind cosine --epochs 30

\b
Exit status:
  0    done
  1    the sweep ran, but its curve gives no advice
  2    an input cannot be used; one line names it and the reason
  3    the sweep ran, but something after it failed, such as writing a file; one
       line names it, and where the result is
  130  interrupted with Ctrl-C
  141  the reader of the output closed the pipe

`lrfind completion --help` shows how to complete names with Tab.""",
)
@click.version_option(__version__, package_name="lrfinder", prog_name="lrfind")
def main() -> None:
    """Find the learning rate of a model, torchvision's or your own, before you train it."""


for _command in (run, models, show, schedule, completion):
    main.add_command(_command)
