"""The examples run as they stand, from any folder, without a warning, and end in trained models."""

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
NOTEBOOK = EXAMPLES / "lr_finder.ipynb"

# What each script promises: the last accuracy it prints is above the second number, its plots are in the folder.
SCRIPTS = {
    "plain_pytorch": (r"advised, OneCycle up to [\d.e-]+: ([\d.]+)%", 95.0, {"plain_pytorch.png"}),
    "fine_tune_groups": (
        r"Test accuracy on the digits 5 to 9, from 300 images: ([\d.]+)%",
        90.0,
        {"fine_tune_curve.png", "fine_tune_schedule.png"},
    ),
    "any_training_step": (r"Test accuracy after epoch 10: ([\d.]+)%", 85.0, {"any_training_step.png"}),
}


def run(program: Path, *arguments: str, cwd: Path) -> str:
    """Standard output of a program that must succeed in silence on standard error."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(program), *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_explains_its_learning_rate_trains_well_with_it_and_leaves_only_its_plots(
    name: str, tmp_path: Path
) -> None:
    accuracy_line, level, plots = SCRIPTS[name]
    printed = run(EXAMPLES / f"{name}.py", cwd=tmp_path)
    assert re.search(r"grade +(high|medium)", printed)
    assert "Why\n- The stability edge is at" in printed
    found = re.search(accuracy_line, printed)
    assert found is not None and float(found[1]) > level, printed
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {f"lrfind-out/{plot}" for plot in plots}


def test_plots_go_to_the_folder_that_is_asked_for(tmp_path: Path) -> None:
    run(EXAMPLES / "plain_pytorch.py", "--epochs", "1", "--out", "plots/today", cwd=tmp_path)
    assert (tmp_path / "plots" / "today" / "plain_pytorch.png").read_bytes().startswith(b"\x89PNG")


def test_every_script_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} - {"digits"} == set(SCRIPTS)
    assert list(EXAMPLES.glob("*.ipynb")) == [NOTEBOOK]


def test_the_notebook_runs_from_the_top_without_complaint_and_draws_what_the_committed_one_shows(
    tmp_path: Path,
) -> None:
    copy = tmp_path / NOTEBOOK.name
    for path in (NOTEBOOK, EXAMPLES / "digits.py"):
        shutil.copy(path, tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "scripts" / "run_notebook"), str(copy)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fresh, committed = code_cells(copy), code_cells(NOTEBOOK)
    assert [outputs(cell) for cell in fresh] == [outputs(cell) for cell in committed]
    assert not any(output.get("name") == "stderr" for cell in fresh for output in cell["outputs"])
    printed = "".join("".join(output.get("text", "")) for cell in fresh for output in cell["outputs"])
    found = re.search(r"OneCycle up to [\d.e-]+: test accuracy ([\d.]+)%", printed)
    assert found is not None and float(found[1]) > 95, printed
    assert "NoAdviceError: no learning rate for 'cosine'" in printed


def test_the_committed_notebook_is_executed_small_and_says_nothing_of_the_machine_it_ran_on() -> None:
    assert [cell["execution_count"] for cell in code_cells(NOTEBOOK)] == list(range(1, len(code_cells(NOTEBOOK)) + 1))
    assert NOTEBOOK.stat().st_size < 500_000
    assert set(json.loads(NOTEBOOK.read_text())["metadata"]) == {"kernelspec", "language_info"}
    assert all(cell["metadata"] == {} for cell in code_cells(NOTEBOOK))
    for outside in ("site-packages", "/home/", "/tmp/", "/root", "C:\\\\"):
        assert outside not in NOTEBOOK.read_text()


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def outputs(cell: dict[str, Any]) -> list[tuple[str, ...]]:
    """What kinds of output a cell has: the numbers may differ from machine to machine."""
    return [(output["output_type"], *sorted(output.get("data", {}))) for output in cell["outputs"]]
