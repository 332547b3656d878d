"""Sparse and nested tensors wherever a training may hold them: torch gives them no size in bytes, or no shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lrfinder import LRFinder
from lrfinder.training.contents import size_in_bytes

FEATURES, CLASSES = torch.eye(48)[:, :8], torch.arange(48) % 3
BATCHES = list(zip(FEATURES.split(16), CLASSES.split(16), strict=True))


class Graph(nn.Module):
    """A layer of a graph network, with its neighbours in a sparse matrix."""

    def __init__(self, neighbours: Tensor, *, buffer: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)
        self.neighbours: Tensor
        if buffer:
            self.register_buffer("neighbours", neighbours)
        else:
            self.neighbours = neighbours

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.sparse.mm(self.neighbours, self.layer(inputs))


class Rows(Dataset[Any]):
    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __len__(self) -> int:
        return len(FEATURES)

    def __getitem__(self, index: int) -> Any:
        return FEATURES[index], CLASSES[index]


def in_loss(neighbours: Tensor) -> Any:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(torch.sparse.mm(neighbours, model(batch[0])), batch[1])

    return nn.Linear(8, 3), BATCHES, {"loss_fn": loss}


CRITERION = {"criterion": nn.CrossEntropyLoss()}
PLACES: dict[str, Callable[[Tensor], tuple[nn.Module, Any, dict[str, Any]]]] = {
    "batches": lambda _: (nn.Linear(8, 3), [(part.to_sparse(), classes) for part, classes in BATCHES], CRITERION),
    "data set": lambda held: (nn.Linear(8, 3), DataLoader(Rows(held), 16), CRITERION),
    "loss": in_loss,
    "model": lambda held: (Graph(held, buffer=False), BATCHES, CRITERION),
    "buffer": lambda held: (Graph(held, buffer=True), BATCHES, CRITERION),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_sparse_tensor_may_be_anywhere(place: str) -> None:
    held = torch.eye(16).to_sparse()
    model, loader, options = PLACES[place](held)
    before = {name: value.to_dense().clone() for name, value in model.state_dict().items()}
    finder = LRFinder(model, torch.optim.SGD(model.parameters(), lr=0.1), **options)
    assert finder.range_test(loader, progress=False).curve.losses
    assert torch.equal(held.to_dense(), torch.eye(16))
    assert all(torch.equal(value.to_dense(), before[name]) for name, value in model.state_dict().items())


class Pooled(nn.Module):
    """The mean of each sequence of a nested tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([each.mean(0) for each in self.layer(inputs).unbind()])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_batches_of_nested_tensors_are_counted_and_trained_on(layout: torch.layout) -> None:
    def batch() -> tuple[Tensor, Tensor]:
        rows = [torch.randn(length, 8) for length in (3, 5, 4, 2)]
        return torch.nested.nested_tensor(rows, layout=layout), torch.arange(4) % 3

    model = Pooled()
    finder = LRFinder(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
    curve = finder.range_test([batch() for _ in range(6)], progress=False).curve
    assert curve.losses and curve.facts is not None and curve.facts.batch_size == 4


def test_the_size_of_a_sparse_tensor_is_that_of_its_parts() -> None:
    dense = torch.eye(16)
    assert size_in_bytes(dense) == 16 * 16 * 4
    assert size_in_bytes(dense.to_sparse()) == 16 * (2 * 8 + 4)
