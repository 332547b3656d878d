"""The record of a range test: frozen values that hold facts only.

Everything that reads a range test (smoothing, regimes, advice, plots, the shell) starts from :class:`LossCurve`.
:meth:`LossCurve.pairs` is the only definition of which learning rate a loss belongs to. No torch.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from dataclasses import dataclass
from typing import Any

from lrfinder.checks import check_choice, check_count, check_lr, check_part
from lrfinder.errors import ConfigError
from lrfinder.files import saved_content
from lrfinder.record.facts import ModelFacts
from lrfinder.tables.kinds import MODES

__all__ = ["LossCurve", "StopReason", "SweepConfig", "MODES"]


class StopReason(enum.Enum):
    """Why a sweep ended: ``sentence`` in full, ``short`` in a few words, ``hint`` with what to do about it."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    NONFINITE = "nonfinite"
    DATA_EXHAUSTED = "data_exhausted"
    INTERRUPTED = "interrupted"
    ERROR = "error"

    @property
    def sentence(self) -> str:
        return _STOPS[self][0]

    @property
    def short(self) -> str:
        """The reason in a few words."""
        return _SHORT[self]

    @property
    def is_failure(self) -> bool:
        """True where no finite loss followed the last update: it was nan or infinite, or an exception was raised."""
        return self in (StopReason.NONFINITE, StopReason.ERROR)

    @property
    def hint(self) -> str:
        """What to do about it; empty where nothing is wrong."""
        return _STOPS[self][1]


_STOPS = {
    StopReason.COMPLETED: ("the sweep reached its last learning rate", ""),
    StopReason.DIVERGED: ("the loss rose well above its lowest level, so the sweep stopped early", ""),
    StopReason.NONFINITE: (
        "the loss became nan or infinite",
        "If it happened within the first steps, lower start_lr and look for nan or inf in the inputs; "
        "under float16 pass a GradScaler or use bfloat16.",
    ),
    StopReason.DATA_EXHAUSTED: (
        "the loader ran out of batches and could not be started again",
        "Pass a loader that can be iterated more than once (a DataLoader or a list, not an iterator), "
        "or lower num_iter.",
    ),
    StopReason.INTERRUPTED: ("the sweep was interrupted", "Run it again to the end for advice you can rely on."),
    StopReason.ERROR: (
        "the training step raised an exception, which it did not raise with the initial weights",
        "Weights that have diverged are refused by many losses and layers. If it happened within the first steps, "
        "lower start_lr.",
    ),
}

_SHORT = {
    StopReason.COMPLETED: "completed",
    StopReason.DIVERGED: "the loss diverged",
    StopReason.NONFINITE: "the loss became nan or infinite",
    StopReason.DATA_EXHAUSTED: "the loader ran out of batches",
    StopReason.INTERRUPTED: "interrupted",
    StopReason.ERROR: "an exception was raised",
}

_SERIES = ("lrs", "losses", "train_losses", "probe_losses")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """The learning rates of a sweep.

    Args:
        start_lr: learning rate of the first iteration; > 0.
        end_lr: learning rate of the last iteration; > ``start_lr``.
        num_iter: iterations (one ``optimizer.step()`` each), both ends included; >= 2.
        mode: ``"exp"`` (equal ratios between neighbours) or ``"linear"`` (equal differences).
        early_stop: stop when the loss has clearly diverged. A non-finite loss always stops.

    Raises:
        ConfigError: any value outside its range.

    Example:
        >>> config = SweepConfig(start_lr=1e-4, end_lr=1.0, num_iter=5)
        >>> [round(config.lr_at(i), 6) for i in range(5)]
        [0.0001, 0.001, 0.01, 0.1, 1.0]
    """

    start_lr: float
    end_lr: float
    num_iter: int
    mode: str = "exp"
    early_stop: bool = True

    def __post_init__(self) -> None:
        for name in ("start_lr", "end_lr"):
            object.__setattr__(self, name, check_lr(name, getattr(self, name)))
        if self.end_lr <= self.start_lr:
            raise ConfigError(
                f"end_lr must be greater than start_lr; got start_lr={self.start_lr:g}, end_lr={self.end_lr:g}. "
                "Did you swap them?"
            )
        object.__setattr__(self, "num_iter", check_count("num_iter", self.num_iter, 2))
        check_choice("mode", self.mode, MODES)

    def lr_at(self, iteration: int) -> float:
        """Learning rate of an iteration, counted from 0; past ``num_iter - 1`` the same ramp goes on."""
        part = iteration / (self.num_iter - 1)
        if self.mode == "linear":
            return self.start_lr + (self.end_lr - self.start_lr) * part
        return float(self.start_lr ** (1 - part) * self.end_lr**part)  # exact at both ends, and no ratio to overflow


