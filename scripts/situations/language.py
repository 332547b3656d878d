"""Cells that predict the next character or word: a GPT and two recurrent nets, on Python's own texts."""

from __future__ import annotations

import json
import re
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from situations.cell import Training, shuffled
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler

__all__ = ["VOCABULARY", "WORDS", "Windows", "char_gpt", "manual", "textgenrnn", "word_lstm"]

CONTEXT, WIDTH, LAYERS, HEADS, GPT_STEPS = 64, 128, 4, 4, 2_000  # of the GPT
VOCABULARY, WORDS = 2_000, 35  # of the word model: commonest words, and words of a window
CHARACTERS = 40  # that textgenrnn sees


def sources(most: int) -> str:
    """So many characters of the standard library's modules from a to e."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-e]*.py"))
    return "".join(path.read_text(encoding="utf-8", errors="ignore") for path in paths)[:most]


def topics() -> torch.Tensor:
    """Words of Python's manual by rank, 0 for rare ones."""
    from pydoc_data import topics as manual

    texts: dict[str, str] = manual.topics
    words = [word for name in sorted(texts) for word in re.findall(r"[a-z]+|[^\sa-z]", texts[name].lower())]
    ranks = {word: rank for rank, (word, _) in enumerate(Counter(words).most_common(VOCABULARY - 1), 1)}
    return torch.tensor([ranks.get(word, 0) for word in words])


