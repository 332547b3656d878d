"""How a training makes its updates (accumulation, mixed precision, clipping), and the lines of it. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrfinder.checks import check_choice, check_count, check_number
from lrfinder.errors import ConfigError
from lrfinder.schedules.forms import FORMS, OWN_STEPS, Form
from lrfinder.schedules.grouping import Grouping

__all__ = ["Updates", "indented"]

_AMP = ("bfloat16", "float16")
_IN_TRAINING = re.compile(r"model|optimizer|optimizers\[\d+\]")  # what train_mode may name


@dataclass(frozen=True, kw_only=True)
class Updates:
    """What happens between a batch and ``optimizer.step()``, for the printed lines.

    Args:
        accumulation_steps: batches per update; >= 1.
        clip_grad_norm: largest global gradient norm, > 0; None for no clipping.
        amp_dtype: ``"bfloat16"`` or ``"float16"``, in which forward and loss are computed; None for no autocast. A
            ``torch.dtype`` is accepted.
        grad_scaler: whether a ``GradScaler`` is used; None stands for float16 alone, which needs one.
        device: kind of device of the model, as in ``"cuda"``; on any but the CPU the lines move the batches to it.
        optimizers: number of parameter groups of each optimizer, where there are several; they are in a list then.
        closure: whether ``optimizer.step`` needs a closure, as that of L-BFGS.
        form: how the loss is computed, a key of :data:`lrfinder.schedules.forms.FORMS`; or of ``OWN_STEPS`` beside it,
            where a step of the user's own makes forward, backward and update, autocast, scaler and clipping included.
        train_mode: names of what is put into training mode: ``"model"``, ``"optimizer"``, ``"optimizers[0]"``.
        ranks: processes that train the model together; >= 1.
        grouping: what is trained, and in which parameter groups; None where the lines take ``optimizer`` as it is.
            The dictionary of its fields is accepted.

    Raises:
        ConfigError: a value outside its range.

    Example:
        >>> Updates(accumulation_steps=2, device="cpu").in_batch(["scheduler.step()"])
        ['loss = criterion(model(inputs), targets)', '(loss / 2).backward()']
    """

    accumulation_steps: int = 1
    clip_grad_norm: float | None = None
    amp_dtype: str | None = None
    grad_scaler: bool | None = None
    device: str = "cuda"
    optimizers: tuple[int, ...] = ()
    closure: bool = False
    form: str = "plain"
    train_mode: tuple[str, ...] = ()
    ranks: int = 1
    grouping: Grouping | None = None

    def __post_init__(self) -> None:
        for name in ("accumulation_steps", "ranks"):
            object.__setattr__(self, name, check_count(name, getattr(self, name)))
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
        check_choice("form", self.form, (*FORMS, *OWN_STEPS))
        self._check_names()
        counts = tuple(check_count("each of optimizers", count) for count in self.optimizers)
        object.__setattr__(self, "optimizers", counts if len(counts) > 1 else ())

    def _check_names(self) -> None:
        """Names become part of the lines, and may be from a file."""
        device = str(self.device).split(":")[0]
        if not device.isidentifier():
            raise ConfigError(f"device must be a device, such as 'cuda' or 'cpu'; got {self.device!r}.")
        object.__setattr__(self, "device", device)
        names = tuple(map(str, self.train_mode))
        if not all(map(_IN_TRAINING.fullmatch, names)):
            raise ConfigError(f"train_mode must be 'model', 'optimizer' or 'optimizers[0]'; got {self.train_mode!r}.")
        object.__setattr__(self, "train_mode", names)

    @property
    def own_step(self) -> bool:
        """Whether the user's own step makes the update."""
        return self.form in OWN_STEPS

    @property
    def collects(self) -> bool:
        """Whether the batches of an update are collected first, and not trained on one by one."""
        return self.accumulation_steps > 1 and (self.own_step or self.closure)

    @property
    def chosen(self) -> Form:
        """The lines that ``form`` names, which compute the loss or make the whole step."""
        return (OWN_STEPS if self.own_step else FORMS)[self.form]

    @property
    def imports(self) -> list[str]:
        """Lines to import what :attr:`setup`, :attr:`before`, :meth:`in_batch` and :meth:`update` name."""
        groups = [] if self.grouping is None else self.grouping.imports
        moved = [] if self.chosen.tensors or self.device == "cpu" else ["from lrfinder.training.contents import move"]
        needed = self.clip_grad_norm is not None or self.amp_dtype is not None or self.grad_scaler
        torch = ["import torch"] if needed and not self.own_step else []
        return list(dict.fromkeys([*groups, *moved, *torch, *self.chosen.imports]))

    @property
    def setup(self) -> list[str]:
        """Lines before the scheduler."""
        return [] if self.grouping is None else [*self.grouping.lines, ""]

    @property
    def before(self) -> list[str]:
        """Lines before the loop."""
        lines = [] if self.device == "cpu" else ["device = next(model.parameters()).device"]
        if self.clip_grad_norm is not None and not self.own_step:
            each = "for optimizer in optimizers " if self.optimizers else ""
            each += 'for group in optimizer.param_groups for each in group["params"]'
            lines.append(f"parameters = [each {each}]")
        if self.grad_scaler and not self.own_step:
            lines.append(f'scaler = torch.amp.GradScaler("{self.device}")')
        if self.accumulation_steps > 1:
            lines += ["batches = []"] if self.collects else self._zero_grad
        return lines

    @property
    def in_pass(self) -> list[str]:
        """Lines at the start of each pass, as what evaluates after a pass leaves its own mode."""
        return [f"{name}.train()" for name in self.train_mode]

    def in_batch(self, after_update: Sequence[str]) -> list[str]:
        """Lines for each batch; with accumulation without the update itself, whose place the loop decides.

        Args:
            after_update: lines for each update that was made.
        """
        moved = [] if self.device == "cpu" else [self.chosen.moved]
        if self.collects:
            return [*moved, f"batches.append({self.chosen.batch})"]
        if self.own_step:
            return [*moved, *self._own_step(after_update)]
        if self.closure:
            inside = [*self._zero_grad, *self._loss, "loss.backward()", *self._clip, "return loss"]
            return [*moved, "def closure():", *indented(inside), "loss = optimizer.step(closure)", *after_update]
        if self.accumulation_steps > 1:
            part = f"loss / {self.accumulation_steps}"
            backward = f"scaler.scale({part}).backward()" if self.grad_scaler else f"({part}).backward()"
            return [*moved, *self._loss, backward]
        backward = "scaler.scale(loss).backward()" if self.grad_scaler else "loss.backward()"
        return [*moved, *self._zero_grad, *self._loss, backward, *self._update(after_update)]

    def update(self, after_update: Sequence[str]) -> list[str]:
        """Lines for each update where several batches make one."""
        if self.own_step:
            return [*self._own_step(after_update), "batches = []"]
        if self.closure:
            return [*self._closure_of_several, "loss = optimizer.step(closure)", *after_update, "batches = []"]
        return [*self._update(after_update), *self._zero_grad]

    def for_each(self, line: str, kind: str = "optimizer") -> list[str]:
        """A line that names ``optimizer`` or ``scheduler``, in a loop where there are several of them."""
        return [f"for {kind} in {kind}s:", f"    {line}"] if self.optimizers else [line]

    @property
    def _zero_grad(self) -> list[str]:
        return self.for_each("optimizer.zero_grad()")

    @property
    def _loss(self) -> list[str]:
        lines = self.chosen.lines
        if self.amp_dtype is None:
            return list(lines)
        return [f'with torch.autocast("{self.device}", dtype=torch.{self.amp_dtype}):', *indented(lines)]

    @property
    def _clip(self) -> list[str]:
        norm = self.clip_grad_norm
        return [] if norm is None else [f"torch.nn.utils.clip_grad_norm_(parameters, {norm!r})"]

    @property
    def _closure_of_several(self) -> list[str]:
        each = [*self._loss, "loss = loss / len(batches)", "loss.backward()", "total += loss.detach()"]
        batches = [f"for {self.chosen.drawn} in batches:", *indented(each)]
        inside = [*self._zero_grad, "total = 0.0", *batches, *self._clip, "return total"]
        return ["def closure():", *indented(inside)]

    def _own_step(self, after_update: Sequence[str]) -> list[str]:
        given = "batches" if self.collects else "data"
        lines = [line.replace("(data)", f"({given})") for line in self.chosen.lines]
        if not after_update:
            return lines
        if "flag" in self.form:
            return [*lines, "if updated:", *indented(after_update)]
        return _if_not_skipped(lines, after_update) if self.grad_scaler else [*lines, *after_update]

    def _update(self, after_update: Sequence[str]) -> list[str]:
        if not self.grad_scaler:
            return [*self._clip, *self.for_each("optimizer.step()"), *after_update]
        unscaled = [*self.for_each("scaler.unscale_(optimizer)"), *self._clip] if self._clip else []
        lines = [*self.for_each("scaler.step(optimizer)"), "scaler.update()"]
        return [*unscaled, *(_if_not_skipped(lines, after_update) if after_update else lines)]


def _if_not_skipped(update: Sequence[str], after_update: Sequence[str]) -> list[str]:
    """An update with a GradScaler, which lowers its scale where it skips one, and lines for each that was made."""
    condition = "if scaler.get_scale() >= scale:  # not where the scaler skipped the update"
    return ["scale = scaler.get_scale()", *update, condition, *indented(after_update)]


def indented(lines: Sequence[str], depth: int = 1) -> list[str]:
    """The lines that many levels deeper."""
    return [f"{' ' * 4 * depth}{line}" for line in lines]