@dataclass(frozen=True, kw_only=True, repr=False)
class LossCurve:
    """Losses that a range test recorded: raw, finite, in order; none is smoothed or dropped.

    Args:
        lrs: learning rate of the reference parameter group at each iteration, shape (n,).
        losses: raw loss of each iteration, shape (n,), all finite.
        stop: why the sweep ended.
        config: the ramp that was run (with its end as extended, where the finder extended it).
        measured: ``"before"`` when loss i was taken before the update with LR i (training loss), ``"after"`` when it
            was taken after it (validation loss).
        nonfinite_lr: LR of the update that made the loss nan or infinite, or the next step raise; None when neither
            happened, or when the very first loss was, before any update.
        error: class name of the exception that ended the sweep; empty where none did.
        group_scales: LR of each parameter group divided by that of the reference group, shape (groups,).
        optimizer: class name of the optimizer, as in ``"AdamW"``; empty when unknown.
        momentum: its momentum (SGD, RMSprop) or first beta (Adam); 0 if it has neither.
        batches: mini-batches drawn from the training loader in all, range search included.
        skipped: updates that the GradScaler skipped (their learning rates were tried again).
        clipped_part: part of the gradients that clipping changed, from 0 to 1; None without clipping.
        facts: the model and its optimizer before any step; None when they were not taken.
        train_losses: raw training losses beside validation losses, up to the first that is not finite; else empty.
        probe_losses: raw losses of fixed samples that are not trained on, beside training losses: after each update, in
            eval mode, up to the first that is not finite. Empty where none were measured.

    Raises:
        ConfigError: lengths differ, or a value is not finite.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    stop: StopReason
    config: SweepConfig
    measured: str = "before"
    nonfinite_lr: float | None = None
    error: str = ""
    group_scales: tuple[float, ...] = (1.0,)
    optimizer: str = ""
    momentum: float = 0.0
    batches: int = 0
    skipped: int = 0
    clipped_part: float | None = None
    facts: ModelFacts | None = None
    train_losses: tuple[float, ...] = ()
    probe_losses: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.lrs) != len(self.losses):
            raise ConfigError(f"lrs and losses must have one length; got {len(self.lrs)} and {len(self.losses)}.")
        if (more := len(self.probe_losses) - len(self.losses)) > 0:
            raise ConfigError(f"probe_losses must be no more than losses; got {more} more.")
        if not all(math.isfinite(value) for name in _SERIES for value in getattr(self, name)):
            raise ConfigError("lrs and losses must be finite; leave a non-finite loss out and set nonfinite_lr.")
        check_choice("measured", self.measured, ("before", "after"))
        if self.nonfinite_lr is not None:
            check_lr("nonfinite_lr", self.nonfinite_lr)
        if not all(math.isfinite(value) for value in (*self.group_scales, self.momentum)):
            raise ConfigError(f"group_scales and momentum must be finite; got {self.group_scales} and {self.momentum}.")
        if self.error and not self.error.isidentifier():
            raise ConfigError(f"error must be the name of an exception, or empty; got {self.error!r}.")

    def __len__(self) -> int:
        return len(self.lrs)

    def __repr__(self) -> str:
        ends = f", lr {self.lrs[0]:.2g} to {self.lrs[-1]:.2g}, lowest loss {min(self.losses):.4g}" if self.lrs else ""
        return f"<LossCurve: {len(self)} iterations{ends}, {self.stop.value}>"

    def pairs(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Each learning rate with the first loss that shows its effect: ``(lrs, losses)``, shape (m,) each.

        A training loss is measured before the update of its iteration, so loss i shows the effect of the
        learning rates up to i-1 and is paired with LR i-1 (m = n-1). A validation loss is measured after the update
        (m = n). All reading uses this pairing; the other finders plot the loss one iteration late or more.

        Example:
            >>> config = SweepConfig(start_lr=0.1, end_lr=0.4, num_iter=3)
            >>> curve = LossCurve(lrs=(0.1, 0.2, 0.4), losses=(3.0, 2.0, 1.0), stop=StopReason.COMPLETED, config=config)
            >>> curve.pairs()
            ((0.1, 0.2), (2.0, 1.0))
        """
        if self.measured == "after":
            return self.lrs, self.losses
        return self.lrs[:-1], self.losses[1:]

    @property
    def maximized(self) -> bool:
        """Whether the training raises the loss, so that its sign is turned for reading."""
        return self.facts is not None and self.facts.maximize

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary; :meth:`from_dict` gives an equal curve back."""
        content = {**dataclasses.asdict(self), "stop": self.stop.value}
        optional = ("train_losses", "probe_losses", "clipped_part")
        return {name: value for name, value in content.items() if name not in optional or value not in ((), None)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> LossCurve:
        """Curve from :meth:`to_dict`.

        Raises:
            FileFormatError: a field is missing, unknown or out of range.
        """
        with saved_content("curve", hint="Run the range test again."):
            return cls(
                **{
                    **content,
                    **{name: tuple(map(float, content[name])) for name in _SERIES if name in content},
                    "group_scales": tuple(map(float, content["group_scales"])),
                    "stop": StopReason(content["stop"]),
                    "config": SweepConfig(**content["config"]),
                    "error": str(content.get("error", "")),
                    "optimizer": str(content["optimizer"]),
                    "momentum": float(content["momentum"]),
                    **{name: check_count(name, content[name], 0) for name in ("batches", "skipped")},
                    "clipped_part": check_part("clipped_part", content.get("clipped_part")),
                    "facts": ModelFacts.from_dict(content["facts"]) if content.get("facts") is not None else None,
                }
            )
