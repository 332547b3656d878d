"""Files of weights as training programs write them, for every family: what is taken, what is said, what is refused."""

from __future__ import annotations

import argparse
import json
import re
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from small import build_task
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchvision import models

from lrfinder.errors import SetupError
from lrfinder.tasks.weights import State, load_state, read_state

SMALL = "squeezenet1_1"
# A small model of each family, how it is built for other classes, and the size of its inputs.
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    SMALL: ({"num_classes": 7}, {"image_size": 32}),
    "lraspp_mobilenet_v3_large": ({"num_classes": 7, "weights_backbone": None}, {"image_size": 32}),
    "ssdlite320_mobilenet_v3_large": ({"num_classes": 7, "weights_backbone": None}, {}),
    "mc3_18": ({"num_classes": 7}, {"image_size": 16}),
    "raft_small": ({}, {}),
}
HEADS = {
    SMALL: "New classifier: .* has 7 classes, not 4.",
    "lraspp_mobilenet_v3_large": "New classifier: .* has 7 classes, not 4.",
    "ssdlite320_mobilenet_v3_large": "New layers, as .* has another number of classes or keypoints: head.class",
    "mc3_18": "New classifier: .* has 7 classes, not 4.",
}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = models.get_model(name, weights=None, **FAMILIES[name][0])
    return model


