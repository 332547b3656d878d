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
PAGES = [ROOT / name for name in ("README.md", "scripts/README.md", "examples/README.md", "scripts/choices.md")]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
FENCED = r"^```(\w*)\n(.*?)^```$"
README = re.sub(r"<!--(?! ci:).*?-->", "", TEXT, flags=re.DOTALL)  # as it is rendered, and the marks of CI
BLOCKS = re.findall(FENCED, README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.partition("#")[0].strip()
    for language, block in BLOCKS
    for line in re.findall(r"(?:^|&& )(lrfind .*)$", block, flags=re.MULTILINE)
    if not language
]


def section(title: str, text: str = README) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


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
    shown = section("Any training") + section("Ignite and Accelerate", PAGES[2].read_text(encoding="utf-8"))
    [block] = [block for _, block in re.findall(FENCED, shown, flags=re.MULTILINE | re.DOTALL) if kind in block]
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


RULES = {"one number per optimizer": "default of the optimizer, fitted"}  # where README says it in other words


def test_quoted_regrets_are_the_measured_ones() -> None:
    measured = json.loads((RESULTS / "advice.json").read_text(encoding="utf-8"))["held-out"]
    told = {name: cells for name, *cells in cells_of(section("How good is the number"))[2:]}
    assert {"lrfinder", "torch-lr-finder", "Ignite", "fastai slide", "fastai valley", "Lightning"} < {*told}
    for name, cells in told.items():
        rule = RULES.get(name, name)
        assert cells == shares(measured[rule]) + situation_row(rule)[1:3]
    others = {rule: row["mean"] for rule, row in measured.items() if not rule.startswith(("lrfinder", "grid"))}
    assert min(others, key=lambda rule: others[rule]) in {RULES.get(name, name) for name in told}


def test_quoted_findings_of_the_benchmark_are_the_measured_ones() -> None:
    text = " ".join(section("How good is the number").split())
    measured = json.loads((RESULTS / "advice.json").read_text(encoding="utf-8"))
    held = f"{100 * measured['headline']['interval coverage']:.0f}"
    assert f"best learning rate in {held} % of the range tests there" in text
    [gain] = advice_row("lrfinder against default of the optimizer, fitted")
    mean, low, high = re.fullmatch(r"-([\d.]+) \(-([\d.]+) to -([\d.]+)\)", gain).groups()  # type: ignore[union-attr]
    assert f"Its mean on the 16 is {mean} points higher (95 % interval {high} to {low})" in text
    assert f"{situation_row('lrfinder')[3].split()[-1]} are [trainings" in text
    [above] = advice_row("the limit")
    assert f"In {above} the best was above the limit." in " ".join(section("What it prints").split())


def test_quoted_regrets_after_refine_are_the_measured_ones() -> None:
    headline = json.loads((RESULTS / "advice.json").read_text(encoding="utf-8"))["headline"]
    rules = ("sweep", "refine 0.25", "refine 1.0", "refine 3.0")
    before, quarter, one, three = (f"{100 * headline[rule]['mean']:.1f}" for rule in rules)
    tuned = situation_row("fine-tuned (held-out)", 1)
    text = " ".join(section("Refine").split())
    told = f"{before} % before, {quarter} % with a budget of 0.25, {one} % with 1.0 and {three} % with 3.0."
    assert f"the mean regret was {told}" in text
    gained_nothing = f"{tuned[2]} before, {tuned[3]} with 0.25 and {tuned[4]} with 1.0."
    others = situation_row("tuned in other ways (held-out)", 1)
    gained = f"On {others[1]} others (layer-wise decay, BitFit, focal loss, ...) it was {others[2]}, {others[3]} and "
    assert f"held-out fine-tunings it gained nothing: {gained_nothing} {gained}{others[4]}." in text
    assert f"On {tuned[1]} held-out fine-tunings" in text


def test_quoted_fine_tuning_is_the_measured_one() -> None:
    rows = [row for row in situation_rows("minilm_pairs") if row[2] == "held-out"]
    advised, missed = " and ".join(row[5] for row in rows), " and ".join(str(percent(row[7])) for row in rows)
    text = " ".join(README.split())
    assert f"Two range tests advise {advised}, which miss {missed} % of the gain that the best" in text
    usual = f"{float(rows[0][9]):g}".replace("e-0", "e-")
    assert f"The {usual} of sentence-transformers' own example misses {percent(rows[0][10])} %" in text


def percent(cell: str) -> int:
    return round(float(cell.removesuffix(" %")))


def test_quoted_comparison_with_the_recipes_is_the_measured_one() -> None:
    pairs = json.loads((RESULTS / "recipes.json").read_text(encoding="utf-8"))["pairs"]
    gains = [100 * (pair["recipe"]["accuracy"] - pair["advice"]["accuracy"]) for pair in pairs]
    higher, lower = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    told = f"better in {higher} of {len(gains)} trainings of six models and worse in {lower}, on average by"
    assert f"{told} {sum(gains) / len(gains):.1f} points of accuracy" in limits()
    assert len({pair["model"] for pair in pairs}) == 6


