"""Lines to paste: a schedule as plain torch code. Standard library only."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from lrfinder.schedules.schedule import Schedule
from lrfinder.schedules.specs import Constant, Cyclic, Linear, OneCycle, SchedulerSpec, Sequential
from lrfinder.schedules.updates import Updates, indented
from lrfinder.tables.kinds import KIND_TABLE

__all__ = ["scheduler_code"]

_COLUMNS = 100  # width up to which a printed call stays on one line
_LONGEST = 120  # width at which any printed line is folded
_HAS_MOMENTUM = 'all(group.get("momentum") or group.get("betas", [0])[0] for group in optimizer.param_groups)'
_BETTER = "Better still: pass the validation loss"
_OPEN_EPOCHS = 10  # epochs of the printed loop where the length of the training is not known


def scheduler_code(schedule: Schedule) -> str:
    """Imports, the scheduler on ``optimizer``, and the training loop with ``scheduler.step()`` in its place.

    :meth:`lrfinder.Recipe.code` says which names they use, and has an example.
    """
    before = [*_import_lines(schedule), "", *schedule.updates.setup]
    return "\n".join([*before, *_scheduler_lines(schedule), "", *_loop_lines(schedule), ""])


def _import_lines(schedule: Schedule) -> list[str]:
    spec = schedule.spec
    specs = (spec, *spec.parts) if isinstance(spec, Sequential) else (spec,)
    names = ", ".join(sorted({spec.torch_class for spec in specs}))
    torch = ["import torch"] if KIND_TABLE[schedule.kind].follows_loss and schedule.updates.ranks > 1 else []
    return list(dict.fromkeys([*schedule.updates.imports, *torch, f"from torch.optim.lr_scheduler import {names}"]))


def _scheduler_lines(schedule: Schedule) -> list[str]:
    if not schedule.updates.optimizers:
        return _one_scheduler(schedule, schedule.group_scales)
    scales = iter(schedule.group_scales)
    lines = ["schedulers = []  # one for each of the list \"optimizers\", in the order of the range test"]
    for place, count in enumerate(schedule.updates.optimizers):
        lines += ["", f"optimizer = optimizers[{place}]"]
        lines += [*_one_scheduler(schedule, tuple(itertools.islice(scales, count))), "schedulers.append(scheduler)"]
    return lines


def _one_scheduler(schedule: Schedule, scales: tuple[float, ...]) -> list[str]:
    spec, peak_lrs = schedule.spec, [schedule.peak_lr * scale for scale in scales]
    lines = _start_lines(schedule, peak_lrs)
    if isinstance(spec, Sequential):
        names = _names(spec.parts)
        for name, part in zip(names, spec.parts, strict=True):
            lines += _call(name, part, schedule.peak_lr, peak_lrs)
        milestones = list(spec.milestones)
        lines.append(f"scheduler = {spec.torch_class}(optimizer, [{', '.join(names)}], milestones={milestones})")
    else:
        lines += _call("scheduler", spec, schedule.peak_lr, peak_lrs)
    return [piece for line in lines for piece in _folded(line)]


def _start_lines(schedule: Schedule, peak_lrs: list[float]) -> list[str]:
    """Lines that set the LR of the optimizer, for torch classes that read it from there."""
    if isinstance(schedule.spec, OneCycle):
        return []  # overwrites "lr" and "initial_lr" itself
    every = "for group in optimizer.param_groups:"
    note = "# an earlier scheduler leaves its own initial_lr"
    if isinstance(schedule.spec, Cyclic):
        # Overwrites "lr", but the first update would still run at the initial_lr of an earlier scheduler.
        return [every, f'    group.pop("initial_lr", None)  {note}']
    values = _literal(peak_lrs, schedule.peak_lr)
    if values.startswith("["):
        every, values = f"for group, lr in zip(optimizer.param_groups, {values}, strict=True):", "lr"
    return [every, f'    group["lr"] = group["initial_lr"] = {values}  {note}']


def _names(parts: Sequence[SchedulerSpec]) -> list[str]:
    """Variable names for the parts of a sequence."""
    names = []
    for part in parts:
        rises = isinstance(part, Linear) and part.start_factor < part.end_factor
        names.append("warmup" if rises else "stable" if isinstance(part, Constant) else "decay")
    return names if len(set(names)) == len(names) else [f"part{i}" for i in range(len(names))]


def _call(name: str, spec: SchedulerSpec, peak_lr: float, peak_lrs: list[float]) -> list[str]:
    """The assignment that builds a scheduler, without arguments that equal torch's defaults."""
    arguments = ["optimizer"]
    for key, value in spec.arguments(peak_lrs).items():
        if key.endswith("_lr"):
            arguments.append(f"{key}={_literal(value, peak_lr)}")
        elif (key, value) not in spec.torch_defaults.items():
            arguments.append(f"{key}={_HAS_MOMENTUM if value is None else _text(value)}")
    line = f"{name} = {spec.torch_class}({', '.join(arguments)})"
    if len(line) <= _COLUMNS:
        return [line]
    return [f"{name} = {spec.torch_class}(", *(f"    {argument}," for argument in arguments), ")"]


