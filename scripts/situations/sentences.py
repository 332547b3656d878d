"""Cells on sentences: the encoder MiniLM, trained already, with a new head; tuned whole, head alone or by LoRA."""

from __future__ import annotations

import ast
import re
import sysconfig
import zlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from situations.adapters import LoRA
from situations.cell import Training, shuffled
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from trained_packages import minilm_encoder, minilm_folder

__all__ = ["cut", "docstring_pairs", "mean_state", "minilm", "sst2", "tokenized"]

LENGTH, WIDTH = 32, 384  # most tokens of a sentence, and width of the encoder
MODULES, PER_MODULE = 77, 60
SKIPPED = {"site-packages", "test", "idlelib", "lib2to3", "encodings"}
Texts = tuple[list[str], list[int]]
"""Sentences and their classes."""


def sst2(data: Path, held: int = 256) -> tuple[Texts, Texts]:
    """Sentences of film reviews and whether they praise: all for training, ``held`` for validation."""
    found: list[Texts] = []
    for part, most in (("train", None), ("dev", held)):
        with open(data / "sst2" / f"{part}.tsv", encoding="utf-8") as file:
            rows = [line.rstrip("\n").split("\t") for line in file]
        rows = [row for row in rows if len(row) == 2 and row[1] in ("0", "1")][:most]
        found.append(([row[0] for row in rows], [int(row[1]) for row in rows]))
    return found[0], found[1]


def documented(path: Path) -> list[list[str]]:
    """Sentences of 5 to 40 words of each docstring; none where the file is no Python or no UTF-8."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return []
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))]
    texts = [re.split(r"(?<=[.:])\s+|\n\s*\n", ast.get_docstring(node) or "") for node in nodes]
    return [[" ".join(part.split()) for part in parts if 5 <= len(part.split()) <= 40] for parts in texts]


def docstring_pairs() -> list[tuple[str, str]]:
    """The first two sentences of each docstring of the standard library that has two."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted([*root.glob("*.py"), *root.glob("[a-z]*/*.py")])
    found = [each for path in paths if path.parent.name not in SKIPPED for each in documented(path)]
    return sorted({(sentences[0], sentences[1]) for sentences in found if len(sentences) > 1})


def stdlib77(data: Path) -> tuple[Texts, Texts]:
    """Sentences of docstrings, and of which of 77 modules of the standard library each is."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, set[str]] = {}
    for path in [*root.glob("*.py"), *root.glob("[a-z]*/*.py")]:
        name = path.relative_to(root).parts[0].removesuffix(".py")
        if name not in SKIPPED:
            found.setdefault(name, set()).update(chain.from_iterable(documented(path)))
    ours: Texts = ([], [])
    held: Texts = ([], [])
    for number, name in enumerate(sorted(found, key=lambda name: (-len(found[name]), name))[:MODULES]):
        chosen = sorted(found[name], key=lambda text: (zlib.crc32(text.encode()), text))[:PER_MODULE]
        count = max(1, len(chosen) // 10)
        for (texts, classes), part in ((held, chosen[:count]), (ours, chosen[count:])):
            texts.extend(part)
            classes.extend([number] * len(part))
    return ours, held


def cut(rows: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch without the columns that are padding in all of its sentences."""
    tokens = torch.stack([row[0] for row in rows])
    return tokens[:, : int((tokens != 0).sum(1).max())], torch.stack([row[1] for row in rows])


def tokenized(texts: Sequence[str]) -> torch.Tensor:
    """Tokens of MiniLM (n, length), 0 where a sentence is over."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{minilm_folder().name}/tokenizer.json")
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    return torch.tensor([each.ids for each in tokenizer.encode_batch(list(texts))])


TEXTS = {"sst2": (sst2, 2), "stdlib77": (stdlib77, MODULES)}


def minilm(data: Path, seed: int, *, texts: str, mode: str = "whole") -> Training:
    """MiniLM on those texts, AdamW, batch 16; ``mode`` is "whole", "head" or "lora"."""
    read, classes = TEXTS[texts]
    ours, held = (TensorDataset(tokenized(part), torch.tensor(targets)) for part, targets in read(data))
    torch.manual_seed(seed)
    model = Classifier(classes, mode).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Training(
        model=model,
        optimizer=torch.optim.AdamW(parameters, 5e-5, weight_decay=0.01),
        loader=shuffled(ours, 16, seed, cut),
        validation=DataLoader(held, 32, collate_fn=cut),
    )


def mean_state(encoder: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Mean of the encoder's last states over the tokens of each sentence (n, width)."""
    mask = tokens != 0
    states = encoder(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)  # type: ignore[no-any-return]


class Classifier(nn.Module):
    """Mean of the encoder's last states over the tokens of a sentence, and a linear head."""

    def __init__(self, classes: int, mode: str) -> None:
        super().__init__()
        self.encoder = minilm_encoder()
        self.head = nn.Linear(WIDTH, classes)
        if mode != "whole":
            self.encoder.requires_grad_(False)
        if mode == "lora":
            for layer in self.encoder.encoder.layer:
                attention = layer.attention.self
                attention.query, attention.value = LoRA(attention.query), LoRA(attention.value)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(mean_state(self.encoder, tokens))  # type: ignore[no-any-return]
