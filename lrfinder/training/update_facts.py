"""How a training makes its updates, as fields of :class:`ModelFacts`: what the printed lines have to do."""

from __future__ import annotations

import inspect
from typing import Any

from lrfinder.param_groups import mode_switches, optimizer_name
from lrfinder.schedules.forms import FORMS
from lrfinder.training.joint import parts_of
from lrfinder.training.setup import TrainingSetup, needs_closure

__all__ = ["update_facts"]


def update_facts(setup: TrainingSetup) -> dict[str, Any]:
    """Fields of :class:`ModelFacts` by name; to be taken before the first step changes a mode."""
    parts = parts_of(setup.optimizer)
    return {
        "ranks": setup.ranks.size,
        "accumulation_steps": setup.accumulation_steps,
        "clip_grad_norm": setup.clip_grad_norm,
        "amp_dtype": None if setup.amp_dtype is None else str(setup.amp_dtype).removeprefix("torch."),
        "grad_scaler": getattr(setup.grad_scaler, "is_enabled", lambda: setup.grad_scaler is not None)(),
        "device": setup.device.type,
        "optimizers": tuple((optimizer_name(part), len(part.param_groups)) for part in parts) if parts[1:] else None,
        "closure": setup.step_fn is None and needs_closure(setup.optimizer),
        "train_mode": _train_mode(setup),
        "form": _form(setup),
    }


def _form(setup: TrainingSetup) -> str:
    """What the printed lines have to compute: what the loss names, and for any other function of the user a call."""
    form = _named_form(setup.criterion or setup.loss_fn)
    if "trainer" in (form, _named_form(setup.step_fn)):
        return "trainer"
    if setup.step_fn is not None:
        return "two-part step" if isinstance(setup.step_fn, tuple) else "step"
    other = "own loss" if setup.criterion is None else "plain"
    return form if isinstance(form, str) and form in FORMS else other


def _named_form(function: Any) -> Any:
    return inspect.getattr_static(function, "form", None)  # runs no __getattr__ of the user's


def _train_mode(setup: TrainingSetup) -> tuple[str, ...]:
    """Names, in the printed lines, of a model in eval mode and of optimizers with two modes."""
    parts = parts_of(setup.optimizer)
    places = [place for place, part in enumerate(parts) if mode_switches(part) is not None]
    optimizers = [f"optimizers[{place}]" if len(parts) > 1 else "optimizer" for place in places]
    return (*([] if setup.model.training else ["model"]), *optimizers)
