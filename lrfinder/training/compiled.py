"""Compiled models, and optimizers whose ``step`` is compiled, as in ``optimizer.step = torch.compile(optimizer.step)``.

Compiled code is compiled again when a number it has seen changes, or a tensor of the optimizer's state is replaced. A
sweep would do both in every iteration; the two contexts here prevent it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.training.joint import parts_of

__all__ = ["eager_step", "is_compiled", "tensor_lrs"]


def is_compiled(model: nn.Module) -> bool:
    """Whether the model, or a part of it, is compiled."""
    return any("_orig_mod" in each._modules or each._compiled_call_impl is not None for each in model.modules())


@contextlib.contextmanager
def tensor_lrs(optimizer: Any) -> Iterator[None]:
    """Context in which an optimizer with a compiled ``step`` holds its learning rates in tensors.

    Compiled code treats a number as a constant and a tensor as an input. The tensors are float64 on the CPU, where
    writing them makes no GPU wait. On the way out the groups have their former entries. Without a compiled step
    nothing changes.
    """
    before = [dict(group) for group in optimizer.param_groups]
    for part in filter(_is_compiled, parts_of(optimizer)):
        for group in part.param_groups:
            if not isinstance(group["lr"], Tensor):
                group["lr"] = torch.tensor(group["lr"], dtype=torch.float64, device="cpu")
                if group.get("foreach") and not group.get("capturable", True):
                    group["foreach"] = None  # torch refuses the two together; compiled, the step is the same
    try:
        yield
    finally:
        for group, entries in zip(optimizer.param_groups, before, strict=True):
            group.update(entries)


@contextlib.contextmanager
def eager_step(optimizer: Any, step_fn: Any = None) -> Iterator[None]:
    """Context in which an optimizer with a compiled ``step`` runs it uncompiled.

    Compiled code is tied to the tensors of the optimizer's state. The first update creates them, and restoring a
    snapshot may discard them; compiling such an update would be wasted. A ``step_fn`` may call the optimizer from a
    compiled function of its own. With one, nothing is compiled anew: torch compiles a function a few times at most, and
    the training afterwards would run uncompiled.
    """
    compiled = [(part, part.step) for part in filter(_is_compiled, parts_of(optimizer))]
    for part, step in compiled:
        part.step = step._torchdynamo_orig_callable
    try:
        with warnings.catch_warnings():
            # On a GPU, compiling sets capturable, and an uncompiled step warns that this is slow.
            warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")
            with contextlib.nullcontext() if step_fn is None else torch.compiler.set_stance("eager_on_recompile"):
                yield
    finally:
        for part, step in compiled:
            part.step = step


def _is_compiled(optimizer: Any) -> bool:
    # Only a step set on the instance; the class's own may carry the mark that it must not be compiled.
    step = vars(optimizer).get("step")
    return hasattr(step, "_torchdynamo_orig_callable") and not getattr(step, "_torchdynamo_disable", False)
