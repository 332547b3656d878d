"""Copies of the state: where they are stored, and that they equal it for tensors of any kind."""

from __future__ import annotations

import logging
import mmap
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from worlds import mlp, plain, sgd

from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state import Snapshot, preserved
from lrfinder.training.state.memory import STORAGES, block_layout, pin, unpin

storages = pytest.mark.parametrize("storage", STORAGES)

TENSORS: dict[str, Tensor] = {
    "contiguous": torch.randn(3, 4),
    "scalar": torch.tensor(2.5),
    "empty": torch.empty(0, 3),
    "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "transposed": torch.randn(3, 4).t(),
    "slice with gaps": torch.randn(6, 6)[::2, 1:4],
    "bool": torch.tensor([True, False, True]),
    "int64": torch.arange(5),
    "uint8": torch.arange(3, dtype=torch.uint8),
    "float64": torch.randn(3, dtype=torch.float64),
    "bfloat16": torch.randn(5).to(torch.bfloat16),
    "float8": torch.randn(3).to(torch.float8_e4m3fn),
    "complex": torch.randn(3, dtype=torch.complex64),
    "conjugate view": torch.randn(3, dtype=torch.complex64).conj(),
    "sparse": torch.eye(3).to_sparse(),
}


def same(a: Tensor, b: Tensor) -> bool:
    if a.layout != torch.strided:
        return torch.equal(a.to_dense(), b.to_dense())
    return torch.equal(_bytes(a), _bytes(b))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.resolve_conj().contiguous().view(-1).view(torch.uint8)


def training(model: nn.Module) -> TrainingSetup:
    return TrainingSetup.of(model, sgd(model), nn.CrossEntropyLoss())


class Holder(nn.Module):
    """Keeps tensors as buffers, and one parameter to be trained."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        for name, tensor in tensors.items():
            self.register_buffer("kept_" + name.replace(" ", "_"), tensor)


@storages
@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_of_any_kind_comes_back_to_the_bit_in_its_own_place(name: str, storage: str) -> None:
    tensor = TENSORS[name].clone() if name == "sparse" else TENSORS[name]
    expected = tensor.clone()
    model = Holder({name: tensor})
    with preserved(training(model), storage=storage):
        tensor.zero_()
    assert next(model.buffers()) is tensor
    assert same(tensor, expected)


@storages
def test_tensors_of_all_kinds_come_back_and_no_file_is_left(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tensors = {name: tensor.clone() for name, tensor in TENSORS.items()}
    expected = {name: tensor.clone() for name, tensor in tensors.items()}
    model = Holder(tensors)
    with preserved(training(model), storage=storage):
        assert not any(tmp_path.iterdir()), "a process that is killed would leave it"
        for tensor in tensors.values():
            tensor.zero_()
    assert all(same(tensors[name], expected[name]) for name in tensors)
    assert not any(tmp_path.iterdir())


@given(sizes=st.lists(st.integers(0, 300), max_size=12))
def test_a_block_holds_the_copies_aligned_and_little_more(sizes: list[int]) -> None:
    tensors = [torch.empty(size, dtype=torch.uint8) for size in sizes]
    starts, total = block_layout(tensors)
    assert all(start % 64 == 0 for start in starts)
    assert all(later >= start + size for start, later, size in zip(starts, starts[1:], sizes, strict=False))
    assert sum(sizes) <= total <= sum(sizes) + 64 * len(sizes)


def mapped_files(folder: Path) -> list[int]:
    """Sizes of the files of a folder that are mapped into this process, those without a name included."""
    sizes = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if str(folder) in line:
            start, end = line.split()[0].split("-")
            sizes.append(int(end, 16) - int(start, 16))
    return sizes


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="lists the mapped files on Linux")
def test_a_snapshot_on_disk_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = mlp(nn.BatchNorm1d(16))
    snapshot = Snapshot(training(model), storage="disk")
    state = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    (size,) = mapped_files(tmp_path)
    assert state <= size <= state + 64 * 9 + mmap.PAGESIZE
    snapshot.close()
    assert mapped_files(tmp_path) == []


@pytest.mark.parametrize("storage", ["device", "cpu"])
def test_without_room_the_next_storage_is_tried_and_reported(
    storage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    empty_like, refused = torch.empty_like, []

    def full_at_first(tensor: Tensor, **options: Any) -> Tensor:
        if not refused:
            refused.append(tensor)
            raise RuntimeError("out of memory")
        return empty_like(tensor, **options)

    model = mlp()
    expected = [parameter.clone() for parameter in model.parameters()]
    monkeypatch.setattr(torch, "empty_like", full_at_first)
    with caplog.at_level(logging.WARNING, logger="lrfinder"), preserved(training(model), storage=storage):
        nn.init.zeros_(model[0].weight)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected, strict=True))
    following = {"device": "cpu", "cpu": "disk"}[storage]
    assert f"no room for the snapshot on the {storage} (out of memory): trying {following}" in caplog.text


class Runtime:
    """A CUDA runtime that notes what is pinned."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.pinned: list[tuple[int, int]] = []

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:  # noqa: N802
        if self.status == 0:
            self.pinned.append((address, size))
        return self.status

    def cudaHostUnregister(self, address: int) -> int:  # noqa: N802
        self.pinned = [each for each in self.pinned if each[0] != address]
        return 0


