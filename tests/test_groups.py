"""Frozen layers, learning rates by depth, and weight decay by kind: the groups, the advice, and the lines to paste."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SMALLEST, build_task
from torch import nn
from torchvision import models

from lrfinder import LRFinder, RangeTestResult
from lrfinder.cli import main
from lrfinder.display.parts import other_parts
from lrfinder.errors import ConfigError, LRFinderError, SetupError
from lrfinder.recipes import Recipe, recipe
from lrfinder.schedules.grouping import Grouping
from lrfinder.tasks import Task
from lrfinder.tasks.experiment import Experiment, prepare
from lrfinder.tasks.groups import freeze, parameter_groups
from lrfinder.tasks.layers import head_names, layers
from lrfinder.tasks.settings import Settings

CLASSES = 101  # a prime that no model of torchvision has as a number of channels
EVERY_KIND = (
    "alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5 "
    "mobilenet_v2 mobilenet_v3_small regnet_x_400mf resnet18 resnet50 shufflenet_v2_x0_5 squeezenet1_1 swin_t "
    "swin_v2_t vgg11_bn vit_b_16 fcn_resnet50 deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large "
    "fasterrcnn_mobilenet_v3_large_fpn maskrcnn_resnet50_fpn fcos_resnet50_fpn retinanet_resnet50_fpn_v2 "
    "ssd300_vgg16 ssdlite320_mobilenet_v3_large r3d_18 s3d mvit_v1_b swin3d_t"
).split()


def without_data(name: str) -> nn.Module:
    """The model for ``CLASSES`` classes, without memory where that is possible."""
    arguments: dict[str, Any] = {"num_classes": CLASSES}
    if "rcnn" in name or name.startswith(("fcn", "fcos", "deeplab", "lraspp", "retina", "ssd")):
        arguments["weights_backbone"] = None
    if name.startswith(("fcn", "deeplab")):
        arguments["aux_loss"] = True
    if name in ("googlenet", "inception_v3"):
        arguments["init_weights"] = False
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model: nn.Module = models.get_model(name, weights=None, **arguments)
    return model


class Small(nn.Module):
    """A stem, a row of blocks and a head, with every kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)) for _ in range(3)))
        self.norm = nn.GroupNorm(2, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.norm(self.blocks(self.stem(images))).mean((2, 3))
        return self.fc(features)  # type: ignore[no-any-return]


NAMES = [name for name, _ in Small().named_parameters()]


# --- layers and head --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_KIND)
def test_every_parameter_has_a_layer_and_its_learning_rate(name: str) -> None:
    model = without_data(name)
    every = dict(model.named_parameters())
    chain = layers(model)
    assert Counter(each for _, names in chain for each in names) == Counter(every.keys())
    assert len({path for path, _ in chain}) == len(chain) >= 5
    ids = [id(each) for each in model.parameters()]
    firsts = [min(ids.index(id(every[each])) for each in names) for _, names in chain[:-1]]
    assert firsts == sorted(firsts)
    head = {each for each, parameter in every.items() if parameter.shape[0] % CLASSES == 0}
    assert head_names(model) == head | {each for each in every if ".box_predictor." in each}
    assert head <= set(chain[-1][1])
    groups = parameter_groups(model, lr=0.1, layer_decay=0.9)
    assert [group["lr"] for group in groups] == pytest.approx([0.1 * 0.9**i for i in range(len(chain))])
    assert Counter(id(each) for group in groups for each in group["params"]) == Counter(ids)


def test_the_layers_are_the_blocks_of_the_architecture() -> None:
    counted = {name: len(layers(without_data(name))) for name in ("resnet18", "vit_b_16", "convnext_tiny")}
    # timm's group_matcher has as many: a stem, the blocks (of ConvNeXt with three downsamplings), the head.
    assert counted == {"resnet18": 1 + 8 + 1, "vit_b_16": 1 + 12 + 1, "convnext_tiny": 1 + 18 + 3 + 1}


def test_a_model_of_another_kind_has_its_last_layer_as_head() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2), nn.ReLU())
    assert head_names(model) == {"2.weight", "2.bias"}
    assert layers(model) == [("0", ["0.weight", "0.bias", "1.weight", "1.bias"]), ("head", ["2.weight", "2.bias"])]


