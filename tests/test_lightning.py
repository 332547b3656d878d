"""The range test inside Lightning: their step to the last bit, and no trace in what is trained, logged and written."""

from __future__ import annotations

import importlib
import io
import multiprocessing
import random
import re
import signal
import sys
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import torchmetrics
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    Callback,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.profilers import SimpleProfiler
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from lrfinder import LRFinder, RangeTestResult
from lrfinder.errors import BatchError, ConfigError, MissingDependencyError, SetupError
from lrfinder.integrations.lightning import LRFinderCallback, range_test
from lrfinder.schedules import KINDS

pytestmark = [
    # From Lightning itself: with newer versions of torch, and advice on loaders and logging of tiny data.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The .* does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:You defined a .validation_step. but have no"),
]

QUIET = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "enable_model_summary": False}
MIXED = {"precision": "bf16-mixed"}
RANGE = {"start_lr": 1e-3, "end_lr": 1e-1, "num_iter": 10, "progress": False}


class Digits(lightning.LightningModule):
    """A classifier with dropout, BatchNorm, logged metrics and a count of the steps it made."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))
        self.steps = 0
        self.seen: list[int] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        self.seen.append(batch_idx)
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("step_again", float(self.trainer.global_step))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def data(count: int = 64, **options: Any) -> DataLoader:
    generator = torch.Generator().manual_seed(3)
    inputs, target = torch.randn(count, 4, generator=generator), torch.randint(3, (count,), generator=generator)
    return DataLoader(TensorDataset(inputs, target), batch_size=8, **options)


def build(kind: type[Digits] = Digits, seed: int = 0) -> Digits:
    torch.manual_seed(seed)
    return kind()


def quiet_trainer(**options: Any) -> lightning.Trainer:
    return lightning.Trainer(**{**QUIET, "logger": False, "enable_checkpointing": False, "max_epochs": 2, **options})


# The training after it


class Measured(Digits):
    """With batches of several loaders, metrics of torchmetrics, and a file handle among its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"rate": 0.1, "function": len})
        self.accuracy = torchmetrics.Accuracy("multiclass", num_classes=3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = sum(super(Measured, self).training_step(each, batch_idx) for each in batch.values())
        self.accuracy(self.net(batch["a"][0]), batch["a"][1])
        self.log("accuracy", self.accuracy, on_epoch=True)
        self.logger.experiment.log_metrics({"by_hand": 1.0})
        return loss


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        yield from ((torch.full((4,), float(i % 5)) + torch.rand(4), i % 3) for i in range(40))


class Data(lightning.LightningDataModule):
    """A data module that keeps a log of its hooks, and makes its data in ``setup``."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def prepare_data(self) -> None:
        self.calls.append("prepare")

    def setup(self, stage: str) -> None:
        self.calls.append(stage)
        self.data: Dataset = data(64 + 8 * len(self.calls)).dataset

    def train_dataloader(self) -> DataLoader:
        self.calls.append("train")
        return DataLoader(self.data, batch_size=8, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        self.calls.append("val")
        return DataLoader(self.data, batch_size=32)

    def teardown(self, stage: str) -> None:
        self.calls.append("teardown")


class Scheduled(Digits):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 5))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warmup, "interval": "step"}}


class Late(Digits):
    """A module that makes its layers in a hook, keeps a teacher, and returns callbacks of its own."""

    def __init__(self) -> None:
        super().__init__()
        del self.net

    def configure_model(self) -> None:
        if not hasattr(self, "net"):
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))

    def on_train_start(self) -> None:
        self.teacher = [parameter.detach().clone() for parameter in self.parameters()]

    def on_train_epoch_start(self) -> None:
        self.losses: list[Tensor] = []

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"])
        for kept, parameter in zip(self.teacher, self.parameters(), strict=True):
            kept.lerp_(parameter.detach(), 0.1)

    def on_save_checkpoint(self, checkpoint: Any) -> None:
        checkpoint["teacher"] = self.teacher

    def configure_callbacks(self) -> list[Callback]:
        return [ModelCheckpoint(dirpath="of_the_module", filename="last")]


CASES: dict[str, dict[str, Any]] = {
    "shuffled": {},
    "data_module": {"datamodule": Data},
    "accumulated": {"accumulate_grad_batches": 3, "gradient_clip_val": 0.5},
    "bfloat16": {"precision": "bf16-mixed"},
    "scheduled": {"module": Scheduled},
    "late": {"module": Late},
    "stream": {"loader": lambda: DataLoader(Stream(), batch_size=8)},
    "generator": {"loader": lambda: data(shuffle=True, generator=torch.Generator().manual_seed(9))},
    "several": {"module": Measured, "loader": lambda: {"a": data(shuffle=True), "b": data(40, shuffle=True)}},
    "workers": {"loader": lambda: data(shuffle=True, num_workers=1, persistent_workers=True), "max_epochs": 1},
    "seeded": {"seed_everything": 5, "max_epochs": -1, "max_steps": 11, "profiler": "simple"},
}


def fit(folder: Path, before: Any, **case: Any) -> dict[str, Any]:
    """All that a fit leaves, with the range test before it or not."""
    folder.mkdir()
    kind, loader = case.pop("module", Digits), case.pop("loader", lambda: data(shuffle=True))
    make_data, seed = case.pop("datamodule", None), case.pop("seed_everything", None)
    random.seed(1)
    np.random.seed(1)
    module = build(kind)
    if seed is not None:
        lightning.seed_everything(seed, verbose=False)
    given = {"datamodule": make_data()} if make_data else {"train_dataloaders": loader(), "val_dataloaders": data()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        trainer = lightning.Trainer(
            **{**QUIET, "max_epochs": 2, "log_every_n_steps": 1, "logger": CSVLogger("logs"), **case},
            callbacks=[Counter()],
        )
        before(trainer, module, given)
        trainer.fit(module, **given)
        paths = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
        return {
            "paths": [name for name, path in paths.items() if path.is_dir() or path.stat().st_size >= 0],
            "metrics": [path.read_text() for path in paths.values() if path.name == "metrics.csv"],
            "checkpoints": [
                torch.load(path, weights_only=False) for path in paths.values() if path.suffix == ".ckpt"
            ],
            "random": [torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()],
            "state": [trainer.global_step, trainer.current_epoch, trainer.callback_metrics, trainer.callbacks[0].calls],
            "module": [module.steps, module.seen, module.state_dict()],
            "data": getattr(given.get("datamodule"), "calls", None),
        }


class Counter(Callback):
    """Counts the hooks that it gets."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def setup(self, *arguments: Any, **options: Any) -> None:
        self.calls.append("setup")

    def on_train_batch_end(self, *arguments: Any, **options: Any) -> None:
        self.calls.append("batch")

    def state_dict(self) -> dict[str, Any]:
        return {"calls": len(self.calls)}


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b):
            return [f"{path}: keys {list(a)} and {list(b)}"]
        return [line for key in a for line in differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [line for i, (x, y) in enumerate(zip(a, b, strict=True)) for line in differences(x, y, f"{path}/{i}")]
    if isinstance(a, Tensor):
        return [] if isinstance(b, Tensor) and torch.equal(a, b) else [f"{path}: {a} and {b}"]
    if isinstance(a, (str, Path)):
        a, b = (str(each).replace("/with/", "/").replace("/without/", "/") for each in (a, b))
    return [] if a == b else [f"{path}: {a} and {b}"]


def once(trainer: lightning.Trainer, module: Digits, given: dict[str, Any]) -> None:
    assert isinstance(range_test(trainer, module, **given, progress=False), RangeTestResult)


def twice(trainer: lightning.Trainer, module: Digits, given: dict[str, Any]) -> None:
    first, second = (range_test(trainer, module, **given, progress=False) for _ in range(2))
    assert first.curve.losses == second.curve.losses
    assert first.curve.lrs == second.curve.lrs


@pytest.mark.parametrize("name", CASES)
def test_a_fit_after_it_is_the_fit_without_it(name: str, tmp_path: Path) -> None:
    without = fit(tmp_path / "without", lambda *_: None, **CASES[name])
    with_it = fit(tmp_path / "with", once, **CASES[name])
    assert differences(without, with_it) == []
    assert without["checkpoints"]


def test_the_second_test_gives_the_result_of_the_first(tmp_path: Path) -> None:
    without = fit(tmp_path / "without", lambda *_: None)
    assert differences(without, fit(tmp_path / "with", twice)) == []


class Failing(Digits):
    """Fails in a hook of a sweep, and nowhere else."""

    error: BaseException | None = None
    where = ""

    def fail(self, where: str) -> None:
        if self.error is not None and where == self.where and self.steps in (0, 4):
            if isinstance(self.error, KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            raise self.error

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.fail("step")
        return loss

    def setup(self, stage: str) -> None:
        self.fail("setup")

    def configure_optimizers(self) -> Any:
        self.fail("optimizers")
        return super().configure_optimizers()


@pytest.mark.parametrize("where", ["setup", "optimizers", "step"])
@pytest.mark.parametrize("error", [ZeroDivisionError("of the module"), KeyboardInterrupt()], ids=repr)
def test_what_is_raised_leaves_nothing(where: str, error: BaseException, tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)

    def fail(trainer: lightning.Trainer, module: Failing, given: dict[str, Any]) -> None:
        module.error, module.where = error, where
        with pytest.raises(type(error)):
            range_test(trainer, module, **given, **RANGE)
        module.error = None

    with_it = fit(tmp_path / "with", fail, module=Failing, max_epochs=1)
    assert differences(fit(tmp_path / "without", lambda *_: None, module=Failing, max_epochs=1), with_it) == []
    assert signal.getsignal(signal.SIGINT) is handler


class Loud(Scheduled):
    """Keeps a note of what a sweep must not do, where no snapshot looks."""

    def log(self, *arguments: Any, **options: Any) -> None:
        NOTES.write("log ")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        NOTES.write("validation ")

    def lr_scheduler_step(self, *arguments: Any) -> None:
        NOTES.write("scheduler ")

    def configure_callbacks(self) -> list[Callback]:
        NOTES.write("callbacks ")
        return []

    def on_train_end(self) -> None:
        NOTES.write("end ")


NOTES = io.StringIO()


def test_it_writes_no_file_and_neither_logs_nor_validates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"callbacks": [ModelCheckpoint("saved"), LearningRateMonitor()], "logger": CSVLogger("logs")}
    profiler = SimpleProfiler(dirpath="profiles", filename="profile")
    trainer = lightning.Trainer(accelerator="cpu", devices=1, max_epochs=1, profiler=profiler, **given)
    loader = data(num_workers=1, persistent_workers=True)
    running = set(multiprocessing.active_children())  # workers of other tests
    NOTES.truncate(0)
    range_test(trainer, build(Loud), loader, data(), **RANGE)
    assert NOTES.getvalue() == ""
    assert list(tmp_path.iterdir()) == []
    assert set(multiprocessing.active_children()) <= running
    assert trainer.profiler is profiler
    assert trainer.loggers == [given["logger"]]


class Saving(Digits):
    """Writes into the folder of the run, as the documentation of Lightning shows."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        NOTES.write(f"{Path(self.trainer.log_dir) / 'image.png'} {Path(self.logger.log_dir).name} ")
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("logger", [CSVLogger, TensorBoardLogger])
def test_a_step_may_ask_for_the_folder_of_the_logger(logger: Any, tmp_path: Path) -> None:
    (tmp_path / "lightning_logs" / "version_4").mkdir(parents=True)
    trainer = quiet_trainer(logger=logger(tmp_path), max_epochs=1)
    NOTES.truncate(NOTES.seek(0))
    range_test(trainer, build(Saving), data(), **RANGE)
    assert set(NOTES.getvalue().split()) == {str(tmp_path / "lightning_logs" / "version_5" / "image.png"), "version_5"}
    (tmp_path / "lightning_logs" / "version_5").mkdir()
    assert trainer.logger.version == 6  # it has no number before it is asked for


def test_between_two_fits_it_leaves_the_second_as_it_is() -> None:
    ends = []
    for swept in (False, True):
        module, trainer, loader = build(), quiet_trainer(max_epochs=1), data(shuffle=True)
        trainer.fit(module, loader)
        trainer.fit_loop.max_epochs = 3
        if swept:
            range_test(trainer, module, loader, progress=False)
        trainer.fit(module, loader)
        ends.append([module.state_dict(), trainer.global_step, trainer.current_epoch, module.seen])
    assert differences(*ends) == []


def test_a_fresh_trainer_is_fresh_after_it() -> None:
    module, trainer = build(), quiet_trainer()
    before = {**vars(trainer)}
    range_test(trainer, module, data(), **RANGE)
    assert vars(trainer) == before
    assert (trainer.state.fn, trainer.lightning_module, trainer.train_dataloader, trainer.global_step) == (
        None,
        None,
        None,
        0,
    )
    with pytest.raises(RuntimeError, match="not attached to a `Trainer`"):
        _ = module.trainer


# The step


class Popping(Digits):
    """Takes entries out of its batch, and normalises it in place."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        target = batch.pop("target")
        return {"loss": super().training_step((batch["inputs"].sub_(0.5), target), batch_idx), "batch": batch_idx}


def as_dictionaries(samples: list[Any]) -> dict[str, Tensor]:
    inputs, target = zip(*samples, strict=True)
    return {"inputs": torch.stack(inputs), "target": torch.stack(target)}


class Overriding(Digits):
    """Overrides what a step consists of."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] + torch.randn(4), batch[1]

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any = None) -> None:
        optimizer.step(closure=closure)
        with torch.no_grad():
            self.net[0].weight.clamp_(-0.4, 0.4)

    def configure_gradient_clipping(self, optimizer: Any, *clipping: Any, **options: Any) -> None:
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.sign_()

    def on_before_zero_grad(self, optimizer: Any) -> None:
        for parameter in self.parameters():
            parameter.data.mul_(0.999)


class AtRates(Callback):
    """Trains at given learning rates, and keeps the losses that Lightning reports."""

    def __init__(self, lrs: Any) -> None:
        self.lrs, self.losses = list(lrs), []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if trainer.global_step < len(self.lrs):
            optimizer.param_groups[0]["lr"] = self.lrs[trainer.global_step]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *batch: Any) -> None:
        self.losses.append(outputs["loss"].item())


STEPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulate_grad_batches": 2},
    "clipped": {"gradient_clip_val": 0.05},
    "clipped_by_value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    "bfloat16": {"precision": "bf16-mixed"},
    "all_bfloat16": {"precision": "bf16-true"},
    "overridden": {"module": Overriding},
    "popped": {"module": Popping, "collate_fn": as_dictionaries},
    "stream": {"loader": lambda: DataLoader(Stream(), batch_size=4)},
}


@pytest.mark.parametrize("name", STEPS)
def test_the_curve_is_the_loss_of_the_trainer_to_the_last_bit(name: str) -> None:
    case = dict(STEPS[name])
    kind, collate_fn = case.pop("module", Digits), case.pop("collate_fn", None)
    make = case.pop("loader", lambda: data(160, shuffle=True, collate_fn=collate_fn))
    steps = case.get("accumulate_grad_batches", 1)
    module, loader = build(kind), make()
    curve = range_test(quiet_trainer(**case), module, loader, **RANGE).curve
    assert len(curve.losses) == 10
    rates = AtRates(curve.lrs)
    quiet_trainer(**case, callbacks=[rates], max_epochs=1).fit(module, loader)
    sums = [float(sum(map(torch.tensor, rates.losses[i : i + steps]))) for i in range(0, len(rates.losses), steps)]
    assert list(curve.losses) == sums[: len(curve.losses)]


class Tuned(Digits):
    """More weights than the calibration runs have, and a step without a batch number that writes into its batch."""

    def __init__(self) -> None:
        super().__init__()
        trunk = (nn.Linear(4, 300), nn.BatchNorm1d(300), nn.Tanh(), nn.Linear(300, 300))
        self.net = nn.Sequential(*trunk, nn.Linear(300, 3))

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        batch[0].neg_()
        return {"loss": super().training_step(batch, 0)}

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


@pytest.mark.parametrize(
    ("case", "same"),
    [({}, {}), ({"accumulate_grad_batches": 2}, {"accumulation_steps": 2}), (MIXED, {"amp_dtype": torch.bfloat16})],
    ids=["plain", "accumulated", "bfloat16"],
)
def test_the_probe_of_trained_weights_is_that_of_the_loop_of_ones_own(
    case: dict[str, Any], same: dict[str, Any]
) -> None:
    loader = data(160)
    curve = range_test(quiet_trainer(**case), build(Tuned), loader, pretrained=True, **RANGE).curve
    net = build(Tuned).net
    finder = LRFinder(net, torch.optim.AdamW(net.parameters()), nn.CrossEntropyLoss(), pretrained=True, **same)
    expected = finder.range_test([(-inputs, target) for inputs, target in loader], **RANGE).curve
    assert len(curve.probe_losses) == RANGE["num_iter"]
    assert curve.probe_losses == pytest.approx(expected.probe_losses, rel=1e-5)


class Annealed(Tuned):
    """A loss that depends on how many steps were made."""

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        return {"loss": super().training_step(batch)["loss"] / self.steps}


def test_a_probe_is_no_step_for_a_module_that_counts_its_steps() -> None:
    loader = DataLoader([next(iter(data(8).dataset))] * 160, batch_size=8)  # equal batches
    fits = [(quiet_trainer(), build(Annealed), loader) for _ in range(2)]
    probed = range_test(*fits[0], pretrained=True, **RANGE).curve
    without = range_test(*fits[1], pretrained=False, **RANGE).curve
    assert probed.probe_losses and not without.probe_losses
    assert probed.losses == without.losses


def test_a_probe_leaves_nothing(tmp_path: Path) -> None:
    def tuned(trainer: lightning.Trainer, module: Digits, given: dict[str, Any]) -> None:
        assert range_test(trainer, module, **given, pretrained=True, **RANGE).curve.probe_losses

    without = fit(tmp_path / "without", lambda *_: None, module=Tuned)
    assert differences(without, fit(tmp_path / "with", tuned, module=Tuned)) == []


class Numbered(Dataset):
    """Samples that start with their number."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.tensor([float(index), 1.0, 2.0, 3.0]), index % 3


class Counting(Digits):
    """Writes the batches, their numbers, and the step in which they come."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        NOTES.write(f"{int(batch[0][0, 0])}:{batch_idx}:{self.trainer.global_step} ")
        return super().training_step(batch, batch_idx)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)


def counted(trainer: lightning.Trainer, module: Digits, **options: Any) -> list[tuple[int, ...]]:
    NOTES.truncate(NOTES.seek(0))
    range_test(trainer, module, DataLoader(Numbered()), **{"progress": False, **options})
    return [tuple(map(int, each.split(":"))) for each in NOTES.getvalue().split()]


def test_a_sweep_runs_through_several_epochs_in_whole_updates() -> None:
    seen = counted(quiet_trainer(accumulate_grad_batches=3), build(Counting), **RANGE)
    assert seen == [(i % 6, i % 6, i // 3) for i in range(30)]


def test_a_used_trainer_sweeps_from_the_start_of_an_epoch() -> None:
    trainer, module = quiet_trainer(max_epochs=-1, max_steps=3), build(Counting)
    trainer.fit(module, DataLoader(Numbered()))
    trainer.fit_loop.epoch_loop.max_steps = 10
    assert counted(trainer, module, **RANGE) == [(i % 8, i % 8, 3 + i) for i in range(10)]


def test_the_search_repeats_one_batch_and_the_sweep_goes_on_from_it() -> None:
    seen = [batch for batch, _, _ in counted(quiet_trainer(), build(Counting))]
    start = len(seen) - seen[::-1].index(7) - 1
    assert set(seen[:3]) == {0}
    assert seen[start + 1 :] == list(range(len(seen) - start - 1))
    in_order = seen[next(i for i, batch in enumerate(seen) if batch) :]
    assert in_order == [(1 + i) % 8 for i in range(len(in_order))]


class Kept:
    """A loader that gives the same batches each time."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)


def test_batches_that_a_step_changes_stay_as_they_are() -> None:
    loader = [as_dictionaries([(torch.rand(4), torch.tensor(i % 3)) for i in range(8)]) for _ in range(4)]
    before = [{name: value.clone() for name, value in batch.items()} for batch in loader]
    module = build(Popping)
    module.net[3] = nn.Identity()
    range_test(quiet_trainer(), module, Kept(loader), progress=False)
    assert differences(loader, before) == []
    fresh = data(collate_fn=as_dictionaries)
    searched = range_test(quiet_trainer(), module, fresh, progress=False).curve
    assert searched.losses[0] == range_test(quiet_trainer(), module, fresh, **RANGE).curve.losses[0]


def test_groups_keep_their_ratio_where_a_warmup_starts_at_zero() -> None:
    class Grouped(Digits):
        def configure_optimizers(self) -> Any:
            groups = [{"params": self.net[0].parameters()}, {"params": self.net[4].parameters(), "lr": 0.1}]
            optimizer = torch.optim.SGD(groups, lr=0.01)
            return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 5))]

    curve = range_test(quiet_trainer(), build(Grouped), data(), **RANGE).curve
    assert curve.group_scales == pytest.approx((1.0, 10.0))


