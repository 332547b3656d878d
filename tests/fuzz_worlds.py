"""Random training set-ups for the no-trace fuzz, each drawn from a seed, and all of their visible state."""

from __future__ import annotations

import inspect
import random
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from fuzz_data import LOADERS, PERSISTENT
from fuzz_faults import ERRORS, HOWS, PLACES, Fault, spoil, strike, striking
from fuzz_models import FEATURES, Network
from torch import Tensor, nn
from torch.optim import swa_utils

from lrfinder import LRFinder

__all__ = ["COMPANIONS", "CRITERIA", "OPTIMIZERS", "RANGES", "Combination", "Training", "visible"]

OPTIMIZERS = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
)
"""Every optimizer of the installed torch, so that a new one joins."""

SWITCHES = ("amsgrad", "centered", "nesterov", "foreach", "decoupled_weight_decay")
RANGES: dict[str, dict[str, Any]] = {
    "calm": {"start_lr": 1e-7, "end_lr": 1e-5, "num_iter": 12},
    "wild": {"start_lr": 1e-4, "end_lr": 1e6, "num_iter": 12},
    "wild to the end": {"start_lr": 1e-4, "end_lr": 1e20, "num_iter": 12, "early_stop": False},
    "linear": {"start_lr": 1e-3, "end_lr": 1.0, "num_iter": 12, "mode": "linear"},
    "chosen": {},
    "start chosen": {"end_lr": 1.0, "num_iter": 10},
}


# --- what stands beside the model -------------------------------------------------------------------------------------


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """The loss, where a fault may strike."""
    strike("criterion")
    return spoil(nn.functional.cross_entropy(output, target))


class CountingCriterion:
    """A plain object with a count and a tensor."""

    def __init__(self) -> None:
        self.calls, self.mean = 0, torch.zeros(())

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        loss = cross_entropy(output, target)
        self.mean += 0.1 * (loss.detach() - self.mean)
        return loss / (1 + 0.01 * self.calls) + 0.01 * self.mean


