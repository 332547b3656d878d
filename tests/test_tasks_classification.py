"""torchvision's models, ready for a range test: sizes, heads, weights, transforms, losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode
from torchvision import models

from lrfinder.errors import ConfigError, SetupError
from lrfinder.tasks.classification import AuxiliaryLoss, Classifier, build_classifier, check_model_name, model_names

SMALL = "squeezenet1_1"


class ParametersOnMeta(TorchFunctionMode):
    """Weights without storage, so that the giants can be built; unlike a meta device it leaves other tensors alone."""

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


@pytest.mark.parametrize("name", models.list_models(module=models))
def test_every_classification_model_can_be_built_for_small_images_and_trains_on_its_chosen_size(name: str) -> None:
    with ParametersOnMeta():
        classifier = build(name)
    meta = models.get_model_weights(name).DEFAULT.meta
    assert classifier.model.training
    assert classifier.image_size >= min(meta["min_size"][0], 224)
    assert any(parameter.shape[0] == 10 for parameter in classifier.model.parameters())


def test_the_names_are_torchvisions_and_upper_case_is_forgiven() -> None:
    assert model_names() == sorted(models.list_models(module=models))
    assert check_model_name("ResNet18") == "resnet18"


@pytest.mark.parametrize("name, near", [("resnet19", "resnet18"), ("mobilenetv3_small", "mobilenet_v3_small")])
def test_an_unknown_name_offers_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"Did you mean .*{near}"):
        check_model_name(name)


def test_a_name_near_none_is_pointed_to_the_list() -> None:
    with pytest.raises(ConfigError, match="'zzz'. `lrfind models` lists all"):
        check_model_name("zzz")


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
def test_the_size_is_the_models_own_or_what_the_images_need_if_that_is_less(name: str, needed: int, size: int) -> None:
    with ParametersOnMeta():
        assert build(name, needed_size=needed).image_size == size


def test_a_given_size_is_obeyed_also_by_a_vision_transformer() -> None:
    with ParametersOnMeta():
        classifier = build("vit_b_32", image_size=64)
    assert classifier.image_size == classifier.model.image_size == 64


@pytest.mark.parametrize(
    "name, size", [("vit_b_16", 50), ("maxvit_t", 100), ("alexnet", 32), ("squeezenet1_1", 8), ("vgg11", 16)]
)
def test_a_size_the_model_cannot_take_is_refused_with_its_own(name: str, size: int) -> None:
    with ParametersOnMeta(), pytest.raises(SetupError, match=rf"{name} cannot .* {size}x{size}.* its own is 224"):
        build(name, image_size=size)


def test_one_image_at_a_time_is_refused_where_there_is_batchnorm_and_taken_where_there_is_none() -> None:
    with ParametersOnMeta():
        with pytest.raises(SetupError, match="BatchNorm.*--batch-size 2"):
            build("resnet18", batch_size=1)
        assert build("vgg11", batch_size=1).image_size == 32


def test_the_transform_is_the_models_own_at_its_own_size() -> None:
    own = models.get_model_weights(SMALL).DEFAULT.transforms()
    photo = Image.effect_noise((300, 280), 60).convert("RGB")
    assert torch.equal(build(needed_size=280).transform(photo), own(photo))


def test_a_smaller_image_is_shown_whole_and_normalised_alike() -> None:
    classifier = build()
    grey = classifier.transform(Image.new("RGB", (8, 8), (124, 116, 104)))  # ImageNet's mean colour
    assert grey.shape == (3, 32, 32)
    assert grey.abs().max() < 0.02


def test_the_note_says_the_size_and_why() -> None:
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


def test_weights_that_cannot_be_downloaded_are_named_with_their_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr(models._api, "load_state_dict_from_url", refuse)
    with pytest.raises(SetupError, match="no network. Fetch https://.*squeezenet1_1.*pth yourself"):
        build(weights="DEFAULT")


def test_an_unknown_weights_name_is_refused_with_those_there_are() -> None:
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


def test_densenet_files_with_the_names_of_old_are_understood(tmp_path: Path) -> None:
    state = models.get_model("densenet121", num_classes=10).state_dict()
    old = {key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value for key, value in state.items()}
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "w.pth")
    loaded = build("densenet121", weights=str(tmp_path / "w.pth"), image_size=32).model.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in state.items())


def test_weights_of_another_model_are_refused_with_the_first_mismatch(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(models.get_model("squeezenet1_0").state_dict(), path)
    with pytest.raises(SetupError, match=r"features.0.weight .* is 96x3x7x7 there and 64x3x3x3 in the model"):
        build(weights=str(path))
    torch.save({"somewhere.else": torch.zeros(2)}, path)
    with pytest.raises(SetupError, match=r"features.0.weight \(and 51 more\) is missing there"):
        build(weights=str(path))
    torch.save({**build().model.state_dict(), "extra": torch.zeros(2)}, path)
    with pytest.raises(SetupError, match="the model has no extra"):
        build(weights=str(path))


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 half a zip"])
def test_a_damaged_file_of_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(SetupError, match=r"cannot read weights from .*w.pth: .* torch.save\(model.state_dict"):
        build(weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(2)])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(SetupError, match="holds no state dict"):
        build(weights=str(tmp_path / "w.pth"))


def test_a_pickled_model_is_refused_not_executed(tmp_path: Path) -> None:
    torch.save(build().model, tmp_path / "w.pth")
    with pytest.raises(SetupError, match="holds more than tensors"):
        build(weights=str(tmp_path / "w.pth"))


def test_auxiliary_outputs_count_with_their_weight_in_training_and_not_in_validation() -> None:
    logits = [torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.0]])]
    target = torch.tensor([0])
    single = [float(torch.nn.functional.cross_entropy(each, target)) for each in logits]
    outputs = models.GoogLeNetOutputs(*logits)
    assert float(AuxiliaryLoss(0.3)(outputs, target)) == pytest.approx(single[0] + 0.3 * (single[1] + single[2]))
    assert float(AuxiliaryLoss(0.3)(logits[0], target)) == pytest.approx(single[0])


def test_googlenet_trains_its_auxiliary_classifiers() -> None:
    with ParametersOnMeta():
        classifier = build("googlenet")
    assert isinstance(classifier.criterion, AuxiliaryLoss)
    assert classifier.criterion.weight == 0.3
    assert classifier.model.aux1 is not None


def test_inception_trains_its_auxiliary_classifier_where_there_is_room_for_it_and_says_where_not() -> None:
    with ParametersOnMeta():
        large, small = build("inception_v3", image_size=299), build("inception_v3")
    assert large.criterion.weight == small.criterion.weight == 0.4
    assert (large.model.AuxLogits is not None, len(large.notes)) == (True, 1)
    assert (small.image_size, small.model.AuxLogits) == (96, None)
    assert "Without the auxiliary classifier" in small.notes[1]
