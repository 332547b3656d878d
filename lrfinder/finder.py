# Over 250 lines: the docstrings of the public class are most of it.
"""``LRFinder``: the range test and its refinement on the user's own objects, composed of the modules below."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.advice.heads import head_weight
from lrfinder.advice.search import TrialSearch, plan_search
from lrfinder.advice.situation import needs_probe
from lrfinder.advice.trial_plan import whole_schedule
from lrfinder.advice.verdict import (
    advice_without_search,
    advice_without_trials,
    refined_advice,
    trial_levels,
)
from lrfinder.checks import check_callable, check_choice, check_count, check_number
from lrfinder.errors import ConfigError
from lrfinder.record.curve import LossCurve
from lrfinder.record.facts import ModelFacts
from lrfinder.result import RangeTestResult
from lrfinder.schedules.swept import check_as_swept
from lrfinder.tables.kinds import KINDS
from lrfinder.training.batches import Batches
from lrfinder.training.compiled import tensor_lrs
from lrfinder.training.driver import SweepDriver
from lrfinder.training.features import FeatureVariation, watch_features
from lrfinder.training.loop import joint_sizes, run_sweeps
from lrfinder.training.losses import LossFn, StepFn
from lrfinder.training.model_facts import take_facts
from lrfinder.training.own_step import training_step
from lrfinder.training.range_search import SweepRequest
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state import preserved
from lrfinder.training.step import TrainStep
from lrfinder.training.trials import check_repeatable, run_search, trials_from_snapshot
from lrfinder.training.validation import Validation, check_probe, probe_for

__all__ = ["LRFinder"]


class LRFinder:
    """Learning-rate range test on the model, optimizer and loader you are about to train with.

    :meth:`range_test` gives a result, and :meth:`refine` improves it by short trials. Training after either is
    bit-identical to training without it.

    Restored are the model, the optimizer, random states, the loaders with their samplers, data sets and transforms, and
    what these, the loss and hooks refer to: by attributes, containers, closures, bound methods and, in your own files,
    globals.

    Not restored are iterators that are running, such as a generator, an ``itertools.count`` or that of a loader which
    never ends; nor open files, worker processes and memory maps.

    Not found are tensors bound to a class, attributes of the classes of installed packages and, in data sets, arrays
    above 1 MiB and containers above 100,000 entries. Name those that change in ``also``.

    A list or set of your own beside model and data that only gained numbers or text is taken for a log and keeps them,
    unless ``also`` names it. A part that cannot be restored is named by a ``RestoreError``, once all others are.

    Args:
        model: the module to train, on its device already.
        optimizer: an optimizer over its parameters; if the model is frozen, over others that ``loss_fn`` uses, such as
            a prompt; or a list of optimizers that are stepped together, as Muon beside AdamW. All parameter groups keep
            the ratios of their learning rates. If a trainer has prepared the optimizer, its GradScaler and its number
            of batches per update are used.
        criterion: ``criterion(model(inputs), target) -> scalar`` for batches of ``(inputs, target)``.
        loss_fn: ``loss_fn(model, batch) -> scalar`` for any other batch; instead of ``criterion``.
        step_fn: ``step_fn(batch) -> loss before the update``, for a training that makes its own backward passes and
            updates, such as that of a GAN; ``-> (loss, False)`` where it made no update. It leaves the learning rates
            alone. It does autocast, clipping and scaling by itself; name its scaler as ``grad_scaler``, so that skipped
            updates are recognised. With ``accumulation_steps`` above 1 it gets a list of batches. A validation loss
            needs ``loss_fn`` or ``criterion`` beside it. On several ranks give a pair ``(backward, update)``:
            ``backward(batch) -> loss`` clears and fills the gradients, the finder reduces them, and ``update()`` clips
            and steps. In reinforcement learning the loss does not show the return, so the advice is of no use.
        device: where batches go; None takes the device of the model's first parameter.
        amp_dtype: run forward and loss under ``torch.autocast`` in ``torch.bfloat16`` or ``torch.float16``.
        grad_scaler: the ``torch.amp.GradScaler`` you train with; float16 without one gets its own.
        clip_grad_norm: clip the global gradient norm to this, as your training does; > 0. With a ``step_fn``, which
            clips by itself, it is only recorded.
        accumulation_steps: batches per optimizer step, >= 1; the loss is their mean.
        also: list of further objects to restore, of any size: modules, optimizers, tensors, arrays, random generators,
            containers, objects with attributes.
        pretrained: True if training starts from trained weights, False if it starts from fresh ones; None decides by
            the weights. ``result.curve.facts.pretrained`` has the outcome.

    Raises:
        ConfigError: a number out of its range; ``criterion`` and ``loss_fn`` together; none of ``criterion``,
            ``loss_fn`` and ``step_fn``; an entry of ``also`` without state; another value of ``pretrained``.
        SetupError: model, optimizer and device do not fit together.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> loader = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(8)]
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
        step_fn: StepFn | None = None,
        device: str | torch.device | None = None,
        amp_dtype: torch.dtype | None = None,
        grad_scaler: Any = None,
        clip_grad_norm: float | None = None,
        accumulation_steps: int = 1,
        also: Sequence[Any] = (),
        pretrained: bool | None = None,
    ) -> None:
        self.setup = TrainingSetup(
            model,
            optimizer,
            criterion,
            loss_fn=loss_fn,
            step_fn=step_fn,
            device=device,
            amp_dtype=amp_dtype,
            grad_scaler=grad_scaler,
            clip_grad_norm=clip_grad_norm,
            accumulation_steps=accumulation_steps,
            also=also,
            pretrained=pretrained,
        )
        self.model, self.optimizer, self.device = self.setup.model, self.setup.optimizer, self.setup.device
        self.last_curve: LossCurve | None = None
        """Curve of the last range test, also of one that raised an error or was interrupted."""

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
        on_step: Callable[[int, float, float], object] | None = None,
        snapshot: str = "auto",
    ) -> RangeTestResult:
        """Train through rising learning rates, restore everything, and read the curve.

        With no range given, the first batch gives the learning rate at which a single update raises the loss. The sweep
        covers three and a half decades around it, 12 iterations per decade, and is extended up to 100 iterations while
        the curve has not turned. If it started too high, the iterations that are left are spent on a second sweep from
        a lower start. A number that is given is obeyed. On a GPU, losses are read 2 to 5 iterations late to avoid
        synchronising every step; iterations that ran past the end of the sweep are discarded.

        When more than 65,000 trained weights, or as many of adapters, are trained with Adam or another adaptive
        optimizer, the range starts a decade lower, and a probe is kept apart: the first batches with 32 samples of all
        ranks together, at most 4 batches and half of the loader. They are not trained on. Their loss in eval mode is
        measured after each update (``curve.probe_losses``).

        Args:
            train_loader: any iterable of batches, started afresh at its end. A fresh iterator is taken; an iterator
                passed directly loses the batches drawn from it.
            val_loader: measure the loss on these batches after each update, in eval mode, instead of the training loss.
                BatchNorm then uses its running statistics, which trail behind while a fresh model learns fast.
            val_batches: keep this many batches of ``val_loader`` as a fixed probe, >= 1; None uses the whole loader.
            start_lr: first learning rate, > 0, of the reference group (the first whose learning rate is not 0).
            end_lr: last learning rate, > ``start_lr``.
            num_iter: iterations, one optimizer step each; >= 2, and 10 or more for advice.
            mode: ``"exp"`` or ``"linear"`` spacing of the learning rates.
            early_stop: stop once the loss has clearly diverged. A non-finite loss always stops.
            progress: show a progress bar in a terminal or notebook (never in a pipe or file).
            on_step: called with (step, learning rate, loss) for each loss in turn, on every rank, for a log of one's
                own. Steps count on through a second sweep. A loss that is not finite is the last. An exception in it
                ends the test. For TensorBoard
                ``lambda step, lr, loss: writer.add_scalar("lr_finder/loss", loss, step)``, for CSV
                ``lambda *row: csv.writer(file).writerow(row)``.
            snapshot: copy of the state on ``"device"``, ``"cpu"``, ``"disk"`` or ``"auto"``; see ``preserved``.

        Returns:
            The curve with its advice. If the curve shows too little, the advice has the grade "none" and the reason.

        Raises:
            ConfigError: a number out of its range.
            SetupError: an empty loader, or one that cannot be iterated; called between the batches of one update.
            BatchError: a batch the criterion cannot take, or a loss that cannot be trained on or rises by itself.
            KeyboardInterrupt: on Ctrl-C, after restoring the state; :attr:`last_curve` has what was recorded.
        """
        request = SweepRequest(start_lr=start_lr, end_lr=end_lr, num_iter=num_iter, mode=mode, early_stop=early_stop)
        check_probe(val_batches, val_loader)
        check_callable("on_step", on_step, "on_step(step, lr, loss)")
        self.setup.check_startable()
        setup, self.last_curve = self.setup, None
        kept = preserved(setup, (train_loader, val_loader), snapshot)
        ranks, asked = setup.ranks, (request, val_batches, val_loader is None, *setup.alike)
        # kept is entered twice: the outer one restores after an exception between the end of the block and its exit.
        with ranks.session(arguments=asked), tensor_lrs(setup.optimizer), kept, kept as state, ranks.resharded():
            known, step = take_facts(setup), training_step(setup)
            step.enter_training()
            validation = Validation(setup, val_loader, val_batches) if val_loader is not None else None
            with contextlib.closing(Batches(train_loader, setup.device)) as batches, watch_features(setup) as features:
                joint = joint_sizes(setup, batches)

                def take(swept: SweepDriver) -> LossCurve:
                    facts = _with_batches(known, batches, joint, features, step)
                    self.last_curve = swept.curve(batches=batches.drawn, clipped_part=step.clipping.part, facts=facts)
                    return self.last_curve

                measured = validation or self._probe(batches, known)
                self.last_curve = run_sweeps(
                    setup, step, batches, state, request, measured, progress=progress, on_step=on_step, take=take
                )
        return RangeTestResult(curve=self.last_curve)

    def _probe(self, batches: Batches, facts: ModelFacts) -> Validation | None:
        """Probe to measure beside the training loss where trained weights are tuned and it shows more; else None."""
        with contextlib.suppress(StopIteration):  # which will end the sweep
            batches.peek(1)  # a loader that fails at once has no curve
        return probe_for(self.setup, batches) if needs_probe(facts, self.setup.update_rule) else None

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
        """Try a few learning rates around the advice, each in a miniature of the schedule you will train with.

        Every trial starts from the same state and is trained on the same batches; the loss at its end decides. The
        state is restored, as after :meth:`range_test`. Where the probe of the range test showed a gain, short trials
        say little: a ``budget`` of 0.75 or more is spent on longer ones.

        The result is a weighted mean of the advice and of what the trials show. Longer trials weigh more, and so do
        those for a training that goes through the data fewer than eight times, as ``len(train_loader)`` tells. Where
        the training overfits more than its trials, what they show is lowered.

        Args:
            result: of :meth:`range_test` on the same objects.
            train_loader: batches to train the trials on; iterable any number of times.
            val_loader: batches whose loss decides. Without it the first batches of ``train_loader`` are held out of
                the first pass of the trials: a fifth of it, 16 at most.
            schedule: kind of schedule that will be trained with, one of ``lrfinder.schedules.KINDS``.
            total_steps: its length in optimizer steps; >= 1.
            budget: optimizer steps of all trials together, as a part of ``total_steps``; > 0, never exceeded. Passes
                over validation batches are extra: one before the first trial and one after each.
            val_batches: keep this many batches of ``val_loader`` and use only them; >= 1. None takes all.
            progress, snapshot: as in :meth:`range_test`.
            **options: of the schedule, as in :func:`lrfinder.recipe`, counted in steps of the whole training.

        Returns:
            The result with refined advice and ``trials``. The old advice with the reason, if the budget is below three
            trials of 10 steps or no trial improved the loss. After Ctrl-C, the result of the trials so far.

        Raises:
            ConfigError: a number out of its range, or an option the schedule does not have.
            NoAdviceError: the curve of ``result`` has no advice to search around.
            SetupError: a loader that cannot be iterated twice; a validation loss that is not finite; another optimizer
                or other ratios of the groups than in the range test; called between the batches of one update.
            BatchError: a batch the criterion cannot take, or a loss that cannot be trained on.

        Example:
            >>> import torch
            >>> _ = torch.manual_seed(0)
            >>> loader = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(8)]
            >>> model = torch.nn.Linear(8, 3)
            >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            >>> finder = LRFinder(model, optimizer, torch.nn.CrossEntropyLoss())
            >>> better = finder.refine(finder.range_test(loader), loader, schedule="cosine", total_steps=200)
            >>> better.trials.spent <= 50
            True

        Reference:
            Short runs from one snapshot: Jin et al., AutoLRS, arXiv:2105.10762.
        """
        _check_search(result, schedule, options, self.setup.optimizer)
        total_steps = check_count("total_steps", total_steps)
        budget = check_number("budget", budget, 0.0, 100.0, open_ends=True)
        check_probe(val_batches, val_loader)
        self.setup.check_startable()
        check_repeatable(train_loader)
        initial_lr, budget_steps = result.lr_for(schedule, total_steps), int(budget * total_steps)
        whole = whole_schedule(schedule, initial_lr, total_steps, options)
        if not (stages := plan_search(budget_steps, total_steps, probed=result.reading.probed)):
            return dataclasses.replace(result, advice=advice_without_search(result.advice, schedule, budget_steps))
        limit, least = trial_levels(result.curve, compressed=stages["screening"].compressed)
        plan: dict[str, Any] = {"schedule": schedule, "total_steps": total_steps, "budget_steps": budget_steps}
        plan |= {"initial_lr": initial_lr, "probed": result.reading.probed, "min_improvement": least}
        plan |= {"measured": "validation" if val_loader is not None else "held-out"}
        ceiling = None if head_weight(result.curve.facts) else result.advice.ceiling  # a head may need more than it
        search = None
        made = trials_from_snapshot(self.setup, train_loader, val_loader, val_batches, snapshot, limit)
        try:
            with self.setup.ranks.session(arguments=(plan, options, limit, ceiling)), made as runner:
                search = TrialSearch(runner.new_record(**plan), ceiling=ceiling)
                run_search(search, runner, whole, progress=progress)
        except KeyboardInterrupt:
            if search is None:
                return dataclasses.replace(result, advice=advice_without_trials(result.advice))
            search.interrupt()
        return dataclasses.replace(result, advice=refined_advice(result.advice, search.record), trials=search.record)


