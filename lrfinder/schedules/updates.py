"""How a training makes its updates (accumulation, mixed precision, clipping), and the lines of it. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrfinder.checks import check_choice, check_count, check_number
from lrfinder.errors import ConfigError
from lrfinder.schedules.forms import FORMS
from lrfinder.schedules.grouping import Grouping

__all__ = ["Updates"]

_AMP = ("bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class Updates:
    """What happens between a batch and ``optimizer.step()``, for the printed lines.

    Args:
        accumulation_steps: batches per update; >= 1.
        clip_grad_norm: largest global gradient norm, > 0; None for no clipping.
        amp_dtype: ``"bfloat16"`` or ``"float16"``, in which forward and loss are computed; None for no autocast. A
            ``torch.dtype`` is accepted.
        grad_scaler: whether a ``GradScaler`` is used; None stands for float16 alone, which needs one.
        device: device, as in ``"cuda"``, whose kind autocast and scaler have to be told.
        optimizers: number of parameter groups of each optimizer, where there are several; they are in a list then.
        closure: whether ``optimizer.step`` takes a closure, as that of L-BFGS; not printed with accumulation.
        own_step: whether ``step_fn`` makes forward, backward and update, scaler, clipping and autocast included.
        form: how the loss is computed, a key of :data:`lrfinder.schedules.forms.FORMS`.
        grouping: what is trained, and in which parameter groups; None where the lines take ``optimizer`` as it is.
            The dictionary of its fields is accepted.

    Raises:
        ConfigError: a value outside its range.

    Example:
        >>> Updates(accumulation_steps=2).in_batch(["scheduler.step()"])
        ['loss = criterion(model(inputs), targets)', '(loss / 2).backward()']
    """

    accumulation_steps: int = 1
    clip_grad_norm: float | None = None
    amp_dtype: str | None = None
    grad_scaler: bool | None = None
    device: str = "cuda"
    optimizers: tuple[int, ...] = ()
    closure: bool = False
    own_step: bool = False
    form: str = "plain"
    grouping: Grouping | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "accumulation_steps", check_count("accumulation_steps", self.accumulation_steps))
        if self.clip_grad_norm is not None:
            norm = check_number("clip_grad_norm", self.clip_grad_norm, 0.0, open_ends=True)
            object.__setattr__(self, "clip_grad_norm", norm)
        amp_dtype = None if self.amp_dtype is None else str(self.amp_dtype).removeprefix("torch.")
        if amp_dtype not in (None, *_AMP):
            raise ConfigError(f"amp_dtype must be 'bfloat16', 'float16' or None; got {self.amp_dtype!r}.")
        object.__setattr__(self, "amp_dtype", amp_dtype)
        if self.grad_scaler is None:
            object.__setattr__(self, "grad_scaler", amp_dtype == "float16")
        elif not isinstance(self.grad_scaler, bool):
            raise ConfigError(f"grad_scaler must be True, False or None; got {self.grad_scaler!r}.")
        if isinstance(self.grouping, Mapping):
            object.__setattr__(self, "grouping", Grouping(**self.grouping))
        elif self.grouping is not None and not isinstance(self.grouping, Grouping):
            raise ConfigError(f"grouping must be a Grouping or None; got {self.grouping!r}.")
        check_choice("form", self.form, FORMS)
        device = str(self.device).split(":")[0]
        if not device.isidentifier():
            raise ConfigError(f"device must be a device, such as 'cuda' or 'cpu'; got {self.device!r}.")
        counts = tuple(check_count("each of optimizers", count) for count in self.optimizers)
        object.__setattr__(self, "optimizers", counts if len(counts) > 1 else ())
        # Plain updates are the same on every device.
        named = device if self.amp_dtype is not None or self.grad_scaler else "cuda"
        object.__setattr__(self, "device", named)

    @property
    def drawn(self) -> str:
        """Names that the loop gives to a batch."""
        return "data" if self.own_step else FORMS[self.form].drawn

    @property
    def imports(self) -> list[str]:
        """Lines to import what :attr:`setup`, :attr:`before`, :meth:`in_batch` and :meth:`update` name."""
        groups = [] if self.grouping is None else self.grouping.imports
        if self.own_step:
            return groups
        needed = self.clip_grad_norm is not None or self.amp_dtype is not None or self.grad_scaler
        torch = ["import torch"] if needed else []
        return list(dict.fromkeys([*groups, *torch, *FORMS[self.form].imports]))

    @property
    def setup(self) -> list[str]:
        """Lines before the scheduler."""
        return [] if self.grouping is None else [*self.grouping.lines, ""]

    @property
    def before(self) -> list[str]:
        """Lines before the loop."""
        if self.own_step:
            return ["batches = []"] if self.accumulation_steps > 1 else []
        scaler = [f'scaler = torch.amp.GradScaler("{self.device}")'] if self.grad_scaler else []
        return scaler + (["optimizer.zero_grad()"] if self.accumulation_steps > 1 else [])

    def in_batch(self, after_update: Sequence[str]) -> list[str]:
        """Lines for each batch; with accumulation without the update itself, whose place the loop decides.

        Args:
            after_update: lines for each update that was made.
        """
        if self.own_step:
            return ["batches.append(data)"] if self.accumulation_steps > 1 else ["loss = step_fn(data)", *after_update]
        loss = list(FORMS[self.form].lines)
        if self.amp_dtype is not None:
            within = [f"    {line}" for line in loss]
            loss = [f'with torch.autocast("{self.device}", dtype=torch.{self.amp_dtype}):', *within]
        if self.closure and self.accumulation_steps == 1:
            inside = ["optimizer.zero_grad()", *loss, "loss.backward()", *self._clip, "return loss"]
            inside = [f"    {line}" for line in inside]
            return ["def closure():", *inside, "loss = optimizer.step(closure)", *after_update]
        if self.accumulation_steps > 1:
            part = f"loss / {self.accumulation_steps}"
            return [*loss, f"scaler.scale({part}).backward()" if self.grad_scaler else f"({part}).backward()"]
        backward = "scaler.scale(loss).backward()" if self.grad_scaler else "loss.backward()"
        return ["optimizer.zero_grad()", *loss, backward, *self._update(after_update)]

    def update(self, after_update: Sequence[str]) -> list[str]:
        """Lines for each update where several batches make one."""
        if self.own_step:
            return ["loss = step_fn(batches)", *after_update, "batches = []"]
        return [*self._update(after_update), "optimizer.zero_grad()"]

    @property
    def _clip(self) -> list[str]:
        norm = self.clip_grad_norm
        return [] if norm is None else [f"torch.nn.utils.clip_grad_norm_(model.parameters(), {norm!r})"]

    def _update(self, after_update: Sequence[str]) -> list[str]:
        if not self.grad_scaler:
            return [*self._clip, "optimizer.step()", *after_update]
        unscaled = ["scaler.unscale_(optimizer)", *self._clip] if self._clip else []
        if not after_update:
            return [*unscaled, "scaler.step(optimizer)", "scaler.update()"]
        return [
            *unscaled,
            "scaler.step(optimizer)",
            "scale = scaler.get_scale()",
            "scaler.update()",
            "if scaler.get_scale() >= scale:  # not where the scaler skipped the update",
            *(f"    {line}" for line in after_update),
        ]
