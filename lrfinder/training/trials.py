"""Short trainings from one snapshot, on the same batches: the trials of a search for the learning rate.

Every trial starts from the same weights, optimizer state and random states and is trained on the same batches in the
same order, so trials of one stage differ by their learning rate alone. :mod:`lrfinder.advice.search` decides which are
run.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from lrfinder.advice.search import TrialSearch
from lrfinder.advice.trial_plan import TrialPlan
from lrfinder.errors import SetupError
from lrfinder.param_groups import group_scales, maximizes, set_lr, set_momentum
from lrfinder.record.trials import Trial, TrialRecord
from lrfinder.schedules.schedule import Schedule
from lrfinder.training.batches import Batches, loader_length
from lrfinder.training.compiled import eager_step
from lrfinder.training.failures import is_divergence
from lrfinder.training.own_step import training_step
from lrfinder.training.progress import progress_bar
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state import Snapshot, preserved
from lrfinder.training.validation import Validation, validation_for

__all__ = ["DivergenceMonitor", "TrialRunner", "check_repeatable", "run_search", "trials_from_snapshot"]

T = TypeVar("T")

_CHECKS = 10  # readings of the training loss in a trial; each makes a GPU wait
_ONCE = (
    "train_loader is an iterator, or returns one that ends for good: it can be gone through only once, and every trial "
    "needs the same batches. Pass a DataLoader or a list."
)
_MAX_HIGH_READINGS = 2  # this many in a row above the limit end a trial: one may be a spike that recovers


def check_repeatable(loader: object) -> None:
    """Refuse a training loader that cannot give every trial the same batches.

    Raises:
        SetupError: it is an iterator.
    """
    if isinstance(loader, Iterator):
        raise SetupError(_ONCE)


@contextlib.contextmanager
def trials_from_snapshot(
    setup: TrainingSetup,
    train_loader: Iterable[Any],
    val_loader: Iterable[Any] | None,
    val_batches: int | None,
    storage: str,
    limit: float,
) -> Iterator[TrialRunner]:
    """Context of a runner whose trials all start from the present state, which is restored on the way out.

    Args:
        setup: what is trained, and how.
        train_loader: batches to train on.
        val_loader: batches whose loss decides; None holds out the first training batches instead.
        val_batches: number of ``val_loader``'s batches to keep as a fixed probe; None takes all.
        storage: where the copy of the state is kept; see :func:`lrfinder.training.state.preserved`.
        limit: training loss above which a trial counts as diverged.
    """
    # Each trial starts with an optimizer state of its own, so a compiled step would be compiled for each.
    kept = preserved(setup, (train_loader, val_loader), storage)
    with eager_step(setup.optimizer, setup.step_fn), kept, kept as state, setup.ranks.resharded():
        validation, skip = validation_for(setup, train_loader, val_loader, val_batches)
        yield TrialRunner(
            setup=setup, state=state, loader=train_loader, validation=validation, skip=skip, limit=limit
        )


def run_search(search: TrialSearch, runner: TrialRunner, schedule: Schedule, *, progress: bool) -> None:
    """Run the trials of a search until it is done, with a progress bar where one can be shown.

    Args:
        search: receives each trial.
        runner: trains the trials.
        schedule: of the whole training that the search is for.
        progress: whether to show the bar.
    """
    with progress_bar(search.record.budget_steps, "LR trials", shown=progress) as bar:
        while not search.done:
            bar.note(f"{search.stage} lr {search.lr:.1e}")
            plan = TrialPlan(
                stage=search.stage,
                compressed=search.compressed,
                lr=search.lr,
                steps=search.steps,
                schedule=schedule,
            )
            search.add(runner.run(plan, on_step=bar.advance))


@dataclass(kw_only=True)
class TrialRunner:
    """Trains through the plans of trials.

    Args:
        setup: what is trained, and how; its learning rates are written step by step.
        state: snapshot that every trial starts from.
        loader: training batches; a fresh iterator is taken for each trial.
        validation: loss that decides.
        skip: batches at the head of the first pass that are held out.
        limit: training loss above which a trial counts as diverged.
    """

    setup: TrainingSetup
    state: Snapshot
    loader: Iterable[Any]
    validation: Validation
    skip: int
    limit: float

    def __post_init__(self) -> None:
        self._scales = group_scales(self.setup.optimizer)
        self._sign = -1.0 if maximizes(self.setup.optimizer) else 1.0  # losses are compared as if they were minimised
        self._step = training_step(self.setup)

    def new_record(self, *, total_steps: int, **plan: Any) -> TrialRecord:
        """Record of a search before its trials: the plan, the loss before any, and how often training sees the data.

        Raises:
            SetupError: the validation loss is not finite, or there is no batch to measure it on.
        """
        batches = torch.tensor(float(loader_length(self.loader) or 0), device=self.setup.device)
        length = self.setup.ranks.mean(lambda: batches)
        passes = total_steps * self.setup.accumulation_steps / length if length > 0 else None
        loss = self._loss()
        if not math.isfinite(loss):
            raise SetupError(
                f"the validation loss is {loss} before any training, so learning rates cannot be compared. "
                "Look for nan or inf in the weights and the validation batches."
            )
        return TrialRecord(total_steps=total_steps, start_loss=loss, passes=passes, **plan)

    def run(self, plan: TrialPlan, *, on_step: Callable[[], object]) -> Trial:
        """Train through the plan from the snapshot, and measure; the loss is None where the trial diverged.

        An exception that divergence causes (see :mod:`lrfinder.training.failures`) is divergence.

        Args:
            plan: learning rates of the trial.
            on_step: called after each optimizer step.
        """
        self.state.rewind()
        self.state.rewind_loaders()
        self._step.enter_training()
        monitor = DivergenceMonitor(plan.steps, self.limit)
        ranks = self.setup.ranks
        with contextlib.closing(self._coming()) as coming:
            for done in range(1, plan.steps + 1):
                self._set_rates(plan, done - 1)
                drawn = ranks.draw(partial(next, coming))
                made = self._unless_diverged(partial(self._step.run, drawn))
                ranks.attempt(on_step)
                if made is None or monitor.diverged(self._sign * ranks.mean_of(made[0])):
                    return Trial(lr=plan.lr, steps=done, loss=None, stage=plan.stage)
        final = self._unless_diverged(self._loss)
        loss = final if final is not None and math.isfinite(final) else None
        return Trial(lr=plan.lr, steps=plan.steps, loss=loss, stage=plan.stage, train_loss=monitor.mean)

    def _coming(self) -> Generator[list[Any]]:
        """The batches of each step. The loader is first used by the first step, as all that may fail on one rank."""
        with contextlib.closing(Batches(self.loader, self.setup.device)) as batches:
            try:
                batches.skip(self.skip)
                while True:
                    yield batches.draw(self.setup.accumulation_steps)
            except StopIteration:
                raise SetupError(_ONCE) from None

    def _unless_diverged(self, attempt: Callable[[], T]) -> T | None:
        try:
            return attempt()
        except Exception as error:
            if self.setup.ranks.together or not is_divergence(error, attempt, self.state.rewind):
                raise
            return None

    def _loss(self) -> float:
        return self._sign * self.setup.ranks.mean(self.validation.loss)

    def _set_rates(self, plan: TrialPlan, t: int) -> None:
        set_lr(self.setup.optimizer, plan.lr_at(t), self._scales)
        cycled = plan.momentum_at(t)
        if cycled is not None:
            set_momentum(self.setup.optimizer, cycled)


class DivergenceMonitor:
    """Reads the training loss of a trial every tenth of its steps, rounded down, and reports when it has diverged.

    Args:
        steps: length of the trial in optimizer steps, >= 1.
        limit: a mean loss above it, or nan, counts as high; two high readings in a row are divergence.

    Example:
        >>> monitor = DivergenceMonitor(20, 1.0)
        >>> [monitor.diverged(torch.tensor(loss)) for loss in (0.5, 0.5, 3.0, 3.0, 3.0, 3.0)]
        [False, False, False, False, False, True]
    """

    def __init__(self, steps: int, limit: float) -> None:
        self._every = max(1, steps // _CHECKS)
        self._limit = limit
        self._high = 0
        self._recent: list[Tensor] = []
        self.mean: float | None = None  # of the last reading

    def diverged(self, loss: Tensor) -> bool:
        """Take the loss of the next step; True where the trial should end. A non-finite mean ends it at once."""
        self._recent.append(loss.detach().clone())  # a CUDA graph writes the next loss into the same memory
        if len(self._recent) < self._every:
            return False
        self.mean = mean = torch.stack([each.reshape(()).float() for each in self._recent]).mean().item()
        self._recent.clear()
        # Written so that nan counts as high.
        self._high = 0 if mean <= self._limit else self._high + 1
        return not math.isfinite(mean) or self._high >= _MAX_HIGH_READINGS
