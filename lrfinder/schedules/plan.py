"""Length, warm-up and options of a schedule, each with a note where it came from. Standard library only."""

from __future__ import annotations

from typing import Any

from lrfinder.checks import check_count, check_number, did_you_mean
from lrfinder.errors import ConfigError
from lrfinder.schedules.specs import Linear, SchedulerSpec, Sequential
from lrfinder.tables.kinds import KIND_TABLE

__all__ = ["Plan", "check_length"]

_OWN_WARMUP = {"onecycle": " It has its own: set pct_start.", "cyclic": " It starts low by itself."}


def check_length(
    kind: str, total_steps: int | None, epochs: int | None, steps_per_epoch: int | None
) -> tuple[int | None, str]:
    """Calls of ``scheduler.step()`` in the whole training (None if not known), and ``"step"`` or ``"epoch"``.

    Raises:
        ConfigError: a number outside its range, numbers that contradict each other, or a length that is missing.
    """
    _check_given(total_steps, epochs, steps_per_epoch)
    row = KIND_TABLE[kind]
    if row.unit == "epoch":
        # total_steps does not give the number of epochs, and such a kind needs neither.
        return None if epochs is None else int(epochs), "epoch"
    if total_steps is not None:
        return int(total_steps), "step"
    if epochs is None:
        if not row.needs_length:
            return None, "step"
        raise ConfigError(
            f"{kind} needs the length of the training; got none. "
            "Give total_steps, or `epochs` and steps_per_epoch, the length of the loader."
        )
    if steps_per_epoch is not None:
        return int(epochs) * int(steps_per_epoch), "step"
    if row.unit == "step":
        raise ConfigError(
            f"{kind} changes the LR after every batch and needs their number; got epochs={epochs} alone. "
            "Add steps_per_epoch, the length of the loader, or give total_steps."
        )
    return int(epochs), "epoch"


def _check_given(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> None:
    every = {"total_steps": total_steps, "epochs": epochs, "steps_per_epoch": steps_per_epoch}
    given = {name: value for name, value in every.items() if value is not None}
    for name, value in given.items():
        check_count(name, value)
    listed = ", ".join(f"{name}={value}" for name, value in given.items())
    if total_steps is not None and len(given) > 1:
        raise ConfigError(
            f"give total_steps, or epochs with steps_per_epoch, not both; got {listed}. "
            "Leave total_steps out to have it computed."
        )
    if steps_per_epoch is not None and epochs is None:
        raise ConfigError(f"steps_per_epoch needs `epochs`; got {listed}. Add `epochs`, or give total_steps.")


class Plan:
    """Options given for one schedule: returns them or their defaults, and notes where each came from.

    Args:
        kind: one of ``lrfinder.schedules.KINDS``.
        length: calls of ``scheduler.step()`` in the whole training; None if not known.
        interval: ``"step"`` or ``"epoch"``, the unit of all counts.
        warmup_steps: calls spent on the warm-up; >= 0 and below ``length``; None for the default.
        options: given options by name.

    Attributes:
        warmup: calls spent on the warm-up; 0 for none.
        notes: where each number came from, in the order in which they were taken.

    Raises:
        ConfigError: ``warmup_steps`` is out of range, or the kind takes none.
    """

    def __init__(
        self, kind: str, length: int | None, interval: str, warmup_steps: int | None, options: dict[str, Any]
    ) -> None:
        self.kind = kind
        self.length = length
        self.interval = interval
        self.notes: list[str] = []
        self.warmup = self._take_warmup(warmup_steps)
        self._options = dict(options)
        self._known: list[str] = []

    @property
    def steps(self) -> int:
        """Calls in the whole training, for kinds whose length is always known."""
        assert self.length is not None, self.kind
        return self.length

    @property
    def main(self) -> int:
        """Calls after the warm-up."""
        return self.steps - self.warmup

    def take(self, name: str, default: Any, source: str) -> Any:
        """The option as given, or the default, whose source is noted; None counts as not given."""
        self._known.append(name)
        value = self._options.pop(name, None)
        if value is None:
            value = default
        else:
            source = "given"
        shown = "(" + ", ".join(map(str, value)) + ")" if isinstance(value, tuple) else value  # no np.int64(20)
        self.notes.append(f"{name}={shown} ({source})")
        return value

    def warmed_up(self, *phases: tuple[int, SchedulerSpec]) -> SchedulerSpec:
        """The warm-up, if there is one, and then the phases, each with its start counted from the beginning."""
        factor = check_number(
            "warmup_factor",
            self.take("warmup_factor", 0.01, "torchvision's reference training"),
            1e-12,
            1.0,
        )
        if self.warmup == 0:
            self.notes.pop()
        else:
            warmup = Linear(start_factor=factor, end_factor=1.0, total_iters=self.warmup)
            phases = ((0, warmup), *phases)
        if len(phases) == 1:
            return phases[0][1]
        return Sequential(
            parts=tuple(spec for _, spec in phases),
            milestones=tuple(start for start, _ in phases[1:]),
        )

    def check_all_taken(self) -> None:
        """Refuse options that the kind does not have.

        Raises:
            ConfigError: an option was given and not taken.
        """
        known = ["warmup_steps"] * KIND_TABLE[self.kind].warmup + self._known
        for name in self._options:
            ratio = name == "warmup_ratio" and known[0] == "warmup_steps"
            hint = " Give warmup_steps, their number." if ratio else did_you_mean(name, known)
            raise ConfigError(f"{self.kind} has no option {name!r}; its options: {', '.join(known)}.{hint}")

    def _take_warmup(self, given: int | None) -> int:
        if not KIND_TABLE[self.kind].warmup:
            if given is not None and check_count("warmup_steps", given, 0) > 0:
                takers = ", ".join(row.name for row in KIND_TABLE.values() if row.warmup)
                raise ConfigError(
                    f"{self.kind} takes no warmup_steps; got {given}.{_OWN_WARMUP.get(self.kind, '')} "
                    f"Kinds that do: {takers}."
                )
            return 0
        if given is not None:
            warmup, source = check_count("warmup_steps", given, 0), "given"
        elif self.length is None:
            warmup, source = 0, "the length of the training is not known"
        elif self.interval == "epoch":
            warmup, source = 0, "an epoch is too coarse a unit for a warm-up; give steps_per_epoch to get one"
        else:
            # The playbook's ceiling is 10 %, and it takes more than 5 % for a sign that the training is too short.
            warmup, source = self.length // 20, "5 %: github.com/google-research/tuning_playbook"
        self.notes.append(f"warmup_steps={warmup} ({source})")
        if self.length is not None and warmup >= self.length:
            raise ConfigError(
                f"warmup_steps must be less than the {self.length} {self.interval}s of the training; "
                f"got {warmup}. Lower warmup_steps or train longer."
            )
        return warmup
