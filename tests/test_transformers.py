"""The range test inside the Hugging Face Trainer: its loss to the last bit, and no trace in the training after it."""

from __future__ import annotations

import configparser
import contextlib
import copy
import gc
import importlib.metadata
import json
import random
import re
import runpy
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, logging
from transformers.trainer_pt_utils import LayerWiseDummyOptimizer

from lrfinder import RangeTestResult
from lrfinder.errors import ConfigError, MissingDependencyError, SetupError
from lrfinder.integrations import transformers as integration
from lrfinder.integrations.transformers import apply, range_test

WORDS, LENGTH = 31, 8
SHORT: dict[str, Any] = {"start_lr": 1e-4, "end_lr": 1e-2, "num_iter": 12, "early_stop": False, "progress": False}


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """The trainer collects garbage whenever it starts: what is loaded by now need not be looked at each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No progress bars of theirs on standard error, and relative folders, which checkpoints record."""
    monkeypatch.chdir(tmp_path)
    logging.disable_progress_bar()


def language_model(dropout: float = 0.1, width: int = 16) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    rates = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    sizes = {"vocab_size": WORDS, "n_positions": LENGTH, "n_embd": width, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**sizes, **rates, bos_token_id=0, eos_token_id=0, loss_type="ForCausalLM"))


def sentences(count: int = 44) -> list[dict[str, Tensor]]:
    """Of one length, with labels of which a part, another in each, does not count."""
    generator = torch.Generator().manual_seed(1)
    samples = []
    for ids in torch.randint(WORDS, (count, LENGTH), generator=generator):
        labels = ids.clone()
        labels[: int(ids[0]) % 6] = -100
        samples.append({"input_ids": ids, "labels": labels})
    return samples


def build(
    kind: type[Trainer] = Trainer, model: Any = None, parts: dict[str, Any] | None = None, **given: Any
) -> Trainer:
    fixed = {"output_dir": "out", "use_cpu": True, "report_to": [], "disable_tqdm": True}
    usual = {"per_device_train_batch_size": 4, "max_steps": 6, "logging_steps": 1, "save_steps": 3}
    args = TrainingArguments(**{**fixed, **usual, **given})
    data = {"train_dataset": sentences(), "eval_dataset": sentences(8)}
    return kind(model or language_model(), args, **{**data, **(parts or {})})


def outcome(trainer: Trainer) -> dict[str, Any]:
    """All that a training leaves: log, weights, random states, and its files to the last byte."""
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    trainer.train(resume_from_checkpoint=getattr(trainer, "resumed", None))
    files = {str(path): without_times(path) for path in sorted(Path().rglob("*"))}
    weights = torch.cat([tensor.flatten() for tensor in trainer.model.state_dict().values()]).tolist()
    rng = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    return {"log": untimed(trainer.state.log_history), "files": files, "weights": weights, "rng": rng}


def untimed(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    timed = ("runtime", "per_second", "preparation_time")
    return [{key: value for key, value in line.items() if not key.endswith(timed)} for line in log]


def without_times(path: Path) -> Any:
    if path.name == "trainer_state.json":
        state = json.loads(path.read_text())
        return {**state, "log_history": untimed(state["log_history"])}
    return path.read_bytes() if path.is_file() else None


def compare(
    folder: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Trainer], sweep: Callable[[Trainer], Any]
) -> None:
    """Train without a finder and with one before, each in a folder of its own; all is the same."""
    outcomes: list[dict[str, Any]] = []
    for name in ("without", "with"):
        (folder / name).mkdir()
        monkeypatch.chdir(folder / name)
        trainer = make()
        if name == "with":
            random.seed(7), torch.manual_seed(7)
            found, state = sorted(Path().rglob("*")), (random.getstate(), torch.get_rng_state())
            sweep(trainer)
            assert sorted(Path().rglob("*")) == found
            assert random.getstate() == state[0] and torch.equal(torch.get_rng_state(), state[1])
        outcomes.append(outcome(trainer))
    for part, value in outcomes[0].items():
        assert value and value == outcomes[1][part], part


