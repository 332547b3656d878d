"""The network of the fuzz, and everything a model may do to itself while it trains."""

from __future__ import annotations

import copy
import random
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from fuzz_faults import strike, striking
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

__all__ = ["CLASSES", "FEATURES", "INPUTS", "Network"]

INPUTS, WIDTH, CLASSES = 5, 6, 3

Feature = Callable[[], nn.Module]
"""Makes a layer from (batch, WIDTH) to (batch, WIDTH)."""


class Network(nn.Module):
    """A small classifier with the layers of some features in the middle."""

    def __init__(self, features: Sequence[str]) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, WIDTH)
        self.layers = nn.ModuleList(FEATURES[name]() for name in features)
        self.lookup = nn.Embedding(4, CLASSES, sparse=True)
        self.last = nn.Linear(WIDTH, CLASSES)
        self.first.register_forward_hook(striking("forward hook"))

    def forward(self, inputs: Tensor) -> Tensor:
        strike("forward")
        hidden = torch.tanh(self.first(inputs))
        for layer in self.layers:
            hidden = layer(hidden)
        strike("late forward")
        output = self.last(hidden) + self.lookup((inputs[:, 0] > 0).long())
        if output.requires_grad:
            output.register_hook(striking("backward hook"))
        return output


class Own(nn.Module):
    """A layer of a user's own, with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))
        self.prepare()

    def prepare(self) -> None:
        """Make what the layer keeps about itself."""

    def change(self, hidden: Tensor) -> Tensor:
        """The output; changes what the layer keeps about itself."""
        raise NotImplementedError

    def forward(self, hidden: Tensor) -> Tensor:
        return self.change(hidden * self.weight)


class Counters(Own):
    """Numbers, text and containers as attributes, and one that was not there before."""

    def prepare(self) -> None:
        self.calls, self.name = 0, ""
        self.history: list[float] = []
        self.by_size: dict[int, list[int]] = {}
        self.recent: deque[int] = deque(maxlen=2)
        self.seen: set[int] = set()

    def change(self, hidden: Tensor) -> Tensor:
        self.calls += 1
        self.name += "x"
        self.history.append(float(hidden.detach().sum()))
        self.by_size.setdefault(len(hidden), []).append(self.calls)
        self.recent.append(self.calls)
        self.seen.add(self.calls)
        self.latest = hidden.detach()
        return hidden / (1 + 0.01 * self.calls + 0.001 * sum(self.recent))


class PlainTensors(Own):
    """Tensors and arrays as attributes and in containers: changed in place, replaced, deleted."""

    def prepare(self) -> None:
        self.hidden, self.array = torch.zeros(WIDTH), np.zeros(WIDTH, dtype=np.float32)
        self.cache: dict[str, Any] = {"mean": torch.zeros(WIDTH), "pair": (torch.zeros(2), [torch.zeros(2)])}
        self.spare: Tensor | None = torch.ones(WIDTH)

    def change(self, hidden: Tensor) -> Tensor:
        self.hidden += hidden.detach().mean(0).float()
        self.array += 0.1
        self.cache["mean"] = 0.9 * self.cache["mean"] + 0.1 * self.hidden
        self.cache["pair"][1][0] += 1
        self.spare = None
        return hidden + 0.01 * self.cache["mean"] + torch.from_numpy(0.01 * self.array)


class Buffers(Own):
    """Buffers: in place, replaced by one of the same shape, not persistent, None at first."""

    def prepare(self) -> None:
        self.register_buffer("inplace", torch.zeros(WIDTH))
        self.register_buffer("replaced", torch.zeros(WIDTH), persistent=False)
        self.register_buffer("later", None)
        self.inplace: Tensor
        self.replaced: Tensor

    def change(self, hidden: Tensor) -> Tensor:
        self.inplace += hidden.detach().mean(0).float()
        self.replaced = 0.9 * self.replaced + 0.01 * self.inplace
        self.later = self.replaced * 2
        return hidden + 0.1 * self.replaced


class GrowingBuffer(Own):
    """A buffer that has another shape after each call: replaced."""

    def prepare(self) -> None:
        self.register_buffer("rows", torch.zeros(1, WIDTH))
        self.rows: Tensor

    def change(self, hidden: Tensor) -> Tensor:
        self.rows = torch.cat([self.rows, hidden.detach()[:1].float()])[-4:]
        return hidden + 0.1 * self.rows.mean(0)


class ResizedBuffer(GrowingBuffer):
    """A buffer that is resized in place, as observers of quantisation do."""

    def change(self, hidden: Tensor) -> Tensor:
        rows = min(len(self.rows) + 1, 5)
        self.rows.resize_(rows, WIDTH).fill_(float(hidden.detach().mean()))
        return hidden + 0.1 * self.rows.mean(0) / rows


class InferenceBuffer(GrowingBuffer):
    """A buffer replaced by a tensor made under ``inference_mode``."""

    def change(self, hidden: Tensor) -> Tensor:
        with torch.inference_mode():
            self.rows = self.rows * 0.9 + 0.1
        return hidden + 0.01 * float(self.rows.sum())


class LateBuffer(Own):
    """A buffer that the first call makes."""

    def change(self, hidden: Tensor) -> Tensor:
        if "mean" not in self._buffers:
            self.register_buffer("mean", torch.zeros(WIDTH))
        self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean(0)
        return hidden - 0.1 * self.mean


class LateModule(Own):
    """A submodule that the first call makes; its weights are drawn then, and not trained."""

    def change(self, hidden: Tensor) -> Tensor:
        if not hasattr(self, "inner"):
            self.inner = nn.Linear(WIDTH, WIDTH)
        return hidden + 0.1 * self.inner(hidden)


class ListedModules(Own):
    """Modules in a plain list, which ``modules()`` leaves out."""

    def prepare(self) -> None:
        self.listed = [nn.BatchNorm1d(WIDTH, affine=False), Buffers()]

    def change(self, hidden: Tensor) -> Tensor:
        for module in self.listed:
            hidden = module(hidden)
        return hidden


class TorchGenerator(Own):
    """Noise from a torch generator of the layer's own."""

    def prepare(self) -> None:
        self.generator = torch.Generator().manual_seed(5)

    def change(self, hidden: Tensor) -> Tensor:
        return hidden + 0.1 * torch.randn(WIDTH, generator=self.generator)