@pytest.mark.parametrize(
    ("words", "situation"),
    [
        ("range tests of fine-tuned networks", "fine-tuned"),
        ("of new heads", "head"),
        ("of partly tuned networks", "partly tuned"),
        ("of networks from scratch", "from scratch"),
        ("of published examples", "published example"),
    ],
)
def test_quoted_shares_of_near_advice_are_the_measured_ones(words: str, situation: str) -> None:
    assert f"{situation_row(f'{situation} (held-out)')[4]} {words}" in limits()


def test_quoted_regrets_of_torchvisions_models_are_the_measured_ones() -> None:
    row = situation_row("from scratch, recipe (fit)")
    assert f"its mean regret is {row[7]}, that of the advice {row[2]}" in limits()


METHODS = PAGES[1].read_text(encoding="utf-8")


def test_methods_quote_the_measured_gains_of_refine() -> None:
    measured = json.loads((RESULTS / "advice.json").read_text(encoding="utf-8"))["held-out"]
    rows = [cells for cells in cells_of(METHODS) if re.fullmatch(r"[\d.]+", cells[0])]
    assert [cells[0] for cells in rows] == ["0.25", "1.0", "3.0"]
    for budget, *cells in rows:
        mean, median = shares(measured[f"lrfinder refine {budget}"])
        [change] = advice_row(f"lrfinder refine {budget} against lrfinder")
        assert cells == [mean, change, median, ", ".join(shares(measured[f"grid search, {budget}"]))]
    [difference] = advice_row("lrfinder against default of the optimizer, fitted")
    assert f"difference is {difference} points" in " ".join(METHODS.split())


def test_methods_list_every_held_out_cell_that_is_far_off() -> None:
    [table] = re.findall(r"^### Where the advice is far off\n(.*?)^## ", METHODS, flags=re.MULTILINE | re.DOTALL)
    tests = [row for row in cells_of((RESULTS / "situations.md").read_text(encoding="utf-8")) if len(row) == 11]
    held_out = [row for row in tests if row[2] == "held-out"]
    bad = {row[0] for row in held_out if float(row[7].removesuffix(" %")) >= 30}
    told = {cells[0].strip("`"): cells[2:] for cells in cells_of(table) if cells[0].startswith("`")}
    assert {*told} == bad
    for name, cells in told.items():
        assert cells == [", ".join(row[column] for row in held_out if row[0] == name) for column in (6, 7)]


def test_methods_quote_how_often_the_interval_holds_the_best() -> None:
    rows = cells_of((RESULTS / "situations.md").read_text(encoding="utf-8"))
    held_out = [row for row in rows if row[0].endswith(" (held-out)") and " of " in row[-4]]
    best, tests = (sum(int(row[5].split(" of ")[part]) for row in held_out) for part in (0, 1))
    as_good = sum(int(row[6].split(" of ")[0]) for row in held_out)
    text = " ".join(METHODS.split())
    assert f"{best} of the {tests} held-out range tests ({100 * best / tests:.0f} %; made for 80 %)" in text
    assert f"in {as_good} ({100 * as_good / tests:.0f} %) one with a regret of at most 1 %" in text


def shares(row: dict[str, Any]) -> list[str]:
    return [f"{100 * row[column]:.1f} %" for column in ("mean", "median")]


def situation_row(name: str, table: int = 0) -> list[str]:
    """Cells of a row of the tables of situations.md: 0 for the advice, 1 after refine."""
    return situation_rows(name)[table]


def situation_rows(name: str) -> list[list[str]]:
    return rows_of(RESULTS / "situations.md", name)


def advice_row(name: str) -> list[str]:
    """Cells after the name of the row of that name in advice.md."""
    [(_, *cells)] = rows_of(RESULTS / "advice.md", name)
    return cells


def rows_of(page: Path, name: str) -> list[list[str]]:
    return [cells for cells in cells_of(page.read_text(encoding="utf-8")) if cells[0] == name]


def cells_of(text: str) -> list[list[str]]:
    """Cells of the rows of all tables in a page."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def limits() -> str:
    """The section on what the advice cannot know, in one line."""
    return " ".join(section("What it cannot know").split())


def test_quoted_cost_ratios_are_the_measured_ones() -> None:
    path = RESULTS / "cost.json"
    if not path.exists():
        pytest.skip("scripts/bench_cost has not been run")
    headline = json.loads(path.read_text(encoding="utf-8"))["headline"]
    cases = [case for case in headline.values() if "its ratio" in case]
    measured = {name: [case[name] for case in cases] for name in ("lrfinder", "its ratio")}
    quoted = re.findall(r"\b\d\.\d\d\b", section("What you can rely on"))
    assert quoted == [f"{bound(measured[name]):.2f}" for name in ("lrfinder", "its ratio") for bound in (min, max)]


def test_ci_runs_the_readme_block_with_checks_and_tests() -> None:
    [block] = re.findall(r"<!-- ci: test -->\n```\n(.*?)```", README, flags=re.DOTALL)
    assert "scripts/check" in block and "scripts/test" in block
    program = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "test_command=$(readme_command test)" in program and 'eval "$test_command"' in program
    assert "\nscripts/check" not in program
