"""Forward and backward passes recorded once as a CUDA graph and replayed.

Most of a small model's step on a GPU is the host telling it what to do, operation by operation. A graph is told once,
and each replay is a single call with the same numbers as a result. What Python does in between (a branch, a counter, a
hook, a print) was done when it was recorded and is not done again, so nobody gets a graph who has not asked for one.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.batches import copied, describe_batch, tensors_in
from lrfinder.errors import BatchError, SetupError

__all__ = ["Graphed"]

_WARM_UP = 3  # passes made as usual before: libraries choose their kernels and compilers compile at the first ones

_log = logging.getLogger("lrfinder")

Passes = Callable[[Sequence[Any]], Tensor]


class Graphed:
    """Forward and backward passes of an iteration, from a graph where there is one for such batches.

    The first three iterations are made as usual, and so are all whose batches differ from the recorded ones in shape,
    type or in what is not a tensor: the last and smaller batch of a loader, say. Gradients lie in the graph's own
    memory, which lives as long as this object.

    Args:
        parameters: all whose gradients the passes fill, on one CUDA device.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(dict.fromkeys(parameters))
        self._places = self._addresses()
        self._made = 0
        self._kind: Any = None  # of the batches that were recorded
        self._inputs: list[Tensor] = []
        self._told = False

    def run(self, passes: Passes, batches: Sequence[Any]) -> Tensor:
        """What ``passes(batches)`` does and returns; the loss may lie in memory that the next call writes into.

        Args:
            passes: fills the gradients from batches on the device and returns their loss, detached; the same each time.
            batches: of one iteration.

        Raises:
            BatchError: a batch that holds something a graph cannot be given anew.
            SetupError: the passes cannot be recorded.
        """
        self._made += 1
        if self._made <= _WARM_UP:
            return passes(batches)
        kind = _kind_of(batches)
        if self._kind is None:
            self._kind = kind
            static = copied(batches)
            self._inputs = list(tensors_in(static))
            self._replay, self._loss = self._record(passes, static)
            self._gradients = [parameter.grad for parameter in self._parameters]
        elif kind != self._kind:
            if not self._told:
                self._told = True
                _log.info("batches of another shape than those in the CUDA graph are trained as usual")
            return passes(batches)
        else:
            for own, given in zip(self._inputs, tensors_in(batches), strict=True):
                own.copy_(given, non_blocking=True)
        self._replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._loss

    def _record(self, passes: Passes, batches: Sequence[Any]) -> tuple[Callable[[], object], Tensor]:
        if self._addresses() != self._places:
            raise SetupError(
                "the optimizer gives the parameters other memory at each update, which a CUDA graph cannot follow. "
                "Leave cuda_graph out."
            )
        try:
            return _record(lambda: passes(batches), self._parameters[0].device)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise SetupError(
                f"the training step cannot be recorded as a CUDA graph: {_first_line(error)} It may ask the GPU for a "
                "number (.item(), print, an if on a tensor) or copy from the CPU. Leave cuda_graph out."
            ) from error

    def _addresses(self) -> list[int]:
        return [parameter.data_ptr() for parameter in self._parameters]


def _record(run: Callable[[], Tensor], device: torch.device) -> tuple[Callable[[], object], Tensor]:
    """Record what it does, without doing it. Gives what replays it, and the tensor it returns, filled by a replay."""
    # By hand, as torch.cuda.graph() first collects all garbage and empties the allocator's cache: a sweep of a small
    # model takes less time than that. Workers that pin memory in threads of their own may go on: "thread_local".
    graph = torch.cuda.CUDAGraph()
    stream = _recording_stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            result = run()
            graph.capture_end()
        except BaseException:
            with suppress(RuntimeError):  # says again that it failed
                graph.capture_end()
            _end_failed_recording()
            raise
    torch.cuda.current_stream(device).wait_stream(stream)
    return graph.replay, result


@functools.cache
def _recording_stream(device: torch.device) -> Any:
    # Always the same: cuBLAS has some room of its own on each stream, and keeps it.
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _end_failed_recording() -> None:
    # The random generator takes itself for being recorded still, and refuses to draw, until a recording ends well.
    graph = torch.cuda.CUDAGraph()
    graph.capture_begin(capture_error_mode="thread_local")
    torch.zeros(1, device="cuda")
    graph.capture_end()


def _kind_of(batch: Any) -> Any:
    """What has to be the same for a graph to serve another batch."""
    if isinstance(batch, Tensor):
        return batch.shape, batch.dtype, batch.device
    if isinstance(batch, Mapping):
        return type(batch), [(key, _kind_of(value)) for key, value in batch.items()]
    if isinstance(batch, (list, tuple)):
        return type(batch), [_kind_of(value) for value in batch]
    if batch is None or isinstance(batch, (str, bytes, int, float)):
        return batch
    raise BatchError(
        f"a CUDA graph can be given tensors in lists, tuples and dicts; the batch holds {describe_batch(batch)}. "
        "Leave cuda_graph out."
    )


def _first_line(error: Exception) -> str:
    return f"{str(error).partition(chr(10))[0].rstrip('.') or type(error).__name__}."