def test_optical_flow_has_no_head() -> None:
    with torch.device("meta"):
        model = models.get_model("raft_small", weights=None)
    for refused in (lambda: freeze(model, ["all-but-head"]), lambda: parameter_groups(model, head_lr_scale=2)):
        with pytest.raises(SetupError, match="optical flow has no head"):
            refused()


# --- freezing ---------------------------------------------------------------------------------------------------------


def fits(name: str, pattern: str) -> bool:
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[: i + 1]), pattern) for i in range(len(parts)))


PATTERNS = st.lists(
    st.sampled_from(["stem", "stem.*", "blocks.0", "blocks.[12]", "*.bias", "*.1.*", "norm", "fc", "*", "b*", "none"])
    | st.text("stemblocknrfi.*?[]01", max_size=9),
    max_size=3,
)


@settings(max_examples=60)
@given(PATTERNS)
def test_what_a_pattern_fits_is_frozen_or_nothing_is(patterns: list[str]) -> None:
    model = Small()
    expected = {name for name in NAMES if any(fits(name, pattern) for pattern in patterns)}
    if any(not any(fits(name, pattern) for name in NAMES) for pattern in patterns) or len(expected) == len(NAMES):
        with pytest.raises(LRFinderError):
            freeze(model, patterns)
        expected = set()
    else:
        assert set(freeze(model, patterns)) == expected
    assert {name for name, each in model.named_parameters() if not each.requires_grad} == expected
    groups = parameter_groups(model)
    assert [id(each) for each in groups[0]["params"]] == [id(each) for each in model.parameters() if each.requires_grad]


def test_frozen_normalisation_keeps_its_statistics_and_the_rest_does_not() -> None:
    model = Small()
    freeze(model, ["stem"])
    before = copy.deepcopy(model)
    model.train()
    model(torch.randn(4, 3, 2, 2))
    assert torch.equal(model.stem[1].running_mean, before.stem[1].running_mean)  # type: ignore[arg-type]
    assert not torch.equal(model.blocks[0][1].running_mean, before.blocks[0][1].running_mean)


def test_half_of_a_normalisation_frozen_leaves_its_statistics_free() -> None:
    model = Small()
    freeze(model, ["stem.1.bias"])
    model.train()
    model(torch.randn(4, 3, 2, 2))
    assert model.stem[1].running_mean.abs().sum() > 0  # type: ignore[union-attr, operator]


def test_normalisation_without_factors_is_frozen_by_its_name() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False)), nn.Conv2d(4, 2, 1))
    freeze(model, ["0"])
    model.train()
    model(torch.randn(4, 3, 2, 2))
    assert model[0][1].running_mean.abs().sum() == 0  # type: ignore[index]


def test_no_gradient_is_computed_below_the_head() -> None:
    model = Small()
    freeze(model, ["all-but-head"])
    seen: list[bool] = []
    model.norm.register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad))
    model(torch.randn(4, 3, 2, 2)).sum().backward()
    assert seen == [False]
    assert [name for name, each in model.named_parameters() if each.grad is not None] == ["fc.weight", "fc.bias"]


def test_a_range_test_leaves_a_frozen_part_as_it_was() -> None:
    torch.manual_seed(0)
    model = Small()
    freeze(model, ["stem", "blocks.0"])
    before = copy.deepcopy(model.state_dict())
    batches = [(torch.randn(8, 3, 2, 2), torch.randint(0, 3, (8,))) for _ in range(4)]
    stem: set[tuple[float, ...]] = set()
    model.stem.register_forward_hook(lambda *_: stem.add(tuple(model.stem[1].running_mean.tolist())))  # type: ignore
    finder = LRFinder(model, torch.optim.SGD(parameter_groups(model, layer_decay=0.5)), nn.CrossEntropyLoss())
    result = finder.range_test(batches, val_loader=batches, start_lr=1e-4, end_lr=1e-1, num_iter=12, progress=False)
    assert len(stem) == 1
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    facts = result.curve.facts
    assert facts is not None and facts.frozen == sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert facts.group_names == ("head", "blocks.2", "blocks.1")
    assert RangeTestResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert "1 (head), 0.5 (blocks.2), 0.25 (blocks.1)" in " ".join(str(result).split())