class NumpyGenerator(Own):
    """Noise from NumPy generators of the layer's own."""

    def prepare(self) -> None:
        self.generator, self.legacy = np.random.default_rng(5), np.random.RandomState(6)

    def change(self, hidden: Tensor) -> Tensor:
        return hidden * (1 + 0.1 * float(self.generator.random()) + 0.1 * float(self.legacy.rand()))


class PythonGenerator(Own):
    """Noise from a Python generator of the layer's own."""

    def prepare(self) -> None:
        self.generator = random.Random(5)

    def change(self, hidden: Tensor) -> Tensor:
        return hidden * (1 + 0.1 * self.generator.random())


class GlobalRandomness(Own):
    """Noise from the global generators of Python, NumPy and torch."""

    def change(self, hidden: Tensor) -> Tensor:
        return hidden * (1 + 0.1 * random.random() + 0.1 * float(np.random.rand()) + 0.1 * torch.rand(WIDTH))


class Tally:
    """A plain object that counts, and keeps a tensor."""

    def __init__(self) -> None:
        self.calls, self.mean = 0, torch.zeros(WIDTH)


class Pair(NamedTuple):
    """Two tensors under names."""

    mean: Tensor
    spread: Tensor


class PlainObject(Own):
    """A plain object as attribute."""

    def prepare(self) -> None:
        self.tally = Tally()

    def change(self, hidden: Tensor) -> Tensor:
        self.tally.calls += 1
        self.tally.mean += hidden.detach().mean(0)
        return hidden / (1 + 0.01 * self.tally.calls) + 0.01 * self.tally.mean


class NamedPair(Own):
    """Tensors in a named tuple."""

    def prepare(self) -> None:
        self.pair = Pair(torch.zeros(WIDTH), torch.ones(WIDTH))

    def change(self, hidden: Tensor) -> Tensor:
        self.pair.mean.add_(hidden.detach().mean(0))
        return hidden + 0.01 * self.pair.mean


class ParameterAttribute(Own):
    """A number and a tensor kept on the parameter itself."""

    def prepare(self) -> None:
        self.weight.calls, self.weight.total = 0, torch.zeros(())

    def change(self, hidden: Tensor) -> Tensor:
        self.weight.calls += 1
        self.weight.total += 0.1
        return hidden / (1 + 0.01 * self.weight.calls) + 0.01 * self.weight.total


