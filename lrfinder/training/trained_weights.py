"""Takes statistics of a sample of each parameter, by which one can tell trained weights from fresh ones.

Running statistics and ``num_batches_tracked`` are not among them: a forward pass in training mode moves them as well.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lrfinder.training.state.tensors import is_dense
from lrfinder.training.trained_signs import LayerSeen, VectorSeen, WeightSeen, are_trained

__all__ = ["Examination", "TrainedShares", "vector_statistics", "weight_statistics"]

_ROWS, _COLUMNS, _VECTOR = 128, 256, 256  # elements sampled of each parameter
_LEAST_KNOWN = 0.5
_OF_WEIGHT = ("low", "high", "zeros", "rms", "whole_kurtosis", "kurtosis", "row_dispersion", "column_dispersion")
_OF_VECTOR = ("low", "high", "mean", "sd", "kurtosis", "distinct")
_CLIP = 9.0  # no pair of rows counts more: gates and heads packed into one weight may have different scales


def weight_statistics(weight: Tensor) -> Tensor:
    """Statistics of a weight as in :class:`WeightSeen`, from ``low`` to ``column_dispersion``, shape (8,).

    Dispersion is the mean squared difference of the mean squares of neighbouring rows, relative to that of an
    independent draw. Neighbours are compared because initialisers may scale whole blocks of rows.
    """
    sample = _sample(weight)
    low, high = sample.aminmax()
    scale = torch.maximum(-low, high)
    squares = (sample / scale).square_()  # of numbers up to 1, as powers of others overflow
    fourth = torch.linalg.vector_norm(squares).square() / sample.numel()
    kurtosis, dispersion = [], []
    for along in (1, 0):
        means = squares.mean(along)
        first, second = means[:-1], means[1:]
        kurtosis.append(fourth / (first * second).mean())
        expected = (kurtosis[-1] - 1) / (2 * sample.shape[along])
        difference = ((second - first) / (second + first)).nan_to_num(0.0).square()
        dispersion.append((difference / expected).clamp(max=_CLIP).mean())
    mean = means.mean()
    zeros = 1 - sample.count_nonzero() / sample.numel()
    whole = fourth / mean.square()
    return torch.stack([low, high, zeros, scale * mean.sqrt(), whole, torch.minimum(*kurtosis), *dispersion])


def vector_statistics(vector: Tensor) -> Tensor:
    """Statistics of a vector as in :class:`VectorSeen`, from ``low`` to ``distinct``, with two unused; shape (8,)."""
    sample = vector.detach().flatten()[:_VECTOR].to(torch.float32).sort().values
    mean = sample.mean()
    spread = torch.maximum(sample[-1] - mean, mean - sample[0])
    squares = ((sample - mean) / spread).square_()
    variance = squares.mean()
    distinct = 1 + (sample[1:] != sample[:-1]).sum()
    kurtosis = torch.linalg.vector_norm(squares).square() / (squares.numel() * variance.square())
    return torch.stack([sample[0], sample[-1], mean, spread * variance.sqrt(), kurtosis, distinct, mean, mean])


class TrainedShares(NamedTuple):
    """Shares of elements that are in trained layers, 0 to 1.

    Layers of which nothing can be said are left out; None where that leaves less than half of the elements.
    """

    by_group: tuple[float | None, ...]
    frozen: float | None
    whole: float | None


class _Queued(NamedTuple):
    """A parameter whose statistics are in one row of those on its device."""

    name: str
    shape: torch.Size
    eps: float
    device: torch.device
    row: int


class Examination:
    """Statistics of a model's parameters, computed where these are; nothing waits for a GPU before :meth:`layers`.

    Args:
        model: the model.
        groups: parameters of each group of the optimizer.
    """

    def __init__(self, model: nn.Module, groups: Sequence[Sequence[Tensor]]) -> None:
        self._group_count = len(groups)
        self._group_of = {id(parameter): index for index, group in enumerate(groups) for parameter in group}
        self._sizes: list[tuple[int | None, int, int]] = []  # group (None for frozen), layer, elements
        self._layers: list[list[_Queued]] = []
        self._rows: dict[torch.device, list[Tensor]] = {}
        seen: set[int] = set()
        for module in model.modules():
            tensors = [(name, tensor) for name, tensor in _own_tensors(module) if id(tensor) not in seen]
            if tensors:
                seen.update(id(tensor) for _, tensor in tensors)
                self._add_layer(tensors)
        self._statistics = {device: torch.stack(rows) for device, rows in self._rows.items()}
        self._rows.clear()

    def _add_layer(self, tensors: list[tuple[str, Tensor]]) -> None:
        for _, tensor in tensors:
            if isinstance(tensor, nn.Parameter) and not isinstance(tensor, nn.parameter.UninitializedParameter):
                group = self._group_of.get(id(tensor)) if tensor.requires_grad else None
                self._sizes.append((group, len(self._layers), tensor.numel()))
        self._layers.append([self._queue(name, tensor) for name, tensor in tensors if _can_be_examined(tensor)])

    def _queue(self, name: str, tensor: Tensor) -> _Queued:
        rows = self._rows.setdefault(tensor.device, [])
        rows.append(weight_statistics(tensor) if _is_weight(tensor.shape) else vector_statistics(tensor))
        return _Queued(name, tensor.shape, torch.finfo(tensor.dtype).eps, tensor.device, len(rows) - 1)

    def layers(self) -> list[LayerSeen]:
        """The statistics of each module that holds parameters, in order; on a GPU this waits for them."""
        read = {device: statistics.tolist() for device, statistics in self._statistics.items()}
        layers = []
        for layer in self._layers:
            rows = [(queued, read[queued.device][queued.row]) for queued in layer]
            finite = [(queued, row) for queued, row in rows if all(map(math.isfinite, row[:2]))]
            weights = [_weight(queued, row) for queued, row in finite if _is_weight(queued.shape)]
            vectors = [_vector(queued, row) for queued, row in finite if not _is_weight(queued.shape)]
            layers.append(LayerSeen(weights=tuple(weights), vectors=tuple(vectors)))
        return layers

    def shares(self) -> TrainedShares:
        """Share of the elements that are in trained layers; on a GPU this waits for the statistics."""
        verdicts = are_trained(self.layers())

        def share(included: Callable[[int | None], bool]) -> float | None:
            sizes = [(verdicts[layer], elements) for group, layer, elements in self._sizes if included(group)]
            known = sum(elements for verdict, elements in sizes if verdict is not None)
            if not known or known < _LEAST_KNOWN * sum(elements for _, elements in sizes):
                return None
            return round(sum(elements for verdict, elements in sizes if verdict) / known, 4)

        return TrainedShares(
            by_group=tuple(share(partial(operator.eq, index)) for index in range(self._group_count)),
            frozen=share(lambda group: group is None),
            whole=share(lambda group: True),
        )


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(recurse=False)
    # A frozen BatchNorm, as in torchvision's detection models, has its scale and shift as buffers.
    yield from ((name, buffer) for name, buffer in module.named_buffers(recurse=False) if name in ("weight", "bias"))


def _can_be_examined(tensor: Tensor) -> bool:
    return is_dense(tensor) and not tensor.is_meta and tensor.is_floating_point() and tensor.numel() > 1


def _is_weight(shape: torch.Size) -> bool:
    """False for a vector, also one of shape (1, 1, 768)."""
    return shape.numel() > max(shape)


def _sample(weight: Tensor) -> Tensor:
    """Rows from all over the weight and their first columns, shape (rows, columns)."""
    return weight.detach()[:: -(-len(weight) // _ROWS)].flatten(1)[:, :_COLUMNS].to(torch.float32)


def _weight(queued: _Queued, statistics: list[float]) -> WeightSeen:
    outputs, inputs, *window = queued.shape
    stride = -(-outputs // _ROWS)
    return WeightSeen(
        fan_in=inputs * math.prod(window),
        fan_out=outputs * math.prod(window),
        rows=-(-outputs // stride),
        columns=min(inputs * math.prod(window), _COLUMNS),
        eps=queued.eps,
        **dict(zip(_OF_WEIGHT, statistics, strict=True)),
    )


def _vector(queued: _Queued, statistics: list[float]) -> VectorSeen:
    size = min(queued.shape.numel(), _VECTOR)
    return VectorSeen(name=queued.name, size=size, **dict(zip(_OF_VECTOR, statistics, strict=False)))
