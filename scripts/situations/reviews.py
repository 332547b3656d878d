"""Cells on the texts of film reviews (``sst2`` in the folder of data) whose networks start from random weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from situations.cell import Training
from situations.scratch import Rows, training
from situations.sentences import sst2
from torch import nn

__all__ = ["VOCABULARY", "Recurrent", "gru", "gru_lm", "lstm", "transformer", "windows", "words"]

VOCABULARY, WORDS, CHARACTERS = 5_000, 24, 64  # commonest words; words of a sentence; characters of a window


def words(data: Path) -> tuple[Rows, Rows]:
    """Words by rank, 1 for rare ones, after as many 0 as fill a sentence, and whether it praises."""
    sets = sst2(data, held=800)
    counts = Counter(word for text in sets[0][0] for word in text.split())
    ranks = {word: rank for rank, (word, _) in enumerate(counts.most_common(VOCABULARY - 2), 2)}

    def coded(texts: list[str], classes: list[int]) -> Rows:
        ids = [[ranks.get(word, 1) for word in text.split()[:WORDS]] for text in texts]
        return torch.tensor([[0] * (WORDS - len(each)) + each for each in ids]), torch.tensor(classes)

    return coded(*sets[0]), coded(*sets[1])


def windows(data: Path) -> tuple[Rows, Rows]:
    """Windows of all sentences one after the other, in ASCII, and the next character of each place."""

    def cut(texts: list[str]) -> Rows:
        ids = torch.tensor([min(ord(character), 127) for character in "\n".join(texts)])
        rows = ids.unfold(0, CHARACTERS + 1, CHARACTERS)
        return rows[:, :-1], rows[:, 1:]

    ours, held = sst2(data, held=400)
    return cut(ours[0]), cut(held[0])


def gru(data: Path, seed: int) -> Training:
    """A GRU that classifies sentences: Adam, batch 2."""
    torch.manual_seed(seed)
    model = Recurrent(nn.GRU(64, 64, batch_first=True), VOCABULARY, 2)
    return training(model, torch.optim.Adam(model.parameters(), 1e-3), *words(data), 2, seed)


def transformer(data: Path, seed: int) -> Training:
    """A transformer of two layers that classifies sentences: AdamW, batch 8."""
    torch.manual_seed(seed)
    model = Encoder()
    return training(model, torch.optim.AdamW(model.parameters(), 1e-3), *words(data), 8, seed)


def lstm(data: Path, seed: int) -> Training:
    """An LSTM of two layers with dropout that classifies sentences: Adam, batch 32."""
    torch.manual_seed(seed)
    model = Recurrent(nn.LSTM(128, 128, 2, dropout=0.2, batch_first=True), VOCABULARY, 2)
    return training(model, torch.optim.Adam(model.parameters(), 1e-3), *words(data), 32, seed)


def gru_lm(data: Path, seed: int) -> Training:
    """A GRU of two layers that predicts the next character: SGD with momentum, batch 32."""
    torch.manual_seed(seed)
    model = Recurrent(nn.GRU(64, 128, 2, batch_first=True), 128, 128, every=True)
    optimizer = torch.optim.SGD(model.parameters(), 1.0, momentum=0.9)
    return training(model, optimizer, *windows(data), 32, seed)


class Recurrent(nn.Module):
    """An embedding, a recurrent net and a linear layer on its last state; with ``every``, on each state."""

    def __init__(self, rnn: nn.GRU | nn.LSTM, symbols: int, classes: int, *, every: bool = False) -> None:
        super().__init__()
        self.embed, self.rnn, self.every = nn.Embedding(symbols, rnn.input_size), rnn, every
        self.out = nn.Linear(rnn.hidden_size, classes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        states = self.rnn(self.embed(ids))[0]
        return self.out(states if self.every else states[:, -1])  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """A transformer 64 wide with learnt places, and a linear layer on the mean of its states."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 256, activation="gelu", batch_first=True, norm_first=True)
        self.embed, self.places = nn.Embedding(VOCABULARY, 64), nn.Embedding(WORDS, 64)
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(64), enable_nested_tensor=False)
        self.out = nn.Linear(64, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.layers(self.embed(ids) + self.places.weight).mean(1))  # type: ignore[no-any-return]
