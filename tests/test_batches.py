"""Any batch and any loader: what is drawn, in which order, and where it is then."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler
from worlds import Encoding, Graph, Pair, Record

from lrfinder.errors import SetupError
from lrfinder.training.batches import Batches, worth_prefetching
from lrfinder.training.contents import batch_size, move

CPU = torch.device("cpu")
META = torch.device("meta")  # a device on every machine that a tensor can be seen to have moved to

# --- any batch --------------------------------------------------------------------------------------------------------


def test_a_tensor_moves() -> None:
    assert move(torch.ones(2), META).device == META


@pytest.mark.parametrize(
    "batch",
    [
        (torch.ones(2), torch.ones(1)),
        [torch.ones(2), torch.ones(1)],
        Pair(torch.ones(2), torch.ones(1)),
        {"inputs": torch.ones(2), "target": torch.ones(1)},
        collections.OrderedDict(inputs=torch.ones(2), target=torch.ones(1)),
        collections.defaultdict(list, inputs=torch.ones(2), target=torch.ones(1)),
        collections.UserDict(inputs=torch.ones(2), target=torch.ones(1)),
        types.MappingProxyType({"inputs": torch.ones(2), "target": torch.ones(1)}),
        (),
        [],
        {},
    ],
    ids=lambda batch: f"{type(batch).__name__} of {len(batch)}",
)
def test_a_container_keeps_its_type_and_its_tensors_move(batch: Any) -> None:
    moved = move(batch, META)
    assert type(moved) is type(batch)
    assert len(moved) == len(batch)
    if hasattr(batch, "keys"):
        assert list(moved.keys()) == list(batch.keys())
        moved, batch = moved.values(), batch.values()
    assert all(tensor.device == META for tensor in moved)
    assert all(tensor.device == CPU for tensor in batch)


def test_a_default_dict_keeps_its_default() -> None:
    moved = move(collections.defaultdict(list, inputs=torch.ones(2)), META)
    assert moved["new"] == []


def test_objects_with_a_to_method_are_moved_by_it() -> None:
    graph = move(Graph(torch.ones(2)), META)
    encoding = move(Encoding(ids=torch.ones(2)), META)
    assert isinstance(graph, Graph)
    assert graph.nodes.device == META
    assert isinstance(encoding, Encoding)
    assert encoding["ids"].device == META


@pytest.mark.parametrize(
    "other", [None, 3, 2.5, "text", b"bytes", Record(torch.ones(2, device=META)), torch.Tensor, range(3)], ids=repr
)
def test_an_object_that_is_no_container_stays_the_same_object(other: Any) -> None:
    assert move(other, META) is other
    assert move([other], META)[0] is other


class Flags(NamedTuple):
    inputs: Tensor
    count: int


class Counted(NamedTuple("Counted", [("inputs", Tensor), ("size", int)])):
    """A named tuple whose constructor takes something else."""

    def __new__(cls, inputs: Tensor) -> Counted:
        return super().__new__(cls, inputs, len(inputs))


@dataclass
class Sample:
    inputs: Any
    name: str = "a"


@dataclass(frozen=True)
class Frozen:
    inputs: Any
    name: str = "a"


@dataclass(slots=True)
class Slotted:
    inputs: Any
    name: str = "a"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenSlotted:
    inputs: Any
    name: str = "a"


@dataclass
class Strict:
    """Checks its input where it is made, counts how often, and has a field that only the check takes."""

    inputs: Any
    limit: dataclasses.InitVar[int] = 9
    name: str = "a"
    size: int = dataclasses.field(init=False, default=0)
    made: ClassVar[int] = 0

    def __post_init__(self, limit: int) -> None:
        Strict.made += 1
        self.size = limit


class Plain:
    def __init__(self, inputs: Any) -> None:
        self.inputs, self.name = inputs, "a"


class BySlots:
    __slots__ = ("__hidden", "inputs", "name", "unset")

    def __init__(self, inputs: Any) -> None:
        self.inputs, self.name, self.__hidden = inputs, "a", inputs

    @property
    def hidden(self) -> Any:
        return self.__hidden


class Guarded:
    """Refuses to be written, as attrs classes that are frozen do, and follows their protocol."""

    __attrs_attrs__ = ()

    def __init__(self, inputs: Any) -> None:
        self.__dict__.update(inputs=inputs, name="a")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)


class Derived(Sample):
    """A class with a property of a field's name in front of it."""

    @property
    def first(self) -> Any:
        return self.inputs


