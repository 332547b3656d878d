"""torchvision's classification models: sizes, heads, weights, transforms, losses, and the task around them."""

from __future__ import annotations

import argparse
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from small import build_task
from torch.overrides import TorchFunctionMode
from torchvision import models

from lrfinder.errors import ConfigError, SetupError
from lrfinder.tasks.classification_models import AuxiliaryLoss, Classifier, build_classifier
from lrfinder.tasks.experiment import prepare
from lrfinder.tasks.images import labelled_images
from lrfinder.tasks.samples import Samples
from lrfinder.tasks.settings import Settings
from lrfinder.tasks.weights import read_state

SMALL = "squeezenet1_1"


class ParametersOnMeta(TorchFunctionMode):
    """Weights without storage, so that the largest models can be built; other tensors are computed as usual."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones):
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def build(name: str = SMALL, **options: Any) -> Classifier:
    return build_classifier(name, **{"num_classes": 10, "needed_size": 8, **options})


@pytest.fixture
def cached_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """torchvision's cache holding weights for the small model, so that nothing is downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    state = models.get_model(SMALL).state_dict()
    torch.save(state, folder / models.get_model_weights(SMALL).DEFAULT.url.rsplit("/", 1)[1])
    return state


def min_size(name: str) -> int:
    return int(min(models.get_model_weights(name).DEFAULT.meta["min_size"]))


# One model of each architecture and those of larger images; scripts/tour runs every model.
EVERY = models.list_models(module=models)
NAMES = {models.get_model_builder(name).__module__: name for name in EVERY}.values()


@pytest.mark.parametrize("name", [name for name in EVERY if name in NAMES or min_size(name) > 224])
def test_a_model_of_each_architecture_can_be_built_for_small_images(name: str) -> None:
    with ParametersOnMeta():
        classifier = build(name)
    assert classifier.model.training
    assert classifier.image_size >= min(min_size(name), 224)
    assert any(parameter.shape[0] == 10 for parameter in classifier.model.parameters())


@pytest.mark.parametrize(
    "name, needed, size",
    [
        ("resnet18", 8, 32),
        ("resnet18", 32, 32),
        ("resnet18", 33, 64),
        ("resnet18", 480, 224),
        ("alexnet", 8, 64),
        ("swin_t", 8, 224),
        ("vit_b_16", 8, 224),
        ("efficientnet_b1", 600, 240),
    ],
)
def test_the_size_is_the_models_own_or_less_for_small_images(name: str, needed: int, size: int) -> None:
    with ParametersOnMeta():
        assert build(name, needed_size=needed).image_size == size


def test_a_given_size_is_used_also_for_a_vision_transformer() -> None:
    with ParametersOnMeta():
        classifier = build("vit_b_32", image_size=64)
    assert classifier.image_size == classifier.model.image_size == 64


@pytest.mark.parametrize(
    "name, size", [("vit_b_16", 50), ("maxvit_t", 100), ("alexnet", 32), ("squeezenet1_1", 8), ("vgg11", 16)]
)
def test_a_size_the_model_cannot_take_is_rejected_with_its_own(name: str, size: int) -> None:
    with ParametersOnMeta(), pytest.raises(SetupError, match=rf"{name} cannot .* {size}x{size}.* its own is 224"):
        build(name, image_size=size)


def test_a_batch_of_one_is_rejected_for_a_model_with_batchnorm() -> None:
    with ParametersOnMeta(), pytest.raises(SetupError, match="BatchNorm.*`batch_size` to 2"):
        build("resnet18", batch_size=1)


def test_a_batch_of_one_is_accepted_for_a_model_without_batchnorm() -> None:
    with ParametersOnMeta():
        assert build("vgg11", batch_size=1).image_size == 32


def test_the_transform_is_the_models_own_at_its_own_size() -> None:
    own = models.get_model_weights(SMALL).DEFAULT.transforms()
    photo = Image.effect_noise((300, 280), 60).convert("RGB")
    assert torch.equal(build(needed_size=280).transform(photo), own(photo))