class CriterionModule(nn.Module):
    """A module with a buffer and a count."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.mean: Tensor
        self.calls = 0

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        loss = cross_entropy(output, target)
        self.mean += 0.1 * (loss.detach() - self.mean)
        return loss / (1 + 0.01 * self.calls) + 0.01 * self.mean


def average(training: Training) -> Any:
    """An average of the weights that a hook of the optimizer moves."""
    averaged = swa_utils.AveragedModel(training.model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5))
    training.optimizer.register_step_post_hook(lambda *_: averaged.update_parameters(training.model))
    return averaged


def tensor_dict_average(training: Training) -> Any:
    """The same as a dictionary of tensors, captured by the hook."""
    shadow = {name: parameter.detach().clone() for name, parameter in training.model.named_parameters()}

    def update(*_: Any) -> None:
        for name, parameter in training.model.named_parameters():
            if name in shadow:
                shadow[name].lerp_(parameter.detach(), 0.5)

    training.optimizer.register_step_post_hook(update)
    return shadow


def teacher(training: Training) -> Any:
    """A module that the criterion reaches through its closure, and which moves with each loss."""
    module, criterion = nn.BatchNorm1d(3), training.criterion

    def distilled(output: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = criterion(output, target) + 0.1 * module(output.float()).square().mean()
        return loss

    training.criterion = distilled
    return module


def gradient_noise(training: Training) -> Any:
    """A generator of the optimizer, whose noise a hook adds to the gradients."""
    generator = training.optimizer.noise = torch.Generator().manual_seed(9)

    def add(optimizer: Any, *_: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not parameter.grad.is_sparse:
                    parameter.grad += 1e-3 * torch.randn((), generator=generator)

    training.optimizer.register_step_pre_hook(add)
    return generator


def scheduler(training: Training) -> Any:
    """A scheduler made before the range test."""
    return torch.optim.lr_scheduler.StepLR(training.optimizer, 2)


COMPANIONS: dict[str, Callable[[Training], Any]] = {
    "EMA in a hook of the optimizer": average,
    "EMA of tensors in a hook's closure": tensor_dict_average,
    "teacher in the criterion's closure": teacher,
    "generator of the optimizer": gradient_noise,
    "scheduler made before": scheduler,
}
# Layers with which torch's own AveragedModel cannot be made or updated.
NOT_AVERAGED = {"buffers", "growing buffer", "resized buffer", "inference buffer", "late buffer", "late module"}
NOT_AVERAGED |= {"old weight norm", "old spectral norm", "pruning"}
CRITERIA: dict[str, Callable[[], Any]] = {
    "cross-entropy": lambda: cross_entropy,
    "criterion module with state": CriterionModule,
    "criterion object with state": CountingCriterion,
}


# --- drawing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Combination:
    """A training set-up, a range test and a fault, all drawn from the seed."""

    seed: int
    features: tuple[str, ...]
    optimizer: str
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    groups: int = 1
    loader: str = "list"
    companions: tuple[str, ...] = ()
    criterion: str = "cross-entropy"
    accumulation: int = 1
    clip: float | None = None
    bfloat16: bool = False
    scaler: str = "none"
    eval_mode: bool = False
    pending: bool = False
    warm_up: int = 0
    range: str = "calm"
    validation: int | None = None
    snapshot: str = "auto"
    fault: tuple[str, str, int, type[Exception]] | None = None

    @classmethod
    def of(cls, seed: int) -> Combination:
        """The combination of that seed; optimizers take turns, so that each has its share."""
        draw = random.Random(seed)
        optimizer = OPTIMIZERS[seed % len(OPTIMIZERS)]
        sparse, closure = optimizer == "SparseAdam", optimizer == "LBFGS"
        features = draw.sample(sorted(FEATURES), draw.randint(0, 4))
        loader = draw.choice([name for name in LOADERS if name != PERSISTENT])
        if seed % 160 == 5:
            loader = PERSISTENT
        companions = draw.sample(sorted(COMPANIONS), draw.choice((0, 0, 1, 2)))
        if NOT_AVERAGED & set(features):
            companions = [name for name in companions if name != "EMA in a hook of the optimizer"]
        criterion = draw.choice(sorted(CRITERIA))
        return cls(
            seed=seed,
            features=tuple(features),
            optimizer=optimizer,
            optimizer_options=_options(draw, optimizer),
            groups=draw.choice((1, 2)) if not closure else 1,
            loader=loader,
            companions=tuple(companions),
            criterion=criterion,
            accumulation=draw.choice((1, 1, 2, 3)),
            clip=draw.choice((None, None, 0.5)) if not sparse else None,
            bfloat16=draw.random() < 0.25,
            scaler=draw.choice(("none", "none", "disabled", "enabled")) if not (closure or sparse) else "none",
            eval_mode=draw.random() < 0.15,
            pending=draw.random() < 0.2,
            warm_up=draw.choice((0, 2)),
            range=draw.choice(sorted(RANGES)),
            validation=draw.choice((None, None, None, 0, 2)),
            snapshot=draw.choice(("auto", "device", "cpu", "disk")),
            # A worker process has a copy of the fault, whose calls are not seen here.
            fault=_fault(draw, places=[place for place in PLACES if loader != PERSISTENT or place != "loader"]),
        )

    def __str__(self) -> str:
        lines = [f"    {name} = {value!r}" for name, value in vars(self).items()]
        return "\n".join(["combination", *lines])


def _options(draw: random.Random, optimizer: str) -> dict[str, Any]:
    """Arguments of the optimizer: each switch that it has, on or off, and momentum."""
    known = inspect.signature(getattr(torch.optim, optimizer)).parameters
    options: dict[str, Any] = {name: True for name in SWITCHES if name in known and draw.random() < 0.3}
    if "momentum" in known and (draw.random() < 0.7 or "nesterov" in options):
        options["momentum"] = 0.9
    if "history_size" in known:
        options |= {"max_iter": 2, "history_size": 2}
    return options


def _fault(draw: random.Random, places: list[str]) -> tuple[str, str, int, type[Exception]] | None:
    """Place, kind, call and exception of the fault; None for none."""
    how = draw.choice((*HOWS, "error", "none", "none"))
    place, number = draw.choice(places), draw.randint(0, 12)
    if how == "none":
        return None
    return "criterion" if how in ("nan", "inf") else place, how, number, draw.choice(ERRORS)


# --- training ---------------------------------------------------------------------------------------------------------


class Training:
    """The objects of one combination, and the loop a user would write around them."""

    def __init__(self, combination: Combination) -> None:
        self.combination = combination
        random.seed(1), np.random.seed(2), torch.manual_seed(3)
        self.model = Network(combination.features)
        self.optimizer = self._optimizer()
        self.loader = LOADERS[combination.loader]()
        self.val_loader = LOADERS["shuffled by a generator"]()
        self.criterion = CRITERIA[combination.criterion]()
        self.scaler = None
        if combination.scaler != "none":
            enabled = combination.scaler == "enabled"
            self.scaler = torch.amp.GradScaler("cpu", enabled=enabled, init_scale=2.0**8, growth_interval=3)
        self.optimizer.register_step_pre_hook(striking("before step"))
        self.optimizer.register_step_post_hook(striking("after step"))
        self.companions = {name: COMPANIONS[name](self) for name in combination.companions}
        self.train(combination.warm_up)
        if combination.pending:
            self.loss(next(iter(self.loader))).backward()
        self.model.train(not combination.eval_mode)

    def _optimizer(self) -> Any:
        combination = self.combination
        kind = getattr(torch.optim, combination.optimizer)
        self.model.lookup.weight.requires_grad_(combination.optimizer == "SparseAdam")
        parameters = list(self.model.parameters())
        if combination.optimizer == "SparseAdam":  # refuses the gradients of every other weight
            parameters = [self.model.lookup.weight]
        elif combination.optimizer == "Muon":
            parameters = [parameter for parameter in parameters if parameter.ndim == 2]
        if combination.groups == 1 or len(parameters) == 1:
            return kind(parameters, lr=0.01, **combination.optimizer_options)
        groups = [{"params": parameters[:1], "lr": 0.002, "note": "first"}, {"params": parameters[1:]}]
        return kind(groups, lr=0.01, **combination.optimizer_options)

    def loss(self, batch: Any) -> Tensor:
        """Loss of one batch."""
        inputs, target = batch
        with torch.autocast("cpu", torch.bfloat16, enabled=self.combination.bfloat16):
            loss: Tensor = self.criterion(self.model(inputs), target)
            return loss

    def backward(self, batches: list[Any]) -> Tensor:
        """Gradients of the mean loss, which is returned."""
        total = torch.zeros(())
        for batch in batches:
            loss = self.loss(batch) / len(batches)
            (self.scaler.scale(loss) if self.scaler is not None else loss).backward()
            total += loss.detach()
        return total

    def step(self, batches: list[Any]) -> float:
        """One update; the loss before it."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            return self.backward(batches)

        if isinstance(self.optimizer, torch.optim.LBFGS):
            return float(self.optimizer.step(closure))
        loss = closure()
        if self.combination.clip is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(parameters, self.combination.clip)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return float(loss)

    def train(self, steps: int) -> list[str]:
        """A training of that many updates from a fresh iterator; returns its losses as text, so that nan equals nan."""
        losses: list[str] = []
        batches: list[Any] = []
        while len(losses) < steps:
            for batch in self.loader:
                batches.append(batch)
                if len(batches) == self.combination.accumulation:
                    losses.append(repr(self.step(batches)))
                    batches = []
                if len(losses) == steps:
                    break
        return losses

    def range_test(self) -> Any:
        """The range test of the combination on these objects."""
        combination = self.combination
        setup: dict[str, Any] = {"accumulation_steps": combination.accumulation, "clip_grad_norm": combination.clip}
        setup |= {"amp_dtype": torch.bfloat16 if combination.bfloat16 else None, "grad_scaler": self.scaler}
        validation: dict[str, Any] = {}
        if combination.validation is not None:
            validation = {"val_loader": self.val_loader, "val_batches": combination.validation or None}

        finder = LRFinder(self.model, self.optimizer, self.criterion, **setup)
        options = {**RANGES[combination.range], **validation}
        return finder.range_test(self.loader, **options, snapshot=combination.snapshot, progress=False)

    def fault(self) -> Fault | None:
        """The fault of the combination, not yet armed."""
        return None if self.combination.fault is None else Fault(*self.combination.fault)