def manual() -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`topics`, and every tenth block of it for validation."""
    blocks = enumerate(topics().split(2_000))  # type: ignore[no-untyped-call]
    parts: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for number, block in blocks:
        parts[number % 10 == 9].append(block)
    return torch.cat(parts[0]), torch.cat(parts[1])


def char_gpt(data: Path, seed: int) -> Training:
    """nanoGPT as its README has it for a CPU: 4 layers, 4 heads, 128 wide, 64 characters, batch 12."""
    text = sources(1_000_000)
    ids = torch.tensor([min(ord(character), 127) for character in text])
    ours, held = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :]
    torch.manual_seed(seed)
    model = GPT()
    groups = [
        {"params": [each for each in model.parameters() if each.dim() > 1], "weight_decay": 0.1},
        {"params": [each for each in model.parameters() if each.dim() < 2], "weight_decay": 0.0},
    ]
    windows = Windows(ours, CONTEXT, step=1)
    sampler = RandomSampler(windows, True, 12 * GPT_STEPS, torch.Generator().manual_seed(seed))
    return Training(
        model=model,
        optimizer=torch.optim.AdamW(groups, 1e-3, betas=(0.9, 0.99)),
        loader=DataLoader(windows, 12, sampler=sampler),
        validation=DataLoader(Windows(held, CONTEXT, step=300), 32, drop_last=True),
    )


def word_lstm(data: Path, seed: int) -> Training:
    """The language model of pytorch/examples, 128 wide in place of 200, whose state is not carried over: batch 20."""
    ours, held = manual()
    torch.manual_seed(seed)
    model = WordModel()
    return Training(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 20.0),
        loader=shuffled(Windows(ours, WORDS, step=7, last=True), 20, seed),
        validation=DataLoader(Windows(held, WORDS, step=WORDS, last=True), 50, drop_last=True),
    )


def vocabulary(folder: Path) -> dict[str, int]:
    """Number of each character for textgenrnn, from 1."""
    return dict(json.loads((folder / "textgenrnn_vocab.json").read_text(encoding="utf-8")))


def textgenrnn(data: Path, seed: int) -> Training:
    """The character model of textgenrnn, trained on texts of the web, tuned to Python: AdamW, batch 16."""
    folder = data / "textgenrnn"
    names = vocabulary(folder)
    ids = torch.tensor([names.get(character, 0) for character in sources(500_000)])
    torch.manual_seed(seed)
    model = CharacterModel(folder / "textgenrnn_weights.hdf5")
    return Training(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), 4e-3),
        loader=shuffled(Windows(ids[:450_000], CHARACTERS, step=7, single=True), 16, seed),
        validation=DataLoader(Windows(ids[450_000:], CHARACTERS, step=31, single=True), 64, drop_last=True),
    )


class Windows(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Windows of a text, and for each of their places the next symbol; ``single``: only the one after the window.

    ``last`` keeps the window that begins less than a step before the end.
    """

    def __init__(self, ids: torch.Tensor, length: int, *, step: int, single: bool = False, last: bool = False) -> None:
        self.ids, self.length, self.step, self.single = ids, length, step, single
        room = len(ids) - length - 1
        self.count = -(-room // step) if last else room // step

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        start = index * self.step
        end = start + self.length
        return self.ids[start:end], self.ids[end] if self.single else self.ids[start + 1 : end + 1]


class Block(nn.Module):
    """Attention and a dense layer, each after its normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.project = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        count, length, _ = inputs.shape
        heads = self.qkv(self.norm1(inputs)).view(count, length, 3, HEADS, WIDTH // HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden: torch.Tensor = inputs + self.project(attended.transpose(1, 2).reshape(count, length, WIDTH))
        return hidden + self.down(F.gelu(self.up(self.norm2(hidden))))  # type: ignore[no-any-return]


class GPT(nn.Module):
    """The blocks on ASCII, with the weights of the embedding in the output."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(128, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.norm, self.out = nn.LayerNorm(WIDTH, bias=False), nn.Linear(WIDTH, 128, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
        for name, weight in self.named_parameters():
            if name.endswith(("project.weight", "down.weight")):  # they add to the residual stream
                nn.init.normal_(weight, std=0.02 / (2 * LAYERS) ** 0.5)
        self.out.weight = self.tokens.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        return self.out(self.norm(self.blocks(hidden)))  # type: ignore[no-any-return]


class WordModel(nn.Module):
    """Two LSTM layers with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.embed = nn.Dropout(0.2), nn.Embedding(VOCABULARY, WIDTH)
        self.rnn = nn.LSTM(WIDTH, WIDTH, 2, dropout=0.2, batch_first=True)
        self.out = nn.Linear(WIDTH, VOCABULARY)
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        nn.init.zeros_(self.out.bias)
        nn.init.uniform_(self.out.weight, -0.1, 0.1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.rnn(self.drop(self.embed(ids)))[0]))  # type: ignore[no-any-return]


class CharacterModel(nn.Module):
    """textgenrnn in torch: embedding, two Keras LSTMs of 128, and an average of all three weighted by attention."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        import h5py

        stored: dict[str, torch.Tensor] = {}

        def keep(name: str, entry: Any) -> None:
            if isinstance(entry, h5py.Dataset):
                stored[name] = torch.tensor(entry[()])

        with h5py.File(path, "r") as file:
            file.visititems(keep)

        def find(*parts: str) -> torch.Tensor:
            return next(value for name, value in stored.items() if all(part in name for part in parts))

        self.embed = nn.Embedding(len(find("embedding")), 100)
        self.rnn1, self.rnn2 = nn.LSTM(100, 128, batch_first=True), nn.LSTM(128, 128, batch_first=True)
        self.attention, self.out = nn.Linear(356, 1, bias=False), nn.Linear(356, len(find("embedding")))
        state = {"embed.weight": find("embedding"), "attention.weight": find("attention").T}
        state |= {"out.weight": find("output", "kernel").T, "out.bias": find("output", "bias")}
        for ours, theirs in (("rnn1", "rnn_1"), ("rnn2", "rnn_2")):
            # A CuDNNLSTM: its kernels hold each gate in the order of cuDNN, and it has two biases.
            kernel, recurrent, bias = find(theirs, "/kernel"), find(theirs, "recurrent"), find(theirs, "bias")
            gates = [gate.reshape(gate.shape[1], gate.shape[0]) for gate in kernel.chunk(4, 1)]
            state[f"{ours}.weight_ih_l0"] = torch.cat(gates)
            state[f"{ours}.weight_hh_l0"] = torch.cat(recurrent.chunk(4, 1))
            state[f"{ours}.bias_ih_l0"], state[f"{ours}.bias_hh_l0"] = bias.chunk(2)
        self.load_state_dict(state)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        embedded = self.embed(ids)
        first, _ = self.rnn1(embedded)
        second, _ = self.rnn2(first)
        states = torch.cat([embedded, first, second], -1)
        return self.out((states * self.attention(states).softmax(1)).sum(1))  # type: ignore[no-any-return]
