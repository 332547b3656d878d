"""Data sets of characters, words and instructions, most from the standard library of Python."""

from __future__ import annotations

import re
import sysconfig
import types
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch

from advice_bench.tasks.data import Data, scaled, split


def _ascii(text: str) -> str:
    return "".join(letter if letter == "\n" or " " <= letter <= "~" else "?" for letter in text)


def _next_characters(text: str) -> Data:
    """6,000 windows of 24 characters; the target is the next character at every place."""
    codes = torch.tensor(np.unique(list(text), return_inverse=True)[1])
    rows = codes.unfold(0, 25, 1)[torch.linspace(0, len(codes) - 26, 6000).long()]
    return split(rows[:, :-1], rows[:, 1:], val=0.1)


def _classes(groups: Iterable[list[Any]], length: int, code: Callable[[str], int]) -> Data:
    """Texts or lists of words in code, cut to a length or filled up with zeros; the target is the group."""
    labelled = [(label, [code(part) for part in row[:length]]) for label, rows in enumerate(groups) for row in rows]
    labels, rows = zip(*labelled)
    return split(np.array([row + [0] * (length - len(row)) for row in rows]), np.array(labels))


def _spread(found: list[str], count: int) -> list[str]:
    """At most so many of them, evenly spread."""
    return found[:: max(1, len(found) // count)][:count]


def _sources(names: tuple[str, ...]) -> list[str]:
    """Texts of those modules of the standard library; what this Python does not have is left out."""
    paths = [Path(sysconfig.get_path("stdlib")) / f"{name}.py" for name in names]
    return [path.read_text(encoding="utf-8") for path in paths if path.exists()]


def source_code() -> Data:
    """Characters of some modules of the standard library."""
    modules = ("argparse", "datetime", "decimal", "doctest", "inspect", "pickle", "tarfile", "typing", "_pydecimal")
    return _next_characters("".join(map(_ascii, _sources(modules)))[:400_000])


def help_text() -> Data:
    """Characters of Python's own help: English prose."""
    return _next_characters(_ascii("".join(topics[key] for key in sorted(topics)))[:500_000])


def help_topics() -> Data:
    """Lines of the eight longest help topics as bags of hashed words; the topic is to be guessed."""
    longest = sorted(topics.values(), key=len, reverse=True)[:8]
    groups = [[words for words in map(str.split, text.splitlines()) if len(words) >= 4] for text in longest]
    return _classes(groups, 16, lambda word: 1 + zlib.crc32(word.lower().encode()) % 1999)


def names(*categories: str) -> Data:
    """Names of Unicode characters, letter by letter; the category of the character is to be guessed."""
    found: dict[str, list[str]] = {category: [] for category in categories}
    for character in map(chr, range(0x20, 0x20000)):
        name, category = unicodedata.name(character, ""), unicodedata.category(character)
        if name and category in found and not name.startswith(("CJK", "HANGUL")):
            found[category].append(name)
    return _classes([_spread(some, 800) for some in found.values()], 28, lambda letter: 1 + ord(letter) % 64)


def opcodes() -> Data:
    """The next instruction of functions of the standard library, compiled, from those before it."""
    codes: list[int] = []

    def collect(code: types.CodeType) -> None:
        codes.extend(opcode for opcode in code.co_code[::2] if opcode)  # 0 fills the caches between instructions
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                collect(constant)

    modules = ("ast", "configparser", "difflib", "ftplib", "locale", "mailbox", "optparse", "pdb", "ssl", "zipfile")
    for text in _sources(modules):
        collect(compile(text, "a module", "exec"))
    rows = torch.tensor(codes).unfold(0, 21, 10)
    return split(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), val=0.1)


def package_lines() -> Data:
    """Lines of code of seven packages of the standard library, letter by letter; the package is to be guessed."""

    def lines(package: str) -> list[str]:
        paths = sorted((Path(sysconfig.get_path("stdlib")) / package).rglob("*.py"))
        found = [line.strip() for path in paths for line in _ascii(path.read_text(encoding="utf-8")).splitlines()]
        return _spread([line for line in found if len(line) >= 12], 900)

    packages = ("asyncio", "email", "encodings", "importlib", "multiprocessing", "unittest", "xml")
    return _classes(map(lines, packages), 24, lambda letter: ord(letter) - 31)


def word_counts() -> Data:
    """How often (logarithm) a module of the standard library uses a word, for pairs of the two that occur."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    counts = [Counter(re.findall("[a-z_]{3,}", path.read_text(encoding="utf-8").lower())) for path in paths]
    longest = sorted(counts, key=lambda count: -count.total())[:150]
    total = sum(longest, Counter[str]())
    words = sorted(total, key=lambda word: (-total[word], word))[:400]
    pairs = [(i, j) for i, count in enumerate(longest) for j, word in enumerate(words) if count[word]]
    times = np.log([longest[i][words[j]] for i, j in pairs]).astype(np.float32)
    return split(np.array(pairs), scaled(times), val=0.06)
