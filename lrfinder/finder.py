"""The range test on a user's own objects: the composition of everything below, and nothing clever."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.batches import Batches
from lrfinder.checks import check_choice, check_count, check_lr, check_number
from lrfinder.compiled import eager_step, tensor_lrs
from lrfinder.curve import LossCurve, StopReason, SweepConfig
from lrfinder.deferred import READ_EVERY, DeferredLosses
from lrfinder.tables.optimizers import update_rule
from lrfinder.errors import ConfigError, SetupError
from lrfinder.losses import LossFn
from lrfinder.param_groups import group_scales, momentum, optimizer_name, set_lr
from lrfinder.search import TrialPlan, TrialSearch, plan_search, whole_schedule
from lrfinder.range_search import choose_range, critical_lr
from lrfinder.ranks import is_main_rank, mean_over_ranks, world_size
from lrfinder.result import RangeTestResult
from lrfinder.tables.kinds import KINDS
from lrfinder.setup import TrainingSetup
from lrfinder.state import Snapshot, preserved
from lrfinder.step import MAX_SCALER_SKIPS, TrainStep
from lrfinder.sweep import Sweep
from lrfinder.trials import TrialRecord
from lrfinder.verdict import (
    advice_without_search,
    advice_without_trials,
    divergence_level,
    min_improvement,
    refined_advice,
)
from lrfinder.trial_runner import Rehearsal, hold_out
from lrfinder.validation import Validation

__all__ = ["LRFinder"]


class LRFinder:
    """Learning-rate range test on the model, optimizer and loader you are about to train with.

    Nothing is copied, moved or changed until :meth:`range_test`, and after it training goes on as if it had never run.

    Args:
        model: the module to train, on its device already.
        optimizer: an optimizer over its parameters. Parameter groups keep the ratios of their learning rates.
        criterion: ``criterion(model(inputs), target) -> scalar`` for batches of ``(inputs, target)``.
        loss_fn: ``loss_fn(model, batch) -> scalar`` for any other batch; instead of ``criterion``.
        device: where batches go; None takes the device of the model's first parameter.
        amp_dtype: run forward and loss under ``torch.autocast`` in ``torch.bfloat16`` or ``torch.float16``.
        grad_scaler: the ``torch.amp.GradScaler`` you train with; float16 without one gets its own.
        clip_grad_norm: clip the global gradient norm to this, as your training does; > 0.
        accumulation_steps: batches per optimizer step, >= 1; the loss is their mean.

    Raises:
        ConfigError: a number out of its range, or both or neither of ``criterion`` and ``loss_fn``.
        SetupError: model, optimizer and device do not fit together.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> inputs, target = torch.randn(256, 8), torch.randint(0, 3, (256,))
        >>> loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, target), batch_size=32)
        >>> model = torch.nn.Linear(8, 3)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> finder = LRFinder(model, optimizer, torch.nn.CrossEntropyLoss())
        >>> result = finder.range_test(loader, start_lr=1e-3, end_lr=100.0, num_iter=100)
        >>> result.curve.stop.name
        'DIVERGED'

    Reference:
        L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        criterion: Callable[[Any, Any], Tensor] | None = None,
        *,
        loss_fn: LossFn | None = None,
        device: str | torch.device | None = None,
        amp_dtype: torch.dtype | None = None,
        grad_scaler: Any = None,
        clip_grad_norm: float | None = None,
        accumulation_steps: int = 1,
    ) -> None:
        self.setup = TrainingSetup.of(
            model,
            optimizer,
            criterion,
            loss_fn=loss_fn,
            device=device,
            amp_dtype=amp_dtype,
            grad_scaler=grad_scaler,
            clip_grad_norm=clip_grad_norm,
            accumulation_steps=accumulation_steps,
        )
        self.model, self.optimizer, self.device = self.setup.model, self.setup.optimizer, self.setup.device
        self.last_curve: LossCurve | None = None
        """What the last range test recorded, also when it raised or was interrupted before its end."""

    def range_test(
        self,
        train_loader: Iterable[Any],
        *,
        val_loader: Iterable[Any] | None = None,
        val_batches: int | None = None,
        start_lr: float | None = None,
        end_lr: float | None = None,
        num_iter: int | None = None,
        mode: str = "exp",
        early_stop: bool = True,
        progress: bool = True,
        snapshot: str = "auto",
    ) -> RangeTestResult:
        """Train through rising learning rates, put everything back, and read the curve.

        With no range given, the first batch finds the learning rate at which a single update turns harmful; the sweep
        runs over three and a half decades around it, 12 iterations per decade, and further if the curve has not turned
        by then, up to 100 iterations. A number that is given is obeyed.

        On a GPU nobody waits for the losses: they are read two to five iterations late, and so many more may be run
        than the curve has. Only a GradScaler has to be asked after each.

        Args:
            train_loader: any iterable of batches: finite (started afresh at its end), endless, or shorter than the
                sweep. A fresh iterator is taken; an iterator passed directly loses the batches drawn from it.
            val_loader: measure the loss on these batches after each update, in eval mode, instead of the training loss.
                BatchNorm then uses its running statistics, which trail behind while a fresh model learns fast.
            val_batches: keep this many batches of ``val_loader`` as a fixed probe and use only them; >= 1. None
                goes through the whole loader after each update.
            start_lr: first learning rate, > 0, of the reference group (the first whose learning rate is not 0).
            end_lr: last learning rate, > ``start_lr``.
            num_iter: iterations, one optimizer step each; >= 2, and 10 or more for advice.
            mode: ``"exp"`` or ``"linear"`` spacing of the learning rates.
            early_stop: stop once the loss has clearly diverged. A non-finite loss always stops.
            progress: show a progress bar in a terminal or notebook (never in a pipe or file).
            snapshot: where the copy of the training state lives meanwhile: ``"auto"``, ``"device"``, ``"cpu"`` or
                ``"disk"``; see :func:`lrfinder.state.snapshot.preserved`.

        Returns:
            The curve, and the advice, which is read from it when it is first asked for. A curve that cannot be read is
            no error: its advice has the grade "none" and says why.

        Raises:
            ConfigError: a number out of its range.
            SetupError: an empty loader, or one that cannot be iterated.
            BatchError: a batch the criterion cannot take, or a loss that cannot be trained on.
            KeyboardInterrupt: on Ctrl-C, with the state put back; :attr:`last_curve` has what was recorded.
        """
        _check_range(start_lr, end_lr, num_iter, mode)
        _check_val_batches(val_batches, val_loader)
        self.last_curve = None
        with (
            tensor_lrs(self.optimizer),
            preserved(self.setup, (train_loader, val_loader), snapshot) as state,
        ):
            step = TrainStep(self.setup)
            step.enter_training()
            validate = Validation(self.setup, val_loader, val_batches) if val_loader is not None else None
            with contextlib.closing(Batches(train_loader, self.device)) as batches:
                drive = _Drive(self.setup, step, batches, self._readback())
                searching = start_lr is None or end_lr is None
                config, extend = choose_range(
                    drive.critical_lr(state) if searching else None,
                    start_lr=start_lr,
                    end_lr=end_lr,
                    num_iter=num_iter,
                    mode=mode,
                    early_stop=early_stop,
                    kind=update_rule(optimizer_name(self.optimizer)),
                )
                sweep = Sweep(config, measured="after" if validate else "before", extend=extend)
                try:
                    drive.run(sweep, validate, progress=progress)
                finally:
                    sweep.end(StopReason.INTERRUPTED)
                    self.last_curve = drive.curve(sweep)
        return RangeTestResult(curve=self.last_curve)

    def refine(
        self,
        result: RangeTestResult,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None = None,
        *,
        schedule: str,
        total_steps: int,
        budget: float = 0.25,
        val_batches: int | None = None,
        progress: bool = True,
        snapshot: str = "auto",
        **options: Any,
    ) -> RangeTestResult:
        """Try a few learning rates around the advice in short trainings, and refine the advice by their loss.

        Every trial starts from the same state and sees the same batches; the loss at its end decides. Nothing is left
        behind, as after :meth:`range_test`. It pays where the length of the training and its schedule are known and a
        part of its cost can be spent: a range test cannot see either.

        Args:
            result: of :meth:`range_test` on the same objects.
            train_loader: batches to train the trials on; anything that can be iterated again and again.
            val_loader: batches whose loss decides. Without it the first batches of ``train_loader`` are held out of
                the trials' first pass, a fifth of it or 16 at the most.
            schedule: kind of schedule that will be trained with, one of ``lrfinder.schedules.KINDS``.
            total_steps: its length in optimizer steps; >= 1.
            budget: optimizer steps of all trials together, as a part of ``total_steps``; > 0, never exceeded. Passes
                over validation batches come on top: one before the search and one after each trial.
            val_batches: keep this many batches of ``val_loader`` and use only them; >= 1. None takes all.
            progress: show a progress bar in a terminal or notebook (never in a pipe or file).
            snapshot: as in :meth:`range_test`.
            **options: of the schedule, as in :func:`lrfinder.recipe`, counted in steps of the whole training.

        Returns:
            The result with the advice refined and ``trials`` filled. Where the budget is too small for a search
            (three trials of 10 steps), or no trial lowered the loss, the advice is the old one and says so. Ctrl-C ends
            the search and returns what it has so far.

        Raises:
            ConfigError: a number out of its range, or an option the schedule does not have.
            NoAdviceError: the curve of ``result`` carries no advice to search around.
            SetupError: a loader that cannot be iterated twice, or a validation loss that is not finite.
            BatchError: a batch the criterion cannot take, or a loss that cannot be trained on.

        Example:
            >>> import torch
            >>> _ = torch.manual_seed(0)
            >>> inputs, target = torch.randn(256, 8), torch.randint(0, 3, (256,))
            >>> loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, target), batch_size=32)
            >>> model = torch.nn.Linear(8, 3)
            >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            >>> finder = LRFinder(model, optimizer, torch.nn.CrossEntropyLoss())
            >>> result = finder.range_test(loader)
            >>> better = finder.refine(result, loader, schedule="cosine", total_steps=200, budget=0.25)
            >>> better.trials.spent <= 50
            True

        Reference:
            Short runs from one snapshot: Jin et al., AutoLRS, arXiv:2105.10762.
        """
        check_choice("schedule", schedule, KINDS)
        total_steps = check_count("total_steps", total_steps)
        budget = check_number("budget", budget, 0.0, 100.0, open_ends=True)
        _check_val_batches(val_batches, val_loader)
        _check_repeatable(train_loader)
        initial_lr = result.lr_for(schedule, total_steps)
        whole = whole_schedule(schedule, initial_lr, total_steps, options)
        budget_steps = int(budget * total_steps)
        if not plan_search(budget_steps, total_steps):
            advice = advice_without_search(result.advice, schedule, budget_steps)
            return RangeTestResult(curve=result.curve, advice=advice)
        search = None
        # Each trial starts with an optimizer state of its own, so a compiled step would be compiled for each.
        with (
            eager_step(self.optimizer),
            preserved(self.setup, (train_loader, val_loader), snapshot) as state,
        ):
            try:
                level = divergence_level(result.reading)
                rehearsal = self._rehearsal(state, train_loader, val_loader, val_batches, level)
                TrainStep(self.setup).enter_training()
                fall = min_improvement(result.reading)
                record = TrialRecord(
                    schedule=schedule,
                    total_steps=total_steps,
                    budget_steps=budget_steps,
                    initial_lr=initial_lr,
                    start_loss=_check_start(rehearsal.loss()),
                    min_improvement=fall,
                    measured="validation" if val_loader is not None else "held-out",
                )
                # From trained weights the edge is read too low to hold anything.
                search = TrialSearch(record, ceiling=result.advice.ceiling if fall == 0 else None)
                with _progress_bar(budget_steps, "LR trials", shown=progress and is_main_rank()) as bar:
                    while not search.done:
                        if bar is not None:
                            bar.set_postfix_str(f"{search.stage} lr {search.lr:.1e}", refresh=False)
                        plan = TrialPlan(stage=search.stage, lr=search.lr, steps=search.steps, schedule=whole)
                        search.add(rehearsal.run(plan, tick=bar.update if bar is not None else lambda: None))
            except KeyboardInterrupt:
                if search is not None:
                    search.interrupt()
        if search is None:
            return RangeTestResult(curve=result.curve, advice=advice_without_trials(result.advice))
        record = search.record
        return RangeTestResult(curve=result.curve, advice=refined_advice(result.advice, record), trials=record)

    def _rehearsal(
        self,
        state: Snapshot,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None,
        val_batches: int | None,
        limit: float,
    ) -> Rehearsal:
        held_out = hold_out(train_loader) if val_loader is None else []
        if val_loader is None:
            probe = Validation(self.setup, held_out, len(held_out))
        else:
            probe = Validation(self.setup, val_loader, val_batches)
        return Rehearsal(self.setup, state, train_loader, probe, skip=len(held_out), limit=limit)

    def _readback(self) -> DeferredLosses:
        # Whether a GradScaler made the update is known only when its scale is read, and then the loss may be as well.
        late = self.device.type == "cuda" and self.setup.grad_scaler is None
        return DeferredLosses(self.device, read_every=READ_EVERY if late else 1)


