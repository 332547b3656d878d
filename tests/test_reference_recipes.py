"""The table of torchvision's own trainings, and the line that `lrfind run` prints from it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torchvision import models

from lrfinder.advice.advice import Advice
from lrfinder.advice.published import beside_published, published_lr
from lrfinder.cli import main
from lrfinder.display.reference import reference_facts, reference_lines
from lrfinder.errors import ConfigError
from lrfinder.record.run import RunRecord
from lrfinder.result import RangeTestResult
from lrfinder.schedules import KINDS
from lrfinder.tables.recipes import (
    NoRecipe,
    ReferenceRecipe,
    missing_recipe,
    recipe_rows,
    reference_recipe,
    scaled_lr,
    scaling,
)
from lrfinder.tasks.experiment import prepare
from lrfinder.tasks.reference import default_optimizer, torchvision_recipe
from lrfinder.tasks.settings import Settings

RECIPES = [row for row in recipe_rows() if isinstance(row, ReferenceRecipe)]
ENTRIES = {(model, entry.name): entry for model in models.list_models() for entry in models.get_model_weights(model)}


def name(row: Any) -> str:
    return f"{row.model}.{row.weights}"


def recipe_of(model: str, weights: str | None = None) -> ReferenceRecipe:
    recipe = reference_recipe(model, weights)
    assert recipe is not None
    return recipe


# --- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", models.list_models())
def test_every_model_has_a_recipe_or_the_reason_why_not(model: str) -> None:
    missing = missing_recipe(model)
    assert (reference_recipe(model) is None) == (missing is not None and bool(missing.reason))


@pytest.mark.parametrize("model, weights", ENTRIES)
def test_all_weights_have_a_row_with_the_link_that_torchvision_names(model: str, weights: str) -> None:
    row = reference_recipe(model, weights) or missing_recipe(model, weights)
    assert row is not None and row.link == ENTRIES[model, weights].meta["recipe"]


def test_no_weights_have_two_rows() -> None:
    rows = [(row.model, row.weights) for row in recipe_rows()]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("row", recipe_rows(), ids=name)
def test_every_row_has_a_link_and_a_source(row: ReferenceRecipe | NoRecipe) -> None:
    assert row.link.startswith("https://") and len(row.source) > 10


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_names_an_optimizer_of_torch_and_its_options(recipe: ReferenceRecipe) -> None:
    parameters = inspect.signature(getattr(torch.optim, recipe.optimizer)).parameters
    assert set(recipe.optimizer_options) <= set(parameters)
    assert 0 < recipe.lr <= 2 and recipe.batch >= 16 and recipe.schedule in KINDS


@pytest.mark.parametrize("model", [name for name in models.list_models() if name.startswith("quantized_")])
def test_quantised_weights_have_no_recipe(model: str) -> None:
    missing = missing_recipe(model)
    assert missing is not None and missing.reason.startswith("quantised")


# Read again from the page of each, one for every command line.
@pytest.mark.parametrize(
    "model, weights, expected",
    [
        ("resnet18", "IMAGENET1K_V1", ("SGD", 0.1, 256, {"momentum": 0.9, "weight_decay": 1e-4})),
        ("resnet50", "IMAGENET1K_V2", ("SGD", 0.5, 1024, {"momentum": 0.9, "weight_decay": 2e-5})),
        ("vgg16", "IMAGENET1K_V1", ("SGD", 0.01, 256, {"momentum": 0.9, "weight_decay": 1e-4})),
        ("vgg16_bn", "IMAGENET1K_V1", ("SGD", 0.1, 256, {"momentum": 0.9, "weight_decay": 1e-4})),
        ("squeezenet1_1", "IMAGENET1K_V1", ("SGD", 0.01, 128, {"momentum": 0.9, "weight_decay": 2e-4})),
        ("resnext101_32x8d", "IMAGENET1K_V1", ("SGD", 0.4, 1024, {"momentum": 0.9, "weight_decay": 1e-4})),
        ("regnet_x_8gf", "IMAGENET1K_V1", ("SGD", 0.4, 512, {"momentum": 0.9, "weight_decay": 5e-5})),
        ("mobilenet_v2", "IMAGENET1K_V1", ("SGD", 0.045, 256, {"momentum": 0.9, "weight_decay": 4e-5})),
        (
            "mobilenet_v3_small",
            "IMAGENET1K_V1",
            ("RMSprop", 0.064, 1024, {"momentum": 0.9, "weight_decay": 1e-5, "alpha": 0.9, "eps": 0.0316}),
        ),
        (
            "mnasnet0_5",
            "IMAGENET1K_V1",
            ("SGD", 2.0, 1000, {"momentum": 0.9, "weight_decay": 0.0, "nesterov": True}),
        ),
        ("efficientnet_v2_s", "IMAGENET1K_V1", ("SGD", 0.5, 1024, {"momentum": 0.9, "weight_decay": 2e-5})),
        ("vit_b_16", "IMAGENET1K_V1", ("AdamW", 0.003, 4096, {"weight_decay": 0.3})),
        ("convnext_tiny", "IMAGENET1K_V1", ("AdamW", 0.001, 1024, {"weight_decay": 0.05})),
        ("swin_v2_t", "IMAGENET1K_V1", ("AdamW", 0.001, 1024, {"weight_decay": 0.05})),
        ("maxvit_t", "IMAGENET1K_V1", ("AdamW", 0.003, 4096, {"weight_decay": 0.05})),
        ("raft_large", "C_T_V2", ("AdamW", 0.0004, 16, {"weight_decay": 1e-4})),
        ("retinanet_resnet50_fpn_v2", "COCO_V1", ("AdamW", 0.0001, 16, {"weight_decay": 0.05})),
        ("maskrcnn_resnet50_fpn_v2", "COCO_V1", ("SGD", 0.1, 64, {"momentum": 0.9, "weight_decay": 4e-5})),
        ("fcn_resnet50", "COCO_WITH_VOC_LABELS_V1", ("SGD", 0.02, 32, {"momentum": 0.9, "weight_decay": 1e-4})),
        ("r3d_18", "KINETICS400_V1", ("SGD", 0.64, 1536, {"momentum": 0.9, "weight_decay": 1e-4})),
    ],
)
def test_the_row_is_what_the_page_says(model: str, weights: str, expected: tuple[Any, ...]) -> None:
    recipe = recipe_of(model, weights)
    assert (recipe.optimizer, recipe.lr, recipe.batch, recipe.optimizer_options) == expected


@pytest.mark.parametrize(
    "model, reason",
    [
        ("densenet121", "ported"),
        ("efficientnet_b0", "ported from timm"),
        ("googlenet", "ported"),
        ("shufflenet_v2_x1_0", "contributed"),
        ("regnet_y_128gf", "ported from facebookresearch/SWAG"),
        ("mvit_v2_s", "ported from facebookresearch/SlowFast"),
        ("raft_small", "ported from princeton-vl/RAFT"),
    ],
)
def test_weights_from_elsewhere_have_the_reason(model: str, reason: str) -> None:
    missing = missing_recipe(model)
    assert missing is not None and missing.reason.startswith(reason)


def test_without_weights_the_first_entry_with_a_recipe_counts() -> None:
    assert recipe_of("resnet50").weights == "IMAGENET1K_V1"
    assert recipe_of("keypointrcnn_resnet50_fpn").weights == "COCO_V1"
    assert missing_recipe("wide_resnet50_2", "IMAGENET1K_V1") is not None
    assert recipe_of("wide_resnet50_2").weights == "IMAGENET1K_V2"


def test_an_unknown_model_or_entry_has_neither_recipe_nor_reason() -> None:
    for unknown in (("resnet19", None), ("resnet18", "IMAGENET1K_V9")):
        assert reference_recipe(*unknown) is None and missing_recipe(*unknown) is None


# --- the law for the batch size -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, batch, expected",
    [
        ("resnet18", 256, 0.1),
        ("resnet18", 64, 0.025),
        ("resnet18", 1, 0.1 / 256),
        ("mobilenet_v3_large", 64, 0.004),
        ("vit_b_16", 4096, 0.003),
        ("vit_b_16", 64, 0.000375),
        ("swin_t", 4096, 0.002),
    ],
)
def test_sgd_and_rmsprop_scale_linearly_and_adam_by_the_root(model: str, batch: int, expected: float) -> None:
    assert scaled_lr(recipe_of(model), batch) == pytest.approx(expected)


@pytest.mark.parametrize(
    "optimizer, law",
    [
        ("SGD", "linear"),
        ("RMSprop", "linear"),
        ("Lion", "linear"),
        ("LARS", "linear"),
        ("Adam", "square root"),
        ("NAdam", "square root"),
        ("PagedAdamW8bit", "square root"),
        ("Adagrad", "square root"),
        ("Adadelta", "square root"),
        ("LAMB", "square root"),
    ],
)
def test_the_law_is_that_of_timm(optimizer: str, law: str) -> None:
    assert scaling(optimizer) == law


@pytest.mark.parametrize("batch", [0, -1, 1.5, True])
def test_a_batch_size_is_a_positive_whole_number(batch: Any) -> None:
    with pytest.raises(ConfigError, match="batch_size must be a whole number of at least 1"):
        scaled_lr(recipe_of("resnet18"), batch)


# --- optimizer where the user names none --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, optimizer",
    [
        ("vit_b_16", "AdamW"),
        ("vit_h_14", "AdamW"),
        ("swin_t", "AdamW"),
        ("swin_v2_b", "AdamW"),
        ("convnext_small", "AdamW"),
        ("maxvit_t", "AdamW"),
        ("mvit_v2_s", "AdamW"),
        ("raft_large", "AdamW"),
        ("raft_small", "AdamW"),
        ("mobilenet_v3_large", "RMSprop"),
        ("mobilenet_v2", "SGD"),
        ("efficientnet_b0", "SGD"),
        ("densenet121", "SGD"),
        ("resnet18", "SGD"),
    ],
)
def test_the_optimizer_is_by_default_the_one_of_the_recipe(model: str, optimizer: str) -> None:
    assert default_optimizer(model, None)[0] == optimizer


@pytest.mark.parametrize("model", models.list_models(module=models))
def test_the_options_by_default_are_all_of_the_recipe(model: str) -> None:
    recipe = reference_recipe(model)
    assert default_optimizer(model, None)[1] == ({} if recipe is None else recipe.optimizer_options)


@pytest.mark.parametrize(
    "model, given, expected",
    [
        ("squeezenet1_1", {}, {"momentum": 0.9, "weight_decay": 2e-4}),
        ("squeezenet1_1", {"momentum": 0.5}, {"momentum": 0.5, "weight_decay": 2e-4}),
        ("mnasnet0_5", {}, {"momentum": 0.9, "nesterov": True}),
        ("mnasnet0_5", {"momentum": 0}, {}),
        ("mnasnet0_5", {"dampening": 0.1}, {"momentum": 0.9, "dampening": 0.1}),
        ("shufflenet_v2_x0_5", {}, {"momentum": 0.9}),
    ],
)
def test_options_given_come_before_those_of_the_recipe(
    model: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    facts = prepare(Settings(model=model, device="cpu", batch_size=2, optimizer_options=given)).facts
    assert (facts["optimizer"], facts["optimizer_options"]) == ("SGD", expected)


def test_a_named_optimizer_takes_nothing_from_the_recipe() -> None:
    facts = prepare(Settings(model="squeezenet1_1", device="cpu", batch_size=2, optimizer="sgd")).facts
    assert facts["optimizer_options"] == {"momentum": 0.9}


@pytest.mark.parametrize(
    "weights, decay",
    [(None, 1e-4), ("IMAGENET1K_V1", 1e-4), ("DEFAULT", 2e-5), ("resnet50_weights.imagenet1k_v2", 2e-5)],
)
def test_the_recipe_is_that_of_the_named_weights(weights: str | None, decay: float) -> None:
    assert default_optimizer("resnet50", weights)[1]["weight_decay"] == decay


def test_a_file_of_weights_has_the_recipe_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "w.pth").touch()
    assert torchvision_recipe("resnet50", tmp_path / "w.pth") == reference_recipe("resnet50")


def test_weights_without_a_recipe_leave_the_models_own_optimizer() -> None:
    missing = torchvision_recipe("vit_b_16", "IMAGENET1K_SWAG_E2E_V1")
    assert isinstance(missing, NoRecipe)
    assert default_optimizer("vit_b_16", missing.weights) == ("AdamW", {"weight_decay": 0.3})


def test_a_vision_transformer_is_prepared_with_adamw() -> None:
    facts = prepare(Settings(model="vit_b_16", device="cpu", batch_size=2)).facts
    assert (facts["optimizer"], facts["optimizer_options"]) == ("AdamW", {"weight_decay": 0.3})


# --- the line beside the advice -----------------------------------------------------------------------------------


def advice_of(lr: float) -> Advice:
    return Advice(max_lr=lr, base_lr=lr, min_lr=lr / 100, interval=(lr / 3, lr * 3), grade="high", reasons=("Clear.",))


NO_ADVICE = Advice(max_lr=None, base_lr=None, min_lr=None, interval=None, grade="none", reasons=("Flat.",))
LINKS = "https://github.com/pytorch/vision/tree/main/references/classification"


def run_of(model: str, entry: str | None = "IMAGENET1K_V1", **changes: Any) -> RunRecord:
    """A run with the defaults of the recipe, at a batch of 64."""
    recipe = reference_recipe(model) or recipe_of("resnet18")
    setup = {"optimizer": recipe.optimizer, "optimizer_options": recipe.optimizer_options, "weights": None}
    setup |= {"model": model, "data": "digits", "batch_size": 64, "accumulation_steps": 1, "steps_per_epoch": 28}
    return RunRecord(setup={**setup, **changes}, schedule="cosine", epochs=1, entry=entry)


def test_the_line_has_the_learning_rate_at_the_users_batch_and_the_link() -> None:
    lines = reference_lines(run_of("resnet18"))
    assert lines == [
        f"torchvision's recipe at your batch of 64: lr 0.025 (SGD, 0.1 at 256, scaled linearly), {LINKS}#resnet"
    ]


def test_adam_is_scaled_by_the_square_root_and_the_line_says_so() -> None:
    [line] = reference_lines(run_of("vit_b_16"))
    assert "lr 0.00038 (AdamW, 0.003 at 4096, scaled by the square root)" in line


def test_accumulated_batches_count() -> None:
    [line] = reference_lines(run_of("resnet18", accumulation_steps=4))
    assert "at your batch of 256: lr 0.1 (" in line


@pytest.mark.parametrize("lr, words", [(0.004, "0.004, is 6.2 times below"), (0.2, "0.2, is 8 times torchvision's")])
def test_a_factor_of_more_than_five_is_a_reason_for_a_low_grade(lr: float, words: str) -> None:
    advice = dataclasses.replace(advice_of(lr), peaks=(("step", lr),))
    beside = beside_published(advice, 0.025, "step")
    assert words in beside.reasons[0] and beside.reasons[1:] == advice.reasons
    assert (beside.grade, beside.base_lr, beside.findings[0].caps_grade) == ("low", lr, "low")
    assert beside.interval is not None and advice.interval is not None
    assert beside.interval == (min(advice.interval[0], 0.025), max(advice.interval[1], 0.025))
    assert beside_published(beside, 0.025, "step") is beside  # it is said once


def test_the_interval_does_not_reach_above_divergence() -> None:
    advice = dataclasses.replace(advice_of(0.001), edge_lr=0.004, diverged_lr=0.01)
    assert beside_published(advice, 0.025, "step").interval == (0.001 / 3, 0.01)


@pytest.mark.parametrize("lr", [0.0051, 0.025, 0.12])
def test_a_smaller_factor_changes_nothing(lr: float) -> None:
    advice = advice_of(lr)
    assert 1 / 5 < advice.lr_for("step") / 0.025 < 5
    assert beside_published(advice, 0.025, "step") is advice


def test_without_advice_there_is_nothing_to_compare() -> None:
    assert beside_published(NO_ADVICE, 0.025, "step") is NO_ADVICE


@pytest.mark.parametrize(
    "changes, lr",
    [
        ({}, 0.01 / 128 * 16),
        ({"accumulation_steps": 4}, 0.01 / 128 * 64),
        ({"optimizer": "Adam"}, None),
        ({"optimizer_options": {"momentum": 0.5}}, None),
        ({"weights": "file"}, None),
        ({"freeze": ("features.0",)}, None),
        ({"head_lr_scale": 10.0}, None),
        ({"bias_weight_decay": 0.0}, 0.01 / 128 * 16),
    ],
)
def test_an_experiment_is_compared_with_the_recipe_at_its_batch_or_not(
    changes: dict[str, Any], lr: float | None, tmp_path: Path
) -> None:
    if "weights" in changes:
        torch.save(models.squeezenet1_1(num_classes=10).state_dict(), tmp_path / "weights.pt")
        changes = {"weights": str(tmp_path / "weights.pt")}
    experiment = prepare(Settings(model="squeezenet1_1", batch_size=16, **changes))
    assert published_lr(recipe_of("squeezenet1_1"), experiment.facts) == lr
    facts = reference_facts(experiment.record("cosine", 1))
    assert facts is not None and facts["comparable"] == (lr is not None)


def test_the_result_of_an_experiment_says_that_the_recipe_is_far(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = prepare(Settings(model="squeezenet1_1", batch_size=16, num_iter=24, start_lr=1e-5, end_lr=1.0))
    far = dataclasses.replace(recipe_of("squeezenet1_1"), lr=1000.0)
    monkeypatch.setattr(type(experiment), "reference", far)
    result = experiment.range_test()
    assert result.advice.findings[0].code == "far_from_published" and result.advice.grade == "low"


@pytest.mark.parametrize(
    "model, changes, words",
    [
        ("vit_b_16", {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}}, "is for AdamW, lr 0.003 at"),
        ("resnet18", {"optimizer": "AdamW", "optimizer_options": {}}, "is for SGD(momentum=0.9), lr 0.1 at"),
        ("resnet18", {"optimizer_options": {}}, "and not comparable with SGD, "),
        ("mobilenet_v3_small", {"optimizer_options": {"momentum": 0.9}}, "not comparable with RMSprop(momentum=0.9), "),
    ],
)
def test_another_optimizer_is_mentioned_and_not_compared(model: str, changes: dict[str, Any], words: str) -> None:
    [line] = reference_lines(run_of(model, **changes))
    assert words in line and "your batch" not in line


def test_adam_is_compared_with_a_recipe_for_adamw() -> None:
    assert "at your batch of 64" in reference_lines(run_of("vit_b_16", optimizer="Adam", optimizer_options={}))[0]


def test_fine_tuning_is_not_compared_with_a_training_from_scratch() -> None:
    lines = reference_lines(run_of("resnet18", weights="DEFAULT"))
    assert "at your batch of 64: lr 0.025" in lines[0] and lines[1].startswith("It is for random weights.")
    assert len(lines) == 2


def test_the_reason_stands_where_there_is_no_recipe() -> None:
    [line] = reference_lines(run_of("efficientnet_b0"))
    assert line.startswith("torchvision has no recipe of its own for efficientnet_b0: ported from timm, https://")


def test_a_model_that_the_table_lacks_has_no_line() -> None:
    for unknown in (None, run_of("resnet18", entry=None), run_of("train.models:build")):
        assert reference_lines(unknown) == [] and reference_facts(unknown) is None


@pytest.mark.parametrize("row", recipe_rows(), ids=name)
def test_every_row_can_be_told_in_words_and_as_json(row: ReferenceRecipe | NoRecipe) -> None:
    facts = reference_facts(run_of(row.model, row.weights))
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts is not None and row.link in facts["text"][0]


# --- lrfind run ---------------------------------------------------------------------------------------------------


def run(tmp_path: Path, *arguments: str) -> str:
    sweep = ("--num-iter", "4", "--batch-size", "8", "--start-lr", "1e-4", "--end-lr", "1e-2")
    return CliRunner().invoke(main, ["run", *arguments, *sweep, "--out", str(tmp_path)], prog_name="lrfind").stdout


def test_run_prints_the_recipe_in_80_columns(tmp_path: Path) -> None:
    text = run(tmp_path, "squeezenet1_1")
    assert "\nReference\n- torchvision's recipe at your batch of 8: lr 0.00063 (SGD, 0.01 at 128," in text
    [beside] = re.findall(r"^Reference\n(.*?)\n\n", text, flags=re.DOTALL | re.MULTILINE)
    assert all(len(line) <= 80 or line.startswith("  https://") for line in beside.splitlines())


def test_run_prints_why_a_model_has_no_recipe(tmp_path: Path) -> None:
    assert "torchvision has no recipe of its own for shufflenet_v2_x0_5: " in run(tmp_path, "shufflenet_v2_x0_5")


def test_json_has_the_reference_and_the_saved_result_loads(tmp_path: Path) -> None:
    content = json.loads(run(tmp_path, "mobilenet_v3_small", "--json"))
    reference, setup = content["reference"], content["setup"]
    assert (reference["optimizer"], setup["optimizer"]) == ("RMSprop", "RMSprop")
    assert setup["optimizer_options"] == {"momentum": 0.9, "weight_decay": 1e-5, "alpha": 0.9, "eps": 0.0316}
    assert (reference["your_batch"], reference["scaled_lr"], reference["comparable"]) == (8, 0.0005, True)
    assert RangeTestResult.load(content["files"]["result"]).curve.optimizer == "RMSprop"


# --- lrfind models ------------------------------------------------------------------------------------------------


def test_models_lists_the_recipes_one_line_for_each_entry_of_weights() -> None:
    asked = ["models", "resnet50", "--recipes", "--family", "classification"]
    lines = CliRunner().invoke(main, asked).stdout.splitlines()
    assert lines[0] == (
        "resnet50 IMAGENET1K_V1: SGD(momentum=0.9, weight_decay=0.0001), lr 0.1 at a batch of 256, step, "
        f"{LINKS}#resnet"
    )
    assert lines[2].startswith("wide_resnet50_2 IMAGENET1K_V1: none, the pull request names a cosine schedule")
    assert len(lines) == 4


def test_models_lists_the_recipes_as_json() -> None:
    rows = json.loads(CliRunner().invoke(main, ["models", "mnasnet0_5", "--recipes", "--json"]).stdout)
    assert [(row["model"], row["lr"], row["nesterov"], row["schedule"]) for row in rows] == [
        ("mnasnet0_5", 2.0, True, "cosine")
    ]