@dataclass
class Edges:
    """Has a field named as the method that moves."""

    inputs: Any
    to: Tensor = dataclasses.field(default_factory=lambda: torch.ones(1))
    name: str = "a"


RECORDS: list[Callable[[Any], Any]] = [
    *(Sample, Frozen, Slotted, Strict, Plain, BySlots, Guarded, Derived, Edges),
    lambda inputs: FrozenSlotted(inputs=inputs),
    lambda inputs: types.SimpleNamespace(inputs=inputs, name="a"),
]
records = pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record(0)).__name__)


@records
def test_a_record_keeps_its_type_and_its_tensors_move(record: Callable[[Any], Any]) -> None:
    batch = record(torch.ones(2))
    moved = move(batch, META)
    assert type(moved) is type(batch)
    assert (moved.inputs.device, moved.name) == (META, "a")
    assert batch.inputs.device == CPU


@records
def test_a_record_in_which_nothing_moves_stays_the_same_object(record: Callable[[Any], Any]) -> None:
    for batch in (record([torch.ones(2, device=META)]), record({"text": ["a", None]})):
        if not isinstance(batch, Edges):
            assert move(batch, META) is batch


@records
def test_records_move_inside_containers_and_each_other(record: Callable[[Any], Any]) -> None:
    moved = move([{"a": record([record((torch.ones(2), 3))])}], META)
    tensor, number = moved[0]["a"].inputs[0].inputs
    assert (tensor.device, number) == (META, 3)


@records
def test_the_tensors_of_a_record_are_counted_and_prefetched(record: Callable[[Any], Any]) -> None:
    batch = record({"x": torch.ones(2**15)})
    assert batch_size(batch) == 2**15
    assert worth_prefetching(batch, torch.device("cuda"))


def crystals(count: int) -> list[Any]:
    """An object for each sample, of four atoms and more bonds."""
    return [Plain({"atoms": torch.ones(4, 3), "bonds": torch.ones(10 + sample, 2)}) for sample in range(count)]


def images(count: int) -> list[Tensor]:
    return [torch.ones(3, 8, 8) for _ in range(count)]


def boxes(count: int) -> list[Any]:
    return [{"boxes": torch.ones(1 + sample, 4), "labels": torch.ones(1 + sample)} for sample in range(count)]


@pytest.mark.parametrize(
    "batch",
    [
        (crystals(8), torch.ones(8), torch.ones(32, 3)),
        (crystals(8), {"energies": torch.ones(8), "forces": [torch.ones(4, 3)] * 8}),
        {"graphs": crystals(8), "energies": torch.ones(8)},
        (torch.ones(8), crystals(8)),
        crystals(8),
        boxes(8),
        (images(8), torch.ones(8)),
        (images(8), boxes(8)),
        {"pixels": images(8), "labels": list(torch.ones(8))},
        types.SimpleNamespace(num_graphs=8, nodes=torch.ones(70, 3)),
        (types.SimpleNamespace(num_graphs=8, nodes=torch.ones(70, 3)), torch.ones(70)),
        types.SimpleNamespace(nodes=torch.ones(70, 3), train_mask=torch.arange(70) < 8),
        types.SimpleNamespace(num_graphs=1, nodes=torch.ones(70, 3), train_mask=torch.arange(70) < 8),
        types.SimpleNamespace(nodes=torch.ones(70, 3), train_mask=torch.ones(70) > 0, batch_size=8),
        types.SimpleNamespace(nodes=torch.ones(70, 3), edge_label=torch.ones(8)),
        ([torch.ones(8, 3), torch.ones(8, 4)], torch.ones(8)),
        ([torch.ones(8, 3), torch.ones(8, 4)], [torch.ones(8), torch.ones(8)]),
        ([torch.ones(8, 3), torch.ones(8, 4)], torch.ones(8), torch.ones(16)),
        ([torch.ones(8, 3), {"mask": torch.ones(8)}], [torch.ones(8), torch.ones(8)]),
        [{"ids": torch.ones(8, 20)}, {"ids": torch.ones(8, 15)}],
        ({"ids": torch.ones(8, 20)}, {"ids": torch.ones(9, 15)}),
        {"ids": torch.ones(8, 20), "names": ["a"] * 8, "scale": torch.ones(3)},
        np.ones((8, 3)),
        (np.ones((8, 3)), np.ones(8)),
        {"ids": np.ones((8, 20)), "scale": 2.0},
        ["a"] * 8,
        (["a"] * 8, list(range(8))),
        {"text": ["a"] * 8, "labels": list(range(8))},
        [(torch.ones(5), 1)] * 8,
        [(torch.ones(3, 4), torch.tensor(1))] * 8,
        [{"pixels": torch.ones(5), "label": 1}] * 8,
        [torch.ones(8, 3), torch.ones(8)],
        [(torch.ones(8, 3), torch.ones(8, 2)), (torch.ones(8), torch.ones(8))],
    ],
)
def test_the_size_of_a_batch_is_its_number_of_samples(batch: Any) -> None:
    assert batch_size(batch) == 8


