"""The examples run unchanged, from any folder and without a warning, and end in trained models."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
# Of each notebook: what its outputs must contain, as regular expressions; a group is an accuracy above 80 %.
NOTEBOOKS = {
    "start.ipynb": (
        r"OneCycle up to [\d.e-]+: test accuracy ([\d.]+)%",
        "NoAdviceError: no learning rate for 'cosine'",
    ),
    "fine_tuning.ipynb": (
        "trained: recognised as trained: True",
        r"fine-tuned, digits 5 to 9: test accuracy ([\d.]+)%",
        "flat everywhere",
        "The loss became nan or infinite",
        "Too few points",
        "A batch has 1 sample, fewer",
        r"Keep [\d.]+: Rprop sets its own step size",
        "The loss never clearly falls",
        "Gradients were clipped",
    ),
}

# One of them writes to a folder of one's own, the others to the usual one.
ARGUMENTS = {
    "gan": ("--epochs", "45"),
    "lightning_module": ("--epochs", "3"),
    "any_training_step": ("--out", "plots/today"),
}
# Of each script: the line with its last accuracy, the percentage it must exceed, and the plots it writes.
SCRIPTS = {
    "plain_pytorch": (r"advised, OneCycle up to [\d.e-]+: ([\d.]+)%", 95.0, {"plain_pytorch.png"}),
    "fine_tune_groups": (
        r"Test accuracy on the digits 5 to 9, from 300 images: ([\d.]+)%",
        90.0,
        {"fine_tune_curve.png", "fine_tune_schedule.png"},
    ),
    "gan": (r"advised, cosine from [\d.e-]+: ([\d.]+)%", 8.0, {"gan.png"}),
    "lightning_module": (r"advised, cosine from [\d.e-]+: ([\d.]+)%", 93.0, {"lightning_module.png"}),
    "any_training_step": (r"Test accuracy after epoch 10: ([\d.]+)%", 85.0, {"any_training_step.png"}),
}


def run(program: Path, *arguments: str, cwd: Path) -> str:
    """Run a program that must succeed without a message on standard error, and return its standard output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(program), *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_trains_well_and_writes_only_its_plots(name: str, tmp_path: Path) -> None:
    accuracy_line, level, plots = SCRIPTS[name]
    printed = run(EXAMPLES / f"{name}.py", *ARGUMENTS.get(name, ()), cwd=tmp_path)
    assert re.search(r"grade +(high|medium)", printed)
    assert "Why\n- The stability edge is at" in printed
    found = re.search(accuracy_line, printed)
    assert found is not None and float(found[1]) > level, printed
    folder = "plots/today" if "--out" in ARGUMENTS.get(name, ()) else "lrfind-out"
    left = {path.relative_to(tmp_path): path for path in tmp_path.rglob("*") if path.is_file()}
    assert {*left} == {Path(folder, plot) for plot in plots}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in left.values())


def test_the_language_model_learns_more_than_with_the_default(tmp_path: Path) -> None:
    printed = run(EXAMPLES / "language_model.py", "--steps", "50", cwd=tmp_path)
    assert re.search(r"grade +(high|medium)", printed)
    losses = [float(loss) for loss in re.findall(r"^  .*: (\d\.\d\d)$", printed, flags=re.MULTILINE)]
    advised, default, untrained = losses
    assert advised < default - 0.5 < untrained - 0.5, printed
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["language_model.png"]


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} - {"digits"} == {*SCRIPTS, "language_model"}
    assert {path.name for path in EXAMPLES.glob("*.ipynb")} == set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_and_has_the_outputs_of_the_committed_one(name: str, tmp_path: Path) -> None:
    copy = tmp_path / name
    for path in (EXAMPLES / name, EXAMPLES / "digits.py"):
        shutil.copy(path, tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "scripts" / "run_notebook"), str(copy)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fresh, committed = code_cells(copy), code_cells(EXAMPLES / name)
    assert [outputs(cell) for cell in fresh] == [outputs(cell) for cell in committed]
    assert not any(output.get("name") == "stderr" for cell in fresh for output in cell["outputs"])
    printed = " ".join("".join("".join(output.get("text", "")) for cell in fresh for output in cell["outputs"]).split())
    for wanted in NOTEBOOKS[name]:
        found = re.search(wanted, printed)
        assert found is not None, (wanted, printed)
        assert all(float(accuracy) > 80 for accuracy in found.groups()), found[0]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_committed_notebook_is_executed_and_small(name: str) -> None:
    cells = code_cells(EXAMPLES / name)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert (EXAMPLES / name).stat().st_size < 400_000


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_committed_notebook_contains_no_trace_of_the_machine(name: str) -> None:
    notebook = EXAMPLES / name
    assert set(json.loads(notebook.read_text())["metadata"]) == {"kernelspec", "language_info"}
    assert all(cell["metadata"] == {} for cell in code_cells(notebook))
    for outside in ("site-packages", "/home/", "/tmp/", "/root", "C:\\\\"):
        assert outside not in notebook.read_text()


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def outputs(cell: dict[str, Any]) -> list[tuple[str, ...]]:
    """Types of the outputs of a cell; their numbers may differ between machines."""
    return [(output["output_type"], *sorted(output.get("data", {}))) for output in cell["outputs"]]


@pytest.mark.parametrize("name", SCRIPTS)
def test_gallery_has_the_command_and_the_plots_of_a_script(name: str) -> None:
    gallery = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert f"\npython examples/{name}.py\n" in gallery
    assert all(f"](images/{plot})" in gallery for plot in SCRIPTS[name][2])