def training_checkpoint(model: nn.Module, averaged: nn.Module) -> dict[str, Any]:
    """What torchvision's training programs save after an epoch with --model-ema and --amp."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10).state_dict(),
        "epoch": 7,
        "args": argparse.Namespace(model="squeezenet1_1", lr=0.1, data_path="/data", lr_steps=[16, 22], amp=True),
        "model_ema": averaged.state_dict(),
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
    }


def same(loaded: dict[str, Tensor], saved: dict[str, Tensor], but: tuple[str, ...] = ()) -> bool:
    return all(torch.equal(value, saved[key]) for key, value in loaded.items() if not key.startswith(but))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_checkpoint_starts_every_family(tmp_path: Path, name: str) -> None:
    model = network(name)
    averaged = AveragedModel(network(name))
    with torch.no_grad():
        for parameter in averaged.parameters():
            parameter.add_(1.0)
    torch.save(training_checkpoint(model, averaged), tmp_path / "w.pth")
    classes = {} if name == "raft_small" else {"num_classes": 4}
    options = {**FAMILIES[name][1], **classes, "weights": tmp_path / "w.pth", "batch_size": 2}
    task = build_task(name, "fake", **options)
    heads = ("classifier.1.", "classifier.high_", "classifier.low_", "head.classification_head.", "fc.")
    assert same(task.model.state_dict(), model.state_dict(), heads if classes else ())
    assert any(note.endswith("w.pth holds model and model_ema; the weights are those of model.") for note in task.notes)
    if classes:
        assert any(re.match(HEADS[name], note) for note in task.notes)


FORMS = {
    "state dict": lambda state: state,
    "ordered, with metadata": lambda state: OrderedDict(state),
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "Lightning": lambda state: {
        "state_dict": {**wrapped("model.", state), "criterion.weight": torch.ones(4)},
        "pytorch-lightning_version": "2.4.0",
        "hyper_parameters": {"lr": 0.1},
        "loops": {"fit_loop": {"state_dict": {}}},
    },
    "DistributedDataParallel": lambda state: wrapped("module.", state),
    "compiled": lambda state: {"model": wrapped("_orig_mod.", state)},
    "compiled in DistributedDataParallel": lambda state: wrapped("module._orig_mod.", state),
    "compiled in Lightning": lambda state: {"state_dict": wrapped("model._orig_mod.", state)},
    "averaged": lambda state: {"model_ema": {"n_averaged": torch.tensor(9), **wrapped("module.", state)}},
    "averaged alone": lambda state: {"n_averaged": torch.tensor(9), **wrapped("module.", state)},
    "averaged and compiled": lambda state: {"model_ema": wrapped("module._orig_mod.", state)},
}


def wrapped(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [SMALL, "raft_small"])
def test_weights_are_found_in_whatever_form_they_were_saved(tmp_path: Path, name: str, form: str) -> None:
    state = network(name).state_dict()
    torch.save(FORMS[form](state), tmp_path / "w.pth")
    loaded = read_state(name, tmp_path / "w.pth")
    assert loaded.keys() == state.keys() and same(loaded, state) and loaded.note == ""


def safetensors(tensors: dict[str, Tensor]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    kinds = {torch.float32: "F32", torch.int64: "I64", torch.bfloat16: "BF16"}
    numbers = b""
    for name, tensor in tensors.items():
        data = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        offsets = [len(numbers), len(numbers) + len(data)]
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        numbers += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + numbers


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod."])
def test_safetensors_are_read_with_any_prefix(tmp_path: Path, prefix: str) -> None:
    state = network("raft_small").state_dict()
    (tmp_path / "w.safetensors").write_bytes(safetensors(wrapped(prefix, state)))
    loaded = read_state("raft_small", tmp_path / "w.safetensors")
    assert loaded.keys() == state.keys() and same(loaded, state)


@pytest.mark.parametrize(
    "name, other, sentence",
    [
        (SMALL, "squeezenet1_0", "features.0.weight .* is 96x3x7x7 in the weights and 64x3x3x3 in the model, of feat"),
        ("mc3_18", "r3d_18", "layer2.0.conv1.0.weight .*in the weights and .* in the model, of layer2.0.conv1.0"),
        ("raft_small", "raft_large", "in the weights and .* in the model, of feature_encoder.convnormrelu.0"),
        ("lraspp_mobilenet_v3_large", SMALL, "is missing in the weights, of backbone.0.0"),
        ("ssdlite320_mobilenet_v3_large", "mobilenet_v3_large", "is missing in the weights, of backbone.features.0.0"),
    ],
)
def test_weights_of_another_model_are_listed_by_layer(tmp_path: Path, name: str, other: str, sentence: str) -> None:
    torch.save(models.get_model(other, weights=None).state_dict(), tmp_path / "w.pth")
    state = read_state(name, tmp_path / "w.pth")
    with pytest.raises(SetupError, match=f"the weights .*w.pth do not fit {name}: .*{sentence}"):
        load_state(network(name), state, 7, name=name, origin=str(tmp_path / "w.pth"))


@pytest.mark.parametrize(("ending", "value"), [("classifier.3.bias", 1.0), ("0.1.num_batches_tracked", [1])])
def test_a_scalar_is_no_head(ending: str, value: Any) -> None:
    name = "mobilenet_v3_small"
    state = State(models.get_model(name, weights=None).state_dict())
    state[next(key for key in state if key.endswith(ending))] = torch.tensor(value)
    with pytest.raises(SetupError, match=f"{ending} is .* in the weights and .* in the model"):
        load_state(models.get_model(name, num_classes=7), state, 7, name=name, origin="w")


def test_the_note_of_the_weights_comes_before_that_of_the_head() -> None:
    state = State(network(SMALL).state_dict())
    state.note = "Taken."
    model = models.get_model(SMALL, num_classes=3)
    assert load_state(model, state, 3, name=SMALL, origin="w")[0] == "Taken."


class Harmful:
    def __reduce__(self) -> Any:
        return print, ("executed",)


@pytest.mark.parametrize("content", [Path("/data"), {"callback": Harmful()}], ids=type)
def test_nothing_but_a_namespace_is_let_through(
    tmp_path: Path, content: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for args in (content, argparse.Namespace(inner=content)):
        torch.save({"model": {"a.weight": torch.zeros(2)}, "args": args}, tmp_path / "w.pth")
        with pytest.raises(SetupError, match="holds more than tensors, namely .*, which could run code when loaded"):
            read_state(SMALL, tmp_path / "w.pth")
    assert capsys.readouterr().out == ""
