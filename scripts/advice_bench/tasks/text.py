"""Data sets of characters, words and instructions, most from the standard library of Python."""

from __future__ import annotations

import re
import sysconfig
import types
import unicodedata
import zlib
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch

from advice_bench.tasks.data import Data, split


def _ascii(text: str) -> str:
    return "".join(letter if letter == "\n" or " " <= letter <= "~" else "?" for letter in text)


def _windows(text: str, length: int, count: int) -> Data:
    letters = sorted(set(text))
    table = {letter: i for i, letter in enumerate(letters)}
    codes = torch.tensor([table[letter] for letter in text])
    starts = torch.linspace(0, len(codes) - length - 2, count).long()
    rows = torch.stack([codes[start : start + length + 1] for start in starts.tolist()])
    return split(rows[:, :-1], rows[:, 1:], val=0.1)


def _sources(names: tuple[str, ...]) -> list[str]:
    """Texts of those modules of the standard library; what this Python does not have is left out."""
    paths = [Path(sysconfig.get_path("stdlib")) / f"{name}.py" for name in names]
    return [path.read_text(encoding="utf-8") for path in paths if path.exists()]


def source_code() -> Data:
    """Characters of some modules of the standard library."""
    modules = ("argparse", "datetime", "decimal", "doctest", "inspect", "pickle", "tarfile", "typing", "_pydecimal")
    return _windows("".join(map(_ascii, _sources(modules)))[:400_000], 24, 6000)


def help_text() -> Data:
    """Characters of Python's own help: English prose."""
    return _windows(_ascii("".join(topics[key] for key in sorted(topics)))[:500_000], 24, 6000)


def help_topics() -> Data:
    """Lines of the eight longest help topics as bags of hashed words; the topic is to be guessed."""
    longest = sorted(topics, key=lambda key: -len(topics[key]))[:8]
    rows, labels = [], []
    for label, key in enumerate(longest):
        for line in topics[key].splitlines():
            words = line.split()
            if len(words) >= 4:
                hashed = [1 + zlib.crc32(word.lower().encode()) % 1999 for word in words[:16]]
                rows.append(hashed + [0] * (16 - len(hashed)))
                labels.append(label)
    return split(np.array(rows), np.array(labels))


def names(*categories: str) -> Data:
    """Names of Unicode characters, letter by letter; the category of the character is to be guessed."""
    rows, labels = [], []
    for label, category in enumerate(categories):
        found = []
        for code in range(0x20, 0x20000):
            name = unicodedata.name(chr(code), "")
            if name and unicodedata.category(chr(code)) == category and not name.startswith(("CJK", "HANGUL")):
                found.append(name)
        for name in found[:: max(1, len(found) // 800)][:800]:
            letters = [1 + ord(letter) % 64 for letter in name[:28]]
            rows.append(letters + [0] * (28 - len(letters)))
            labels.append(label)
    return split(np.array(rows), np.array(labels))


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
    library = Path(sysconfig.get_path("stdlib"))
    rows, labels = [], []
    packages = ("asyncio", "email", "encodings", "importlib", "multiprocessing", "unittest", "xml")
    for label, package in enumerate(packages):
        found = []
        for path in sorted((library / package).rglob("*.py")):
            lines = _ascii(path.read_text(encoding="utf-8")).splitlines()
            found += [line.strip() for line in lines if len(line.strip()) >= 12]
        for line in found[:: max(1, len(found) // 900)][:900]:
            letters = [ord(letter) - 31 for letter in line[:24]]
            rows.append(letters + [0] * (24 - len(letters)))
            labels.append(label)
    return split(np.array(rows), np.array(labels))


def word_counts() -> Data:
    """How often (logarithm) a module of the standard library uses a word, for pairs of the two that occur."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    counts = [Counter(re.findall("[a-z_]{3,}", path.read_text(encoding="utf-8").lower())) for path in paths]
    longest = sorted(counts, key=lambda count: -count.total())[:150]
    total = Counter[str]()
    for count in longest:
        total.update(count)
    words = sorted(total, key=lambda word: (-total[word], word))[:400]
    pairs = [(i, j) for i, count in enumerate(longest) for j, word in enumerate(words) if count[word]]
    times = np.log([longest[i][words[j]] for i, j in pairs]).astype(np.float32)
    return split(np.array(pairs), (times - times.mean()) / times.std(), val=0.06)