@pytest.mark.parametrize("batch", [None, 3, [None] * 8, (), {"text": object()}, torch.tensor(1.0)])
def test_the_size_of_a_batch_that_shows_none_is_unknown(batch: Any) -> None:
    assert batch_size(batch) is None


def test_no_constructor_of_a_record_is_called_again() -> None:
    batch = Strict(torch.ones(2), limit=5)
    Strict.made = 0
    moved = move(batch, META)
    assert (Strict.made, moved.size, moved.inputs.device) == (0, 5, META)


def test_private_slots_move_and_unset_ones_stay_unset() -> None:
    moved = move(BySlots(torch.ones(2)), META)
    assert moved.hidden.device == META
    assert not hasattr(moved, "unset")


class Hiding(BySlots):
    """Batch whose property hides a slot of its base class."""

    __slots__ = ()

    @property
    def inputs(self) -> Any:
        return BySlots.inputs.__get__(self) * 2

    @inputs.setter
    def inputs(self, value: Any) -> None:
        BySlots.inputs.__set__(self, value / 2)


def test_slots_that_a_property_hides_move() -> None:
    batch = Hiding(torch.ones(2))
    moved = move(batch, META)
    assert (moved.inputs.device, moved.name, batch.inputs.device) == (META, "a", CPU)


def test_an_attrs_class_moves() -> None:
    attrs = pytest.importorskip("attrs")
    for frozen, slots in itertools.product((False, True), repeat=2):
        kind = attrs.make_class("Kind", {"inputs": attrs.field()}, frozen=frozen, slots=slots)
        batch = kind(torch.ones(2))
        moved = move(batch, META)
        assert type(moved) is kind
        assert (moved.inputs.device, batch.inputs.device) == (META, CPU)


@pytest.mark.parametrize(
    ("shape", "targets", "expected"),
    [
        ((9, 4), torch.zeros(4).long(), 4),  # the second dimension is that of the samples, as in (length, batch)
        ((9, 4, 5), torch.zeros(4).long(), 4),
        ((9, 4), torch.zeros(9).long(), 9),
        ((9, 4), torch.zeros(4), 9),  # numbers to predict, which may be of a vector for all samples
        ((9, 4), torch.zeros(9, 4).long(), 9),
        ((9,), torch.zeros(4).long(), 9),
    ],
)
def test_samples_in_the_second_dimension_are_counted(shape: Any, targets: torch.Tensor, expected: int) -> None:
    assert batch_size((torch.zeros(shape), targets)) == expected


@pytest.mark.parametrize("batch", [Flags(torch.ones(2), 3), Counted(torch.ones(2))], ids=lambda b: type(b).__name__)
def test_a_named_tuple_moves_whatever_its_constructor_takes(batch: Any) -> None:
    moved = move(batch, META)
    assert type(moved) is type(batch)
    assert (moved[0].device, moved[1]) == (META, batch[1])