@pytest.mark.parametrize("status", [0, 2])
def test_memory_is_pinned_or_its_refusal_reported(
    status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = Runtime(status)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    block = torch.empty(100, dtype=torch.uint8)
    with caplog.at_level(logging.INFO, logger="lrfinder"):
        assert pin(block, torch.device("cpu")) == (status == 0)
    assert runtime.pinned == ([(block.data_ptr(), 100)] if status == 0 else [])
    assert ("could not be pinned (2)" in caplog.text) == (status == 2)


def test_pinned_memory_can_be_unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(0)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    block = torch.empty(100, dtype=torch.uint8)
    pin(block, torch.device("cpu"))
    unpin(block)
    assert runtime.pinned == []


def gone(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as an output of a CUDA graph whose memory the next pass has taken: any access is an error."""
    torch._C._set_storage_data_ptr_access_error_msg(tensor.untyped_storage()._cdata, "overwritten by a subsequent run")
    return tensor


class Remembering(nn.Module):
    """Keeps what it made last, where everybody can see it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)
        self.last: list[torch.Tensor] = [torch.ones(2)]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.inner(inputs)


@pytest.mark.parametrize("storage", ["device", "cpu", "disk"])
def test_a_tensor_whose_memory_is_gone_is_replaced_by_an_equal_one(storage: str) -> None:
    model = Remembering()
    model(torch.ones(1, 3)).sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    contents = plain(gradients)
    with preserved(training(model), storage=storage):
        gone(gradients[0])
        gone(model.last[0])
        model.inner.bias.grad.zero_()
    assert plain([parameter.grad for parameter in model.parameters()]) == contents
    assert plain(model.last) == plain([torch.ones(2)])
    assert model.inner.weight.grad is not gradients[0]
    assert model.inner.bias.grad is gradients[1]


def test_a_tensor_whose_memory_was_gone_before_stays_as_it_was() -> None:
    model = Remembering()
    model(torch.ones(1, 3)).sum().backward()
    gradient, last = model.inner.weight.grad, model.last[0]
    gone(gradient)
    gone(last)
    with preserved(training(model)):
        model.inner.weight.grad = None
        model.last = []
    assert model.inner.weight.grad is gradient
    assert model.last[0] is last


def test_pending_gradients_are_restored_at_the_end_and_by_no_rewind() -> None:
    model = Remembering()
    model(torch.ones(1, 3)).sum().backward()
    before = plain([parameter.grad for parameter in model.parameters()])
    with preserved(training(model)) as state:
        model.inner.bias.grad.fill_(7.0)
        state.rewind()
        assert bool((model.inner.bias.grad == 7).all())
    assert plain([parameter.grad for parameter in model.parameters()]) == before
