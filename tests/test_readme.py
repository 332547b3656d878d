"""What the README shows can be run, and is what comes out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import matplotlib.pyplot as plt
import pytest
import torch
from worlds import loader, mlp, points

from lrfinder.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.partition("#")[0].strip()
    for language, block in BLOCKS
    for line in re.findall(r"(?:^|&& )(lrfind .*)$", block, flags=re.MULTILINE)
    if not language
]


def test_the_python_lines_run_in_order_as_they_stand(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = mlp()
    names: dict[str, Any] = {
        "torch": torch,
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        "criterion": torch.nn.CrossEntropyLoss(),
        "train_loader": loader(points(256)),
        "val_loader": loader(points(64)),
    }
    lines = [block for language, block in BLOCKS if language == "python"]
    assert len(lines) >= 4
    for block in lines:
        exec(block, names)
    plt.close("all")
    assert {path.name for path in tmp_path.iterdir()} == {"lr.json", "lr.png"}


def test_what_lrfind_prints_is_what_its_script_wrote() -> None:
    shown = next(block for _, block in BLOCKS if block.startswith("$ lrfind run resnet18\n"))
    written = (ROOT / "scripts" / "results" / "resnet18-digits.txt").read_text(encoding="utf-8")
    assert shown.partition("\n")[2].strip() == written.strip()


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_lrfind_line_has_arguments_that_lrfind_takes(command: str) -> None:
    name, *arguments = shlex.split(command)[1:]
    subcommand = main.commands[name]
    context = click.Context(subcommand, info_name=name, resilient_parsing=True)
    values, left, _ = subcommand.make_parser(context).parse_args(list(arguments))
    assert not left and values


def test_every_file_that_is_linked_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


RESULTS = ROOT / "scripts" / "results"


def test_the_results_of_the_benchmark_of_advice_are_the_ones_shown() -> None:
    shown = README[README.index("## How good the number is") : README.index("## What it costs")]
    rows = [line for line in shown.splitlines() if line.startswith("| ")]
    assert len(rows) >= 15
    written = (RESULTS / "advice.md").read_text(encoding="utf-8").splitlines()
    for row in rows:
        assert row in written, row
