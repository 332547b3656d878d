"""Models, data and losses of the user's own, named as module:function, in every combination and every way to fail."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from lrfinder import RangeTestResult
from lrfinder.cli import main
from lrfinder.errors import ConfigError, LRFinderError, SetupError
from lrfinder.tasks import OWN, family_of
from lrfinder.tasks.experiment import Experiment, prepare
from lrfinder.tasks.settings import Settings
from lrfinder.tasks.user_code import check_form, is_reference

MODELS = '''
import torch
from torch import nn

def net(num_classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, num_classes))

def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))

def fixed():
    return net(10)

def sized(num_classes, image_size=0, width=3):
    model = net(num_classes)
    model.image_size = image_size
    return model

class Small(nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        self.model = net(num_classes)

    def forward(self, images):
        return self.model(images)

    @classmethod
    def of_two(cls):
        return cls(2)

class WithLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x, labels):
        logits = self.layer(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

class Boxes(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1)

    def forward(self, images, targets):
        maps = [self.layer(image).mean((1, 2)) for image in images]
        return {"boxes": sum(each[0] ** 2 for each in maps), "classes": sum(each[1] ** 2 for each in maps)}

def segmenter(num_classes=4):
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large
    return lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=num_classes)

def segmenter_of_tensors():
    from torchvision.models.segmentation import LRASPP
    model = segmenter()
    model.__class__ = type("Tensors", (LRASPP,), {"forward": lambda self, x: LRASPP.forward(self, x)["out"]})
    return model

class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, images):
        return self.layer(images.reshape(-1, 5))  # the line

made = net(10)

def raises():
    raise KeyError("no such net")

def wants(depth, num_classes):
    return net(num_classes)

def pair():
    return net(10), None

def loud(num_classes):
    class Loud(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net(num_classes)

        def forward(self, images):
            print("forward")
            return self.inner(images)
    print("built")
    return Loud()
'''
DATA = '''
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

asked = {}

def images(count=24, size=32, classes=3):
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(
        torch.randn(count, 3, size, size, generator=generator), torch.arange(count) % classes)

class Named(Dataset):
    classes = ["cat", "dog", "emu"]

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return torch.full((3, 32, 32), index / 24), index % 3

def loaders():
    return DataLoader(images(), batch_size=6), DataLoader(images(6), batch_size=3)

def loader(batch_size=4, num_workers=0, seed=None, val=None):
    asked.update(batch_size=batch_size, num_workers=num_workers, seed=seed, val=val)
    return DataLoader(Named(), batch_size=batch_size, shuffle=True)

def needs(batch_size, workers):
    asked.update(batch_size=batch_size, workers=workers)
    return DataLoader(Named(), batch_size=batch_size)

def datasets():
    return Named(), images(6)

def masks():
    return [(torch.randn(2, 3, 32, 32), torch.randint(4, (2, 32, 32)))] * 3

def clips():
    return [(torch.randn(2, 3, 8, 32, 32), torch.tensor([0, 1]))] * 2

def gray():
    return [(torch.randn(2, 1, 32, 32), torch.tensor([0, 1]))] * 2

def frames_first():
    return [(torch.randn(2, 8, 3, 32, 32), torch.tensor([0, 1]))] * 2

def flow():
    pair = torch.randn(2, 3, 128, 128)
    return [(pair, pair, torch.zeros(2, 2, 128, 128), torch.ones(2, 128, 128, dtype=torch.bool))] * 2

class Scenes(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        boxes = torch.tensor([[4.0, 4.0, 20.0, 24.0]] * (1 + index % 2))
        return torch.rand(3, 32, 32 + index), {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)}

def scenes_loader():
    return DataLoader(Scenes(), batch_size=2, collate_fn=lambda batch: tuple(zip(*batch)))

def dictionaries():
    return [{"x": torch.randn(5, 4), "labels": torch.tensor([0, 1, 2, 0, 1])}] * 3

def vectors():
    return [(torch.randn(6, 4), torch.tensor([0, 1, 2] * 2))] * 3

def endless():
    while True:
        yield torch.randn(2, 4), torch.zeros(2, dtype=torch.int64)

class Stream(IterableDataset):
    def __iter__(self):
        return iter(images())

def stream():
    return DataLoader(Stream(), batch_size=2)

class Broken(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index > 5:
            raise ValueError("cannot decode sample 6")
        return torch.zeros(3, 8, 8), 0

def broken():
    return DataLoader(Broken(), batch_size=8)

def broken_in_a_worker():
    return DataLoader(Broken(), batch_size=8, num_workers=1)

def empty():
    return []

def none():
    return None

def three():
    return loaders()[0], loaders()[0], loaders()[0]

def two_tensors():
    return torch.zeros(2), torch.zeros(2)
'''
LOSSES = '''
import torch
from torch import nn

def smooth(output, target):
    return nn.functional.cross_entropy(output, target, label_smoothing=0.1)

def whole(model, batch):
    inputs, target = batch
    return nn.functional.cross_entropy(model(inputs), target)

class Weighted(nn.Module):
    def forward(self, output, target):
        return 2 * nn.functional.cross_entropy(output, target)

def fails(output, target):
    raise RuntimeError("no loss today")

number = 3
'''
FILES = {
    "models.py": MODELS,
    "data.py": DATA,
    "losses.py": LOSSES,
    "__init__.py": "",
    "syntax.py": "def build(:\n    pass\n",
    "needy.py": "\nimport a_package_that_is_not_there\n",
    "script.py": "import sys\nsys.exit(3)\n",
}
DETECTOR = "fasterrcnn_mobilenet_v3_large_320_fpn"
FEW = {"num_iter": 3, "start_lr": 1e-3, "end_lr": 1e-2, "device": "cpu"}


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A package of the user's own, which the modules of its folder can be imported from."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "mine").mkdir()
    for name, text in FILES.items():
        (folder / "mine" / name).write_text(text)
    before, known, here = list(sys.path), set(sys.modules), os.getcwd()
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    importlib.invalidate_caches()
    yield folder
    os.chdir(here)
    sys.path[:] = before
    for name in [name for name in sys.modules if name.split(".")[0] == "mine" and name not in known]:
        del sys.modules[name]


def prepared(model: str, data: str, **settings: Any) -> Experiment:
    return prepare(Settings(model=model, data=data, **{**FEW, **settings}))


def refused(model: str, data: str = "mine.data:loaders", **settings: Any) -> str:
    with pytest.raises(LRFinderError) as caught:
        prepared(model, data, **settings)
    return str(caught.value)


def asked() -> dict[str, Any]:
    """Arguments that the function for the data was called with."""
    return dict(importlib.import_module("mine.data").asked)


def lrfind(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(each) for each in arguments], prog_name="lrfind", catch_exceptions=False)


# --- what a reference is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["mine:net", "mine.models:Small.of_two", "_a.b1:c", "größe:netz"])
def test_two_names_of_python_with_a_colon_are_a_reference(text: str) -> None:
    assert is_reference(text) and family_of(text) is OWN
    check_form("data", text)


@pytest.mark.parametrize("text", ["resnet18", "C:\\photos", "C:/photos", "C:", "s3://bucket/key", "photos", "a.json"])
def test_paths_and_names_are_none(text: str) -> None:
    assert not is_reference(text)
    check_form("data", text)


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_reference("photos:small")
    (tmp_path / "photos:small").mkdir()
    assert not is_reference("photos:small")


@pytest.mark.parametrize(
    "text, meant",
    [
        ("mine/models.py:net", "mine.models:net"),
        ("./mine/models.py:net", "mine.models:net"),
        ("mine/models:net", "mine.models:net"),
        ("models.py:net", "models:net"),
        ("my-models:net", None),
        ("mine.models:", None),
        (":net", None),
        ("mine.models:net()", None),
        ("a:b:c", None),
    ],
)
def test_a_form_near_a_reference_is_refused_with_the_nearest(text: str, meant: str | None) -> None:
    for model, data in ((text, "digits"), ("resnet18", text)):
        sentence = refused(model, data)
        assert f"a module of Python, a colon, and a function in it, as in train.models:build; got {text!r}." in sentence
        assert sentence.endswith(f"Did you mean {meant!r}?" if meant else f"{text!r}.")


@pytest.mark.parametrize("text", ["mine.models.net", "mine/models.py"])
def test_a_model_without_a_colon_is_told_how_to_write_its_own(text: str) -> None:
    assert refused(text).endswith("A model of your own is given as module:function, as in train.models:build.")


# --- the four combinations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["mine.models:net", "mine.models:Small", "mine.models:fixed", "mine.models:made"])
def test_an_own_model_trains_on_the_digits(model: str) -> None:
    experiment = prepared(model, "digits")
    facts = experiment.facts
    assert (facts["model"], facts["data"], facts["num_classes"], facts["image_size"]) == (model, "digits", 10, 32)
    assert (facts["optimizer"], facts["optimizer_options"], facts["batch_size"]) == ("SGD", {"momentum": 0.9}, 64)
    assert experiment.reference is None
    assert len(experiment.range_test().curve.losses) == 3
    assert "Images at 32x32 pixels (in the data about 8), with ImageNet's mean" in experiment.task.notes[0]


def test_an_own_model_trains_on_a_folder_with_validation(tmp_path: Path) -> None:
    from PIL import Image

    for index in range(20):
        (tmp_path / f"class{index % 2}").mkdir(exist_ok=True)
        Image.new("RGB", (40, 48), (index, 0, 0)).save(tmp_path / f"class{index % 2}" / f"{index}.png")
    experiment = prepared("mine.models:Small.of_two", str(tmp_path), batch_size=4, val=True, image_size=24)
    assert (experiment.facts["image_size"], experiment.facts["train_images"], experiment.steps_per_epoch) == (24, 16, 4)
    assert experiment.range_test().curve.measured == "after"


def test_an_own_model_takes_made_up_images_with_any_number_of_classes() -> None:
    assert prepared("mine.models:Small", "fake", num_classes=3).range_test().curve.losses
    with pytest.raises(LRFinderError, match="the labels run from . to 9, but the model has 2 classes"):
        prepared("mine.models:Small.of_two", "fake").range_test()


def test_an_own_model_gets_the_size_of_the_images() -> None:
    task = prepared("mine.models:sized", "digits", image_size=16).task
    assert task.model.image_size == 16 and next(iter(task.train_loader))[0].shape[2:] == (16, 16)


@pytest.mark.parametrize(
    "model, data, options, shape",
    [
        ("squeezenet1_1", "mine.data:loader", {}, (4, 3)),
        ("squeezenet1_1", "mine.data:Named", {"batch_size": 8}, (8, 3)),
        ("googlenet", "mine.data:loaders", {"num_classes": 3}, (6, 3)),
        ("lraspp_mobilenet_v3_large", "mine.data:masks", {"num_classes": 4}, (2, 4)),
        ("mc3_18", "mine.data:clips", {"num_classes": 2}, (2, 2)),
        ("raft_small", "mine.data:flow", {}, (2, None)),
        ("ssdlite320_mobilenet_v3_large", "mine.data:Scenes", {"num_classes": 2}, (2, 2)),
        (DETECTOR, "mine.data:scenes_loader", {"num_classes": 2, "image_size": 32}, (2, 2)),
    ],
)
def test_models_of_every_family_take_own_data(model: str, data: str, options: Any, shape: Any) -> None:
    experiment = prepared(model, data, **options)
    facts, task = experiment.facts, experiment.task
    assert (facts["model"], facts["data"]) == (model, data)
    assert (facts["batch_size"], facts["num_classes"]) == shape
    batch = next(iter(task.train_loader))
    loss = task.loss_fn(task.model, batch) if task.loss_fn else task.criterion(task.model(batch[0]), batch[1])
    assert torch.isfinite(loss)


def test_the_recipe_of_torchvision_holds_on_own_data() -> None:
    experiment = prepared("squeezenet1_1", "mine.data:loader")
    assert experiment.facts["optimizer_options"]["weight_decay"] == 2e-4
    assert experiment.reference is not None


@pytest.mark.parametrize(
    "model, data, form, batch",
    [
        ("mine.models:net", "mine.data:loader", "plain", 4),
        ("mine.models:WithLoss", "mine.data:dictionaries", "output", 5),
        ("mine.models:segmenter", "mine.data:masks", "segmentation", 2),
        ("mine.models:segmenter_of_tensors", "mine.data:masks", "plain", 2),
        ("mine.models:Boxes", "mine.data:Scenes", "detection", 6),
        ("mine.models:Boxes", "mine.data:scenes_loader", "detection", 2),
    ],
)
def test_an_own_model_trains_on_own_data(model: str, data: str, form: str, batch: int) -> None:
    experiment = prepared(model, data, batch_size=6 if data.endswith("Scenes") else None)
    curve = experiment.range_test().curve
    assert (len(curve.losses), experiment.facts["batch_size"]) == (3, batch)
    assert curve.facts is not None and (curve.facts.form, curve.facts.batch_size) == (form, batch)


# --- what the functions get -------------------------------------------------------------------------------------------


def test_a_function_keeps_its_defaults_and_gets_what_was_chosen() -> None:
    prepared("mine.models:net", "mine.data:loader")
    assert asked() == {"batch_size": 4, "num_workers": 0, "seed": 0, "val": False}
    experiment = prepared("mine.models:net", "mine.data:loader", batch_size=8, workers=1, seed=5)
    assert asked() == {"batch_size": 8, "num_workers": 1, "seed": 5, "val": False}
    assert experiment.settings.batch_size == 8


def test_a_function_that_needs_a_batch_size_gets_the_usual_one() -> None:
    assert prepared("mine.models:net", "mine.data:needs").steps_per_epoch == 1
    assert (asked()["batch_size"], asked()["workers"]) == (64, 0)


def test_a_data_set_is_loaded_in_batches_of_the_given_size() -> None:
    first, second = (
        prepared("mine.models:net", "mine.data:Named", batch_size=size, seed=3).task.train_loader for size in (8, 8)
    )
    assert (len(first), first.batch_size) == (3, 8)
    assert torch.equal(next(iter(first))[1], next(iter(second))[1])


@pytest.mark.parametrize("data, samples", [("mine.data:datasets", 24), ("mine.data:Named", 20)])
def test_validation_data_comes_from_a_pair_or_is_held_out(data: str, samples: int) -> None:
    experiment = prepared("mine.models:net", data, batch_size=2, num_classes=3, val=True, val_batches=1)
    assert experiment.facts["train_images"] == samples
    assert experiment.range_test().curve.measured == "after"


def test_a_pair_of_loaders_validates_where_it_is_asked_to() -> None:
    experiments = [prepared("mine.models:Small", "mine.data:loaders", val=val) for val in (False, True)]
    assert [each.task.val_loader is not None for each in experiments] == [False, True]


def test_weights_of_an_own_model_are_read_from_a_file(tmp_path: Path) -> None:
    model = importlib.import_module("mine.models").Small(10)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    experiment = prepared("mine.models:Small", "digits", weights=str(tmp_path / "w.pth"))
    for loaded, saved in zip(experiment.task.model.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(loaded, saved)
    assert experiment.reference is None and experiment.finder.setup.pretrained is True
    assert "`weights` must be a file for `model` mine.models:net" in refused(
        "mine.models:net", weights="DEFAULT", num_classes=3
    )
    assert refused("mine.models:net").endswith("needs 'num_classes', whose value is not known. Set `num_classes`.")


# --- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss, form", [("mine.losses:smooth", "plain"), ("mine.losses:whole", "own loss"), ("multimarginloss", "plain")]
)
def test_a_loss_of_ones_own_replaces_the_usual_one(loss: str, form: str) -> None:
    experiment = prepared("mine.models:net", "mine.data:loader", loss=loss)
    assert experiment.facts["loss"] == loss
    facts = experiment.range_test().curve.facts
    assert facts is not None and facts.form == form


def test_a_class_is_built_and_its_loss_is_used() -> None:
    plain, doubled = (
        prepared("squeezenet1_1", "digits", loss=loss, batch_size=4).range_test().curve.losses[0]
        for loss in (None, "mine.losses:Weighted")
    )
    assert doubled == pytest.approx(2 * plain, rel=1e-4)


@pytest.mark.parametrize(
    "loss, sentence",
    [
        ("CrossEntropy", "Did you mean 'CrossEntropyLoss'?"),
        ("CTCLoss", "loss must be one of"),
        ("mine.losses:smoth", "mine.losses has no 'smoth'. Did you mean 'smooth'?"),
        ("mine.losses:number", "must be a function or a module of torch; got a int"),
        ("mine/losses.py:smooth", "Did you mean 'mine.losses:smooth'?"),
    ],
)
def test_a_loss_that_is_none_is_refused(loss: str, sentence: str) -> None:
    assert sentence in refused("mine.models:net", "mine.data:loader", loss=loss)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, sentence",
    [
        ("nowhere:net", "there is no module 'nowhere' in the current folder or among the packages"),
        ("mine.modles:net", "there is no module 'mine.modles' in .* Did you mean 'mine.models'?"),
        ("min:net", "there is no module 'min' in .* Did you mean 'mine'?"),
        ("mine.models:nett", "mine.models has no 'nett'. Did you mean 'net'?"),
        ("mine.losses:build", "mine.losses has no 'build'. It has Weighted, fails, smooth, whole."),
        ("mine.models:Small.off", "mine.models.Small has no 'off'."),
        ("mine.syntax:build", r"cannot be imported: SyntaxError: .* \(mine.syntax.py, line 1\)\."),
        ("mine.needy:build", r"ModuleNotFoundError: No module named 'a_package.*' \(mine.needy.py, line 2\)\."),
        ("mine.script:build", r"it ends the program \(mine.script.py, line 2\)\. Put what a module runs"),
        ("mine.models:raises", r"`model` mine.models:raises failed: KeyError: 'no such net' \(mine.models.py, line"),
        ("mine.models:wants", "needs 'depth', whose value is not known. Give it a default; what can be passed is 'i"),
        ("mine.models:pair", "must return a torch.nn.Module; got a tuple."),
        ("mine.models:lazy", r"never initialised \(a lazy module\)\. Run one batch through the model before it"),
        ("mine.models:torch", "must be a function or a class that gives a torch.nn.Module; it is a module."),
    ],
)
def test_a_model_that_cannot_be_had_is_one_sentence(model: str, sentence: str) -> None:
    assert re.search(sentence, refused(model, "digits"))


@pytest.mark.parametrize(
    "data, sentence",
    [
        ("mine.data:none", "must return a DataLoader, a Dataset, or a pair (train, val) of either; got a NoneType."),
        ("mine.data:three", "got a tuple of 3: DataLoader, DataLoader, DataLoader."),
        ("mine.data:two_tensors", "got a tuple of 2: Tensor, Tensor."),
        ("mine.data:endless", "got a generator, which has no length."),
        ("mine.data:stream", "returns a DataLoader without a length, which the schedule needs."),
        ("mine.data:empty", "returns a list that is empty."),
        ("mine.data:broken", "loaded: ValueError: cannot decode sample 6 (mine/data.py, line "),
        ("mine.data:broken_in_a_worker", "cannot be loaded: ValueError: cannot decode sample 6 (mine/data.py, line "),
    ],
)
def test_data_that_cannot_be_had_is_one_sentence(data: str, sentence: str) -> None:
    assert sentence in refused("mine.models:Small", data)


@pytest.mark.parametrize(
    "model, data, options, sentence",
    [
        ("mine.models:fixed", "digits", {"num_classes": 12}, "`num_classes` would have no effect: mine.models:"),
        ("mine.models:Small", "mine.data:loaders", {"batch_size": 3}, "`batch_size` would have no effect: mine.models"),
        ("mine.models:Small", "mine.data:loaders", {"workers": 3}, "`workers` would have no effect"),
        ("squeezenet1_1", "mine.data:loader", {"image_size": 64}, "`image_size` would have no effect: mine.data:"),
        ("mine.models:Small", "mine.data:loader", {"dataset": "CIFAR10"}, "`data` and `dataset` both say which data"),
        ("mine.models:Small", "digits", {"masks": "m"}, "`data` is digits where it is left out, and these have no ma"),
        ("mine.models:Small", "mine.data:loader", {"val": True}, "gives training batches alone. Return a pair"),
        ("squeezenet1_1", "mine.data:loaders", {}, "how many classes mine.data:loaders has is not known. Set `num_cl"),
        ("ssd300_vgg16", "mine.data:Scenes", {}, "Set `num_classes`, with the background."),
        ("ssd300_vgg16", "mine.data:loader", {"num_classes": 2}, "needs batches of a list of images of shape (3, hei"),
        ("squeezenet1_1", "mine.data:vectors", {"num_classes": 3}, "needs batches of images of shape (N, 3, height, "),
        ("squeezenet1_1", "mine.data:gray", {"num_classes": 3}, "those of mine.data:gray are a float32 tensor of"),
        ("r3d_18", "mine.data:frames_first", {"num_classes": 3}, "needs batches of clips of shape (N, 3, frames, "),
        ("mine.models:Small", "mine.data:flow", {}, "no loss is known for the batches of mine.data:flow"),
    ],
)
def test_settings_that_do_not_fit_are_refused(model: str, data: str, options: Any, sentence: str) -> None:
    assert sentence in refused(model, data, **options)


@pytest.mark.parametrize(
    "model, data, options, sentence",
    [
        ("mine.models:Fails", "mine.data:vectors", {}, "failed: RuntimeError: shape '[-1, 5]' is invalid for input of"),
        ("mine.models:net", "mine.data:loader", {"loss": "mine.losses:fails"}, "no loss today"),
        ("mine.models:fixed", "mine.data:vectors", {}, "training of mine.models:fixed on mine.data:vectors failed: "),
        ("mine.models:WithLoss", "mine.data:vectors", {}, "failed: TypeError: "),
        ("mine.models:segmenter", "mine.data:masks", {"num_classes": 3}, "labels run from 0 to 3, but the model has 3"),
    ],
)
def test_a_training_that_fails_names_the_line(model: str, data: str, options: Any, sentence: str) -> None:
    experiment = prepared(model, data, **({"num_classes": 3} if model.endswith("net") else {}), **options)
    with pytest.raises(LRFinderError) as caught:
        experiment.range_test()
    assert sentence in str(caught.value) and "LRFinder(" not in str(caught.value)
    if model.endswith("Fails"):
        line = 1 + next(i for i, text in enumerate(MODELS.splitlines()) if "# the line" in text)
        assert str(caught.value).endswith(f"(mine/models.py, line {line}).")


# --- the shell --------------------------------------------------------------------------------------------------------


def test_the_command_writes_files_named_after_the_model(tmp_path: Path) -> None:
    arguments = ("run", "mine.models:loud", "--data", "mine.data:loader", "--num-iter", 40, "--html", "--json")
    done = lrfind(*arguments, "--start-lr", "1e-3", "--end-lr", "10", "--out", tmp_path)
    assert done.exit_code in (0, 1), done.stderr
    content = json.loads(done.stdout)  # what the model prints is on stderr
    assert "built" in done.stderr and "forward" in done.stderr
    assert (content["setup"]["model"], content["setup"]["data"]) == ("mine.models:loud", "mine.data:loader")
    assert content["reference"] is None
    files = {path.name for path in tmp_path.iterdir()}
    assert {"mine.models.loud-sgd.json", "mine.models.loud-sgd.png", "mine.models.loud-sgd.html"} <= files
    result = RangeTestResult.load(tmp_path / "mine.models.loud-sgd.json")
    assert result.run is not None and result.run.subject == ("mine.models:loud", "mine.data:loader")
    assert "mine.models:loud" in (tmp_path / "mine.models.loud-sgd.html").read_text()


def test_a_parameter_is_not_named_as_an_option(tmp_path: Path) -> None:
    command = ("run", "mine.models:Small", "--data", "mine.data:loaders", "--batch-size", 3, "--out", tmp_path)
    assert "have no parameter of the name 'batch_size'. Add one, or leave --batch-size out." in lrfind(*command).stderr


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_loss_that_refuses_a_model_of_torchvision_names_the_option(tmp_path: Path) -> None:
    done = lrfind("run", "squeezenet1_1", "--loss", "MSELoss", "--batch-size", 8, "--num-iter", 3, "--out", tmp_path)
    assert done.exit_code == 2 and "LRFinder(" not in done.stderr
    assert "Give --loss as module:function, a function whose first parameter is named model" in done.stderr


@pytest.mark.parametrize("arguments", [("mine.models:raises",), ("mine.models:Fails", "--data", "mine.data:vectors")])
def test_an_error_of_the_user_leaves_nothing_behind(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = lrfind("run", *arguments, "--num-iter", 3, "--start-lr", 0.1, "--end-lr", 1, "--out", tmp_path / "out")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("Error: ") and "mine/models.py, line" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_command_finds_modules_of_the_current_folder(project: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent), "OMP_NUM_THREADS": "1"}
    call = "import sys; sys.path[:] = [p for p in sys.path if p]; from lrfinder.cli import main; main()"
    command = [sys.executable, "-W", "error", "-c", call, "run", "mine.models:net", "--data", "mine.data:loader"]
    command += ["--num-iter", "3", "--start-lr", "1e-3", "--end-lr", "1e-2", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr  # three points are too few for advice
    assert "mine.models:net on mine.data:loader: 24 samples" in done.stderr
    assert (tmp_path / "mine.models.net-sgd.json").is_file()


def test_nothing_is_imported_that_was_not_named() -> None:
    sys.modules.pop("mine.data", None)
    prepared("mine.models:net", "digits")
    assert "mine.data" not in sys.modules


def test_an_own_model_is_checked_like_any_other() -> None:
    assert isinstance(prepared("mine.models:net", "digits").task.model, nn.Module)
    for error, data in ((ConfigError, "nowhere:f"), (SetupError, "mine.data:none")):
        with pytest.raises(error):
            prepared("mine.models:Small", data)
