"""Copies of the state: where they are stored, and that they equal it for tensors of any kind."""

from __future__ import annotations

import logging
import mmap
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from worlds import mlp, plain, sgd

from lrfinder.errors import SetupError
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
    return TrainingSetup(model, sgd(model), nn.CrossEntropyLoss())


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


class Quantised(Tensor):
    """Bytes and a scale behind a tensor of floats, as the states of an 8-bit optimizer; it can only be written."""

    codes: Tensor
    scale: Tensor

    @staticmethod
    def __new__(cls, codes: Tensor, scale: Tensor) -> Quantised:
        return Tensor._make_wrapper_subclass(cls, codes.shape, dtype=scale.dtype)  # type: ignore[attr-defined]

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        self.codes, self.scale = codes, scale

    def __tensor_flatten__(self) -> Any:
        return ["codes", "scale"], ()

    @classmethod
    def __tensor_unflatten__(cls, inner: Any, *_: Any) -> Quantised:
        return cls(**inner)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return cls(args[0].codes, args[0].scale)
        if func is torch.ops.aten.fill_.Scalar:
            args[0].codes.fill_(args[1])
            args[0].scale = torch.ones(1)
            return args[0]
        raise NotImplementedError(func)


@storages
def test_a_tensor_made_of_others_that_cannot_be_cloned_comes_back(storage: str) -> None:
    tensor = Quantised(torch.arange(6, dtype=torch.uint8), torch.full((1,), 0.5))
    model, codes, scale = mlp(), tensor.codes, tensor.scale
    setup = training(model)
    setup.optimizer.state[next(model.parameters())]["exp_avg"] = tensor
    with preserved(setup, storage=storage):
        tensor.fill_(7)
    assert tensor.codes is codes and tensor.scale is scale
    assert codes.tolist() == [0, 1, 2, 3, 4, 5] and scale.item() == 0.5


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


# --- memory that cannot be written, and disks without room ------------------------------------------------------------


class Mapped(nn.Module):
    """Holds data from a file, which its forward pass only reads."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.body = mlp()
        if isinstance(held, Tensor):
            self.register_buffer("table", held)
        else:
            self.table = held

    def forward(self, inputs: Tensor) -> Tensor:
        return self.body(inputs)  # type: ignore[no-any-return]


@pytest.fixture
def file_of_numbers(tmp_path: Path) -> Path:
    np.save(tmp_path / "table.npy", np.arange(6.0, dtype=np.float32))
    return tmp_path / "table.npy"


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("held", ["array", "tensor", "frozen weights"])
@storages
def test_data_in_read_only_memory_is_left_alone(held: str, storage: str, file_of_numbers: Path) -> None:
    table: Any = np.load(file_of_numbers, mmap_mode="r")
    model: nn.Module = Mapped(table if held == "array" else torch.from_numpy(table))
    if held == "frozen weights":
        embedding = nn.Embedding.from_pretrained(torch.from_numpy(table).view(2, 3))
        model = nn.Sequential(embedding, nn.Flatten(), mlp())
    with preserved(training(model), storage=storage):
        nn.init.zeros_(next(each for each in model.parameters() if each.requires_grad))
    assert table.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("flag", ["read-only", "broadcast"])
def test_an_array_that_cannot_change_is_left_alone(flag: str) -> None:
    array = np.broadcast_to(np.ones(1), (3,)) if flag == "broadcast" else np.ones(3)
    if flag == "read-only":
        array.flags.writeable = False
    with preserved(training(Mapped(array))):
        pass
    assert array.tolist() == [1.0, 1.0, 1.0]


def test_a_file_mapped_for_writing_is_put_back(file_of_numbers: Path) -> None:
    table = np.load(file_of_numbers, mmap_mode="r+")
    with preserved(training(Mapped(table))):
        table += 1
    assert table.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_an_array_is_put_back_within_its_own_size() -> None:
    model = mlp()
    model.table = np.zeros(4_000_000)  # type: ignore[assignment]
    with preserved(training(model)):
        model.table[-1] = 1  # type: ignore[index]
        tracemalloc.start()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not model.table.any() and peak < 2**23  # type: ignore[operator]


def test_an_array_of_another_type_gets_its_numbers_back() -> None:
    model = mlp()
    model.table = np.arange(2**18, dtype=np.float32)  # type: ignore[assignment]
    with preserved(training(model)):
        model.table.dtype = np.float64  # type: ignore[union-attr]
    assert np.array_equal(model.table, np.arange(2**18))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["r", "w+"])
def test_a_large_mapped_file_is_not_copied(mode: str, tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 2**31)
    table = np.memmap(tmp_path / "large", mode="r" if mode == "r" else "r+", dtype=np.uint8)
    tracemalloc.start()
    with preserved(training(Mapped(table))):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


def limited(size: int, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that cannot write a file of more than ``size`` bytes."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
    return subprocess.run([sys.executable, "-c", limit + program], capture_output=True, text=True, timeout=120)


FULL = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from lrfinder import LRFinder, LRFinderError

model = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 2))
finder = LRFinder(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
data = TensorDataset(torch.ones(8, 300), torch.zeros(8, dtype=torch.int64))
loader = DataLoader(data, batch_size=2, num_workers=1, persistent_workers=True)
iterator = iter(loader)
try:
    finder.range_test(loader, start_lr=1e-3, end_lr=1.0, num_iter=5, snapshot="disk", progress=False)
except LRFinderError as error:
    print(error)
print("the iterator is kept:", loader._iterator is iterator, len(list(iterator)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_full_disk_is_an_error_that_says_what_to_do() -> None:
    done = limited(100_000, FULL)
    assert "the copy of the training state needs 0.4 MB of disk" in done.stdout, done.stderr[-500:]
    assert "pass snapshot='cpu' or 'device'" in done.stdout
    assert "the iterator is kept: True 4" in done.stdout
    assert done.returncode == 0


def test_a_snapshot_that_cannot_be_taken_leaves_the_loaders_iterator() -> None:
    data = TensorDataset(torch.ones(8, 6), torch.zeros(8, dtype=torch.int64))
    loader = DataLoader(data, batch_size=2, num_workers=1, persistent_workers=True)
    iterator = iter(loader)
    model = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))
    setup = TrainingSetup(model, torch.optim.SGD(model[1].parameters(), lr=0.1), nn.CrossEntropyLoss())
    with pytest.raises(SetupError, match="never initialised"), preserved(setup, [loader]):
        pass
    assert iter(loader) is iterator and len(list(iterator)) == 4


KILLED = """
import os, signal, sys, tempfile, torch
from torch import nn
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state import preserved

tempfile.tempdir = sys.argv[1]
model = nn.Linear(300, 300)
setup = TrainingSetup(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.MSELoss())
with preserved(setup, storage="disk"):
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGHUP"])
def test_a_process_that_is_killed_leaves_no_file(name: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), name], timeout=120)
    assert done.returncode == -getattr(signal, name)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))  # torch may make an empty folder for its compiler