def test_a_deque_moves_and_keeps_its_limit() -> None:
    moved = move(collections.deque([torch.ones(2)], maxlen=3), META)
    assert (moved[0].device, moved.maxlen) == (META, 3)


def test_values_and_indices_of_a_reduction_move() -> None:
    moved = move(torch.ones(2, 3).max(0), META)
    assert (moved.values.device, moved.indices.device) == (META, META)


def test_objects_that_refer_to_each_other_move() -> None:
    batch = Plain(torch.ones(2))
    batch.owner = batch
    assert move(batch, META).inputs.device == META
    assert batch_size(batch) == 2


def test_an_object_that_moves_itself_in_place_may_return_nothing() -> None:
    class InPlace(Plain):
        def to(self, device: torch.device) -> None:
            self.inputs = self.inputs.to(device)

    batch = InPlace(torch.ones(2))
    assert move(batch, META) is batch
    assert batch.inputs.device == META


def test_the_data_set_that_a_batch_refers_to_stays_where_it_is() -> None:
    data = TensorDataset(torch.ones(2))
    moved = move(Sample((torch.ones(2), data)), META)
    assert moved.inputs[0].device == META
    assert moved.inputs[1] is data
    assert data.tensors[0].device == CPU


def test_a_mapping_that_refuses_update_moves() -> None:
    class Output(collections.OrderedDict[str, Any]):
        def update(self, *args: Any, **kwargs: Any) -> None:
            raise TypeError("use item assignment")

    output = Output()
    output["inputs"] = torch.ones(2)
    assert move(output, META)["inputs"].device == META


nested = st.recursive(
    st.builds(lambda n: torch.zeros(n), st.integers(0, 3)) | st.integers() | st.text(max_size=3) | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=10,
)


def shape_of(batch: Any) -> Any:
    """Types all the way down, with what is in the leaves."""
    if isinstance(batch, Tensor):
        return tuple(batch.shape)
    if isinstance(batch, dict):
        return {key: shape_of(value) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch), [shape_of(value) for value in batch]
    return batch


def tensors_in(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (dict, list, tuple)):
        for value in batch.values() if isinstance(batch, dict) else batch:
            yield from tensors_in(value)


@given(batch=nested)
def test_a_nest_of_any_depth_keeps_its_shape_and_every_tensor_in_it_moves(batch: Any) -> None:
    moved = move(batch, META)
    assert shape_of(moved) == shape_of(batch)
    assert all(tensor.device == META for tensor in tensors_in(moved))


# --- any loader -------------------------------------------------------------------------------------------------------


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.arange(6.0))


def draw(batches: Batches, rounds: int, count: int = 1) -> list[float]:
    return [float(batch) for _ in range(rounds) for batch in batches.draw(count)]


def test_a_finite_loader_is_started_afresh_at_its_end() -> None:
    batches = Batches([torch.tensor(float(i)) for i in range(3)], CPU)
    assert draw(batches, 7) == [0, 1, 2, 0, 1, 2, 0]
    assert batches.drawn == 7


def test_a_shuffled_loader_is_shuffled_again_in_each_pass() -> None:
    loader = DataLoader(
        TensorDataset(torch.arange(8.0)), batch_size=1, shuffle=True, generator=torch.Generator().manual_seed(0)
    )
    values = [float(batch[0]) for batch in Batches(loader, CPU).draw(16)]
    assert sorted(values[:8]) == sorted(values[8:]) == list(range(8))
    assert values[:8] != values[8:]


class Noted:
    """A batch that notes when it is moved."""

    def __init__(self, number: int, moved: list[int]) -> None:
        self.number, self.moved = number, moved

    def to(self, device: torch.device, non_blocking: bool = False) -> Noted:
        self.moved.append(self.number)
        return self


def test_skipped_batches_are_neither_moved_nor_counted() -> None:
    moved: list[int] = []
    batches = Batches([Noted(i, moved) for i in range(3)], CPU)
    batches.skip(2)
    assert moved == []
    assert [batches.draw(1)[0].number for _ in range(2)] == [2, 0]
    assert batches.drawn == 2
    assert moved == [2, 0]