def _check_search(result: object, schedule: str, options: dict[str, Any], optimizer: Any) -> None:
    if not isinstance(result, RangeTestResult):
        raise ConfigError(f"result must be what range_test returned; got a {type(result).__name__}.")
    if "peak_lr" in options:
        raise ConfigError("refine tries learning rates around the advice. Leave peak_lr out.")
    check_choice("schedule", schedule, KINDS)
    check_as_swept(optimizer, result.curve.group_scales, result.curve.optimizer)


def _with_batches(
    known: ModelFacts,
    batches: Batches,
    joint: tuple[int | None, int | None, int | None] | None,
    features: FeatureVariation,
    step: TrainStep,
) -> ModelFacts:
    """The facts with those of the steps and of the batches of all ranks, as far as they are known by now."""
    size, targets, length = joint or (batches.size, batches.targets, batches.length)
    full = length is not None and length <= known.accumulation_steps
    alike = batches.first_alike and known.ranks == 1  # of several, each would know of its own batch alone
    return dataclasses.replace(
        known,
        batch_size=size,
        targets=targets,
        full_batch=full,
        loader_batches=length,
        same_target=alike,
        feature_variation=features.share(),
        gradient_norm=step.clipping.first_norm,
        form=f"{known.form}, flag" if step.flags_updates and known.form != "trainer" else known.form,
    )
