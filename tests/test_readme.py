"""What the README shows can be run, and is what was measured."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import matplotlib.pyplot as plt
import pytest
import torch
from worlds import loader, mlp, points

from lrfinder import LRFinder
from lrfinder.cli import main

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "scripts" / "results"
PAGES = [ROOT / "README.md", ROOT / "scripts" / "README.md", ROOT / "examples" / "README.md"]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
README = re.sub(r"<!--(?! ci:).*?-->", "", TEXT, flags=re.DOTALL)  # as it is rendered, and the marks of CI
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.partition("#")[0].strip()
    for language, block in BLOCKS
    for line in re.findall(r"(?:^|&& )(lrfind .*)$", block, flags=re.MULTILINE)
    if not language
]


def section(title: str) -> str:
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_readme_has_at_most_200_lines() -> None:  # forty of them for the trainers
    assert len(TEXT.splitlines()) <= 200


def test_python_lines_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = mlp()
    names: dict[str, Any] = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        "criterion": torch.nn.CrossEntropyLoss(),
        "train_loader": loader(points(256)),
        "val_loader": loader(points(64)),
    }
    trainings = section("Any training")
    lines = [block for language, block in BLOCKS if language == "python" and block not in trainings]
    assert len(lines) >= 3
    for block in lines:
        exec(block, names)
    plt.close("all")
    assert {path.name for path in tmp_path.iterdir()} == {"lr.json", "lr.png"}


def small_training() -> dict[str, Any]:
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    criterion = torch.nn.CrossEntropyLoss()
    return {"model": model, "optimizer": optimizer, "criterion": criterion, "train_loader": loader(points(256))}


def gan_names(tmp_path: Path) -> dict[str, Any]:
    names = small_training()
    model, criterion = names["model"], names["criterion"]
    first, second = (torch.optim.Adam(part.parameters(), lr=lr) for part, lr in ((model[0], 1e-4), (model[-1], 4e-4)))

    def step(batch: Any) -> torch.Tensor:
        model.zero_grad()
        loss = criterion(model(batch[0]), batch[1])
        loss.backward()
        first.step()
        second.step()
        return loss

    written: list[Any] = []
    writer = SimpleNamespace(add_scalar=lambda *row: written.append(row))
    return names | {"gan": model, "g_optimizer": first, "d_optimizer": second, "step": step, "writer": writer}


def transformers_names(tmp_path: Path) -> dict[str, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

    torch.manual_seed(0)
    samples = [{"input_ids": ids, "labels": ids} for ids in torch.randint(31, (64, 8))]
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], max_steps=3, save_strategy="no")
    return {"trainer": Trainer(LlamaForCausalLM(LlamaConfig(vocab_size=31, **sizes)), arguments, train_dataset=samples)}


def lightning_names(tmp_path: Path) -> dict[str, Any]:
    import lightning
    from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel

    class Module(BoringModel):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    return {"trainer": lightning.Trainer(max_epochs=1, **quiet), "module": Module(), "data": BoringDataModule()}


def ignite_names(tmp_path: Path) -> dict[str, Any]:
    from ignite.engine import create_supervised_trainer

    names = small_training()
    return names | {"engine": create_supervised_trainer(names["model"], names["optimizer"], names["criterion"])}


def accelerate_names(tmp_path: Path) -> dict[str, Any]:
    from accelerate import Accelerator

    return small_training() | {"accelerator": Accelerator(cpu=True), "updates": 100}


TRAINERS = {
    "step_fn": gan_names,
    "integrations.transformers": transformers_names,
    "integrations.lightning": lightning_names,
    "integrations.ignite": ignite_names,
    "accelerator": accelerate_names,
}


# What the trainers themselves say of their loaders and of this torch.
@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning")
@pytest.mark.parametrize("kind", TRAINERS)
def test_lines_for_each_kind_of_training_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [block] = [block for language, block in BLOCKS if kind in block and block in section("Any training")]
    names = TRAINERS[kind](tmp_path)
    try:
        exec(block, {"LRFinder": LRFinder, **names})
    finally:
        reset_accelerate()
    assert not [path for path in tmp_path.iterdir() if path.name != "trainer"]


def reset_accelerate() -> None:
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(True)
    GradientState._reset_state()


def test_printed_result_is_the_start_of_the_recorded_output() -> None:
    [shown] = [block for _, block in BLOCKS if block.startswith("Use ")]
    recorded = (RESULTS / "resnet18-digits.txt").read_text(encoding="utf-8").strip()
    assert "\n\nWhy\n- " in shown and shown.endswith(".\n...\n")  # whole sentences
    assert recorded.startswith(shown.removesuffix("...\n"))


def test_there_are_lrfind_lines() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_lrfind_line_has_valid_arguments(command: str) -> None:
    name, *arguments = shlex.split(command)[1:]
    subcommand = main.commands[name]
    context = click.Context(subcommand, info_name=name, resilient_parsing=True)
    values, left, _ = subcommand.make_parser(context).parse_args(list(arguments))
    assert not left and values


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_linked_files_exist(page: Path) -> None:
    text = README if page == PAGES[0] else page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


def test_links_to_sections_exist() -> None:
    titles = re.findall(r"^## (.*)$", README, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


def test_quoted_advice_numbers_are_the_measured_ones() -> None:
    headline = json.loads((RESULTS / "advice.json").read_text(encoding="utf-8"))["headline"]
    sweep, other, default = headline["sweep"], headline["best other finder"], headline["fitted default"]
    shares = [each[name] for each in (sweep, other, default) for name in ("mean", "median")]
    rules = ("lrfinder", "fastai slide", "default of the optimizer, fitted", "fastai valley")
    beside = [situation_row(rule)[1].removesuffix(" %") for rule in rules]
    expected = ["0", "100", *(f"{100 * share:.1f}" for share in shares), f"{100 * headline['interval coverage']:.0f}"]
    expected += beside[2:]
    refined, text = headline["refine 1.0"], section("How good is the number")
    assert re.findall(r"([\d.]+) %", text) == expected
    told = f"the means were {beside[0]}, {beside[1]} and {beside[2]} % (fastai's `valley`: {beside[3]} %)"
    assert told in " ".join(text.split())
    percents = [f"{100 * share:.1f}" for share in (sweep["median"], refined["median"], sweep["mean"], refined["mean"])]
    others = (headline[f"refine {budget}"] for budget in (0.25, 3.0))
    percents += [f"{100 * each[name]:.1f}" for each in others for name in ("median", "mean")]
    percents += [situation_row("fine-tuned (held-out)", 1)[column].removesuffix(" %") for column in (2, 3, 4)]
    found = re.findall(r"\b\d+\.\d\b(?= (?:%|to|and))", section("Refine").partition("budget of 1.0")[2])
    assert found == percents
    assert other["name"] == "fastai slide" and "fastai's `slide`" in text


def test_quoted_comparison_with_the_recipes_is_the_measured_one() -> None:
    pairs = json.loads((RESULTS / "recipes.json").read_text(encoding="utf-8"))["pairs"]
    gains = [100 * (pair["recipe"]["accuracy"] - pair["advice"]["accuracy"]) for pair in pairs]
    higher, lower = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    mean = sum(gains) / len(gains)
    told = f"in {higher} of {len(gains)} trainings of six models and less in {lower}, by {mean:.1f} points on average"
    assert told in limits()
    assert len({pair["model"] for pair in pairs}) == 6


@pytest.mark.parametrize(
    ("words", "situation"),
    [
        ("range tests with small batches", "small batch"),
        ("of clipped recurrent nets", "recurrent, clipped"),
        ("of adapters", "adapters"),
        ("of fine-tuned nets", "fine-tuned"),
        ("of nets tuned in other ways", "tuned in other ways"),
        ("of partly tuned nets", "partly tuned"),
        ("of heads", "head"),
        ("in training mode", "head, training mode"),
        ("of nets from scratch", "from scratch"),
    ],
)
def test_quoted_shares_of_near_advice_are_the_measured_ones(words: str, situation: str) -> None:
    assert f"{situation_row(f'{situation} (held-out)')[4]} {words}" in limits()


def test_quoted_regrets_of_torchvisions_models_are_the_measured_ones() -> None:
    row = situation_row("from scratch, recipe (fit)")
    assert f"its mean regret there is {row[6]}, that of the advice {row[2]}" in limits()


def situation_row(name: str, table: int = 0) -> list[str]:
    """Cells of a row of the tables of situations.md: 0 for the advice, 1 after refine."""
    lines = (RESULTS / "situations.md").read_text(encoding="utf-8").splitlines()
    row = [line for line in lines if line.startswith(f"| {name} ")][table]
    return [cell.strip() for cell in row.strip("|").split("|")]


def limits() -> str:
    """The section on what the advice cannot know, in one line."""
    return " ".join(section("What it cannot know").split())


def test_quoted_cost_ratios_are_the_measured_ones() -> None:
    path = RESULTS / "cost.json"
    if not path.exists():
        pytest.skip("scripts/bench_cost has not been run")
    headline = json.loads(path.read_text(encoding="utf-8"))["headline"]
    measured = {
        f"{value:.2f}"
        for case in headline.values()
        if isinstance(case, dict)
        for name, value in case.items()
        if name in ("lrfinder", "its ratio")
    }
    quoted = re.findall(r"\b\d\.\d\d\b", section("What does it cost"))
    assert quoted and set(quoted) <= measured


def test_ci_runs_the_readme_block_with_checks_and_tests() -> None:
    [block] = re.findall(r"<!-- ci: test -->\n```\n(.*?)```", README, flags=re.DOTALL)
    assert "scripts/check" in block and "scripts/test" in block
    program = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "test_command=$(readme_command test)" in program and 'eval "$test_command"' in program
    assert "\nscripts/check" not in program
