"""How light the package is: each case in a fresh interpreter, since nothing can be un-imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lrfinder import LossCurve, RangeTestResult, StopReason, SweepConfig, advise

COMPLETION = ["completion", "zsh"]
HEAVY = ["torch", "torchvision", "numpy", "scipy", "matplotlib", "click", "tqdm", "PIL"]


def loaded_by(code: str, *arguments: str) -> tuple[set[str], str]:
    """The heavy packages in ``sys.modules`` after ``code``, and what it printed."""
    tail = f"\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code + tail, *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    *printed, names = run.stdout.rstrip("\n").split("\n")
    return set(names.split()), "\n".join(printed)


COMMAND = """
import sys
from lrfinder.cli import main
try:
    main(sys.argv[1:], prog_name="lrfind")
except SystemExit as end:
    assert end.code == 0, end.code
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = SweepConfig(start_lr=1e-3, end_lr=10.0, num_iter=60)
    losses = tuple(2 - min(1.5, i / 30) + max(0.0, (i - 50) / 2) ** 2 for i in range(60))
    curve = LossCurve(
        lrs=tuple(config.lr_at(i) for i in range(60)), losses=losses, stop=StopReason.COMPLETED, config=config
    )
    result = RangeTestResult(curve=curve, advice=advise(curve))
    return str(result.save(tmp_path_factory.mktemp("saved") / "lr.json"))


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded, _ = loaded_by("import lrfinder")
    assert loaded == set()


def test_the_values_that_need_no_torch_load_none() -> None:
    loaded, _ = loaded_by("from lrfinder import LossCurve, LRFinderError, StopReason, SweepConfig")
    assert loaded == set()


def test_a_saved_result_is_loaded_and_printed_without_torch_or_matplotlib(saved: str) -> None:
    loaded, printed = loaded_by(
        "import sys, lrfinder; result = lrfinder.RangeTestResult.load(sys.argv[1]); print(result)", saved
    )
    assert not loaded & {"torch", "torchvision", "matplotlib", "scipy", "click", "tqdm", "PIL"}
    assert "Learning-rate range test" in printed


def test_a_recipe_is_planned_and_its_code_written_without_torch() -> None:
    loaded, printed = loaded_by(
        "import lrfinder; print(lrfinder.recipe('onecycle', peak_lr=0.1, total_steps=100).code())"
    )
    assert not loaded & {"torch", "torchvision", "matplotlib", "click", "tqdm"}
    assert "OneCycleLR" in printed


def test_a_saved_result_is_plotted_without_torch(saved: str) -> None:
    loaded, _ = loaded_by("import sys, lrfinder; lrfinder.RangeTestResult.load(sys.argv[1])._repr_png_()", saved)
    assert not loaded & {"torch", "torchvision", "click", "tqdm"}


def test_the_finder_loads_neither_torchvision_nor_matplotlib_nor_click() -> None:
    loaded, _ = loaded_by("from lrfinder import LRFinder")
    assert "torch" in loaded
    assert not loaded & {"torchvision", "matplotlib", "click"}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], *([name, "--help"] for name in ("run", "show", "models", "schedule")), COMPLETION],
    ids=" ".join,
)
def test_help_and_version_of_the_command_load_click_alone(arguments: list[str]) -> None:
    # A module of many dataclasses takes a third as long to import as click.
    loaded, printed = loaded_by(COMMAND + "    assert 'lrfinder.schedules' not in sys.modules\n", *arguments)
    assert loaded <= {"click"}
    assert "lrfind" in printed


def test_showing_a_saved_result_in_the_shell_loads_no_torch(saved: str) -> None:
    loaded, printed = loaded_by(COMMAND, "show", saved)
    assert not loaded & {"torch", "torchvision", "matplotlib", "tqdm"}
    assert "Learning-rate range test" in printed


def test_drawing_a_saved_result_in_the_shell_loads_no_torch(saved: str, tmp_path: Path) -> None:
    loaded, _ = loaded_by(COMMAND, "show", saved, "--plot", str(tmp_path / "x.png"))
    assert "matplotlib" in loaded and not loaded & {"torch", "torchvision"}


def test_scheduling_from_a_saved_result_in_the_shell_loads_no_torch(saved: str) -> None:
    arguments = ["schedule", saved, "--kind", "cosine", "--epochs", "3", "--steps-per-epoch", "10"]
    loaded, printed = loaded_by(COMMAND, *arguments)
    assert not loaded & {"torch", "torchvision", "matplotlib", "tqdm"}
    assert "CosineAnnealingLR" in printed