def test_a_module_in_eval_mode_is_swept_as_lightning_trains_it() -> None:
    with pytest.warns(UserWarning, match="in eval mode"):
        module, loader = build().eval(), data()
        curve = range_test(quiet_trainer(), module, loader, **RANGE).curve
        rates = AtRates(curve.lrs)
        quiet_trainer(callbacks=[rates], max_epochs=1).fit(module, loader)
    assert list(curve.losses)[:8] == rates.losses


def test_a_step_skipped_by_none_is_a_loss_of_nan() -> None:
    class Skipping(Digits):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return None if batch_idx == 5 else loss

    with pytest.warns(UserWarning, match="returned `None`"):
        curve = range_test(quiet_trainer(), build(Skipping), data(), **RANGE).curve
    assert (curve.stop.name, len(curve.losses)) == ("NONFINITE", 5)


# What is refused


class Manual(Digits):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class Without(Digits):
    def configure_optimizers(self) -> Any:
        return None


class Several(Digits):
    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.net[index].parameters(), lr=0.1) for index in (0, 4)]


class Closed(Digits):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters())


class Drawing(Digits):
    def training_step(self, dataloader_iter: Any) -> Any:
        return super().training_step(next(dataloader_iter)[0], 0)


class Ending(Digits):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == 3 else None


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        (Manual, {}, r"automatic_optimization=False.*step_fn=step"),
        (Without, {}, r"configure_optimizers of Without returned no optimizer"),
        (Several, {}, r"Several has several optimizers.*step_fn=step"),
        (lightning.LightningModule, {}, r"LightningModule has no configure_optimizers"),
        (Closed, {}, r"LBFGS computes the loss several times per step"),
        (Drawing, {}, r"dataloader_iter"),
        (Ending, {}, r"on_train_batch_start returned -1"),
        (Digits, {"max_epochs": 0}, r"trainer.fit would make no step"),
        (Digits, {"limit_train_batches": 0}, r"trainer.fit would make no step"),
        (Digits, {"strategy": "ddp_spawn"}, r"inside trainer.fit, from which no result"),
    ],
)
def test_what_cannot_be_swept_is_refused(kind: type[Digits], options: dict[str, Any], sentence: str) -> None:
    module, trainer = build(kind), quiet_trainer(**options)
    with pytest.raises((SetupError, BatchError), match=sentence):
        range_test(trainer, module, data(), **RANGE)
    assert trainer.state.fn is None


