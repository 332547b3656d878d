"""Networks whose weights are trained, each with a new head and a task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from situations import drawn, images, language, nets, packaged, sentences, shipped, sounds
from situations.cell import Training, shuffled
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from trained_packages import weights

__all__ = ["MOST", "TRUNKS"]

MOST = 6_000  # samples for training


class Voice(nn.Module):
    """The speaker encoder of Resemblyzer, of which the embeddings have norm 1, with a new head of 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.linear = nn.LSTM(40, 256, 3, batch_first=True), nn.Linear(256, 256)
        stored = weights("resemblyzer", "pretrained.pt")["model_state"]
        self.load_state_dict({name: value for name, value in stored.items() if not name.startswith("similarity")})
        self.head = nn.Linear(256, 10)

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        embedded = F.relu(self.linear(self.lstm(mels)[1][0][-1]))
        return self.head(F.normalize(embedded, dim=1))  # type: ignore[no-any-return]


class Unit(sentences.Classifier):
    """MiniLM as its authors use it: the embedding of a sentence has norm 1."""

    def __init__(self) -> None:
        super().__init__(sentences.MODULES, "whole")
        self.head = nn.Sequential(Norm1(), self.head)  # type: ignore[assignment]


class Norm1(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.normalize(inputs, dim=1)


def rows(data: Path, seed: int) -> Training:
    """The rows of grey images as the frames of a sound, which they are not: what is trained is far from what was."""
    sets = [images.tensors(data, part, most) for part, most in (("train", MOST), ("test", 1_000))]
    frames = [F.pad(each.tensors[0].float().mean(1) / 255, (4, 4)) for each in sets]
    ours, held = (TensorDataset(mels, each.tensors[1]) for mels, each in zip(frames, sets, strict=True))
    return untrained(Voice(), ours, held, seed)


def characters(data: Path, seed: int) -> Training:
    """The first characters of film reviews, for the character model of textgenrnn: whether they praise."""
    folder = data / "textgenrnn"
    names = language.vocabulary(folder)

    def coded(texts: list[str], classes: list[int]) -> TensorDataset:
        cut = [text.ljust(language.CHARACTERS)[: language.CHARACTERS] for text in texts]
        ids = [[names.get(character, 0) for character in text] for text in cut]
        return TensorDataset(torch.tensor(ids), torch.tensor(classes))

    model = language.CharacterModel(folder / "textgenrnn_weights.hdf5")
    model.out = nn.Linear(model.out.in_features, 2)
    ours, held = sentences.sst2(data)
    return untrained(model, coded(*ours), coded(*held), seed)


def unit77(data: Path, seed: int) -> Training:
    run = sentences.minilm(data, seed, texts="stdlib77")
    return Training(model=Unit(), optimizer=run.optimizer, loader=run.loader, validation=run.validation)


def untrained(model: nn.Module, ours: TensorDataset, held: TensorDataset, seed: int) -> Training:
    update = torch.optim.SGD(model.parameters(), 0.01)
    return Training(model=model, optimizer=update, loader=shuffled(ours, 32, seed), validation=DataLoader(held, 64))


def task(
    data: Path, seed: int, *, net: Callable[[int], nn.Module], samples: Callable[[Path], sounds.Task]
) -> Training:
    inputs, classes = samples(data)
    ours, held = (TensorDataset(inputs[at], classes[at]) for at in (slice(sounds.HELD, None), slice(sounds.HELD)))
    return untrained(net(int(classes.max()) + 1), ours, held, seed)


TRUNKS: dict[str, tuple[Callable[[Path, int], Training], str]] = {  # a training, and the name of its head
    "effnet": (partial(images.efficientnet, optimizer="SGD"), "_fc"),
    "sst2": (partial(sentences.minilm, texts="sst2"), "head"),
    "stdlib77": (partial(sentences.minilm, texts="stdlib77"), "head"),
    "unit77": (unit77, "head.1"),
    "digits": (images.digits, "fc_layers.2"),
    "onet": (images.onet, "head"),
    "characters": (characters, "out"),
    "voice": (rows, "head"),
    "effnet0": (partial(images.efficientnet, optimizer="SGD", number=0), "_fc"),
    "crepe": (partial(task, net=nets.Crepe, samples=sounds.timbres), "head"),
    "pesto": (partial(task, net=nets.Pesto, samples=sounds.pitches), "head.1"),
    "fcpe": (partial(task, net=nets.Fcpe, samples=sounds.mel_contours), "head"),
    "silero": (partial(task, net=nets.Silero, samples=partial(sounds.timbres, length=4160)), "head"),
    "beatnet": (partial(task, net=nets.BeatNet, samples=sounds.metres), "head"),
    "attacut": (partial(task, net=nets.Attacut, samples=sounds.code), "head"),
    "ppocr": (partial(task, net=packaged.PPOcr, samples=drawn.faces), "head"),
    "rxnmapper": (partial(task, net=packaged.RxnMapper, samples=drawn.formulas), "head"),
    "batdetect": (partial(task, net=packaged.BatDetect, samples=drawn.calls), "head"),
    "deepcr": (partial(task, net=packaged.DeepCR, samples=drawn.skies), "head"),
    "g2p": (partial(task, net=packaged.G2p, samples=drawn.letters), "head"),
    "wordllama": (partial(task, net=packaged.WordLlama, samples=drawn.reviews), "head"),
    "mobilenet": (partial(shipped.photos, net=shipped.mobilenet, collate=images.enlarged), "classifier.1"),
    "nsfw": (partial(shipped.photos, net=shipped.OpenNsfw, collate=shipped.caffe), "head"),
    "rxnfp": (partial(task, net=shipped.RxnFp, samples=partial(drawn.formulas, vocabulary=shipped.rxnfp)), "head"),
    "magika": (partial(task, net=shipped.Magika, samples=drawn.files), "head"),
    "spliceai": (partial(task, net=shipped.SpliceAI, samples=drawn.genes), "head"),
    "dnsmos": (partial(task, net=shipped.Dnsmos, samples=sounds.powers), "head"),
}
