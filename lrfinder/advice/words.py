"""Every sentence about findings: what was seen, what it means, and what to do.

Those of a trial search are in :mod:`lrfinder.advice.search_words`, those about evidence in
:mod:`lrfinder.advice.evidence_words`. Numbers are written to two significant digits. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lrfinder.advice.evidence import Evidence
from lrfinder.advice.evidence_words import evidence_sentences
from lrfinder.advice.search_words import SEARCH_SENTENCES
from lrfinder.analysis.finding import Finding
from lrfinder.numbers import format_lr
from lrfinder.record.curve import StopReason
from lrfinder.tables.optimizers import find_optimizer

__all__ = ["explain"]

_LISTED_GROUPS = 6  # parameter groups whose scales are written out
_FIRST = ("edge",)  # findings that precede the evidence


def explain(evidence: Iterable[Evidence], findings: Iterable[Finding]) -> tuple[str, ...]:
    """Sentences for the user: how the learning rates came about, then what is unusual about the curve.

    Example:
        >>> explain((), (Finding(code="edge", lr=0.042, values=(0.035, 0.077)),))[0]
        'The stability edge is at lr=0.042 (between 0.035 and 0.077): above it the loss rises and does not come back.'
    """
    evidence, findings = tuple(evidence), tuple(findings)
    return (
        *(_SENTENCES[each.code](each) for each in findings if each.code in _FIRST),
        *evidence_sentences(evidence),
        *(_SENTENCES[each.code](each) for each in findings if each.code not in _FIRST),
    )


def _edge(found: Finding) -> str:
    low, high = map(format_lr, found.values)
    return (
        f"The stability edge is at lr={_lr(found)} (between {low} and {high}): above it the loss rises and does not "
        "come back."
    )


def _nonfinite_early(found: Finding) -> str:
    where, (points, needed) = f"at lr={_lr(found)}" if found.lr else "at the very first iteration", found.values
    return (
        f"The loss became nan or infinite {where}, after {points:g} readable points; {needed:g} are needed. "
        f"{StopReason.NONFINITE.hint}"
    )


def _nonfinite(found: Finding) -> str:
    event = f"The next step raised {found.detail}" if found.detail else "The loss became nan or infinite"
    return f"{event} after the update with lr={_lr(found)}."


def _too_few_points(found: Finding) -> str:
    stop, (points, needed) = StopReason(found.detail), found.values
    hint = stop.hint or "Raise num_iter; about 20 iterations per decade read well."
    if stop is StopReason.DIVERGED:
        hint = "Lower start_lr by a factor 1000."
    return f"Too few points: {points:g} can be read ({stop.sentence}), and {needed:g} are needed. {hint}"


def _flat(found: Finding) -> str:
    first, last, end = map(format_lr, found.values)
    hint = StopReason(found.detail).hint or (
        f"Raise end_lr above {end}; if the curve stays flat, look for frozen parameters, a detached loss, or an "
        "optimizer that holds other parameters."
    )
    return (
        f"The curve is flat everywhere: from lr={first} to {last} the loss neither falls nor rises by more than its "
        f"batch noise. {hint}"
    )


def _never_turned(found: Finding) -> str:
    if found.detail == "plateau":
        return f"No LR up to {_lr(found)} made the loss diverge: it is bounded, as Dice and cosine losses are."
    state = "still falling" if found.detail == "falling" else "no longer falling, and not rising,"
    return (
        f"The curve never turned: the loss was {state} at lr={_lr(found)}, so there is no edge to stay below. Raise "
        "end_lr."
    )


def _edge_at_start(found: Finding) -> str:
    trailing = (
        " The validation loss of a fresh network with BatchNorm rises at any learning rate, because its running "
        "statistics lag behind the weights: measure the training loss instead."
    )
    return (
        f"The loss rises within the first learning rates: start_lr={_lr(found)} was too high to show what lies below. "
        f"Lower start_lr to {format_lr(found.values[0])} or less.{trailing if found.detail == 'after' else ''}"
    )


def _groups(found: Finding) -> str:
    scales = ", ".join(map(format_lr, found.values))
    if len(found.values) > _LISTED_GROUPS:
        scales = f"{format_lr(min(found.values))} to {format_lr(max(found.values))}"
    group = "the reference parameter group" + (f" ({found.detail})" if found.detail else "")
    return (
        f"The learning rates are those of {group}; the groups train at {scales} times it. The typical LR is converted "
        "to this group, so that it holds for the average parameter."
    )


def _frozen_reference(found: Finding) -> str:
    number, scale = found.values
    name = f" ({found.detail})" if found.detail else ""
    return (
        f"No parameter of the reference group is trained. Parameter group {number:g}{name}, the first that is, trains "
        f"at {format_lr(scale)} times the learning rates named here; leave frozen groups out to have its own."
    )


def _lr(found: Finding) -> str:
    return "" if found.lr is None else format_lr(found.lr)


def _pretrained_contradicted(found: Finding) -> str:
    given, seen, hint = "trained", "shows no signs", "Check that they are loaded into it."
    if found.detail == "trained":
        given, seen, hint = "fresh", "shows signs", "Leave `pretrained` out to decide by the weights."
    return f"The weights are taken as {given}, as you specified, but the model {seen} of training. {hint}"


def _other_unit(found: Finding) -> str:
    known = find_optimizer(found.detail) is not None
    of, unit = (found.detail, "the loss is") if known else ("Adam", f"the LR of {found.detail} is")
    return (
        f"A typical peak LR for {of} and a loss of this size is {_lr(found)}, far from what the sweep shows: {unit} in "
        "another unit. Only the sweep is used."
    )


def _far_from_published(found: Finding) -> str:
    (published,), advised = found.values, found.lr or 1.0
    source, schedule = found.detail.split()
    times = f"{advised / published:.2g} times" if advised > published else f"{published / advised:.2g} times below"
    advice = f"The advice for a {schedule} schedule, {_lr(found)}, is {times} {source}'s of {format_lr(published)}."
    return f"{advice} Try both in short trainings."


_SENTENCES: dict[str, Callable[[Finding], str]] = {
    **SEARCH_SENTENCES,
    "edge": _edge,
    "nonfinite_early": _nonfinite_early,
    "too_few_points": _too_few_points,
    "flat": _flat,
    "no_typical_lr": lambda found: (
        f"No typical LR is known for {found.detail or 'the optimizer'}, so only the sweep is used."
    ),
    "other_unit": _other_unit,
    "above_edge": lambda found: (
        f"base_lr is above the stability edge ({format_lr(found.values[0])}): the loss rises slowly there, so the edge "
        "may have been read too low. Use warm-up, and compare with half the edge."
    ),
    "ended_early": lambda found: f"Early end: {StopReason(found.detail).sentence}. {StopReason(found.detail).hint}",
    "never_turned": _never_turned,
    "edge_at_start": _edge_at_start,
    "may_be_bounded": lambda found: (
        "The loss is low over a wide range, and the sweep ends before it diverges: it may be bounded, as with "
        f"normalised embeddings, and then needs a far lower LR. Raise end_lr above {_lr(found)} to see."
    ),
    "edge_at_end": lambda found: (
        f"The edge is at the very end of the sweep. Raise end_lr above {_lr(found)} to see the whole rise."
    ),
    "blurred_edge": lambda found: (
        "The edge is blurred: the loss rises in more than one step, and the middle of them is taken. Where half a "
        "decade matters, run the test with another seed or a larger batch."
    ),
    "dead": lambda found: (
        f"From lr={_lr(found)} on, the loss is the same for every batch: an update has left the network with one "
        "output for every input, as where all ReLUs of a layer give 0. Use warm-up, normalisation layers or another "
        "initialisation."
    ),
    "only_rises": lambda found: (
        "The loss never clearly falls: the model is already trained, or nothing can be learnt this fast. The advice "
        "rests on the edge and the optimizer alone; start with warm-up, and compare it with a third of it."
    ),
    "around_zero": lambda found: (
        "The loss lies around 0 and never clearly falls. Where it is that of a policy gradient (GRPO, PPO), it does "
        "not show how well a training goes, at any learning rate: take a published one."
    ),
    "validation_lags": lambda found: (
        f"The validation loss fell by only {found.values[0]:.1%} of the fall of the training loss: the running "
        "statistics of BatchNorm trail behind while a fresh network learns fast. Measure the training loss instead."
    ),
    "noisy": lambda found: (
        f"Very noisy: the loss falls by {found.values[0]:.1f} standard deviations of its batch noise. A larger "
        "batch, accumulation or a val_loader makes the curve clearer."
    ),
    "sorted": lambda found: (
        "All samples of the first batch have the same target. If the data are sorted, the curve shows their order "
        "instead of the learning rate. Pass shuffle=True."
    ),
    "repeated": lambda found: (
        f"The range test went through the data {found.values[0]:.0f} times. A training that repeats them so often may "
        "overfit, and then needs a lower LR than a short test shows. Refine the advice with a val_loader."
    ),
    "periodic": lambda found: (
        f"The losses repeat every {found.values[0]:g} iterations: the loader is not shuffled, or sorted. Pass "
        "shuffle=True."
    ),
    "spike": lambda found: (
        f"The loss rose near lr={_lr(found)} and recovered. That spike is not the edge, but training is unstable "
        "there; use warm-up."
    ),
    "scaler_skips": lambda found: (
        f"The GradScaler skipped {found.values[0]:g} updates (float16 overflow); their learning rates were tried "
        "again. Many skips mean that its initial scale is too high: lower it, or use bfloat16."
    ),
    "nonfinite": _nonfinite,
    "lr_free": lambda found: (
        f"{found.detail} sets its own step size: the learning rate only scales it or starts it, and a range test does "
        f"not find it. Keep {format_lr(found.values[0]) if found.values else 1} unless training is unstable."
    ),
    "batches_differ": lambda found: (
        f"{found.detail} compares gradients of its steps: on mini-batches it may diverge at any LR. Step on all data."
    ),
    "large_epsilon": lambda found: (
        f"eps={found.values[0]:g} is larger than most gradients, so {found.detail} divides by it alone: its updates "
        "are those of SGD with lr / eps, and its typical LR is that of SGD times eps."
    ),
    "not_calibrated": lambda found: (
        f"The typical LR of {found.detail} rests on far fewer trainings than that of SGD or Adam. Refine the advice."
    ),
    "unknown_optimizer": lambda found: (
        f"No typical LR is known for {found.detail}. Most new optimizers are near that of Adam."
    ),
    "far_from_published": _far_from_published,
    "pretrained_contradicted": _pretrained_contradicted,
    "maximized": lambda found: "The optimizer has maximize=True, so the curve is read with its sign turned.",
    "groups": _groups,
    "initial_lrs": lambda found: (
        "A schedule of the optimizer has not begun or has ended, so the ratios of the parameter groups are those of "
        "their initial_lr, and not of their lr. For other ratios set each lr and delete initial_lr from the groups."
    ),
    "frozen_reference": _frozen_reference,
    "tuned_sgd": lambda found: (
        f"Trained weights with {found.detail}: a wrong learning rate costs more than with Adam, and in trainings of "
        "such networks the advice missed twice as much. Refine it with a budget of 1.0, one whole training."
    ),
}