class _Drive:
    """Trains through the learning rates a sweep asks for."""

    def __init__(self, setup: TrainingSetup, step: TrainStep, batches: Batches, readback: DeferredLosses) -> None:
        self._optimizer = optimizer = setup.optimizer
        self._step = step
        self._batches = batches
        self._accumulation = setup.accumulation_steps
        self._readback = readback
        self._scales = group_scales(optimizer)
        self._alone = world_size() == 1
        self._skipped = 0

    def critical_lr(self, state: Snapshot) -> float | None:
        """See :func:`lrfinder.range_search.critical_lr`. Its batches are not lost: the sweep starts with them."""
        try:
            batches = self._batches.peek(self._accumulation)
        except StopIteration:
            return None
        # The same dropout masks before and after every update, or their noise would pass for an effect of the LR.
        state.rewind_random()
        loss_before = mean_over_ranks(self._step.plain_backward(batches)).item()

        def loss_at(lr: float) -> float:
            state.rewind()
            set_lr(self._optimizer, lr, self._scales)
            self._step.update(batches)
            state.rewind_random()
            return mean_over_ranks(self._step.loss(batches)).item()

        critical = critical_lr(loss_at, loss_before)
        state.rewind()
        return critical

    def run(self, sweep: Sweep, validate: Validation | None, *, progress: bool) -> None:
        """Iterate until the sweep is done or the data runs out.

        Where losses are read late, a few iterations are run past the one at which the sweep turns out to have ended;
        what they did is put back with all the rest, and their losses are left out.
        """
        steps = sweep.config.num_iter
        with _progress_bar(steps, "LR range test", shown=progress and is_main_rank()) as bar:

            def record(losses: list[float]) -> None:
                for loss in losses:
                    if sweep.stop is None:
                        sweep.record(loss)
                        if bar is not None:
                            bar.set_postfix_str(f"lr {sweep.last_lr:.1e}, loss {loss:.4g}", refresh=False)
                            bar.update()

            try:
                while sweep.stop is None:
                    lr = sweep.lr_ahead(self._readback.pending)
                    losses = self._iterate(lr, validate) if lr is not None else self._readback.flush()
                    if losses is None:
                        record(self._readback.flush())
                        sweep.end(StopReason.DATA_EXHAUSTED)
                    else:
                        record(losses)
            except BaseException as error:
                record(self._readback.flush())
                # What fails past the end of the sweep, with weights that blew up, concerns nobody.
                if not (sweep.done and isinstance(error, Exception)):
                    raise

    def _iterate(self, lr: float, validate: Validation | None) -> list[float] | None:
        """One iteration at that LR, and the losses that are due after it; None where the data has run out."""
        set_lr(self._optimizer, lr, self._scales)
        for _ in range(MAX_SCALER_SKIPS):
            try:
                batches = self._batches.draw(self._accumulation)
            except StopIteration:
                return None
            loss, updated = self._step.run(batches)
            if validate is not None and updated:
                loss = validate.loss()
            losses = self._readback.put(loss if self._alone else mean_over_ranks(loss))
            if updated or not math.isfinite(losses[-1]):
                return losses
            # The scaler threw this update away, so the LR was not tried; it is tried again with other batches.
            self._skipped += 1
        return [math.nan]

    def curve(self, sweep: Sweep) -> LossCurve:
        return sweep.curve(
            group_scales=self._scales,
            optimizer=optimizer_name(self._optimizer),
            momentum=momentum(self._optimizer),
            batches=self._batches.drawn,
            skipped=self._skipped,
        )


