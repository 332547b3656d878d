"""Takes statistics of a sample of each parameter, by which one can tell trained weights from fresh ones.

Running statistics and ``num_batches_tracked`` are not among them: a forward pass in training mode moves them as well.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lrfinder.training.state.tensors import is_dense
from lrfinder.training.trained_signs import LayerSeen, VectorSeen, WeightSeen, are_trained

__all__ = ["TrainedShares", "trained_shares", "vector_statistics", "weight_statistics"]

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

    by_group: tuple[float | None, ...] | None = None
    frozen: float | None = None
    whole: float | None = None


def trained_shares(model: nn.Module, groups: Sequence[Sequence[Tensor]]) -> TrainedShares:
    """Shares of a model's elements that are in trained layers; waits for the devices of its parameters, once for each.

    Args:
        model: the model.
        groups: parameters of each group of the optimizer.
    """
    layers = _layers(model)
    group_of = {id(parameter): index for index, group in enumerate(groups) for parameter in group}
    sizes = [  # group (None for frozen), verdict, elements
        (group_of.get(id(tensor)) if tensor.requires_grad else None, verdict, tensor.numel())
        for layer, verdict in zip(layers, are_trained(_examined(layers)), strict=True)
        for _, tensor in layer
        if isinstance(tensor, nn.Parameter) and not isinstance(tensor, nn.parameter.UninitializedParameter)
    ]
    parts = [[each for each in sizes if each[0] == group] for group in (*range(len(groups)), None)]
    *by_group, frozen = map(_share, parts)
    return TrainedShares(by_group=tuple(by_group), frozen=frozen, whole=_share(sizes))


def _share(sizes: list[tuple[int | None, bool | None, int]]) -> float | None:
    known = sum(elements for _, verdict, elements in sizes if verdict is not None)
    if not known or known < _LEAST_KNOWN * sum(elements for _, _, elements in sizes):
        return None
    return round(sum(elements for _, verdict, elements in sizes if verdict) / known, 4)


def _layers(model: nn.Module) -> list[list[tuple[str, Tensor]]]:
    """Names and parameters that each module holds itself, those of earlier modules and empty ones left out."""
    layers, seen = [], set[int]()
    for module in model.modules():
        tensors = [(name, tensor) for name, tensor in _own_tensors(module) if id(tensor) not in seen]
        seen.update(id(tensor) for _, tensor in tensors)
        layers += [tensors] if tensors else []
    return layers


def _examined(layers: list[list[tuple[str, Tensor]]]) -> list[LayerSeen]:
    """The statistics of each layer, computed where its parameters are, and read from each device at once."""
    layers = [[(name, tensor) for name, tensor in layer if _can_be_examined(tensor)] for layer in layers]
    rows: dict[torch.device, list[Tensor]] = {}
    for _, tensor in itertools.chain.from_iterable(layers):
        statistics = weight_statistics(tensor) if _is_weight(tensor) else vector_statistics(tensor)
        rows.setdefault(tensor.device, []).append(statistics)
    read = {device: iter(torch.stack(each).tolist()) for device, each in rows.items()}
    return [_layer([(name, tensor, next(read[tensor.device])) for name, tensor in layer]) for layer in layers]


def _layer(parameters: list[tuple[str, Tensor, list[float]]]) -> LayerSeen:
    finite = [each for each in parameters if all(map(math.isfinite, each[2][:2]))]
    weights = (_weight(tensor, statistics) for _, tensor, statistics in finite if _is_weight(tensor))
    vectors = (_vector(name, tensor, statistics) for name, tensor, statistics in finite if not _is_weight(tensor))
    return LayerSeen(weights=tuple(weights), vectors=tuple(vectors))


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(recurse=False)
    # A frozen BatchNorm, as in torchvision's detection models, has its scale and shift as buffers.
    yield from ((name, buffer) for name, buffer in module.named_buffers(recurse=False) if name in ("weight", "bias"))


def _can_be_examined(tensor: Tensor) -> bool:
    return is_dense(tensor) and not tensor.is_meta and tensor.is_floating_point() and tensor.numel() > 1


def _is_weight(tensor: Tensor) -> bool:
    """False for a vector, also one of shape (1, 1, 768)."""
    return tensor.numel() > max(tensor.shape)


def _sample(weight: Tensor) -> Tensor:
    """Rows from all over the weight and their first columns, shape (rows, columns)."""
    return weight.detach()[:: -(-len(weight) // _ROWS)].flatten(1)[:, :_COLUMNS].to(torch.float32)


def _weight(weight: Tensor, statistics: list[float]) -> WeightSeen:
    outputs, inputs, *window = weight.shape
    stride = -(-outputs // _ROWS)
    return WeightSeen(
        fan_in=inputs * math.prod(window),
        fan_out=outputs * math.prod(window),
        rows=-(-outputs // stride),
        columns=min(inputs * math.prod(window), _COLUMNS),
        eps=torch.finfo(weight.dtype).eps,
        **dict(zip(_OF_WEIGHT, statistics, strict=True)),
    )


def _vector(name: str, vector: Tensor, statistics: list[float]) -> VectorSeen:
    size = min(vector.numel(), _VECTOR)
    return VectorSeen(name=name, size=size, **dict(zip(_OF_VECTOR, statistics, strict=False)))
