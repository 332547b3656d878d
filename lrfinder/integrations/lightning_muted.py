"""What of a Lightning trainer writes, logs or is called beside the step, replaced while a sweep runs."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

from lrfinder.integrations.lightning_checks import accumulation_by_epoch
from lrfinder.integrations.lightning_names import DummyLogger, part

__all__ = ["mute", "muted"]


def mute(*arguments: Any, **options: Any) -> None:
    """Stands for a method that must do nothing."""


@contextlib.contextmanager
def muted(trainer: Any, callbacks: list[Any]) -> Iterator[None]:
    """Context with other callbacks, and without the loggers and the profiler, which write files.

    Of the callbacks left out, one that sets the batches per update still counts, with those of the epoch that begins.
    To be entered before the state is copied: what runs in them meanwhile, as a writer's thread, must go on.
    """
    before = trainer.callbacks, trainer.loggers, trainer.profiler, trainer.accumulate_grad_batches
    by_epoch = accumulation_by_epoch(trainer)
    try:
        if by_epoch is not None:
            trainer.accumulate_grad_batches = by_epoch.get_accumulate_grad_batches(trainer.current_epoch)
        trainer.callbacks, trainer.profiler = callbacks, part(trainer, "profilers.PassThroughProfiler")()
        trainer.loggers = [_Silent(logger, part(trainer, "loggers")) for logger in trainer.loggers]
        yield
    finally:
        trainer.callbacks, trainer.loggers, trainer.profiler, trainer.accumulate_grad_batches = before


class _Silent(DummyLogger):  # type: ignore[misc]  # of either package
    """Writes nothing, and has the folder of the logger in whose place it is, for hooks that ask for one."""

    def __init__(self, logger: Any, loggers: Any) -> None:
        super().__init__()
        numbered = isinstance(logger, (loggers.CSVLogger, loggers.TensorBoardLogger))
        # A copy, as the number of the version is settled when it is asked for.
        self._own, self._name = (copy.copy(logger), "log_dir") if numbered else (logger, "save_dir")

    @property
    def save_dir(self) -> str | None:
        """The folder that ``trainer.log_dir`` is in a training."""
        folder: str | None = getattr(self._own, self._name, None)
        return folder

    @property
    def log_dir(self) -> str | None:
        return self.save_dir