def _progress_bar(steps: int, what: str, *, shown: bool) -> contextlib.AbstractContextManager[Any]:
    """Context of a bar, or of None where there is nobody to see one."""
    if not shown:
        return contextlib.nullcontext()
    with warnings.catch_warnings():
        # In a notebook without ipywidgets it warns in red, and then does without a bar; no bar is all there is to say.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm  # late: it looks for a notebook when imported

    # disable=None means: not when stderr is a file or a pipe.
    bar = tqdm(total=steps, desc=what, leave=False, disable=None)
    return contextlib.nullcontext() if bar.disable else bar


def _check_range(start_lr: float | None, end_lr: float | None, num_iter: int | None, mode: str) -> None:
    """Refuse a bad number before anything is touched; :class:`SweepConfig` would see it only after the search."""
    for name, value in (("start_lr", start_lr), ("end_lr", end_lr)):
        if value is not None:
            check_lr(name, value)
    SweepConfig(
        start_lr=start_lr if start_lr is not None else float(end_lr or 1.0) / 10,
        end_lr=end_lr if end_lr is not None else float(start_lr or 0.1) * 10,
        num_iter=num_iter if num_iter is not None else 10,
        mode=mode,
    )


def _check_val_batches(val_batches: Any, val_loader: object) -> None:
    if val_batches is not None:
        check_count("val_batches", val_batches)
        if val_loader is None:
            raise ConfigError("val_batches needs a val_loader to draw them from; pass one, or leave it out.")


def _check_start(loss: float) -> float:
    if not math.isfinite(loss):
        raise SetupError(
            f"the validation loss is {loss} before any training, so no learning rate can be told from another. Look "
            "for nan or inf in the weights and the validation batches."
        )
    return loss


def _check_repeatable(loader: object) -> None:
    if isinstance(loader, Iterator):
        raise SetupError(
            "train_loader is an iterator, which can be gone through only once, and every trial of the search needs the "
            "same batches. Pass a DataLoader or a list."
        )
