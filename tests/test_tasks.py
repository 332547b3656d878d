"""Families of torchvision models, and experiments set up from names and numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from small import build_task
from torchvision import models

from lrfinder.cli.run import run
from lrfinder.errors import ConfigError, SetupError
from lrfinder.tasks import FAMILIES, family_of, model_names
from lrfinder.tasks.experiment import prepare
from lrfinder.tasks.settings import Settings, pick_device

TINY = Settings(model="squeezenet1_1", device="cpu", num_iter=4, batch_size=8, start_lr=1e-4, end_lr=1e-2)


def test_the_models_are_those_of_torchvision() -> None:
    assert FAMILIES["classification"].model_names() == sorted(models.list_models(module=models))
    assert model_names() == sorted(name for name in models.list_models() if not name.startswith("quantized_"))
    assert model_names("optical_flow") == ["raft_large", "raft_small"]


def test_every_model_belongs_to_one_family() -> None:
    assert len(set(model_names())) == len(model_names())


def test_the_family_of_a_model_is_found_in_upper_case_too() -> None:
    assert family_of("ResNet18") is FAMILIES["classification"]
    assert FAMILIES["classification"].check_model("ResNet18") == "resnet18"


@pytest.mark.parametrize(
    "name, near",
    [
        ("resnet19", "resnet18"),
        ("mobilenetv3_small", "mobilenet_v3_small"),
        ("keypointrcnn", "keypointrcnn_resnet50_fpn"),
        ("maskrcnn", "maskrcnn_resnet50_fpn"),
        ("deeplabv3", "deeplabv3_mobilenet_v3_large"),
        ("raft", "raft_large"),
        ("ssd", "ssd300_vgg16"),
        ("mvit", "mvit_v1_b"),
    ],
)
def test_a_misspelled_model_offers_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"got '{name}'. Did you mean '{near}'?"):
        family_of(name)


@pytest.mark.parametrize("name", ["unet", "yolov8", "clip"])
def test_a_name_that_resembles_none_gets_no_hint(name: str) -> None:
    with pytest.raises(ConfigError, match=f"got '{name}'.$"):
        family_of(name)


@pytest.mark.parametrize("name", [name for name in models.list_models() if name.startswith("quantized_")])
def test_quantised_models_are_refused_with_the_reason(name: str) -> None:
    plain = name.removeprefix("quantized_")
    with pytest.raises(ConfigError, match=f"{name} cannot be trained: .* have no gradient. Train {plain} and quantise"):
        family_of(name)


@pytest.mark.parametrize("option", [{"dataset": "CIFAR10"}, {"masks": "masks"}])
def test_options_of_another_family_are_refused(option: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=f"`{next(iter(option))}` is of no use for ssd300_vgg16"):
        build_task("ssd300_vgg16", "fake", **option)


def test_a_name_near_no_model_is_pointed_to_the_list() -> None:
    with pytest.raises(ConfigError, match=r"a model of torchvision \(`lrfind models` lists them\); got 'zzz'\.$"):
        family_of("zzz")


def test_a_family_builds_the_task() -> None:
    task = build_task("squeezenet1_1", "fake", batch_size=4, num_classes=3)
    assert (task.facts["data"], task.facts["num_classes"], task.val_loader) == ("fake", 3, None)


def test_a_family_refuses_a_number_out_of_its_range() -> None:
    with pytest.raises(ConfigError, match="batch_size must be a whole number of at least 1; got 0"):
        family_of("squeezenet1_1").build(Settings(model="squeezenet1_1", data="fake", batch_size=0))


def test_the_batch_size_is_by_default_that_of_the_family() -> None:
    sizes = [prepare(Settings(model=name, data="fake")).facts["batch_size"] for name in ("squeezenet1_1", "mc3_18")]
    assert sizes == [64, 2]
    assert [family.batch_size for family in FAMILIES.values()] == [64, 8, 2, 24, 2]


# --- experiments ---------------------------------------------------------------------------------------------------


def test_the_defaults_of_settings_are_those_of_the_command() -> None:
    parsed = run.make_context("run", ["resnet18"]).params
    settings = dataclasses.asdict(Settings(model="resnet18"))
    assert (parsed.pop("optimizer_options"), settings.pop("optimizer_options")) == ((), {})
    assert {name: parsed[name] for name in settings} == settings


def test_weights_that_are_named_are_trained_ones(tmp_path: Path) -> None:
    torch.save(models.get_model("squeezenet1_1", num_classes=10).state_dict(), tmp_path / "w.pth")
    named = dataclasses.replace(TINY, weights=str(tmp_path / "w.pth"))
    assert [prepare(each).finder.setup.pretrained for each in (TINY, named)] == [None, True]


def test_the_seed_fixes_weights_and_batches() -> None:
    curves = [prepare(dataclasses.replace(TINY, seed=seed)).range_test().curve for seed in (5, 5, 6)]
    assert curves[0].losses == curves[1].losses != curves[2].losses


def test_a_validation_loader_measures_the_loss_after_each_step() -> None:
    experiment = prepare(dataclasses.replace(TINY, val=True, val_batches=1))
    assert experiment.range_test().curve.measured == "after"


def test_an_epoch_has_one_step_per_accumulated_batch() -> None:
    assert prepare(TINY).steps_per_epoch == 1797 // 8
    assert prepare(dataclasses.replace(TINY, accumulation_steps=3)).steps_per_epoch == -(-(1797 // 8) // 3)


def test_the_facts_have_task_optimizer_and_device() -> None:
    facts = prepare(dataclasses.replace(TINY, optimizer="adamw", optimizer_options={"weight_decay": 0.1})).facts
    assert (facts["model"], facts["data"], facts["device"]) == ("squeezenet1_1", "digits", "cpu")
    assert (facts["optimizer"], facts["optimizer_options"]) == ("AdamW", {"weight_decay": 0.1})


def test_auto_picks_a_device_that_is_there() -> None:
    assert torch.ones(1, device=pick_device("auto")).sum() == 1


@pytest.mark.parametrize(
    "name, sentence", [("warp", "'warp' is not a device"), ("meta", "device meta computes nothing")]
)
def test_a_device_that_cannot_train_is_rejected(name: str, sentence: str) -> None:
    with pytest.raises(SetupError, match=sentence):
        pick_device(name)


def test_an_unknown_precision_is_rejected() -> None:
    with pytest.raises(ConfigError, match="amp must be one of bf16, fp16; got 'half'"):
        prepare(dataclasses.replace(TINY, amp="half"))


def test_data_that_is_not_there_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="`data` must be digits, fake or a folder of images"):
        prepare(dataclasses.replace(TINY, data=str(tmp_path / "nowhere")))


def test_exhausted_memory_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def overflow(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    experiment = prepare(TINY)
    monkeypatch.setattr(torch.nn.CrossEntropyLoss, "forward", overflow)
    with pytest.raises(SetupError, match="the memory of cpu is too small for this. Lower `batch_size`"):
        experiment.range_test()