def test_an_endless_generator_is_drawn_from_only_as_far_as_needed() -> None:
    endless = itertools.count()
    batches = Batches((torch.tensor(float(i)) for i in endless), CPU)
    assert draw(batches, 5) == [0, 1, 2, 3, 4]
    assert next(endless) == 5


def test_an_iterable_data_set_is_cycled() -> None:
    assert draw(Batches(DataLoader(Stream(), batch_size=None), CPU), 8) == [0, 1, 2, 3, 4, 5, 0, 1]


def test_an_iterator_ends_for_good() -> None:
    batches = Batches(iter([torch.tensor(0.0), torch.tensor(1.0)]), CPU)
    assert draw(batches, 2) == [0, 1]
    with pytest.raises(StopIteration):
        batches.draw(1)


def test_peeked_batches_are_drawn_first_and_counted_once() -> None:
    batches = Batches([torch.tensor(float(i)) for i in range(5)], CPU)
    assert [float(batch) for batch in batches.peek(2)] == [0, 1]
    assert [float(batch) for batch in batches.peek(2)] == [0, 1]
    assert draw(batches, 1, count=2) == [0, 1]
    assert draw(batches, 1, count=2) == [2, 3]
    assert batches.drawn == 4


@pytest.mark.parametrize(
    "loader",
    [[], iter(()), DataLoader(TensorDataset(torch.ones(3)), batch_size=4, drop_last=True)],
    ids=["list", "iterator", "drop_last"],
)
def test_a_loader_without_a_batch_is_refused(loader: Any) -> None:
    with pytest.raises(SetupError, match="drop_last=True does not drop the only batch"):
        Batches(loader, CPU).draw(1)
    assert len(Batches(DataLoader(TensorDataset(torch.ones(3)), batch_size=3, drop_last=True), CPU).draw(1)) == 1


@pytest.mark.parametrize("loader", [None, 3, lambda: iter([1])], ids=["None", "number", "function"])
def test_a_loader_that_cannot_be_iterated_is_refused(loader: Any) -> None:
    with pytest.raises(SetupError, match="must be an iterable of batches, such as a DataLoader or a list; got a"):
        Batches(loader, CPU)


def test_closing_ends_the_iteration() -> None:
    ended = []

    def stream() -> Iterator[Tensor]:
        try:
            yield from itertools.repeat(torch.ones(1))
        finally:
            ended.append(True)

    class Loader:
        def __iter__(self) -> Iterator[Tensor]:
            return stream()

    batches = Batches(Loader(), CPU)
    batches.draw(1)
    assert not ended
    batches.close()
    assert ended


def test_tensors_that_are_on_the_device_already_are_not_copied() -> None:
    batch = (torch.ones(2), [torch.ones(1), 3])
    drawn = Batches([batch], CPU).draw(1)[0]
    assert drawn[0] is batch[0] and drawn[1][0] is batch[1][0]


def test_a_batch_with_a_to_method_is_moved_by_it_each_time() -> None:
    batch = Encoding(ids=torch.ones(2))
    batches = Batches([batch, batch], CPU)
    batches.draw(1)
    assert batches.draw(1)[0] is not batch


# --- fetched ahead ----------------------------------------------------------------------------------------------------