class Unfreezing(Own):
    """A bias that is frozen for the first eight calls."""

    def prepare(self) -> None:
        self.bias = nn.Parameter(torch.zeros(WIDTH), requires_grad=False)
        self.register_buffer("calls", torch.zeros(()))
        self.calls: Tensor

    def change(self, hidden: Tensor) -> Tensor:
        self.calls += 1
        self.bias.requires_grad_(bool(self.calls > 8))
        return hidden + self.bias


class Recurrent(Own):
    """A hidden state carried from batch to batch, detached."""

    def prepare(self) -> None:
        self.cell = nn.GRUCell(WIDTH, WIDTH)
        self.state: Tensor | None = None

    def change(self, hidden: Tensor) -> Tensor:
        last = torch.zeros(1, WIDTH) if self.state is None else self.state
        carried = self.cell(hidden, last.expand(len(hidden), WIDTH))
        self.state = carried.detach().mean(0, keepdim=True).float()
        return hidden + 0.1 * carried


class Teacher(Own):
    """A frozen copy of a layer, moved after it as a teacher is, and left out of ``modules()``."""

    def prepare(self) -> None:
        self.student = nn.Linear(WIDTH, WIDTH)
        object.__setattr__(self, "beside", copy.deepcopy(self.student).requires_grad_(False))

    def change(self, hidden: Tensor) -> Tensor:
        self.beside.weight.lerp_(self.student.weight.detach(), 0.2)
        return hidden + 0.1 * self.student(hidden) + 0.1 * self.beside(hidden)


def linear(change: Callable[[nn.Linear], Any]) -> Feature:
    """A linear layer, changed."""

    def make() -> nn.Module:
        layer = nn.Linear(WIDTH, WIDTH)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the older forms are deprecated, and used
            change(layer)
        return layer

    return make


def frozen_batchnorm() -> nn.Module:
    return nn.BatchNorm1d(WIDTH).eval().requires_grad_(False)


def tied() -> nn.Module:
    layers = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))
    layers[2].weight = layers[0].weight
    return layers


def shared() -> nn.Module:
    layer = nn.BatchNorm1d(WIDTH)
    return nn.Sequential(layer, nn.Tanh(), layer)


def counted() -> nn.Module:
    """A layer with a hook that counts on the layer itself."""
    layer = nn.Linear(WIDTH, WIDTH)
    layer.register_buffer("calls", torch.zeros(()))
    layer.register_forward_hook(lambda module, inputs, output: output / (1 + 0.01 * module.calls.add_(1)))
    return layer


FEATURES: dict[str, Feature] = {
    "BatchNorm": lambda: nn.BatchNorm1d(WIDTH),
    "BatchNorm with a cumulative average": lambda: nn.BatchNorm1d(WIDTH, momentum=None),
    "frozen BatchNorm": frozen_batchnorm,
    "LayerNorm": lambda: nn.LayerNorm(WIDTH),
    "dropout": lambda: nn.Dropout(0.3),
    "frozen layer": lambda: nn.Linear(WIDTH, WIDTH).requires_grad_(False),
    "tied weights": tied,
    "layer used twice": shared,
    "buffers": Buffers,
    "growing buffer": GrowingBuffer,
    "resized buffer": ResizedBuffer,
    "inference buffer": InferenceBuffer,
    "late buffer": LateBuffer,
    "late module": LateModule,
    "counters": Counters,
    "plain tensors": PlainTensors,
    "plain object": PlainObject,
    "named tuple": NamedPair,
    "parameter attribute": ParameterAttribute,
    "unfreezing": Unfreezing,
    "modules in a list": ListedModules,
    "recurrent state": Recurrent,
    "teacher": Teacher,
    "hook that counts": counted,
    "torch generator": TorchGenerator,
    "NumPy generator": NumpyGenerator,
    "Python generator": PythonGenerator,
    "global randomness": GlobalRandomness,
    "weight norm": linear(parametrizations.weight_norm),
    "spectral norm": linear(parametrizations.spectral_norm),
    "orthogonal": linear(parametrizations.orthogonal),
    "old weight norm": linear(nn.utils.weight_norm),
    "old spectral norm": linear(nn.utils.spectral_norm),
    "pruning": linear(lambda layer: prune.random_unstructured(layer, "weight", 0.3)),
}
"""A layer for each thing a model may do."""
