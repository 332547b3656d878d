"""Passes recorded as a CUDA graph: the same numbers as passes made as usual, and a clear refusal where they cannot be.

On the CPU a stand-in records: it makes the passes again at each replay, with what a graph would read and into what it
would write. On a GPU the same tests run with the real one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lrfinder.finder
import lrfinder.graphed
from lrfinder import LRFinder
from lrfinder.errors import BatchError, SetupError
from lrfinder.graphed import Graphed
from lrfinder.train_step import TrainStep, criterion_loss
from worlds import Graph, Pair, World, devices, loader, mlp, plain, points, sgd

Recorder = Callable[[Callable[[], Tensor], torch.device], tuple[Callable[[], object], Tensor]]


def stand_in(parameters: Sequence[nn.Parameter], made: list[str]) -> Recorder:
    def record(run: Callable[[], Tensor], device: torch.device) -> tuple[Callable[[], object], Tensor]:
        made.append("recorded")
        loss = run().clone()
        gradients = [parameter.grad for parameter in parameters]

        def replay() -> None:
            made.append("replayed")
            loss.copy_(run())
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    gradient.copy_(parameter.grad)

        return replay, loss

    return record


def network(device: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).to(device)


def no_passes(batches: Sequence[Any]) -> Tensor:
    return torch.zeros(())


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()]).cpu()


def pairs(device: str, sizes: Sequence[int]) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, 6, generator=generator).to(device),
            torch.randint(3, (size,), generator=generator).to(device),
        )
        for size in sizes
    ]


def assert_same_training(
    device: str,
    batches: list[list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    *,
    loss_fn: Any = None,
    optimizer: Any = sgd,
    **options: Any,
) -> list[str]:
    """Trains with and without a graph. Gives what the stand-in was asked to do."""
    made: list[str] = []
    found = []
    for cuda_graph in (False, True):
        model = network(device)
        if device == "cpu":
            monkeypatch.setattr(lrfinder.graphed, "_record", stand_in(list(model.parameters()), made))
        step = TrainStep(
            model,
            optimizer(model),
            loss_fn or criterion_loss(nn.CrossEntropyLoss()),
            device_type=device,
            cuda_graph=cuda_graph,
            **options,
        )
        losses = [step.run(each)[0].detach().clone().item() for each in batches]
        found.append((losses, weights(model)))
    assert found[1][0] == found[0][0]
    assert torch.equal(found[1][1], found[0][1])
    return made


# --- the same numbers -------------------------------------------------------------------------------------------------


@devices
@pytest.mark.parametrize("options", [{}, {"clip_grad_norm": 0.1}], ids=["plain", "clipped"])
@pytest.mark.parametrize(
    "optimizer", [sgd, lambda model: torch.optim.AdamW(model.parameters(), lr=0.05)], ids=["SGD", "AdamW"]
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_replayed_pass_is_the_pass(
    device: str, accumulate: int, optimizer: Any, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = pairs(device, [8] * 8 * accumulate)
    groups = [batches[i : i + accumulate] for i in range(0, len(batches), accumulate)]
    made = assert_same_training(device, groups, monkeypatch, optimizer=optimizer, **options)
    assert made == ([] if device == "cuda" else ["recorded", *["replayed"] * 5])


@devices
def test_batches_of_another_kind_are_trained_as_usual_between_replays(
    device: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batches = [[batch] for batch in pairs(device, [8, 8, 8, 8, 8, 5, 8, 5, 8])]
    with caplog.at_level(logging.INFO, logger="lrfinder"):
        made = assert_same_training(device, batches, monkeypatch)
    assert made.count("replayed") == (0 if device == "cuda" else 4)
    assert [record.message.partition(" are ")[2] for record in caplog.records] == ["trained as usual"]


@devices
def test_what_is_no_tensor_is_part_of_the_kind(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scales = [1, 1, 1, 1, 2, 1, 2]
    batches = [
        [{"pair": Pair(*pair), "scale": scale, "name": None}]
        for pair, scale in zip(pairs(device, [8] * 7), scales, strict=True)
    ]

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch["pair"].inputs), batch["pair"].target) * batch["scale"]

    made = assert_same_training(device, batches, monkeypatch, loss_fn=loss_fn)
    assert made.count("replayed") == (0 if device == "cuda" else 2)


@devices
def test_a_parameter_that_the_passes_do_not_reach_has_no_gradient(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        return model[0](batch[0]).square().mean()

    decayed: Any = lambda model: torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)  # noqa: E731
    batches = [[batch] for batch in pairs(device, [8] * 6)]
    assert_same_training(device, batches, monkeypatch, loss_fn=loss_fn, optimizer=decayed)


@devices
def test_the_batches_of_the_loader_are_not_written_into(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = pairs(device, [8] * 6)
    before = plain(batches)
    assert_same_training(device, [[batch] for batch in batches], monkeypatch)
    assert plain(batches) == before


# --- what cannot be recorded ------------------------------------------------------------------------------------------


def test_a_batch_that_nobody_can_look_into_is_refused_and_one_of_the_same_tensors_in_a_dict_is_not() -> None:
    model = network("cpu")
    graphed = Graphed(model.parameters())
    for _ in range(3):
        graphed.run(no_passes, [Graph(torch.ones(2, 6))])
    with pytest.raises(BatchError, match=r"lists, tuples and dicts; the batch holds a Graph. Leave cuda_graph out"):
        graphed.run(no_passes, [Graph(torch.ones(2, 6))])
    assert lrfinder.graphed._kind_of([{"nodes": torch.ones(2, 6)}])


@pytest.mark.parametrize("message", ["operation not permitted when stream is capturing\nmore", ""])
def test_passes_that_cannot_be_recorded_say_why(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def record(run: Any, device: Any) -> Any:
        raise RuntimeError(message)

    monkeypatch.setattr(lrfinder.graphed, "_record", record)
    graphed = Graphed(network("cpu").parameters())
    said = message.partition("\n")[0] or "RuntimeError"
    with pytest.raises(SetupError, match=rf"as a CUDA graph: {said}\. .* Leave cuda_graph out"):
        for _ in range(4):
            graphed.run(no_passes, pairs("cpu", [8]))


def test_a_lack_of_memory_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def record(run: Any, device: Any) -> Any:
        raise torch.OutOfMemoryError("too little")

    monkeypatch.setattr(lrfinder.graphed, "_record", record)
    graphed = Graphed(network("cpu").parameters())
    with pytest.raises(torch.OutOfMemoryError):
        for _ in range(4):
            graphed.run(no_passes, pairs("cpu", [8]))


def test_an_optimizer_that_moves_the_parameters_is_refused() -> None:
    class Moving(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            super().step(closure)
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data = parameter.data.clone()

    model = network("cpu")
    step = TrainStep(
        model,
        Moving(model.parameters(), lr=0.1),
        criterion_loss(nn.CrossEntropyLoss()),
        device_type="cpu",
        cuda_graph=True,
    )
    with pytest.raises(SetupError, match="other memory at each update"):
        for batch in pairs("cpu", [8] * 4):
            step.run([batch])


def test_an_optimizer_with_a_closure_is_refused() -> None:
    model = network("cpu")
    with pytest.raises(SetupError, match="LBFGS needs a closure"):
        TrainStep(
            model,
            torch.optim.LBFGS(model.parameters()),
            criterion_loss(nn.CrossEntropyLoss()),
            device_type="cpu",
            cuda_graph=True,
        )


def test_a_model_on_the_cpu_is_refused() -> None:
    model = mlp()
    with pytest.raises(SetupError, match="cuda_graph needs everything on one CUDA device; got cpu. Leave it out"):
        LRFinder(model, sgd(model), nn.CrossEntropyLoss(), cuda_graph=True)


def test_a_hook_after_each_gradient_is_refused_and_one_that_changes_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lrfinder.finder, "_input_device", lambda model, device: torch.device("cuda"))
    model = mlp()
    weight = next(model.parameters())
    weight.register_hook(lambda gradient: gradient.clamp(-1, 1))
    LRFinder(model, sgd(model), nn.CrossEntropyLoss(), cuda_graph=True)
    handle = weight.register_post_accumulate_grad_hook(lambda parameter: None)
    with pytest.raises(SetupError, match="remove the hooks"):
        LRFinder(model, sgd(model), nn.CrossEntropyLoss(), cuda_graph=True)
    handle.remove()
    LRFinder(model, sgd(model), nn.CrossEntropyLoss(), cuda_graph=True)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")  # that the second attempt to end the recording fails as well
@pytest.mark.parametrize("stage", ["forward", "backward"])
def test_a_step_that_asks_the_gpu_leaves_no_trace_and_the_gpu_goes_on(stage: str) -> None:
    class Asking(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            gradient.sum().item()
            return gradient

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        if stage == "forward":
            loss.item()
            return loss
        return Asking.apply(loss)

    torch.manual_seed(5)
    model = mlp(nn.Dropout(0.5)).to("cuda")
    one = World(model, torch.optim.AdamW(model.parameters()), loader(points(48)), device="cuda")
    one.train(2)
    before = one.state()
    options: Any = {"start_lr": 1e-4, "end_lr": 1e-1, "num_iter": 12, "progress": False}
    finder = LRFinder(one.model, one.optimizer, loss_fn=loss_fn, cuda_graph=True)
    with pytest.raises(SetupError, match="cannot be recorded as a CUDA graph"):
        finder.range_test(one.loader, **options)
    assert one.state() == before
    curve = LRFinder(one.model, one.optimizer, loss_fn=loss_fn).range_test(one.loader, **options).curve
    assert len(curve) == 12
    again = LRFinder(one.model, one.optimizer, one.criterion, cuda_graph=True)
    assert again.range_test(one.loader, **options).curve == curve
    assert one.state() == before