class Recorder:
    """In place of the stream to a GPU: notes each call."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def start(self, batch: Any) -> tuple[Any, Any]:
        self.events.append(f"start {float(batch):g}")
        return batch, f"{float(batch):g}"

    def wait(self, events: list[Any]) -> None:
        self.events += [f"wait {event}" for event in events]

    def close(self) -> None:
        self.events.append("close")


@pytest.fixture
def stream() -> Any:
    return Recorder()


def prefetched(loader: Any, stream: Any) -> Batches:
    return Batches(loader, CPU, stream_for=lambda batch, device: stream)


def numbers(count: int) -> list[Tensor]:
    return [torch.tensor(float(i)) for i in range(count)]


def test_the_next_batch_starts_before_the_current_one_is_used(stream: Any) -> None:
    batches = prefetched(numbers(5), stream)
    batches.draw(1)
    assert stream.events == ["start 0", "wait 0", "start 1"]
    batches.draw(1)
    assert stream.events[3:] == ["wait 1", "start 2"]
    batches.close()
    assert stream.events[-1] == "close"


def test_all_micro_batches_of_the_next_iteration_start_together(stream: Any) -> None:
    batches = prefetched(numbers(8), stream)
    batches.draw(2)
    assert stream.events == ["start 0", "start 1", "wait 0", "wait 1", "start 2", "start 3"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_prefetching_gives_the_same_batches_in_the_same_order(count: int, stream: Any) -> None:
    ahead = draw(prefetched(numbers(5), stream), 6, count)
    assert ahead == [i % 5 for i in range(6 * count)]
    batches = prefetched(numbers(5), stream)
    peeked = [float(batch) for batch in batches.peek(count)]
    assert [float(batch) for batch in batches.draw(count)] == peeked


def test_prefetched_batches_are_counted_when_they_are_drawn(stream: Any) -> None:
    batches = prefetched(numbers(8), stream)
    batches.peek(2)
    assert batches.drawn == 0
    batches.draw(2)
    assert batches.drawn == 2


def test_an_iterator_that_ends_during_prefetching_gives_all_it_has(stream: Any) -> None:
    batches = prefetched(iter(numbers(3)), stream)
    assert draw(batches, 3) == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(StopIteration):
            batches.draw(1)


def test_an_error_during_prefetching_is_raised_when_its_batch_is_drawn(stream: Any) -> None:
    def failing() -> Iterator[Tensor]:
        yield from numbers(2)
        raise OSError("the disk is gone")

    batches = prefetched(failing(), stream)
    assert draw(batches, 2) == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        batches.draw(1)


def test_only_large_batches_on_their_way_to_a_gpu_are_prefetched() -> None:
    large, small = torch.zeros(2**16 + 1, dtype=torch.uint8), torch.zeros(2**16, dtype=torch.uint8)
    gpu = torch.device("cuda")
    assert not worth_prefetching((large, 3), CPU)
    assert not worth_prefetching({"x": small}, gpu)
    assert not worth_prefetching([large.to(META)], gpu)
    assert worth_prefetching({"x": [large]}, gpu)
    assert worth_prefetching((small, small), gpu)


def labelled(labels: Sequence[Any], size: int = 16, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.ones(len(labels), 2), torch.tensor(labels)), size, **options)


@pytest.mark.parametrize(
    ("loader", "same"),
    [
        (labelled([0] * 16 + [1] * 16), True),
        (labelled([0] * 15 + [1] * 17), False),
        (labelled([0] * 16, shuffle=True), False),
        (labelled([0] * 16, sampler=WeightedRandomSampler([1.0] * 16, 16)), False),
        (labelled([0] * 16, size=8), True),
        (labelled([0] * 16, size=7), False),
        (list(labelled([0] * 16)), True),
        (list(labelled([[0.5]] * 16)), True),
        (list(labelled([[0.5, 0.5]] * 16)), False),
        ([{"x": torch.ones(8, 2), "labels": torch.ones(8).long()}], True),
        ([torch.ones(16, 2)], False),
        ([(torch.ones(16, 2), torch.ones(16).to_sparse())], False),
        ([(torch.ones(16, 2), torch.ones(16).to_mkldnn())], False),
    ],
)
def test_a_first_batch_with_one_target_is_seen_unless_it_was_shuffled(loader: Iterable[Any], same: bool) -> None:
    batches = Batches(loader, CPU)
    batches.draw(1)
    assert batches.first_alike is same


def test_the_size_of_a_batch_is_the_median_of_those_that_came() -> None:
    sizes = (3, 32, 40, 32)
    batches = Batches([(torch.ones(size, 2), torch.ones(size, 7, dtype=torch.int64)) for size in sizes], CPU)
    assert (batches.size, batches.targets) == (None, None)
    batches.draw(1)
    assert (batches.size, batches.targets) == (3, 21)
    batches.draw(3)
    assert (batches.size, batches.targets) == (32, 224)
