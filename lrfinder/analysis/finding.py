"""A finding: a code, the numbers, and the best grade that advice can have with it. No torch.

Facts for programs; the sentence of each code is in :mod:`lrfinder.advice.words`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lrfinder.checks import check_choice
from lrfinder.errors import ConfigError

__all__ = ["GRADES", "Finding"]

GRADES = ("high", "medium", "low", "none")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found, with its numbers and without a sentence.

    Args:
        code: what it is, as in ``"spike"``; each code has a sentence in :mod:`lrfinder.advice.words`.
        lr: learning rate it is about; None for none.
        values: further numbers, as the code defines them.
        detail: a name that the sentence depends on, as a stop reason; else "".
        caps_grade: best grade that advice can have with it: ``"high"``, ``"medium"``, ``"low"`` or ``"none"``.
    """

    code: str
    lr: float | None = None
    values: tuple[float, ...] = ()
    detail: str = ""
    caps_grade: str = "high"

    def __post_init__(self) -> None:
        check_choice("caps_grade", self.caps_grade, GRADES)
        if not all(map(math.isfinite, (self.lr or 0.0, *self.values))):
            raise ConfigError(f"the numbers of a finding must be finite; got {self.lr} and {self.values}.")

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Finding:
        """Finding from the dictionary of its fields; numbers are checked by their type."""
        lr = content["lr"]
        return cls(
            code=str(content["code"]),
            lr=None if lr is None else float(lr),
            values=tuple(map(float, content["values"])),
            detail=str(content["detail"]),
            caps_grade=content["caps_grade"],
        )