# --- comparing --------------------------------------------------------------------------------------------------------


def visible(training: Training, *, identities: bool = False) -> dict[str, Any]:
    """Everything that decides how training goes on, as plain values by their path.

    Args:
        training: the objects.
        identities: with the identity and the memory of each parameter, which two trainings do not share.
    """
    walk = _Walk()
    for name in ("model", "optimizer", "loader", "val_loader", "criterion", "scaler", "companions"):
        walk.visit(name, getattr(training, name))
    found = walk.found
    if identities:
        found["identities"] = [(id(item), item.data_ptr()) for item in training.model.parameters()]
        found["persistent iterator"] = id(getattr(training.loader, "_iterator", None))
    walk.visit("random", [random.getstate(), np.random.get_state(), torch.get_rng_state()])
    found["interrupts"] = signal.getsignal(signal.SIGINT)
    found["modes"] = [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")]
    found["warnings"] = len(warnings.filters)
    return found


class _Walk:
    """Visits objects of any kind; what was met before is named by its first path, which holds aliases to account."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self._met: dict[int, str] = {}
        self._kept: list[Any] = []  # an object made on the way, and freed, would leave its id to another

    def visit(self, path: str, value: Any) -> None:
        """Record a value, and all that it holds."""
        if value is None or isinstance(value, (bool, int, float, str, bytes, type, torch.dtype, torch.device)):
            self.found[path] = repr(value)
        elif id(value) in self._met:
            self.found[path] = f"the same as {self._met[id(value)]}"
        else:
            self._met[id(value)] = path
            self._kept.append(value)
            self._visit_object(path, value)

    def _visit_object(self, path: str, value: Any) -> None:
        if isinstance(value, Tensor):
            self.found[path] = _bits(value)
            self.visit(f"{path}.__dict__", vars(value))
            if value.is_leaf:
                self.visit(f"{path}.grad", value.grad)
        elif isinstance(value, np.ndarray):
            self.found[path] = (str(value.dtype), value.shape, value.tobytes())
        elif isinstance(value, dict):
            self.found[path] = f"{type(value).__name__} of {len(value)}"
            for number, (key, item) in enumerate(value.items()):
                # Numbers of hooks go on through the whole process.
                name = repr(key) if isinstance(key, str) else self._met.get(id(key), number)
                self.visit(f"{path}[{name}]", item)
        elif isinstance(value, (list, tuple, set, frozenset)) or type(value).__name__ == "deque":
            items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else list(value)
            self.found[path] = f"{type(value).__name__} of {len(items)}"
            for index, item in enumerate(items):
                self.visit(f"{path}[{index}]", item)
        else:
            self._visit_other(path, value)

    def _visit_other(self, path: str, value: Any) -> None:
        self.found[path] = type(value).__name__
        if isinstance(value, (torch.Generator, np.random.RandomState)):
            self.visit(f"{path}.state", value.get_state())
        elif isinstance(value, np.random.Generator):
            self.visit(f"{path}.state", value.bit_generator.state)
        elif isinstance(value, random.Random):
            self.visit(f"{path}.state", value.getstate())
        elif hasattr(value, "__dict__") and not inspect.isroutine(value) and not inspect.ismodule(value):
            # The iterator of persistent workers belongs to processes: which one it is, is all there is to see.
            attributes = {name: item for name, item in vars(value).items() if name != "_iterator"}
            self.visit(f"{path}.", attributes)


def _bits(tensor: Tensor) -> Any:
    """Type, shape, flag and bits of a tensor."""
    if tensor.is_sparse:
        dense = tensor.coalesce()
        return ("sparse", _bits(dense.indices()), _bits(dense.values()))
    # A copy, since a tensor whose memory NumPy has seen cannot be resized any more.
    bits = tensor.detach().clone().reshape(-1).view(torch.uint8).numpy().tobytes()
    return (str(tensor.dtype), tuple(tensor.shape), tensor.requires_grad, bits)