def test_a_callback_that_freezes_layers_is_refused() -> None:
    """Without the callback all layers would be swept, which take another learning rate than a head."""

    class Frozen(BaseFinetuning):
        def freeze_before_training(self, pl_module: Any) -> None:
            self.freeze(pl_module.net[0])

        def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
            pass

    with pytest.raises(SetupError, match="Frozen freezes layers.*callbacks=.Frozen.*, LRFinderCallback") as refusal:
        range_test(quiet_trainer(callbacks=[Frozen()]), build(), data(), **RANGE)
    assert "\n" not in str(refusal.value)
    finder = LRFinderCallback("cosine", peak_lr=0.01, sweep=RANGE)
    quiet_trainer(max_epochs=1, callbacks=[Frozen(), finder]).fit(build(), data())
    assert finder.result is not None and finder.result.curve.facts is not None
    assert finder.result.curve.facts.frozen == 4 * 8 + 8


class Unfreezing(BaseFinetuning):
    """Trains the first layer, too, from the third epoch on."""

    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.net[0])

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 2:
            self.unfreeze_and_add_param_group(pl_module.net[0], optimizer, lr=1e-3)


class Partly(Digits):
    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW([each for each in self.parameters() if each.requires_grad], lr=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_schedules_of_layers_that_unfreeze_run_or_are_refused(kind: str) -> None:
    finder = LRFinderCallback(kind, monitor="train_loss", peak_lr=0.01, sweep=RANGE)
    trainer = quiet_trainer(max_epochs=4, callbacks=[Unfreezing(), finder])
    if kind in ("onecycle", "cyclic", "restarts", "wsd"):
        refusal = rf"Unfreezing adds parameter groups .*, which the torch scheduler of {kind!r} does not take"
        with pytest.raises(SetupError, match=refusal):
            trainer.fit(build(Partly), data())
        assert trainer.global_step == 0
        return
    trainer.fit(build(Partly), data())
    assert trainer.global_step == 32 and len(trainer.optimizers[0].param_groups) == 2


def test_a_running_trainer_is_refused_and_trains_on() -> None:
    class Inside(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            with pytest.raises(SetupError, match="the trainer is running.*LRFinderCallback"):
                range_test(trainer, pl_module)

    trainer = quiet_trainer(callbacks=[Inside()])
    trainer.fit(build(), data())
    assert trainer.global_step == 16


def test_without_lightning_the_message_has_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("lightning_names", "lightning_checks", "lightning"):
        monkeypatch.delitem(sys.modules, f"lrfinder.integrations.{name}")
    with pytest.raises(MissingDependencyError, match=re.escape('pip install "lrfinder[lightning]"')):
        importlib.import_module("lrfinder.integrations.lightning")


def test_objects_of_other_packages_and_validation_are_refused() -> None:
    with pytest.raises(SetupError, match=r"trainer must be a lightning.pytorch.Trainer; got a builtins.str"):
        range_test("trainer", build())  # type: ignore[arg-type]
    with pytest.raises(SetupError, match=r"trainer must be .* got a \w+.Digits. Write range_test\(trainer, module, "):
        range_test(build(), quiet_trainer())  # type: ignore[arg-type]
    with pytest.raises(SetupError, match=r"module must be a lightning.pytorch.LightningModule; got a builtins.int"):
        range_test(quiet_trainer(), 3)  # type: ignore[arg-type]
    with pytest.raises(SetupError, match=r"datamodule must be a lightning.pytorch.LightningDataModule; got a DataLoad"):
        range_test(quiet_trainer(), build(), datamodule=data())
    with pytest.raises(ConfigError, match="val_loader cannot be swept"):
        range_test(quiet_trainer(), build(), data(), val_loader=data())
    with pytest.raises(ConfigError, match="num_iter"):
        range_test(quiet_trainer(), build(), data(), num_iter=0)
    with pytest.raises(ConfigError, match=r"takes no ckpt_path: it sweeps from the weights that the module has"):
        range_test(quiet_trainer(), build(), data(), ckpt_path="last")


# The callback


def test_options_of_the_callback_are_checked_when_it_is_made() -> None:
    for options in ({"start_lr": 1e-5}, {"peak_lr": -1.0}, {"epochs": 0}, {"warmup_steps": -1}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            LRFinderCallback("cosine", **options)
    with pytest.raises(ConfigError, match=r"sweep must be a dictionary of options of the range test.*got a list"):
        LRFinderCallback("cosine", sweep=[("num_iter", 20)])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_callback_for_each_kind_can_be_made(kind: str) -> None:
    assert LRFinderCallback(kind, monitor="val_loss", peak_lr=0.1).kind == kind
    options = {"total_steps": 100} if kind not in ("constant", "plateau") else {}
    assert LRFinderCallback(kind, monitor="val_loss", **options).recipe is None


class Rates(Callback):
    """The learning rate of each update."""

    def __init__(self) -> None:
        self.lrs: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.lrs.append(optimizer.param_groups[0]["lr"])


def advised(folder: Path, finder: Any, *, kind: type[Digits] = Digits, resume: Any = None, **options: Any) -> Any:
    """A fit with the callback, its learning rates and its metrics."""
    module, rates = build(kind), Rates()
    saved = ModelCheckpoint(folder / "saved", save_top_k=-1, filename="{epoch}")
    trainer = quiet_trainer(
        max_epochs=4,
        enable_checkpointing=True,
        logger=CSVLogger(folder),
        callbacks=[LearningRateMonitor(), rates, saved, finder],
        log_every_n_steps=1,
        **options,
    )
    trainer.fit(module, data(64, shuffle=kind is Digits), data(), ckpt_path=resume)
    return module, rates.lrs, (folder / "lightning_logs" / "version_0" / "metrics.csv").read_text()


@pytest.mark.parametrize(
    ("kind", "options", "batches", "interval"),
    [
        ("cosine", {}, 1, "step"),
        ("onecycle", {}, 3, "step"),
        ("step", {"epochs": 4, "step_size": 2}, 1, "epoch"),
        ("constant", {}, 1, "step"),
    ],
)
def test_the_learning_rates_follow_the_recipe(
    kind: str, options: Any, batches: int, interval: str, tmp_path: Path
) -> None:
    finder = LRFinderCallback(kind, peak_lr=0.02, **options)
    _, lrs, _ = advised(tmp_path, finder, accumulate_grad_batches=batches)
    assert finder.recipe is not None and finder.recipe.interval == interval
    updates = -(-8 // batches)
    times = [step if interval == "step" else step // updates for step in range(4 * updates)]
    assert lrs == pytest.approx([finder.recipe.lr_at(t) for t in times])
    assert len(set(lrs)) > 1 or kind == "constant"


def test_the_schedule_of_the_module_is_replaced_with_a_warning(tmp_path: Path) -> None:
    """Modules of libraries return a scheduler, and cannot be told not to."""
    finder = LRFinderCallback("cosine", peak_lr=0.02, sweep=RANGE)
    with pytest.warns(UserWarning, match="its 'cosine' schedule in place of the LambdaLR that configure"):
        _, lrs, _ = advised(tmp_path, finder, kind=Scheduled)
    assert finder.recipe is not None
    assert lrs == pytest.approx([finder.recipe.lr_at(step) for step in range(32)])


@pytest.mark.parametrize(
    ("kind", "options"),
    [("cosine", {}), ("constant", {}), ("plateau", {"monitor": "train_loss"}), ("cosine", {"epochs": 1000})],
    ids=str,
)
def test_the_learning_rate_is_that_of_the_length_of_the_fit(kind: str, options: Any, tmp_path: Path) -> None:
    """1000 epochs of 8 updates; a kind that needs no length is trained as long."""
    finder = LRFinderCallback(kind, **options)

    class Once(Callback):
        def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
            trainer.should_stop = True

    trainer = quiet_trainer(max_epochs=1000, default_root_dir=tmp_path, callbacks=[finder, Once()])
    trainer.fit(build(Digits), data(64, shuffle=True))
    assert finder.result is not None and finder.recipe is not None
    assert finder.recipe.peak_lr == finder.result.lr_for(kind, 8000) < finder.result.lr_for(kind)


def test_plateau_follows_the_metric_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="monitor='val_loss'"):
        LRFinderCallback("plateau")
    finder = LRFinderCallback("plateau", monitor="val_loss", peak_lr=100.0, patience=0, factor=0.5)
    _, lrs, _ = advised(tmp_path, finder)
    assert finder.recipe is not None and finder.recipe.interval == "epoch"
    assert lrs[:8] == [100.0] * 8
    assert set(lrs) >= {100.0, 50.0}


def test_the_schedule_of_a_second_fit_is_as_long_as_that_fit() -> None:
    finder = LRFinderCallback("cosine", peak_lr=0.1, sweep={"progress": False})
    module, trainer = build(), quiet_trainer(max_epochs=1, callbacks=[finder])
    trainer.fit(module, data())
    first = trainer.global_step
    assert finder.recipe is not None and finder.recipe.total_steps == first
    trainer.fit_loop.max_epochs = 3
    trainer.fit(module, data())
    assert finder.recipe.total_steps == trainer.global_step - first == 2 * first


def test_the_schedule_follows_accumulation_by_epoch() -> None:
    finder = LRFinderCallback("cosine", peak_lr=0.1, sweep={"progress": False})
    trainer = quiet_trainer(max_epochs=3, callbacks=[finder, GradientAccumulationScheduler({0: 1, 1: 3})])
    trainer.fit(build(), data())
    assert finder.recipe is not None and finder.recipe.total_steps == trainer.global_step


def test_the_sweep_accumulates_as_the_epoch_that_begins(tmp_path: Path) -> None:
    """Of a trainer alone it would be that of one batch per update, at a lower learning rate."""
    by_epoch = GradientAccumulationScheduler({0: 2, 1: 4})
    trainer, fixed = quiet_trainer(callbacks=[by_epoch]), quiet_trainer(accumulate_grad_batches=2)
    results = [range_test(each, build(), data(), **RANGE) for each in (trainer, fixed)]
    assert results[0].curve.losses == results[1].curve.losses
    assert trainer.accumulate_grad_batches == 1
    finder = LRFinderCallback("cosine", peak_lr=0.1, sweep=RANGE)
    quiet_trainer(max_epochs=2, callbacks=[finder, by_epoch]).fit(build(), data())
    assert finder.result is not None and finder.result.curve.facts is not None
    assert finder.result.curve.facts.accumulation_steps == 2


def test_a_fit_with_the_callback_is_the_fit_with_its_scheduler(tmp_path: Path) -> None:
    finder = LRFinderCallback("cosine")
    module, lrs, metrics = advised(tmp_path / "with", finder)
    recipe = finder.recipe
    assert recipe is not None and finder.result is not None
    assert recipe.peak_lr == finder.result.lr_for("cosine", 32)

    class ByHand(LRFinderCallback):
        """Puts the same scheduler in place without a sweep."""

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            config = torch.optim.lr_scheduler, recipe.build(trainer.optimizers[0])
            trainer.strategy.lr_scheduler_configs = [
                lightning.pytorch.utilities.types.LRSchedulerConfig(config[1], interval="step")
            ]

    other, other_lrs, other_metrics = advised(tmp_path / "without", ByHand("cosine"))
    assert lrs == other_lrs
    assert metrics == other_metrics
    assert differences(module.state_dict(), other.state_dict()) == []
    assert (module.steps, module.seen) == (other.steps, other.seen)


class Even(Digits):
    """Without random numbers, whose state a checkpoint does not hold."""

    def __init__(self) -> None:
        super().__init__()
        self.net[3] = nn.Identity()


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_fit_does_not_sweep_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    finder = LRFinderCallback("cosine")
    whole, lrs, _ = advised(tmp_path / "whole", finder, kind=Even)
    again = LRFinderCallback("cosine", sweep={"num_iter": -1})  # refused, if it swept
    state = torch.load(tmp_path / "whole" / "saved" / "epoch=1.ckpt", weights_only=True)
    assert state["callbacks"]["LRFinderCallback"]["recipe"] == finder.recipe.to_dict()
    path = tmp_path / "whole" / "saved" / "epoch=1.ckpt"
    resumed, later, _ = advised(tmp_path / "resumed", again, kind=Even, resume=path)
    assert later == lrs[16:]
    assert again.recipe == finder.recipe
    assert again.result is not None and again.result.curve == finder.result.curve
    assert differences(whole.state_dict(), resumed.state_dict()) == []
    ends = [torch.load(tmp_path / part / "saved" / "epoch=3.ckpt", weights_only=True) for part in ("whole", "resumed")]
    for end in ends:
        end["callbacks"] = end["callbacks"]["LRFinderCallback"]
    assert differences(*ends) == []


def test_resuming_without_a_recipe_or_an_end_is_refused(tmp_path: Path) -> None:
    module, trainer = build(), quiet_trainer(max_epochs=1)
    trainer.fit(module, data())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(SetupError, match="made without LRFinderCallback"):
        quiet_trainer(callbacks=[LRFinderCallback("cosine")]).fit(module, data(), ckpt_path=tmp_path / "last.ckpt")
    with pytest.raises(SetupError, match="no end for the schedule"):
        quiet_trainer(max_epochs=-1, callbacks=[LRFinderCallback("cosine", sweep=RANGE)]).fit(build(), data())


def test_a_failing_sweep_of_the_callback_leaves_the_module_as_it_was() -> None:
    module, finder = build(Failing), LRFinderCallback("cosine", sweep=RANGE)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.error, module.where = ZeroDivisionError("of the module"), "step"
    trainer = quiet_trainer(callbacks=[finder])
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module, data(shuffle=True))
    assert differences(module.state_dict(), before) == []
    assert (trainer.global_step, trainer.callbacks, module.steps, finder.state_dict()) == (0, [finder], 0, {})


def test_a_state_that_was_loaded_to_validate_does_not_count_as_resuming() -> None:
    finder = LRFinderCallback("cosine", sweep=RANGE, peak_lr=0.01)
    trainer = quiet_trainer(callbacks=[finder])
    trainer.fit(build(), data())
    first = finder.result
    finder.load_state_dict(finder.state_dict())
    quiet_trainer(callbacks=[finder], max_epochs=3).fit(build(seed=1), data())
    assert finder.result != first
    assert finder.recipe is not None and finder.recipe.total_steps == 24


def test_a_development_run_does_not_sweep() -> None:
    finder = LRFinderCallback("cosine")
    quiet_trainer(fast_dev_run=True, callbacks=[finder]).fit(build(), data())
    assert finder.result is None
    assert finder.state_dict() == {}