def test_a_smaller_image_is_used_whole_and_normalised_alike() -> None:
    classifier = build()
    grey = classifier.transform(Image.new("RGB", (8, 8), (124, 116, 104)))  # ImageNet's mean colour
    assert grey.shape == (3, 32, 32)
    assert grey.abs().max() < 0.02


def test_the_first_note_has_the_size_and_the_reason() -> None:
    assert build().notes[0] == "Images at 32x32 pixels (in the data about 8, the model's own size is 224)."


def test_without_weights_the_seed_fixes_the_model() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build().model.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_named_weights_come_with_their_own_size_and_a_new_head(cached_weights: dict[str, torch.Tensor]) -> None:
    classifier = build(weights="default")
    state = classifier.model.state_dict()
    assert classifier.image_size == 224
    assert state["classifier.1.weight"].shape[0] == 10
    assert torch.equal(state["features.0.weight"], cached_weights["features.0.weight"])
    assert classifier.notes[1] == "New classifier: default has 1000 classes, not 10."


def test_named_weights_keep_their_head_when_the_classes_agree(cached_weights: dict[str, torch.Tensor]) -> None:
    classifier = build(weights="SqueezeNet1_1_Weights.IMAGENET1K_V1", num_classes=1000)
    state = classifier.model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in cached_weights.items())
    assert len(classifier.notes) == 1


def test_a_failed_download_of_weights_names_their_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr(models._api, "load_state_dict_from_url", refuse)
    with pytest.raises(SetupError, match="no network. Fetch https://.*squeezenet1_1.*pth yourself"):
        build(weights="DEFAULT")


def test_an_unknown_name_of_weights_is_rejected_with_a_list() -> None:
    with pytest.raises(ConfigError, match="one of IMAGENET1K_V1, DEFAULT for squeezenet1_1; 'nope' is neither"):
        build(weights="nope")


@pytest.mark.parametrize("wrap", ["plain", "checkpoint", "data parallel", "compiled"])
def test_a_file_of_weights_is_loaded_however_training_saved_it(tmp_path: Path, wrap: str) -> None:
    state = build().model.state_dict()
    prefix = {"data parallel": "module.", "compiled": "_orig_mod."}.get(wrap, "")
    content: Any = {prefix + key: value for key, value in state.items()}
    torch.save({"model": content, "epoch": 3} if wrap == "checkpoint" else content, tmp_path / "w.pth")
    loaded = build(weights=str(tmp_path / "w.pth"), image_size=32).model.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in state.items())