# --- groups -----------------------------------------------------------------------------------------------------------

SCALES = st.none() | st.floats(1e-3, 1e3)


def is_norm(name: str) -> bool:
    return name.startswith(("norm", "stem.1")) or name.split(".")[-2] == "1" and name.count(".") == 3


@settings(max_examples=40)
@given(SCALES, st.none() | st.floats(0.01, 1), st.none() | st.just(0.0), st.none() | st.just(0.1), st.booleans())
def test_groups_have_the_learning_rates_and_decays_asked_for(
    scale: float | None, decay: float | None, norms: float | None, biases: float | None, frozen: bool
) -> None:
    model = Small()
    freeze(model, ["stem"] if frozen else [])
    options = {"head_lr_scale": scale, "layer_decay": decay, "norm_weight_decay": norms, "bias_weight_decay": biases}
    groups = parameter_groups(model, lr=0.1, **options)
    torch.optim.SGD(groups, weight_decay=0.01)
    assert groups[0]["lr"] == 0.1
    held = {id(each): group for group in groups for each in group["params"]}
    assert len(held) == sum(len(group["params"]) for group in groups)
    depth = {name: place for place, (_, names) in enumerate(layers(model)[::-1]) for name in names}
    reference = (scale or 1.0) if decay is not None else 1.0
    for name, each in model.named_parameters():
        assert (id(each) in held) == each.requires_grad
        if each.requires_grad:
            wanted = (decay or 1.0) ** depth[name] * ((scale or 1.0) if name.startswith("fc") else 1.0)
            assert math.isclose(held[id(each)]["lr"], 0.1 * wanted / reference, rel_tol=1e-9)
            given_decay = biases if "bias" in name and biases is not None else norms if is_norm(name) else None
            assert held[id(each)]["weight_decay"] == (0.01 if given_decay is None else given_decay)