def _text(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _literal(lrs: list[float], peak_lr: float) -> str:
    """One number where all groups have the same, else a list. The peak is exact, products of it are tidied up."""
    texts = [repr(lr if lr == peak_lr else _tidy(lr)) for lr in lrs]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


def _tidy(number: float) -> float:
    """The number without the rounding error of its last binary digit: 0.0003, not 0.00030000000000000003."""
    short = float(f"{number:.12g}")
    return short if math.isclose(short, number, rel_tol=1e-15) else number


def _folded(line: str) -> list[str]:
    """The line, or several where a list for many groups makes it too long."""
    if len(line) <= _LONGEST:
        return [line]
    return textwrap.wrap(line, _LONGEST, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False)


def _loop_lines(schedule: Schedule) -> list[str]:
    updates, follows_loss = schedule.updates, KIND_TABLE[schedule.kind].follows_loss
    if updates.form == "trainer":
        call = "scheduler.step(loss)" if follows_loss else "scheduler.step()"
        when = "epoch, not after every batch" if schedule.interval == "epoch" else "update, not after every epoch"
        return [f"# The loop is that of the trainer: have it call {call} after every {when}."]
    known = schedule.total_steps is not None and not follows_loss
    if schedule.epochs is None and known:
        return _counted_loop(schedule)
    epochs = f"for epoch in range({schedule.epochs}):"
    if schedule.epochs is None:
        epochs = f"for epoch in range({_OPEN_EPOCHS}):  # set the number of epochs"
    if follows_loss:
        rises = getattr(schedule.spec, "mode", "min") == "max"
        better = 'With mode="max" pass what is to rise, such as accuracy,' if rises else _BETTER
        comment = f"# After every epoch, not after every batch. {better} here."
        return [*_with_losses(updates, epochs), *indented([comment, *_step_by_loss(updates)])]
    if schedule.interval == "epoch":
        step = updates.for_each("scheduler.step()  # after every epoch, not after every batch", "scheduler")
        return [*_loop(updates, epochs, []), *indented(step)]
    if updates.accumulation_steps > 1 and known:
        return _whole_epochs(schedule, epochs)
    return _loop(updates, epochs, _per_update(updates))


def _per_update(updates: Updates) -> list[str]:
    unit = "update, not after every batch" if updates.accumulation_steps > 1 else "batch, not after every epoch"
    return updates.for_each(f"scheduler.step()  # after every {unit}", "scheduler")


def _with_losses(updates: Updates, epochs: str) -> list[str]:
    """Loop that collects the losses of a pass."""
    number = 'loss.item() if hasattr(loss, "item") else loss' if updates.own_step else "loss.item()"
    lines = [f"losses.append({number})"]
    where = {"at_update": lines} if updates.collects else {"in_batch": lines}
    return _loop(updates, epochs, [], in_pass=["losses = []"], **where)


def _step_by_loss(updates: Updates) -> list[str]:
    """Steps the scheduler by the mean loss of a pass, of all ranks, as their learning rates have to stay the same."""
    mean = "sum(losses) / len(losses)"
    if updates.ranks == 1:
        return updates.for_each(f"scheduler.step({mean})", "scheduler")
    device = "" if updates.device == "cpu" else ", device=device"
    reduced = [f"mean = torch.tensor({mean}{device})", "torch.distributed.all_reduce(mean)"]
    step = "scheduler.step(mean.item() / torch.distributed.get_world_size())"
    return [*reduced, *updates.for_each(step, "scheduler")]


def _counted_loop(schedule: Schedule) -> list[str]:
    """Loop that ends after a number of updates."""
    updates, total = schedule.updates, schedule.total_steps
    end = ["step += 1", f"if step == {total}:", "    break"]
    return ["step = 0", *_loop(updates, f"while step < {total}:", _per_update(updates), at_update=end)]


def _loop(
    updates: Updates,
    head: str,
    after_update: Sequence[str],
    *,
    in_pass: Sequence[str] = (),
    in_batch: Sequence[str] = (),
    at_update: Sequence[str] = (),
) -> list[str]:
    """Loop over passes; with accumulation an update may take its batches from two of them.

    Args:
        updates: how they are made.
        head: line of the outer loop.
        after_update: lines for each update that is made.
        in_pass: lines at the start of a pass.
        in_batch: lines for each batch, at its end.
        at_update: lines for each update, also where the scaler skipped it.
    """
    start = [head, *indented([*updates.in_pass, *in_pass, f"for {updates.chosen.drawn} in train_loader:"])]
    body = [*updates.in_batch(after_update), *in_batch]
    if updates.accumulation_steps == 1:
        return [*updates.before, *start, *indented([*body, *at_update], 2)]
    update = indented([*updates.update(after_update), *at_update])
    body += ["batch += 1", f"if batch % {updates.accumulation_steps} == 0:", *update]
    return [*updates.before, "batch = 0", *start, *indented(body, 2)]


def _whole_epochs(schedule: Schedule, epochs: str) -> list[str]:
    """Loop over epochs that each make the same number of updates, the last of them with the batches that are left."""
    updates, count = schedule.updates, schedule.updates.accumulation_steps
    per_epoch = (schedule.total_steps or 0) // (schedule.epochs or 1)
    batches = f"for batch, {updates.chosen.batch} in enumerate(train_loader, start=1):"
    body = [
        *updates.in_batch(_per_update(updates)),
        f"if batch % {count} == 0 or batch == len(train_loader):",
        *indented(updates.update(_per_update(updates))),
        f"if batch == {per_epoch * count}:  # {per_epoch} updates in an epoch",
        "    break",
    ]
    return [*updates.before, epochs, *indented([*updates.in_pass, batches]), *indented(body, 2)]