def short(trainer: Trainer) -> RangeTestResult:
    return range_test(trainer, **SHORT)


def searched(trainer: Trainer) -> RangeTestResult:
    """The search for the range trains on one batch again and again."""
    return range_test(trainer, num_iter=12, progress=False)


# --- no trace ---------------------------------------------------------------------------------------------------------


class Streamed(IterableDataset):
    def __init__(self) -> None:
        self.passes = 0

    def __iter__(self) -> Any:
        self.passes += 1
        yield from sentences(44)[self.passes % 3 :]


class Counted(Dataset):
    def __init__(self) -> None:
        self.samples, self.drawn, self.noise = sentences(), [], np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        self.drawn.append(index)
        ids = self.samples[index]["input_ids"].clone()
        ids[int(self.noise.integers(LENGTH))] = int(torch.randint(WORDS, ()))
        return {"input_ids": ids, "labels": ids}


class Busy(Trainer):
    """Counts, logs, keeps an average of the weights, takes entries out of its batches, and adds noise of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls, self.seen, self.average = 0, defaultdict(list), copy.deepcopy(self.model)
        self.noise = torch.Generator().manual_seed(3)

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        self.calls += 1
        labels = inputs.pop("labels")
        return super().training_step(model, {**inputs, "labels": labels}, num_items_in_batch)

    def compute_loss(self, model: nn.Module, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        loss = loss + 0.01 * torch.rand((), generator=self.noise) + 0.001 * self.calls
        self.seen["loss"].append(loss.item())
        with torch.no_grad():
            for mine, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mine.lerp_(new, 0.1)
        loss = loss + 0.1 * next(self.average.parameters()).norm()
        self.log({"mine": loss.item(), "seen": len(self.seen["loss"])})
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: Any, *args: Any, **kwargs: Any) -> None:
        with Path("log.txt").open("a") as file:
            file.write(" ".join(logs))
        super().log(logs, *args, **kwargs)


class Counter(TrainerCallback):
    def __init__(self) -> None:
        self.events: list[str] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("train")

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("step")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        Path("told.txt").write_text(f"{len(self.events)} {sorted(logs)}")


def with_optimizer(scheduled: bool) -> Trainer:
    model = language_model()
    groups = [{"params": model.transformer.parameters()}, {"params": [nn.Parameter(torch.zeros(2))], "lr": 0.3}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2) if scheduled else None
    return build(model=model, parts={"optimizers": (optimizer, scheduler)}, warmup_steps=2)


def trained_before() -> Trainer:
    trainer = build(max_steps=2, save_strategy="no")
    trainer.train()
    trainer.args.max_steps, trainer.args.save_strategy = 6, "steps"
    return trainer


def resumed() -> Trainer:
    build().train()
    trainer = build(max_steps=8)
    trainer.resumed = "out/checkpoint-3"
    return trainer


def evaluated_before(**options: Any) -> Trainer:
    trainer = build(eval_strategy="steps", eval_steps=2, **options)
    trainer.evaluate()
    trainer.predict(sentences(4))
    return trainer


def with_model_init() -> Trainer:
    args = TrainingArguments(output_dir="out", use_cpu=True, report_to=[], max_steps=4, logging_steps=1, save_steps=2)
    return Trainer(None, args, train_dataset=sentences(), model_init=lambda: language_model())


SETUPS: dict[str, Callable[[], Trainer]] = {
    "plain": build,
    "accumulating": lambda: build(gradient_accumulation_steps=2, max_steps=-1, num_train_epochs=2, warmup_steps=3),
    "half precision": lambda: build(bf16=True),
    "evaluated before": evaluated_before,
    "evaluated before in half precision": lambda: evaluated_before(bf16=True),
    "trained before": trained_before,
    "resumed": resumed,
    "own optimizer": lambda: with_optimizer(False),
    "own optimizer and scheduler": lambda: with_optimizer(True),
    "model_init": with_model_init,
    "checkpointing and noise": lambda: build(activation_checkpointing=True, neftune_noise_alpha=5.0, max_grad_norm=0),
    "smoothed labels": lambda: build(label_smoothing_factor=0.1, lr_scheduler_type="cosine", optim="adafactor"),
    "smaller batches": lambda: build(auto_find_batch_size=True),
    "stream": lambda: build(parts={"train_dataset": Streamed(), "eval_dataset": None}),
    "counting data": lambda: build(parts={"train_dataset": Counted()}),
    "workers": lambda: build(dataloader_num_workers=1, dataloader_persistent_workers=True),
    "busy": lambda: build(Busy, parts={"callbacks": [Counter()]}, gradient_accumulation_steps=2),
}


@pytest.mark.parametrize("name", SETUPS)
def test_a_training_is_bit_identical_to_one_without(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(tmp_path, monkeypatch, SETUPS[name], searched if name == "busy" else short)


class Failing(Trainer):
    error: type[BaseException] | None = None

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        if self.error is not None and (self.optimizer.param_groups[0]["lr"] > 1e-3 or self.error is ZeroDivisionError):
            raise self.error
        return super().compute_loss(*args, **kwargs)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, SystemExit])
def test_nothing_is_left_after_an_error(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(trainer: Trainer) -> None:
        Failing.error = error
        with pytest.raises(error):
            short(trainer)
        Failing.error = None

    compare(tmp_path, monkeypatch, lambda: build(Failing, bf16=True, activation_checkpointing=True), fails)


def test_every_object_has_its_attributes_back() -> None:
    trainer = build(bf16=True, neftune_noise_alpha=5.0, activation_checkpointing=True)
    config, accelerator = trainer.model.config, trainer.accelerator
    holders = {
        "trainer": trainer,
        "state": trainer.state,
        "control": trainer.control,
        "callbacks": trainer.callback_handler,
        "accelerator": accelerator,
        "gradients": accelerator.gradient_state,
        "arguments": trainer.args,
        "configuration": config,
    } | dict(trainer.model.named_modules())
    before = {name: {key: copy.copy(value) for key, value in vars(each).items()} for name, each in holders.items()}
    same = {name: dict(vars(each)) for name, each in holders.items()}
    short(trainer)
    for name, each in holders.items():
        assert vars(each).keys() == same[name].keys(), name
        assert [key for key, value in vars(each).items() if value is not same[name][key]] == [], name
        for key, value in before[name].items():
            if isinstance(value, (list, dict, set)):
                assert value.__eq__(vars(each)[key]) is True or str(value) == str(vars(each)[key]), (name, key)


def test_the_groups_of_an_optimizer_have_their_entries_back() -> None:
    trainer = trained_before()
    before = [dict(group) for group in trainer.optimizer.param_groups]
    short(trainer)
    assert [dict(group) for group in trainer.optimizer.param_groups] == before
    assert before[0]["lr"] < before[0]["initial_lr"] == trainer.args.learning_rate


class Between(TrainerCallback):
    """Sweeps once inside the training, between the batches of an update."""

    def __init__(self) -> None:
        self.trainer: Trainer | None = None

    def on_substep_end(self, *args: Any, **kwargs: Any) -> None:
        trainer, self.trainer = self.trainer, None
        if trainer is not None:
            short(trainer)


def test_gradients_of_an_update_that_has_begun_are_kept() -> None:
    weights = []
    for sweeps in (False, True):
        between = Between()
        trainer = build(gradient_accumulation_steps=2, save_strategy="no", parts={"callbacks": [between]})
        between.trainer = trainer if sweeps else None
        trainer.train()
        weights.append(torch.cat([each.detach().flatten() for each in trainer.model.parameters()]).tolist())
    assert between.trainer is None and weights[0] == weights[1]


def tuned(trainer: Trainer) -> RangeTestResult:
    return range_test(trainer, pretrained=True, **SHORT)


def test_a_probe_of_trained_weights_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(tmp_path, monkeypatch, lambda: build(model=language_model(width=80)), tuned)


@pytest.mark.parametrize("calls", [1, 2], ids=["one batch", "two batches"])
def test_a_probe_is_the_loss_of_the_trainer_in_eval_mode(calls: int) -> None:
    model = language_model(width=80)
    alike = {"train_dataset": sentences(1) * 44}
    trainer = build(model=model, parts=alike, gradient_accumulation_steps=calls, label_smoothing_factor=0.1)
    curve = range_test(trainer, pretrained=True, **{**SHORT, "start_lr": 1e-12, "end_lr": 1e-11}).curve
    batch = {name: value[None] for name, value in sentences(1)[0].items()}
    expected = trainer.compute_loss(model.eval(), batch).item()
    assert curve.probe_losses == pytest.approx([expected] * SHORT["num_iter"], rel=1e-5)


def test_two_range_tests_are_equal() -> None:
    trainer = build()
    first, second = (range_test(trainer, progress=False) for _ in range(2))
    assert first == second
    assert first.advice.grade in ("high", "medium", "low")


def test_a_learning_rate_set_afterwards_counts() -> None:
    trainer = build(max_steps=1, save_strategy="no")
    short(trainer)
    assert trainer.optimizer is None and trainer.lr_scheduler is None
    trainer.args.learning_rate = 0.25
    trainer.train()
    assert trainer.state.log_history[0]["learning_rate"] == 0.25


def test_callbacks_and_loggers_are_not_called() -> None:
    counter = Counter()
    trainer = build(Busy, parts={"callbacks": [counter]})
    losses: list[float] = []
    result = range_test(trainer, **SHORT, on_step=lambda step, lr, loss: losses.append(loss))
    assert counter.events == [] and trainer.calls == 0 and not trainer.seen
    assert tuple(losses) == result.curve.losses


# --- the loss ---------------------------------------------------------------------------------------------------------


class Followed(Trainer):
    """Trains at the learning rates of a sweep."""

    lrs: tuple[float, ...] = ()

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if not self.lrs:
            return super().create_scheduler(num_training_steps, optimizer)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: [*self.lrs, 0.0][step])
        return self.lr_scheduler


class Weighted(Followed):
    """A loss of its own."""

    def compute_loss(self, model: nn.Module, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        loss = 3 * loss + outputs["logits"].square().mean()
        return (loss, outputs) if return_outputs else loss


LOSSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"gradient_accumulation_steps": 2},
    "accumulated and clipped": {"gradient_accumulation_steps": 4, "max_grad_norm": 0.1},
    "half precision": {"bf16": True, "gradient_accumulation_steps": 2},
    "not clipped": {"max_grad_norm": 0.0, "optim": "sgd"},
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_curve_is_the_loss_that_the_trainer_logs(name: str) -> None:
    kind = Weighted if "clipped" in name else Followed

    def trainer() -> Followed:
        torch.manual_seed(5)
        # Passes of 12 batches: the sweep goes through several.
        data = {"train_dataset": sentences(48)}
        return build(kind, language_model(), data, **LOSSES[name], learning_rate=1.0, max_steps=15, save_strategy="no")

    options = {**SHORT, "num_iter": 15}
    curve = range_test(trainer(), **options).curve
    again = trainer()
    again.lrs = curve.lrs
    again.train()
    logged = [line for line in again.state.log_history if "loss" in line]
    assert [line["learning_rate"] for line in logged] == list(curve.lrs)
    assert [line["loss"] for line in logged] == list(curve.losses)


def test_an_update_is_made_whatever_the_accelerator_did_before() -> None:
    usual = short(build()).curve
    trainer = build()
    trainer.accelerator.gradient_state._set_sync_gradients(False)  # as a training that was interrupted leaves it
    assert short(trainer).curve == usual
    assert not trainer.accelerator.sync_gradients


class Large(Trainer):
    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return 1000 * super().compute_loss(*args, **kwargs)


def test_updates_that_the_scaler_skips_are_made_again() -> None:
    trainer = build(Large, bf16=True)  # half precision on the CPU has no scaler of its own
    scaler = trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    curve = short(trainer).curve
    assert curve.skipped > 0 and len(curve.losses) == 12
    assert scaler.get_scale() == 2.0**127 and scaler.state_dict()["_growth_tracker"] == 0


def test_the_facts_are_those_of_the_training() -> None:
    trainer = build(bf16=True, gradient_accumulation_steps=2, max_grad_norm=0.5)
    facts = range_test(trainer, **SHORT, pretrained=True).curve.facts
    assert facts is not None and facts.pretrained
    assert (facts.accumulation_steps, facts.clip_grad_norm, facts.amp_dtype) == (2, 0.5, "bfloat16")


# --- apply ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> RangeTestResult:
    return range_test(build(output_dir=str(tmp_path_factory.mktemp("out"))), progress=False)


def learning_rates(trainer: Trainer) -> list[float]:
    trainer.train()
    return [line["learning_rate"] for line in trainer.state.log_history if "loss" in line]


KINDS: dict[str, dict[str, Any]] = {
    "cosine": {},
    "linear": {"warmup_steps": 0},
    "constant": {"warmup_steps": 3},
    "wsd": {"warmup_steps": 2, "cooldown_steps": 4},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_trainer_follows_the_recipe(kind: str, result: RangeTestResult) -> None:
    trainer = build(max_steps=-1, num_train_epochs=4, gradient_accumulation_steps=2, save_strategy="no")
    recipe = apply(result, trainer, kind, **KINDS[kind])
    assert recipe.total_steps == 24 and recipe.peak_lr == result.lr_for(kind, 24)
    assert recipe.warmup_steps == KINDS[kind].get("warmup_steps", 1)
    lrs = learning_rates(trainer)
    assert len(lrs) == 24 and max(lrs) == pytest.approx(recipe.peak_lr)
    # Their warm-up starts at 0, that of the recipe at a hundredth of the peak.
    start = recipe.warmup_steps
    assert lrs[start:] == pytest.approx([recipe.lr_at(step) for step in range(start, 24)], rel=1e-5, abs=1e-9)
    assert lrs[:start] == pytest.approx([recipe.peak_lr * step / start for step in range(start)])


def test_the_constant_schedule_without_warm_up(result: RangeTestResult) -> None:
    trainer = build(save_strategy="no")
    apply(result, trainer, "constant", peak_lr=0.02, warmup_steps=0)
    assert learning_rates(trainer) == [0.02] * 6


def test_the_warm_up_of_the_arguments_is_kept(result: RangeTestResult) -> None:
    trainer = build(max_steps=100, warmup_steps=0.2)
    assert apply(result, trainer).warmup_steps == 20
    assert trainer.args.get_warmup_steps(100) == 20
    assert apply(result, trainer, warmup_steps=0).warmup_steps == 0
    assert trainer.args.get_warmup_steps(100) == 0
    assert apply(result, trainer).warmup_steps == 5


def test_an_optimizer_that_exists_gets_the_learning_rates(result: RangeTestResult) -> None:
    trainer = with_optimizer(False)
    trainer.args.save_strategy = "no"
    trainer.train()  # leaves an initial_lr, from which the next scheduler would start
    apply(result, trainer, "linear", peak_lr=0.05, warmup_steps=0)
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([0.05, 0.15])
    assert learning_rates(trainer)[:2] == pytest.approx([0.05, 0.05 * 5 / 6])


class Halved(Trainer):
    def create_optimizer(self, model: Any = None) -> Any:
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.args.learning_rate / 2)
        return self.optimizer


class Fixed(Trainer):
    def create_optimizer(self, model: Any = None) -> Any:
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        return self.optimizer


@pytest.mark.parametrize("case", ["streamed", "dispatched"])
def test_batches_that_are_dispatched_leave_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    def make() -> Trainer:
        if case == "streamed":
            return build(parts={"train_dataset": Streamed()})
        return build(accelerator_config={"dispatch_batches": True})

    compare(tmp_path, monkeypatch, make, searched)


class Scheduling(Trainer):
    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        self.lr_scheduler = torch.optim.lr_scheduler.StepLR(optimizer or self.optimizer, 4)
        return self.lr_scheduler


def test_a_trainer_that_makes_its_own_scheduler_is_refused(result: RangeTestResult) -> None:
    with pytest.raises(SetupError, match="Scheduling has a create_scheduler of its own"):
        apply(result, build(Scheduling))


class Without(Trainer):
    def create_optimizer(self, model: Any = None) -> Any:
        raise RuntimeError("no optimizer")


def test_the_created_optimizer_has_the_advised_learning_rate(result: RangeTestResult) -> None:
    halved, chosen = build(Halved), build(parts={"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 7.0})})
    for trainer in (halved, chosen):
        trainer.args.save_strategy = "no"
        recipe = apply(result, trainer, "linear", warmup_steps=0)
        assert trainer.optimizer is None
        assert learning_rates(trainer)[0] == pytest.approx(recipe.peak_lr)
    fixed = build(Fixed)
    with pytest.raises(SetupError, match=r"Fixed\.create_optimizer does not follow args\.learning_rate"):
        apply(result, fixed)
    assert fixed.args.learning_rate == 5e-5 and fixed.args.lr_scheduler_type == "linear"
    without = build(Without)
    with pytest.raises(RuntimeError, match="no optimizer"):
        apply(result, without)
    assert without.args.learning_rate == 5e-5


@pytest.mark.parametrize("kind", ["onecycle", "cyclic", "step", "restarts"])
def test_a_schedule_that_the_trainer_lacks_is_refused_with_the_mend(kind: str, result: RangeTestResult) -> None:
    trainer = build(save_strategy="no")
    with pytest.raises(ConfigError, match=f"has no schedule '{kind}'") as refused:
        apply(result, trainer, kind)
    model = language_model()
    optimizer = torch.optim.AdamW(model.parameters())
    given = str(refused.value)
    scheduler = eval(given[given.index("result.scheduler") :].rstrip("."))  # the line in the message
    recipe = result.recipe(kind, total_steps=6)
    lrs = learning_rates(build(model=model, parts={"optimizers": (optimizer, scheduler)}, save_strategy="no"))
    assert lrs == pytest.approx([recipe.lr_at(step) for step in range(6)])


# --- refused ----------------------------------------------------------------------------------------------------------


def refused(trainer: Any, part: str, call: Callable[[Any], Any] = range_test) -> None:
    with pytest.raises(SetupError) as error:
        call(trainer)
    assert part in str(error.value)


def test_trainers_that_cannot_be_swept_are_refused() -> None:
    refused(language_model(), "trainer must be a transformers.Trainer; got a GPT2LMHeadModel")
    refused(type("Trainer", (), {"__module__": "setfit.trainer"})(), "got a setfit.trainer.Trainer. Use")
    refused(build(parts={"train_dataset": None}), "has no train_dataset to sweep on")
    refused(build(parts={"train_dataset": []}), "the train_dataset of the Trainer is empty")
    trainer = build()
    trainer.is_deepspeed_enabled = True
    refused(trainer, "uses DeepSpeed, which keeps")
    trainer.is_deepspeed_enabled, trainer.is_fsdp_enabled = False, True
    refused(trainer, "uses FSDP, for which the Trainer shards")


def test_options_that_have_no_use_are_refused() -> None:
    with pytest.raises(ConfigError, match="val_loader"):
        range_test(build(), val_loader=[])
    with pytest.raises(ConfigError, match="also must be a list of objects with state; got a Linear"):
        range_test(build(), also=nn.Linear(1, 1))  # type: ignore[arg-type]


class Galore(Trainer):
    def create_optimizer(self, model: Any = None) -> Any:
        parameters = {each: torch.optim.SGD([each], lr=0.1) for each in self.model.parameters()}
        for each, optimizer in parameters.items():
            each.register_post_accumulate_grad_hook(lambda _, optimizer=optimizer: optimizer.step())
        self.optimizer = LayerWiseDummyOptimizer(optimizer_dict=parameters)
        return self.optimizer


def test_optimizers_that_step_inside_the_backward_pass_are_refused() -> None:
    trainer = build(Galore)
    refused(trainer, "LayerWiseDummyOptimizer updates the weights inside the backward pass")
    assert trainer.optimizer is None
    assert not any(each._post_accumulate_grad_hooks for each in trainer.model.parameters())


def test_an_evaluation_before_is_refused_under_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = build()
    trainer.evaluate()
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", 2)
    refused(trainer, "was evaluated before, so Accelerate takes its model for prepared")


def test_a_training_that_never_begins_is_refused() -> None:
    class Never(Trainer):
        def train(self, *args: Any, **kwargs: Any) -> Any:
            return None

    refused(build(Never), "Never.train() did not call on_train_begin")


def test_arguments_that_do_not_count_are_refused(result: RangeTestResult) -> None:
    refused(with_optimizer(True), "has a scheduler of its own", lambda trainer: apply(result, trainer))
    trainer = build()
    trainer.is_deepspeed_enabled = True
    refused(trainer, "TrainingArguments(learning_rate=result.lr_for('cosine')", lambda each: apply(result, each))
    with pytest.raises(ConfigError, match="the Trainer has no eta_min in its schedule 'cosine'"):
        apply(result, build(), "cosine", eta_min=1e-6)
    with pytest.raises(ConfigError, match="lr_scheduler_type='reduce_lr_on_plateau'"):
        apply(result, build(), "plateau")
    with pytest.raises(ConfigError, match="kind"):
        apply(result, build(), "cosin")
    for name in ("total_steps", "epochs", "steps_per_epoch"):
        with pytest.raises(ConfigError, match=f"takes no {name}: the length of the training is that of the arguments"):
            apply(result, build(), **{name: 3})


def test_a_training_of_unknown_length_needs_max_steps(result: RangeTestResult) -> None:
    trainer = build(max_steps=100, parts={"train_dataset": Streamed()})
    trainer.args.max_steps = -1
    refused(trainer, "Set max_steps", lambda each: apply(result, each))


def test_arguments_in_another_order_are_refused(result: RangeTestResult) -> None:
    for first, second in ((build(), result), (result, language_model()), (None, build()), (result.curve, build())):
        with pytest.raises(SetupError, match=rf"apply\(result, trainer, kind\).*got a {type(first).__name__} and a"):
            apply(first, second)  # type: ignore[arg-type]


@pytest.mark.parametrize("package", ["transformers", "accelerate", ""])
def test_a_package_older_than_setup_cfg_has_it_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
    lowest = re.findall(r"(\w+)>=(\d+)\.(\d+)$", settings["options.extras_require"]["transformers"], re.MULTILINE)
    assert [name for name, *_ in lowest] == ["transformers", "accelerate"]
    for name, major, minor in lowest:
        monkeypatch.setattr(f"{name}.__version__", f"{major}.{int(minor) - (name == package)}.4")
    refused = pytest.raises(MissingDependencyError, match=rf"^{package} is .*\.4, older than .* pip install")
    with refused if package else contextlib.nullcontext():  # the oldest that is accepted
        runpy.run_path(str(integration.__file__))


def test_packages_from_a_folder_without_metadata_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Source folders on the path, which no installer has recorded."""

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert runpy.run_path(str(integration.__file__))["range_test"].__name__ == "range_test"


def test_a_package_that_is_missing_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "lrfinder\[transformers\]"'):
        runpy.run_path(str(integration.__file__))


def test_the_printed_lines_leave_the_loop_to_the_trainer() -> None:
    lines = short(build()).recipe("cosine", peak_lr=0.1, total_steps=9).code()
    assert "trainer: have it call scheduler.step()" in lines and "step_fn" not in lines
