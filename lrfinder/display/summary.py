"""Summary of a result beside its reasons: the numbers with their meaning, and facts about the sweep. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from lrfinder.advice.advice import Advice
from lrfinder.display.parts import scales_in_words
from lrfinder.numbers import format_lr
from lrfinder.param_groups import reference_group
from lrfinder.record.curve import LossCurve
from lrfinder.record.run import RunRecord
from lrfinder.tables.kinds import KINDS

__all__ = ["advice_rows", "headline", "optimizers_in_words", "sweep_facts"]

_GRADES = {
    "high": "a clear curve",
    "medium": "a good start; read the reasons",
    "low": "a hint only; read the reasons before a long run",
    "none": "no learning rate can be read from this curve; see why",
}


def headline(curve: LossCurve, run: RunRecord | None = None) -> str:
    """Title: the test, its model and data where they are known, and its optimizer."""
    subject, names = "" if run is None else " on ".join(run.subject), optimizers_in_words(curve)
    return "Learning-rate range test" + (f" of {subject}" if subject else "") + (f" with {names}" if names else "")


def optimizers_in_words(curve: LossCurve) -> str:
    """Class name of the optimizer, or those of several, as in "Muon and AdamW"; "" where it is not known."""
    several = curve.facts.optimizers if curve.facts is not None else None
    return curve.optimizer if not several else " and ".join(name for name, _ in several)


def advice_rows(advice: Advice) -> list[tuple[str, str, str]]:
    """Name, value and meaning of each number in the advice."""
    grade = ("grade", advice.grade, _GRADES[advice.grade])
    if advice.max_lr is None or advice.base_lr is None or advice.min_lr is None or advice.interval is None:
        return [grade]
    peaks = {kind: format_lr(advice.lr_for(kind)) for kind in KINDS}
    base = format_lr(advice.base_lr)
    like_base = [kind for kind, peak in peaks.items() if peak == base and kind != "onecycle"]
    others = [f"{kind} {peak}" for kind, peak in peaks.items() if peak != base and kind != "onecycle"]
    low, high = advice.interval
    return [
        ("max_lr", format_lr(advice.max_lr), "peak for onecycle"),
        ("base_lr", base, "peak for " + ", ".join(like_base)),
        ("min_lr", format_lr(advice.min_lr), "lowest learning rate that visibly trains"),
        ("interval", f"{format_lr(low)} to {format_lr(high)}", "where the best base_lr is expected"),
        grade,
        *([("others", "", "peaks: " + ", ".join(others))] if others else []),
    ]


def sweep_facts(curve: LossCurve, reasons: Sequence[str] = ()) -> list[str]:
    """Sentences about the sweep: why it ended, what to do about it unless ``reasons`` say it, its range, its cost."""
    at = f" at lr {format_lr(curve.nonfinite_lr)}" if curve.nonfinite_lr is not None else ""
    name = f" ({curve.error})" if curve.error else ""
    ended = f"{curve.stop.sentence}{name}{at}."
    hint = "" if any(curve.stop.hint in reason for reason in reasons) else curve.stop.hint
    facts = [f"{ended[0].upper()}{ended[1:]} {hint}".rstrip()]
    if curve.lrs:
        spacing = "equal ratios" if curve.config.mode == "exp" else "equal differences"
        facts.append(
            f"{_count(len(curve), 'learning rate')} from {format_lr(curve.lrs[0])} to {format_lr(curve.lrs[-1])}, "
            f"in {spacing}."
        )
    kind = "training" if curve.measured == "before" else "validation"
    beside = ", beside those on samples not trained on" if curve.probe_losses else ""
    used = _count(curve.batches, "training batch", "training batches")
    facts.append(f"{used} used; the losses are {kind} losses{beside}.")
    if curve.skipped:
        facts.append(f"{_count(curve.skipped, 'update')} skipped by the GradScaler and tried again.")
    if len(curve.group_scales) > 1:
        facts.append(_group_fact(curve))
    return facts


def _group_fact(curve: LossCurve) -> str:
    """How the parameter groups train, and which of several optimizers holds them and the reference group."""
    holders = reference = ""
    several = curve.facts.optimizers if curve.facts is not None else None
    if several:
        holders = " of " + " and ".join(f"{name} ({count})" for name, count in several)
        places = [place for place, (_, count) in enumerate(several) for _ in range(count)]
        first = reference_group(curve.group_scales)
        reference = f" (that of optimizer[{places[first]}])" if first < len(places) else ""
    names = curve.facts.group_names if curve.facts is not None else ()
    scales = scales_in_words(curve.group_scales, names)
    count = len(curve.group_scales)
    if len(set(curve.group_scales)) == 1:
        return f"The {count} parameter groups{holders} have one learning rate."
    return f"The {count} parameter groups{holders} keep their ratios: multiply a learning rate{reference} by {scales}."


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
