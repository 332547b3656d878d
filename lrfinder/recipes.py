"""``Recipe``: a schedule that builds its torch scheduler, prints the lines to paste, saves and draws itself.

The value and its numbers are made in :mod:`lrfinder.schedules`; this module adds what users do with them. Torch is
imported by :meth:`Recipe.build` alone, and matplotlib when a notebook draws the recipe.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from lrfinder.files import read_value, write_json
from lrfinder.record.facts import ModelFacts
from lrfinder.schedules.code import scheduler_code
from lrfinder.schedules.defaults import make_schedule
from lrfinder.schedules.forms import OWN_STEPS
from lrfinder.schedules.grouping import Grouping
from lrfinder.schedules.schedule import Schedule
from lrfinder.schedules.updates import Updates

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

__all__ = ["Recipe", "recipe", "recipe_as_swept", "updates_as_swept"]


def recipe(
    kind: str,
    *,
    peak_lr: float,
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    warmup_steps: int | None = None,
    group_scales: Sequence[float] = (1.0,),
    accumulation_steps: int = 1,
    clip_grad_norm: float | None = None,
    amp_dtype: Any = None,
    grad_scaler: bool | None = None,
    device: Any = "cuda",
    optimizers: Sequence[int] = (),
    closure: bool = False,
    own_step: bool = False,
    form: str = "plain",
    grouping: Grouping | None = None,
    **options: Any,
) -> Recipe:
    """The schedule of that kind for a training of that length, with a sourced default for every number left out.

    The length is given as ``total_steps``, or as ``epochs`` with ``steps_per_epoch``: the scheduler then steps after
    every batch. With ``epochs`` alone it steps after every epoch, and every count is in epochs. ``plateau`` always
    steps after an epoch and ignores ``total_steps``. ``plateau`` and ``constant`` need no length.

    Args:
        kind: ``onecycle``, ``cosine``, ``step``, ``multistep``, ``exponential``, ``linear``, ``plateau``, ``cyclic``,
            ``restarts``, ``wsd`` (warm-up, stable, linear cooldown) or ``constant``.
        peak_lr: highest LR of the first parameter group; the others keep their ratio to it; > 0.
        total_steps: updates (``optimizer.step()`` calls) in the whole training; >= 1.
        epochs: passes over the loader; >= 1.
        steps_per_epoch: updates per pass, ``ceil(len(train_loader) / accumulation_steps)``, or the same rounded down to
            leave out the incomplete update at the end of a pass; >= 1.
        warmup_steps: calls of ``scheduler.step()`` spent on a linear warm-up, part of the whole length; 0 for none.
            Only for ``cosine linear step multistep exponential wsd constant``. By default 5 % of the updates, and none
            where the scheduler steps once per epoch.
        group_scales: LR of each parameter group divided by that of the first whose LR is not 0, shape (groups,), as in
            :attr:`LossCurve.group_scales`; for the printed lines, which cannot see the optimizer.
        accumulation_steps, clip_grad_norm, amp_dtype: as in :class:`LRFinder`, for the printed lines.
        grad_scaler: whether the printed lines use a ``torch.amp.GradScaler``; by default with float16.
        device: kind of device of the model, as in ``"cuda"``; the printed lines move the batches to any but a CPU.
        optimizers: number of parameter groups of each optimizer, where several are stepped together.
        closure: whether the printed lines give ``optimizer.step`` a closure, as L-BFGS needs it.
        own_step: whether the printed lines call ``step_fn``, which makes the update.
        form: how the printed lines compute the loss, as :mod:`lrfinder.tasks` does: ``plain``, ``auxiliary 0.3``,
            ``auxiliary 0.4``, ``segmentation``, ``segmentation, auxiliary``, ``detection``, ``optical flow``,
            ``own loss`` (by ``loss_fn``), ``output`` (the model's ``"loss"``) or ``trainer`` (which has the loop).
        grouping: what is frozen and how the printed lines build the optimizer; None for an optimizer that is there.
        options: by kind, named as in torch where torch has the number:

            - onecycle: ``pct_start div_factor final_div_factor cycle_momentum base_momentum max_momentum``
            - cosine: ``eta_min``; linear: ``end_factor``; exponential: ``gamma``; wsd: ``cooldown_steps``
            - step: ``step_size`` (counted from the end of the warm-up) ``gamma``
            - multistep: ``milestones`` (counted from the start of the training) ``gamma``
            - plateau: ``factor patience cooldown min_factor`` (part of the peak below which it does not go) ``mode``
              (``"max"`` if the metric is to rise; :meth:`RangeTestResult.recipe` gives it with ``maximize=True``)
            - cyclic: ``step_size_up mode base_factor`` (part of the peak at the bottom) ``cycle_momentum base_momentum
              max_momentum``
            - restarts: ``T_0 T_mult eta_min``
            - all with ``warmup_steps``: ``warmup_factor`` (part of the peak where the warm-up starts)

            :meth:`Recipe.code` prints ``cycle_momentum`` as given, and without it a test of the optimizer's momentum;
            :meth:`Recipe.build` makes that test unless the value is False.

    Returns:
        The recipe.

    Raises:
        ConfigError: an unknown kind or option, a number outside its range, or a length that is missing.

    Example:
        >>> recipe("step", peak_lr=0.1, epochs=90).spec
        Step(step_size=30, gamma=0.1)
    """
    form = "step" if own_step and form not in OWN_STEPS else form
    updates = Updates(optimizers=tuple(optimizers), closure=closure, form=form, grouping=grouping)
    return recipe_as_swept(
        kind,
        updates,
        peak_lr=peak_lr,
        total_steps=total_steps,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        warmup_steps=warmup_steps,
        group_scales=group_scales,
        accumulation_steps=accumulation_steps,
        clip_grad_norm=clip_grad_norm,
        amp_dtype=amp_dtype,
        grad_scaler=grad_scaler,
        device=device,
        **options,
    )


def recipe_as_swept(kind: str, updates: Updates, **options: Any) -> Recipe:
    """As :func:`recipe`, for a training that makes these updates; what the options say of them goes before."""
    given = {each.name: options.pop(each.name) for each in fields(Updates) if each.name in options}
    return Recipe(**vars(make_schedule(kind, updates=replace(updates, **given), **options)))


def updates_as_swept(facts: ModelFacts | None, grouping: Grouping | None) -> Updates:
    """How the training of a range test makes its updates."""
    if facts is None:
        return Updates(grouping=grouping)
    same = {each.name: getattr(facts, each.name) for each in fields(Updates) if hasattr(facts, each.name)}
    optimizers = tuple(count for _, count in facts.optimizers or ())
    return Updates(**{**same, "optimizers": optimizers, "device": facts.device or Updates.device, "grouping": grouping})


@dataclass(frozen=True, kw_only=True)
class Recipe(Schedule):
    """A schedule with all its numbers, ready to be built, pasted, saved and drawn; made by :func:`recipe`.

    Fields and further methods are those of :class:`~lrfinder.schedules.schedule.Schedule`: ``peak_lr`` is the highest
    LR of the reference parameter group, ``interval`` is ``"step"`` or ``"epoch"`` (when ``scheduler.step()`` is
    called), ``lr_at(t)`` the LR after ``t`` calls, and ``describe()`` lists where each number came from.

    Example:
        >>> cosine = recipe("cosine", peak_lr=0.1, total_steps=100, warmup_steps=10)
        >>> [round(cosine.lr_at(t), 4) for t in (0, 5, 10, 55, 100)]
        [0.001, 0.0505, 0.1, 0.05, 0.0]
        >>> cosine.interval
        'step'
        >>> Recipe.from_dict(cosine.to_dict()) == cosine
        True
    """

    @overload
    def build(self, optimizer: Optimizer) -> LRScheduler: ...

    @overload
    def build(self, optimizer: Sequence[Optimizer]) -> list[LRScheduler]: ...

    def build(self, optimizer: Optimizer | Sequence[Optimizer]) -> LRScheduler | list[LRScheduler]:
        """The stock torch scheduler, on ``optimizer``, whose LRs are set; see :func:`lrfinder.schedules.build.build`.

        Call ``scheduler.step()`` after every batch or after every epoch, as :attr:`interval` requires. Of several
        optimizers in a list, each gets a scheduler, and all groups keep their ratios.
        """
        from lrfinder.schedules.build import build, build_each

        return build_each(self, optimizer) if isinstance(optimizer, Sequence) else build(self, optimizer)

    def code(self) -> str:
        """Lines to paste: imports, the scheduler on ``optimizer``, and the loop with ``scheduler.step()`` in place.

        They use the names ``model``, ``optimizer``, ``criterion`` and ``train_loader``; ``optimizers`` where a list of
        them was swept; ``loss_fn`` where that computed the loss; ``step_fn``, or ``backward`` and ``update``, where
        these made the steps, and ``scaler`` where that was named beside them. They import torch, and this package for a
        grouping or to move batches that are no plain tensors. The numbers are literals, for the parameter groups of
        :attr:`group_scales`, and replace the LR of the optimizer. Arguments that equal torch's defaults are left out.
        Accumulation, mixed precision, scaler and clipping are those of the swept training; ``scheduler.step()`` is
        called once for every update that is made. After a range test in a trainer, a comment says when to call it.

        An LR held in a tensor becomes a plain float, except with ``onecycle`` and ``cyclic``. That trains the same, but
        a compiled ``optimizer.step()`` is compiled again for new values of it, and a CUDA graph captured before still
        reads the tensor: use :meth:`build` there, which fills it in place, as torch's schedulers do.

        Example:
            >>> print(recipe("onecycle", peak_lr=0.01, epochs=3, steps_per_epoch=50, cycle_momentum=True).code())
            from torch.optim.lr_scheduler import OneCycleLR
            <BLANKLINE>
            scheduler = OneCycleLR(optimizer, max_lr=0.01, total_steps=150, cycle_momentum=True)
            <BLANKLINE>
            device = next(model.parameters()).device
            for epoch in range(3):
                for inputs, targets in train_loader:
                    inputs, targets = inputs.to(device), targets.to(device)
                    optimizer.zero_grad()
                    loss = criterion(model(inputs), targets)
                    loss.backward()
                    optimizer.step()
                    scheduler.step()  # after every batch, not after every epoch
            <BLANKLINE>
        """
        return scheduler_code(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the recipe as JSON; :meth:`load` reads it.

        Raises:
            ConfigError: the folder is missing or cannot be written.
        """
        return write_json(path, "recipe", self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recipe:
        """Recipe written by :meth:`save`.

        Raises:
            FileFormatError: the file is missing, not a recipe, or damaged.
        """
        return read_value(path, "recipe", cls.from_dict)

    def _repr_png_(self) -> bytes:
        from lrfinder.display.pictures import figure_png
        from lrfinder.display.plotting import plot_recipe

        return figure_png(lambda ax: plot_recipe(self, ax))

    def _repr_html_(self) -> str:
        from lrfinder.display.html import recipe_html

        return recipe_html(self)
