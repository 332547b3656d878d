"""The table of torchvision's own trainings, and the line that `lrfind run` prints from it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torchvision import models

from lrfinder.errors import ConfigError
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