def safetensors(tensors: dict[str, torch.Tensor]) -> bytes:
    """The bytes of a file in the format of safetensors, with float32 tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    numbers = b""
    for name, tensor in tensors.items():
        data = tensor.float().numpy().tobytes()
        offsets = [len(numbers), len(numbers) + len(data)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
        numbers += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + numbers


def test_a_file_of_safetensors_is_loaded(tmp_path: Path) -> None:
    state = build().model.state_dict()
    (tmp_path / "w.safetensors").write_bytes(safetensors(state))
    loaded = build(weights=str(tmp_path / "w.safetensors"), image_size=32).model.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in state.items())


def test_a_damaged_file_of_safetensors_is_rejected(tmp_path: Path) -> None:
    whole = safetensors({"a.weight": torch.ones(3, 4), "b.bias": torch.ones(0)})
    (tmp_path / "w.safetensors").write_bytes(whole)
    assert read_state(SMALL, tmp_path / "w.safetensors")["a.weight"].sum() == 12
    damaged = [whole[:end] for end in range(0, len(whole), 7)]
    changes = [(b"F32", b"F99"), (b"[3, 4]", b"[3, 9]"), (b"[0, 48]", b"[9, 57]"), (b"[3, 4]", b"[-3,4]")]
    changes += [(b'"shape"', b'"shabe"'), (b"[0, 48]", b"null   ")]
    damaged += [whole.replace(old, new) for old, new in changes]
    for content in damaged:
        (tmp_path / "w.safetensors").write_bytes(content)
        with pytest.raises(SetupError, match="cannot read weights from"):
            read_state(SMALL, tmp_path / "w.safetensors")


class Harmful:
    """An object that would run code when it is loaded."""

    def __reduce__(self) -> Any:
        return print, ("executed",)


def test_an_object_in_a_checkpoint_is_named_and_not_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in (Harmful(), argparse.Namespace(callback=Harmful())):
        torch.save({"model": {"conv1.weight": torch.zeros(2)}, "args": content}, tmp_path / "w.pth")
        with pytest.raises(SetupError, match="holds more than tensors, namely .*print, which could run code"):
            read_state(SMALL, tmp_path / "w.pth")
    assert capsys.readouterr().out == ""


def test_values_beside_the_tensors_of_a_state_dict_are_left_out(tmp_path: Path) -> None:
    state = models.get_model(SMALL, num_classes=10).state_dict()
    torch.save({**state, "epoch": 3, "classifier.1.scale": [1, 2], 7: "x"}, tmp_path / "w.pth")
    assert read_state(SMALL, tmp_path / "w.pth").keys() == state.keys()


def test_weights_that_do_not_fit_are_listed_by_layer(tmp_path: Path) -> None:
    state = build().model.state_dict()
    torch.save({key: value for key, value in state.items() if not key.startswith("features.3.")}, tmp_path / "w.pth")
    with pytest.raises(SetupError, match="missing in the weights, of features.3.squeeze, features.3.expand1x1, "):
        build(weights=str(tmp_path / "w.pth"))


def test_densenet_files_with_old_key_names_are_loaded(tmp_path: Path) -> None:
    state = models.get_model("densenet121", num_classes=10).state_dict()
    old = {key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value for key, value in state.items()}
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "w.pth")
    loaded = build("densenet121", weights=str(tmp_path / "w.pth"), image_size=32).model.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in state.items())


def test_weights_of_another_model_are_rejected_with_the_mismatch(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(models.get_model("squeezenet1_0").state_dict(), path)
    with pytest.raises(SetupError, match=r"features.0.weight .* is 96x3x7x7 in the weights and 64x3x3x3 in the model"):
        build(weights=str(path))
    torch.save({"somewhere.else": torch.zeros(2)}, path)
    with pytest.raises(SetupError, match=r"features.0.weight \(and 51 more\) is missing in the weights"):
        build(weights=str(path))
    torch.save({**build().model.state_dict(), "extra": torch.zeros(2)}, path)
    with pytest.raises(SetupError, match="the model has no extra"):
        build(weights=str(path))


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 half a zip"])
def test_a_damaged_file_of_weights_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(SetupError, match=r"cannot read weights from .*w.pth: .* torch.save\(model.state_dict"):
        build(weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(2)])
def test_a_file_without_a_state_dict_is_rejected(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(SetupError, match="holds no state dict"):
        build(weights=str(tmp_path / "w.pth"))


def test_a_pickled_model_is_rejected_and_not_executed(tmp_path: Path) -> None:
    torch.save(build().model, tmp_path / "w.pth")
    with pytest.raises(SetupError, match="holds more than tensors"):
        build(weights=str(tmp_path / "w.pth"))


def test_auxiliary_outputs_have_their_weight_in_the_training_loss() -> None:
    logits = [torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.0]])]
    target = torch.tensor([0])
    single = [float(torch.nn.functional.cross_entropy(each, target)) for each in logits]
    loss = AuxiliaryLoss(0.3)(models.GoogLeNetOutputs(*logits), target)
    assert float(loss) == pytest.approx(single[0] + 0.3 * (single[1] + single[2]))


def test_without_auxiliary_outputs_the_loss_is_the_cross_entropy() -> None:
    logits, target = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    assert AuxiliaryLoss(0.3)(logits, target) == torch.nn.functional.cross_entropy(logits, target)


def test_googlenet_trains_its_auxiliary_classifiers() -> None:
    with ParametersOnMeta():
        classifier = build("googlenet")
    assert isinstance(classifier.criterion, AuxiliaryLoss)
    assert classifier.criterion.weight == 0.3
    assert classifier.model.aux1 is not None


def test_inception_trains_its_auxiliary_classifier_on_large_images() -> None:
    with ParametersOnMeta():
        classifier = build("inception_v3", image_size=299)
    assert classifier.criterion.weight == 0.4
    assert (classifier.model.AuxLogits is not None, len(classifier.notes)) == (True, 1)


def test_inception_drops_its_auxiliary_classifier_on_small_images() -> None:
    with ParametersOnMeta():
        classifier = build("inception_v3")
    assert (classifier.image_size, classifier.model.AuxLogits) == (96, None)
    assert classifier.notes[1] == "Without the auxiliary classifier, which needs 299 pixels."


# --- the whole task ------------------------------------------------------------------------------------------------


def tiny_images(count: int = 20, classes: int = 4) -> Samples:
    images = [(Image.new("RGB", (40, 30), (10 * i, 0, 0)), i % classes) for i in range(count)]
    return labelled_images("tiny", images, classes)


def test_a_task_has_model_loss_and_batches_that_fit_together() -> None:
    task = build_task(SMALL, "digits", batch_size=4)
    images, labels = next(iter(task.train_loader))
    assert images.shape == (4, 3, 32, 32)
    assert task.criterion is not None and task.criterion(task.model(images), labels).isfinite()


def test_a_task_can_be_built_on_images_of_ones_own() -> None:
    task = build_task("SqueezeNet1_1", tiny_images(), batch_size=4)
    assert task.title == "squeezenet1_1 on tiny: 20 images, 4 classes"
    assert task.notes[0] == "Images at 32x32 pixels (in the data about 30, the model's own size is 224)."


def test_the_facts_of_a_task_are_ready_for_json() -> None:
    task = build_task(SMALL, tiny_images(), batch_size=4, num_classes=6)
    assert json.loads(json.dumps(task.facts)) == {
        "model": SMALL,
        "weights": None,
        "data": "tiny",
        "train_images": 20,
        "num_classes": 6,
        "image_size": 32,
        "augment": "crop of random size, horizontal flip",
    }


def test_a_fifth_of_the_images_validates_where_there_is_no_other_part() -> None:
    task = build_task(SMALL, tiny_images(), batch_size=4, val=True)
    assert (task.facts["train_images"], len(task.val_loader.dataset)) == (16, 4)
    assert build_task(SMALL, tiny_images(), batch_size=4).val_loader is None


def test_the_image_size_does_not_depend_on_what_is_held_out() -> None:
    data = labelled_images("mixed", [(Image.new("RGB", (90 + 10 * (i % 2), 200)), i % 2) for i in range(16)], 2)
    tasks = [build_task(SMALL, data, batch_size=4, val=val, seed=seed) for val in (0, 1) for seed in range(4)]
    assert {task.facts["image_size"] for task in tasks} == {96}


def test_the_validation_part_of_the_data_is_used_where_there_is_one() -> None:
    data = labelled_images("tiny", tiny_images().train, 4, val=tiny_images(6).train)
    task = build_task(SMALL, data, batch_size=4, val=True)
    assert (task.facts["train_images"], len(task.val_loader.dataset)) == (20, 6)


def test_fewer_outputs_than_classes_are_rejected() -> None:
    with pytest.raises(ConfigError, match="tiny has 4 classes, labelled 0 to 3.*Set `num_classes` to 4"):
        build_task(SMALL, tiny_images(), batch_size=4, num_classes=3)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1; got 0"),
        ({"batch_size": 2.0}, "batch_size must be a whole number of at least 1; got 2.0"),
        ({"num_classes": 1}, "num_classes must be a whole number of at least 2; got 1"),
        ({"image_size": 0}, "image_size must be a whole number of at least 1; got 0"),
        ({"workers": -1}, "workers must be a whole number of at least 0; got -1"),
        ({"seed": -1}, "seed must be a whole number of at least 0; got -1"),
    ],
)
def test_numbers_out_of_range_are_rejected(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prepare(Settings(model=SMALL, **options))
