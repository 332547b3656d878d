"""Which exceptions are divergence: the weights that training made are their cause, and nothing else.

Once a learning rate is too high, distributions refuse nan, factorisations fail, and losses check their own values. Such
an exception says what a loss of nan says. An error in the user's code, in the data or of the machine says nothing of
the kind and has to be raised, so an exception counts as divergence only where all of this holds:

- Its type can come from values: no error of the machine (memory, files) and none of the program (a missing name or
  attribute, a wrong type, an iterator that has ended).
- It comes from the step or from the validation after it, not from the loader.
- The same step raises it again at the same place: it is no accident.
- The same step on the same batches does not raise from the weights at the start.

Where several ranks train one model every exception is raised: one rank alone cannot repeat a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import CodeType
from typing import Any

import torch

from lrfinder.errors import BatchError, LRFinderError, SetupError

__all__ = ["can_be_divergence", "failure_name", "infinite_where_it_diverges", "is_divergence", "make_update", "repeats"]

_OF_THE_MACHINE = (MemoryError, OSError, torch.OutOfMemoryError)
_OF_THE_PROGRAM = (
    *(AttributeError, ImportError, KeyError, NameError, NotImplementedError, SyntaxError, TypeError),
    StopIteration,  # of data that the step draws by itself
)
_ASKS_FOR_ANOTHER_CALL = ("closure", "create_graph", "grad_fn")


def is_divergence(error: Exception, attempt: Callable[[], object], rewind: Callable[[], object]) -> bool:
    """Whether an exception was caused by the weights that training made; the state is at the start afterwards, or lost.

    Args:
        error: raised by ``attempt`` with the weights as they are.
        attempt: makes the same step on the same batches again.
        rewind: puts the state of the start back.
    """
    if not can_be_divergence(error) or not repeats(error, attempt):
        return False
    rewind()
    try:
        attempt()
    except Exception:
        return False
    return True


def can_be_divergence(error: Exception) -> bool:
    """Whether an exception of this type can come from values that are too large or not finite.

    Example:
        >>> can_be_divergence(ValueError("the loss is nan")), can_be_divergence(FileNotFoundError("image.png"))
        (True, False)
    """
    cause = _cause(error)
    if isinstance(cause, (*_OF_THE_MACHINE, *_OF_THE_PROGRAM, LRFinderError)):
        return False
    return not (isinstance(cause, RuntimeError) and "memory" in str(cause))  # torch's CPU allocator has no type for it


def repeats(error: Exception, attempt: Callable[[], object]) -> bool:
    """Whether an attempt raises the exception again, at the same place."""
    try:
        attempt()
    except Exception as again:
        return _place(again) == _place(error)
    return False


def infinite_where_it_diverges(loss_at: Callable[[float], float]) -> Callable[[float], float]:
    """The same loss by learning rate, infinite where computing it raises what divergence can raise.

    The first learning rate asked for must be far too small to diverge: its exceptions are raised.

    Args:
        loss_at: LR -> loss after one update with it, from the same state and with the same batches each time.
    """
    calls = 0

    def loss(lr: float) -> float:
        nonlocal calls
        calls += 1
        try:
            return loss_at(lr)
        except Exception as error:
            if calls == 1 or not (can_be_divergence(error) and repeats(error, lambda: loss_at(lr))):
                raise
            return math.inf

    return loss


def failure_name(error: Exception) -> str:
    """Class name of the exception, of the criterion's own where we wrapped it.

    Example:
        >>> failure_name(torch.linalg.LinAlgError("the factorisation could not be completed"))
        'LinAlgError'
    """
    name = type(_cause(error)).__name__.lstrip("_")
    return name if name.isidentifier() else "Exception"


def make_update(optimizer: Any) -> None:
    """``optimizer.step()``.

    Raises:
        SetupError: the optimizer asks for another call, as those that make two passes or need second derivatives do.
    """
    try:
        optimizer.step()
    except Exception as error:
        if not any(word in str(error) for word in _ASKS_FOR_ANOTHER_CALL):
            raise
        raise SetupError(
            f"{type(optimizer).__name__}.step() raised {type(error).__name__}: {str(error).rstrip('. ')}. It was "
            "called after loss.backward(), without arguments. Where your training calls it in another way, as with a "
            "closure or after backward(create_graph=True), give the function that makes the step: LRFinder(..., "
            "step_fn=step)."
        ) from error


def _cause(error: Exception) -> BaseException:
    return error.__cause__ if isinstance(error, BatchError) and error.__cause__ is not None else error


def _place(error: Exception) -> tuple[type[BaseException], CodeType | None, int]:
    """Type of the exception, and the code and line that raised it."""
    cause = _cause(error)
    innermost = cause.__traceback__
    if innermost is None:
        return type(cause), None, 0
    while innermost.tb_next is not None:
        innermost = innermost.tb_next
    return type(cause), innermost.tb_frame.f_code, innermost.tb_lineno