class Layer(nn.Module):
    """A class of another package: parameters of these shapes, and a child that has others."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.own = nn.ParameterList([nn.Parameter(torch.ones(shape)) for shape in shapes])
        for place, each in enumerate(self.own):
            self.register_parameter(f"own{place}", each)
        del self.own
        self.inside = nn.Linear(3, 3)


@pytest.mark.parametrize(
    ("name", "shapes", "norm"),
    [
        ("LlamaRMSNorm", [(8,)], True),
        ("LayerNorm2d", [(1, 8, 1, 1), (1, 8, 1, 1)], True),
        ("EvoNorm2dS0", [(8,), (8,), (8,)], True),
        ("ScaleNorm", [()], True),
        ("T5LayerNorm", [(1,)], True),
        ("NormalizedLinear", [(8,)], False),  # of a cosine classifier
        ("NormLinear", [(8, 4)], False),  # as its weight shows
        ("NormLinear", [(8, 4), (8,)], False),
        ("NormLinear", [(1, 4)], False),
        ("LayerScale", [(8,)], False),  # no norm, and one-dimensional as well
        ("PreNorm", [], False),  # a block with a norm in it
    ],
)
def test_norms_of_other_packages_are_known_by_name_and_shape(
    name: str, shapes: list[tuple[int, ...]], norm: bool
) -> None:
    layer = type(name, (Layer,), {})(*shapes)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), layer)
    groups = parameter_groups(model, norm_weight_decay=0.0)
    norms = {id(each) for group in groups if group.get("weight_decay") == 0.0 for each in group["params"]}
    assert {id(each) in norms for each in layer.parameters(recurse=False)} <= {norm}
    assert not any(id(each) in norms for each in layer.inside.parameters())


REFUSED: dict[str, tuple[tuple[str, ...], dict[str, Any], str]] = {
    "a pattern that fits nothing": (("stm",), {}, "'stm' fits no layer of the model. Did you mean 'stem'"),
    "another model's name": (("encoder",), {}, "Its parts are stem, blocks, norm, fc. For everything except"),
    "an empty pattern": (("",), {}, "fits no layer"),
    "everything": (("*",), {}, "leaves nothing to train"),
    "head and rest": (("all-but-head", "fc"), {}, "leaves nothing to train"),
    "a scale of 0": ((), {"head_lr_scale": 0}, "must be above 0; got 0. To leave layers as they are, use `freeze`"),
    "a scale below 0": ((), {"head_lr_scale": -1}, "got -1"),
    "a scale that is no number": ((), {"head_lr_scale": math.nan}, "got nan"),
    "an infinite scale": ((), {"head_lr_scale": math.inf}, "got inf"),
    "a decay of 0": ((), {"layer_decay": 0.0}, "must be above 0"),
    "a decay above 1": ((), {"layer_decay": 1.5}, "got 1.5"),
    "a decay to nothing": ((), {"layer_decay": 1e-9}, "leaves the first of 5 layers 1e-36 of the learning rate"),
    "a text": ((), {"layer_decay": "0.5"}, "got '0.5'"),
    "weight decay below 0": ((), {"norm_weight_decay": -0.1}, "got -0.1"),
    "weight decay of a frozen kind": (("all-but-head",), {"norm_weight_decay": 0}, "where no norms are trained"),
    "the scale of a frozen head": (("fc",), {"head_lr_scale": 2}, "of no use where the head is frozen"),
    "the scale of the head alone": (("all-but-head",), {"head_lr_scale": 2}, "where only the head is trained"),
    "no auxiliary classifier": ((), {"aux_lr_scale": 10.0}, "of no use where no aux_classifier is trained"),
    "scales of head and auxiliary": ((), {"aux_lr_scale": 9, "head_lr_scale": 2}, "be given with `head_lr_scale`"),
    "the decay of one layer": (("all-but-head",), {"layer_decay": 0.5}, "of no use where one layer is trained"),
}


@pytest.mark.parametrize(("patterns", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_changes_nothing_or_cannot_be_is_refused(
    patterns: tuple[str, ...], options: dict[str, Any], message: str
) -> None:
    model = Small()
    with pytest.raises((ConfigError, SetupError)) as refused:
        freeze(model, patterns)
        parameter_groups(model, **options)
    assert message in str(refused.value)


# --- an experiment and its outputs ------------------------------------------------------------------------------------

DEEPLAB = "deeplabv3_mobilenet_v3_large"
SWEEP: dict[str, Any] = {"batch_size": 8, "start_lr": 1e-4, "end_lr": 1.0, "num_iter": 24}


def experiment(model: str = "squeezenet1_1", **options: Any) -> Experiment:
    return prepare(Settings(model=model, **{**SWEEP, **options}))


def test_the_recipes_weight_decay_of_norms_is_in_force_by_default() -> None:
    model = "mnasnet0_75"
    default, own = experiment(model), experiment(model, norm_weight_decay=0.1)
    assert default.facts["norm_weight_decay"] == 0.0
    assert {group["weight_decay"] for group in default.finder.optimizer.param_groups} == {2e-5, 0.0}
    assert any("as in torchvision's recipe" in note for note in default.task.notes)
    assert {group["weight_decay"] for group in own.finder.optimizer.param_groups} == {2e-5, 0.1}
    assert experiment(model, optimizer="SGD").facts["norm_weight_decay"] is None


def test_without_options_the_groups_are_as_before() -> None:
    plain = experiment()
    assert len(plain.finder.optimizer.param_groups) == 1
    assert plain.facts["lr_of"] is None and plain.facts["freeze"] == []


def test_the_auxiliary_classifier_has_the_learning_rate_of_the_recipe() -> None:
    small: dict[str, Any] = {"model": DEEPLAB, "data": "fake", "batch_size": 2, "image_size": 32}
    found = experiment(**small, start_lr=1e-4, end_lr=1e-3, num_iter=3)
    model, groups = found.task.model, found.finder.optimizer.param_groups
    assert [group["name"] for group in groups] == ["all but the auxiliary classifier", "auxiliary classifier"]
    assert groups[1]["lr"] == pytest.approx(10 * groups[0]["lr"])
    assert [*map(id, groups[1]["params"])] == [*map(id, model.aux_classifier.parameters())]
    assert sum(len(group["params"]) for group in groups) == len([*model.parameters()])
    assert (found.facts["aux_lr_scale"], found.facts["lr_of"]) == (10.0, "all but the auxiliary classifier")
    said = "The learning rate is that of all but the auxiliary classifier, which has 10 times that, as in torchvision's"
    assert found.task.notes[-1].startswith(said)
    result = dataclasses.replace(found.range_test(), run=found.record("cosine", 1))
    assert result.curve.group_scales == pytest.approx((1.0, 10.0))
    assert other_parts(found.facts) == ", 10 times that for the auxiliary classifier"
    lines = result.recipe("cosine", peak_lr=0.1, total_steps=4).code().split("scheduler =")[0]
    assert "groups = parameter_groups(model, aux_lr_scale=10.0)" in lines
    space: dict[str, Any] = {"model": model}
    exec(compile(lines, "pasted", "exec"), space)
    pasted = space["optimizer"].param_groups
    assert [len(group["params"]) for group in pasted] == [len(group["params"]) for group in groups]
    # The user chose an optimizer or rates, or froze it; and a model without it.
    for chosen in ({"optimizer": "SGD"}, {"head_lr_scale": 2.0}, {"layer_decay": 0.9}, {"freeze": ("aux_classifier",)}):
        other = experiment(**small, **chosen)
        assert other.facts["aux_lr_scale"] is None
        assert not any("auxiliary" in group.get("name", "") for group in other.finder.optimizer.param_groups)
    assert experiment(**{**small, "model": "lraspp_mobilenet_v3_large"}).facts["aux_lr_scale"] is None


def test_weight_decay_is_refused_where_the_optimizer_has_none() -> None:
    with pytest.raises(ConfigError, match="of no use for Rprop, which has no weight decay"):
        experiment(optimizer="Rprop", bias_weight_decay=0.0)


def shell(tmp_path: Path, *options: str) -> tuple[dict[str, Any], dict[str, str]]:
    """JSON of a run, and the text of its files by kind."""
    sweep = ["--batch-size", "8", "--start-lr", "1e-5", "--end-lr", "1", "--num-iter", "30", "--image-size", "32"]
    command = ["run", "squeezenet1_1", *sweep, "--out", str(tmp_path), "--html", "--json", *options]
    outcome = CliRunner().invoke(main, command)
    assert outcome.exit_code == 0, outcome.stderr
    content = json.loads(outcome.stdout)
    names = ("result", "page", "code", "recipe")
    return content, {name: Path(content["files"][name]).read_text(encoding="utf-8") for name in names}


def test_every_output_says_what_the_learning_rate_is_for(tmp_path: Path) -> None:
    options = ("--head-lr-scale", "10", "--freeze", "features.0", "--bias-weight-decay", "0")
    content, files = shell(tmp_path, *options, "--weights", weights(tmp_path))
    decision = content["decision"]
    assert decision["lr_of"] == content["setup"]["lr_of"] == "all but the head"
    assert " for all but the head (" in decision["text"] and ", 10 times that for the head" in decision["text"]
    assert decision["text"].split(" torchvision")[0] in files["page"]
    assert content["setup"]["freeze"] == ["features.0"]
    assert "freeze(model, ['features.0'])" in files["code"] and "head_lr_scale=10.0" in files["code"]
    saved = Path(content["files"]["result"])
    shown = CliRunner().invoke(main, ["show", str(saved)]).stdout
    assert "for all but the head" in " ".join(shown.split())
    lines = CliRunner().invoke(main, ["schedule", str(saved), "--total-steps", "9"]).stdout
    assert "groups = parameter_groups(model, head_lr_scale=10.0, bias_weight_decay=0.0)" in lines
    one = Recipe.load(content["files"]["recipe"])
    assert Recipe.from_dict(one.to_dict()) == one and one.code() == files["code"]


def weights(folder: Path) -> str:
    torch.manual_seed(0)
    torch.save(models.squeezenet1_1(num_classes=10).state_dict(), folder / "weights.pt")
    return str(folder / "weights.pt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--freeze feature", "--freeze 'feature' fits no layer of the model. Did you mean 'features'?"),
        ("--head-lr-scale 0", "--head-lr-scale must be above 0; got 0.0. To leave layers as they are, use --freeze."),
        ("--layer-decay 2", "--layer-decay must be a number"),
        ("--freeze all-but-head --layer-decay 0.5", "--layer-decay is of no use where one layer is trained."),
    ],
)
def test_the_shell_refuses_in_its_own_words(options: str, message: str, tmp_path: Path) -> None:
    outcome = CliRunner().invoke(main, ["run", "squeezenet1_1", *options.split(), "--out", str(tmp_path / "out")])
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert message in outcome.stderr and "Traceback" not in outcome.stderr
    assert not (tmp_path / "out").exists()


# --- lines to paste ---------------------------------------------------------------------------------------------------

FIRST = {
    "classification": "features.0",
    "segmentation": "backbone.0",
    "detection": "backbone.body.[0-6]",
    "video": "stem",
    "optical_flow": "feature_encoder",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "a part frozen": {"freeze": ()},
    "the head alone": {"freeze": ("all-but-head",)},
    "the head faster": {"head_lr_scale": 10.0},
    "decay by layer": {"layer_decay": 0.75},
    "no weight decay on biases": {"bias_weight_decay": 0.0},
    "no weight decay on norms": {"norm_weight_decay": 0.0},
    "all together": {"freeze": (), "head_lr_scale": 4.0, "layer_decay": 0.5, "bias_weight_decay": 0.0},
}
UPDATES: dict[str, dict[str, Any]] = {
    "a part frozen": {"accumulation_steps": 2},
    "the head alone": {"clip_grad_norm": 0.1},
    "the head faster": {"amp_dtype": torch.bfloat16},
    "decay by layer": {"grad_scaler": True, "clip_grad_norm": 1.0},
}
KINDS = ("constant", "onecycle", "cosine", "cyclic")


@functools.cache
def task_of(family: str) -> Task:
    torch.manual_seed(0)
    return build_task(batch_size=2, **SMALLEST[family])


# Of optical flow, whose steps are slow, there is no head; these of the models have no normalisation that is trained.
WITHOUT = [(family, "no weight decay on norms") for family in ("classification", "detection")]
CASES = [(family, option) for family in SMALLEST for option in OPTIONS if (family, option) not in WITHOUT]
CASES = [(family, option) for family, option in CASES if family != "optical_flow" or option == "a part frozen"]


@pytest.mark.parametrize(("family", "option"), CASES)
def test_the_lines_freeze_and_group_a_model_of_each_family(family: str, option: str) -> None:
    options = dict(OPTIONS[option])
    if options.get("freeze") == ():
        options |= {"freeze": (FIRST[family],), "bias_weight_decay": 0.0}
    task = task_of(family)
    swept, pasted = copy.deepcopy(task.model), copy.deepcopy(task.model)
    form = getattr(task.criterion or task.loss_fn, "form", "plain")
    freeze(swept, options.get("freeze", ()))
    numbers = {name: value for name, value in options.items() if name != "freeze"}
    groups = parameter_groups(swept, **numbers)
    grouping = Grouping(optimizer="SGD", optimizer_options={"momentum": 0.9, "weight_decay": 1e-4}, **options)
    kind, count = ("constant", 1) if family != "classification" else (KINDS[list(OPTIONS).index(option) % 4], 4)
    length = {"total_steps": count, "grouping": grouping, "group_scales": [group["lr"] for group in groups]}
    one = recipe(kind, peak_lr=1e-6, device="cpu", form=form, **length, **UPDATES.get(option, {}))
    batch = next(iter(task.train_loader))
    space: dict[str, Any] = {"model": pasted, "criterion": nn.CrossEntropyLoss(), "train_loader": [batch] * 2}
    exec(compile(one.code(), "pasted", "exec"), space)
    optimizer = space["optimizer"]
    sizes = [[each.shape for each in group["params"]] for group in optimizer.param_groups]
    assert sizes == [[each.shape for each in group["params"]] for group in groups]
    ends = [one.lr_at(count) * group["lr"] for group in groups]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(ends)
    for (name, before), after in zip(swept.named_parameters(), pasted.parameters(), strict=True):
        assert before.requires_grad == after.requires_grad
        assert before.requires_grad or torch.equal(before, after), name


@pytest.mark.parametrize("name", ["optimizer", "an option"])
def test_a_name_that_is_no_name_gets_into_no_lines(name: str) -> None:
    bad = "SGD(); import os"
    values: dict[str, Any] = {"optimizer": bad} if name == "optimizer" else {"optimizer_options": {bad: 1}}
    with pytest.raises(ConfigError, match="names of Python"):
        Grouping(**{"optimizer": "SGD", **values})
