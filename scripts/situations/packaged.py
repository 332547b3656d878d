"""More nets whose trained weights are in packages, with a new head: of pages, molecules, bats, stars and words."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from situations.nets import fill
from torch import nn
from torch.nn import functional as F
from trained_packages import folder, weights

__all__ = ["ALL", "BatDetect", "DeepCR", "FirstToken", "G2p", "PPOcr", "RxnMapper", "WordLlama", "from_onnx"]
__all__ += ["rxnmapper_folder"]


def from_onnx(package: str, file: str, last: str) -> nn.Module:
    """An ONNX graph up to that value as modules of torch, of which all weights are parameters."""
    import onnx
    from onnx2torch import convert

    model = onnx.load(folder(package) / file)
    graph, nodes = model.graph, list(model.graph.node)
    graph.output[0].name = last
    kept = nodes[: 1 + next(place for place, node in enumerate(nodes) if last in node.output)]
    for node in [node for node in nodes if node not in kept or node.op_type == "Constant"]:
        if node in kept:
            node.attribute[0].t.name = node.output[0]
            graph.initializer.append(node.attribute[0].t)
        graph.node.remove(node)
    net: nn.Module = convert(model)
    loose = getattr(net, "initializers", nn.Module())
    for name, value in list(loose.named_buffers()):
        if value.is_floating_point() and value.dim():
            delattr(loose, name)
            loose.register_parameter(name, nn.Parameter(value))
    return net


class PPOcr(nn.Module):
    """The net of PP-OCR that finds whether a line of text is upside down, for grey images (n, 48, width)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        file = "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
        self.net = from_onnx("rapidocr_onnxruntime", file, "pool2d_10.tmp_0")
        self.head = nn.Linear(200, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scaled = images[:, None].expand(-1, 3, -1, -1) / 127.5 - 1
        return self.head(self.net(scaled).flatten(1))  # type: ignore[no-any-return]


def rxnmapper_folder() -> Path:
    return folder("rxnmapper") / "models" / "transformers" / "albert_heads_8_uspto_all_1310k"


class FirstToken(nn.Module):
    """An encoder of transformers and a head on the state of the first token, for tokens (n, length)."""

    def __init__(self, encoder: Any, classes: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(256, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        states = self.encoder(input_ids=tokens, attention_mask=(tokens != 0).long()).last_hidden_state
        return self.head(states[:, 0])  # type: ignore[no-any-return]


class RxnMapper(FirstToken):
    """The ALBERT of rxnmapper, trained on chemical reactions; its 12 layers share weights."""

    def __init__(self, classes: int) -> None:
        from transformers import AlbertForMaskedLM

        super().__init__(AlbertForMaskedLM.from_pretrained(rxnmapper_folder(), local_files_only=True).albert, classes)


class BatDetect(nn.Module):
    """BatDetect2 up to its attention over time, for spectra (n, 128 bands, frames)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        pairs = zip(pairwise((1, 32, 64, 128)), (128, 64, 32), strict=True)
        self.down = nn.Sequential(*[BatDetectBlock(*pair, height) for pair, height in pairs])
        self.last, self.last_norm = nn.Conv2d(128, 256, 3, padding=1), nn.BatchNorm2d(256)
        self.bands, self.bands_norm = nn.Conv2d(256, 256, (16, 1)), nn.BatchNorm2d(256)
        self.key, self.value, self.query, self.out = (nn.Linear(256, 256) for _ in range(4))
        stored = weights("batdetect2", "models", "Net2DFast_UK_same.pth.tar")["state_dict"]
        fill(self, [value for name, value in stored.items() if name.startswith(("conv_dn", "conv_1d", "att"))])
        self.head = nn.Linear(256, classes)

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self.last_norm(self.last(self.down(spectra[:, None]))))
        hidden = F.relu(self.bands_norm(self.bands(hidden))).squeeze(2).transpose(1, 2)
        scores = self.key(hidden) @ self.query(hidden).transpose(1, 2) / 256
        mixed = F.softmax(scores, 1).transpose(1, 2) @ self.value(hidden)
        return self.head(self.out(mixed).mean(1))  # type: ignore[no-any-return]


class BatDetectBlock(nn.Module):
    """A convolution that is given the height of each band; the heights are not trained."""

    def __init__(self, before: int, after: int, height: int) -> None:
        super().__init__()
        self.register_buffer("heights", torch.empty(1, 1, height, 1))
        self.convolution, self.norm = nn.Conv2d(before + 1, after, 3, padding=1), nn.BatchNorm2d(after)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        heights = self.get_buffer("heights").expand(len(inputs), -1, -1, inputs.shape[3])
        return F.relu(self.norm(F.max_pool2d(self.convolution(torch.cat([inputs, heights], 1)), 2)))


class DeepCR(nn.Module):
    """The U-Net of deepCR that finds cosmic rays, for images (n, height, width); it classifies each pixel."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fine, self.coarse = twice(1, 32), twice(32, 64)
        self.up, self.both = nn.ConvTranspose2d(64, 32, 2, stride=2), twice(64, 32)
        stored = weights("learned_models", "mask", "ACS-WFC.pth")
        fill(self, [value for name, value in stored.items() if ".outc." not in name])
        self.head = nn.Linear(32, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        fine = self.fine(images[:, None])
        hidden = self.both(torch.cat([fine, self.up(self.coarse(F.max_pool2d(fine, 2)))], 1))
        return self.head(hidden.permute(0, 2, 3, 1))  # type: ignore[no-any-return]


def twice(before: int, after: int) -> nn.Sequential:
    """Two convolutions; the statistics of batches are kept as torch's are, not with momentum 0.005."""
    layers: list[nn.Module] = []
    for width in (before, after):
        layers += [nn.Conv2d(width, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class G2p(nn.Module):
    """The encoder of g2p_en, which pronounces English words, for letters (n, length); it classifies each."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed, self.gru = nn.Embedding(29, 256), nn.GRU(256, 256, batch_first=True)
        stored = np.load(folder("g2p_en") / "checkpoint20.npz")
        fill(self, [torch.from_numpy(stored[f"enc_{name}"]) for name in ("emb", "w_ih", "w_hh", "b_ih", "b_hh")])
        self.head = nn.Linear(256, classes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(self.embed(ids))[0])  # type: ignore[no-any-return]


class WordLlama(nn.Module):
    """The embeddings of WordLlama, for tokens (n, length): the mean over those of a text."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        from safetensors.torch import load_file

        self.embed = nn.Embedding(32_000, 256)
        fill(self, load_file(folder("wordllama") / "weights" / "l2_supercat_256.safetensors").values())
        self.head = nn.Linear(256, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = (tokens != 0)[..., None]
        return self.head((self.embed(tokens) * mask).sum(1) / mask.sum(1))  # type: ignore[no-any-return]


ALL: dict[str, Callable[[], nn.Module]] = {  # for scripts/bench_trained --also situations.packaged
    net.__name__.lower(): partial(net, 8) for net in (BatDetect, DeepCR, G2p, PPOcr, RxnMapper, WordLlama)
}
