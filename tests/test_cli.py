"""The command line: what each command prints and writes; wrong input is one sentence and an exit status."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from PIL import Image
from torchvision import models

from lrfinder import RangeTestResult, Recipe, __version__, recipe
from lrfinder.cli import main
from lrfinder.cli.completion import registered_models
from lrfinder.tasks import FAMILIES
from lrfinder.cli.launchers import refuse_launcher
from lrfinder.cli.options import parse_pairs
from lrfinder.cli.outputs import Outputs
from lrfinder.cli.terminal import LateError
from lrfinder.schedules import KINDS
from lrfinder.tasks.settings import pick_device

COMMANDS = sorted(main.commands)
# Few iterations of a small model: enough to see that all parts are joined.
TINY = ("run", "squeezenet1_1", "--num-iter", "4", "--batch-size", "8", "--start-lr", "1e-4", "--end-lr", "1e-2")
# The same with a curve that can be read.
READABLE = (
    *("run", "shufflenet_v2_x0_5", "--batch-size", "8", "--num-iter", "30", "--start-lr", "1e-3", "--end-lr", "100"),
    *("--epochs", "2"),
)


def lrfind(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], prog_name="lrfind", catch_exceptions=False)


def refused(*arguments: object) -> str:
    """The one line that a command prints when it exits with status 2 and nothing on stdout."""
    result = lrfind(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    *_, line = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """A whole run, and the folder it wrote to."""
    out = tmp_path_factory.mktemp("run") / "deep" / "out"
    return lrfind(*READABLE, "--out", out), out


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What a whole run with trials prints as JSON, and its folder, where losses of another run were."""
    out = tmp_path_factory.mktemp("refined")
    (out / "losses.CSV").write_text("of another run")
    options = ("--schedule", "cosine", "--refine", "0.15", "--json", "--csv", out / "losses.CSV")
    result = lrfind(*READABLE, *options, "--out", out)
    assert result.exit_code == 0
    return json.loads(result.stdout), out


@pytest.fixture
def saved(done: tuple[Result, Path]) -> Path:
    return done[1] / "shufflenet_v2_x0_5-sgd.json"


@pytest.fixture
def without_advice(tmp_path: Path) -> Path:
    lrfind(*TINY, "--out", tmp_path)
    return tmp_path / "squeezenet1_1-sgd.json"


# --- run ---------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_advice_in_words_and_the_lines_to_paste(done: tuple[Result, Path]) -> None:
    result, out = done
    loaded = RangeTestResult.load(out / "shufflenet_v2_x0_5-sgd.json")
    plan = loaded.recipe("onecycle", epochs=2, steps_per_epoch=1797 // 8)
    assert result.exit_code == 0
    assert str(loaded) in result.stdout
    assert plan.code() in result.stdout
    assert max(map(len, str(loaded).splitlines())) <= 80


def test_a_run_writes_plot_result_and_recipe_and_names_them(done: tuple[Result, Path]) -> None:
    result, out = done
    names = ["shufflenet_v2_x0_5-sgd.json", "shufflenet_v2_x0_5-sgd.png"]
    names += ["shufflenet_v2_x0_5-sgd-onecycle.json", "shufflenet_v2_x0_5-sgd-onecycle.py"]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert all(str(out / name) in result.stdout for name in names)
    with Image.open(out / "shufflenet_v2_x0_5-sgd.png") as picture:
        assert min(picture.size) > 400
    plan = Recipe.load(out / "shufflenet_v2_x0_5-sgd-onecycle.json")
    assert (out / "shufflenet_v2_x0_5-sgd-onecycle.py").read_text() == plan.code()


def test_refine_tries_the_schedule_and_the_recipe_has_the_best_lr(refined: tuple[dict[str, Any], Path]) -> None:
    content, out = refined
    loaded = RangeTestResult.load(out / "shufflenet_v2_x0_5-sgd.json")
    assert loaded.trials is not None and loaded.trials.schedule == "cosine"
    assert 0 < loaded.trials.spent <= 0.15 * loaded.trials.total_steps
    assert loaded.trials.total_steps == 2 * (1797 // 8)
    assert content["trials"]["trials"] and content["recipe"]["peak_lr"] == loaded.lr_for("cosine")


@pytest.mark.parametrize("part", ["0", "-1", "much"])
def test_an_invalid_budget_to_refine_with_is_rejected(part: str, tmp_path: Path) -> None:
    assert "--refine" in refused(*TINY, "--refine", part, "--out", tmp_path)


def test_a_budget_without_room_for_trials_is_refused_before_the_sweep(tmp_path: Path) -> None:
    fewest = 30 / (1797 // 8)
    options = (*TINY, "--epochs", "1", "--out", tmp_path)
    line = refused(*options, "--refine", f"{fewest - 1e-3:.3f}")
    assert "--refine 0.133 of 224 steps is 29 steps; three trials of ten steps need 30." in line
    assert line.endswith("Set --refine to 0.134 or more, or give more --epochs.")
    assert lrfind(*options, "--refine", f"{fewest + 1e-3:.3f}").exit_code == 1  # of a curve without advice
    assert list(tmp_path.iterdir())


def test_messages_call_the_model_as_the_usage_does() -> None:
    assert refused("run", "resnet").startswith("Error: MODEL must be a model of torchvision")
    assert refused("run", "collections:nothing").startswith("Error: MODEL collections:nothing: ")


def test_the_setup_is_printed_on_stderr(done: tuple[Result, Path]) -> None:
    assert done[0].stderr.splitlines()[:3] == [
        "shufflenet_v2_x0_5 on digits: 1,797 images, 10 classes",
        f"SGD(momentum=0.9), batch 8, {torch.ones(0, device=pick_device('auto')).device}",
        "Images at 32x32 pixels (in the data about 8, the model's own size is 224).",
    ]


def test_json_is_all_there_is_on_stdout_and_agrees_with_the_files(refined: tuple[dict[str, Any], Path]) -> None:
    content, _ = refined
    loaded = RangeTestResult.load(content["files"]["result"])
    assert content["advice"] == json.loads(json.dumps(loaded.advice.to_dict()))
    assert content["recipe"]["peak_lr"] == loaded.lr_for("cosine", 2 * 224)
    assert content["code"] == Path(content["files"]["code"]).read_text()
    assert content["setup"]["optimizer_options"] == {"momentum": 0.9}
    assert content["setup"]["image_size"] == 32


def test_what_torchvision_prints_does_not_mix_with_the_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    get_model = models.get_model

    def download(name: str, **options: Any) -> Any:
        print("Downloading: https://download.pytorch.org/models/squeezenet1_1.pth")
        return get_model(name, **{**options, "weights": None})

    monkeypatch.setattr(models, "get_model", download)
    result = lrfind(*TINY, "--weights", "DEFAULT", "--image-size", "32", "--json", "--out", tmp_path)
    assert json.loads(result.stdout)["setup"]["weights"] == "DEFAULT"
    assert "Downloading" in result.stderr


def test_the_seed_fixes_the_whole_curve(tmp_path: Path) -> None:
    losses = []
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        lrfind(*TINY, "--seed", seed, "--out", tmp_path / folder)
        losses.append(RangeTestResult.load(tmp_path / folder / "squeezenet1_1-sgd.json").curve.losses)
    assert losses[0] == losses[1] != losses[2]


def test_a_sweep_without_advice_exits_with_1_and_writes_its_curve(tmp_path: Path) -> None:
    result = lrfind(*TINY, "--out", tmp_path)
    assert result.exit_code == 1
    assert "grade  none" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["squeezenet1_1-sgd.json", "squeezenet1_1-sgd.png"]
    content = json.loads(lrfind(*TINY, "--out", tmp_path, "--json").stdout)
    assert (content["recipe"], content["code"]) == (None, None)


@pytest.mark.parametrize(
    "options, fact",
    [
        (("--optimizer", "adamw", "--opt", "betas=(0.8, 0.9)", "--opt", "weight_decay=0.1"), ("momentum", 0.8)),
        (("--mode", "linear"), ("lrs", (1e-4, 0.0034, 0.0067, 0.01))),
        (("--accumulation", "3"), ("batches", 12)),
        (("--clip-grad-norm", "0.5"), ("batches", 4)),
        (("--amp", "bf16"), ("batches", 4)),
        (("--val", "--val-batches", "1"), ("measured", "after")),
        (("--data", "fake", "--num-classes", "3"), ("batches", 4)),
        (("--workers", "1", "--image-size", "40"), ("batches", 4)),
    ],
)
def test_each_option_reaches_the_sweep(tmp_path: Path, options: tuple[str, ...], fact: tuple[str, Any]) -> None:
    result = lrfind(*TINY, "--device", "cpu", "--out", tmp_path, *options)
    [path] = tmp_path.glob("squeezenet1_1-*.json")
    curve = RangeTestResult.load(path).curve
    assert result.exit_code == 1
    assert getattr(curve, fact[0]) == pytest.approx(fact[1]) if fact[0] != "measured" else curve.measured == fact[1]


def test_models_with_auxiliary_outputs_run_with_their_loss(tmp_path: Path) -> None:
    sizes = ("--num-iter", "2", "--batch-size", "2", "--start-lr", "1e-4", "--end-lr", "1e-3")
    lrfind("run", "googlenet", *sizes, "--out", tmp_path)
    curve = RangeTestResult.load(tmp_path / "googlenet-sgd.json").curve
    assert curve.losses[0] > 1.3 * 2.302  # ln 10, and three tenths of it twice more


def test_a_folder_of_images_and_a_file_of_weights_run(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(8):
            Image.new("L", (20 + i, 30)).save(tmp_path / "pets" / name / f"{i}.png")
    torch.save(models.get_model("squeezenet1_1").state_dict(), tmp_path / "w.pth")
    options = ("--data", tmp_path / "pets", "--weights", tmp_path / "w.pth", "--image-size", "32")
    result = lrfind(*TINY, *options, "--out", tmp_path / "out")
    assert "squeezenet1_1 on pets: 16 images, 2 classes" in result.stderr
    assert "w.pth has 1000 classes, not 2." in result.stderr
    assert (tmp_path / "out" / "squeezenet1_1-sgd.json").exists()


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("alexnet", "--image-size", "31"), "Set another --image-size; its own is 224"),
        (("resnet18", "--batch-size", "1"), "set --batch-size to 2 or more"),
        (("resnet18", "--num-classes", 10**14), "Lower --batch-size (and raise --accumulation) or --image-size."),
        (("squeezenet1_1", "--image-size", 10**6), "pixels takes 768,000 GB; this machine has"),
    ],
)
def test_what_cannot_be_run_is_one_sentence_and_leaves_no_file(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refused("run", *arguments, "--out", tmp_path / "new" / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("below", ["file", "file/below"])
def test_an_unwritable_output_folder_is_rejected_before_anything_else(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write to --out" in refused("run", "no such model", "--out", tmp_path / below)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_and_nothing_is_written(tmp_path: Path, workers: int) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(60):
            (tmp_path / "pets" / name / f"{i}.png").write_bytes(b"not an image")
        # The first of every few, which are looked at for their size, are whole.
        for i in range(0, 60, 3):
            Image.new("RGB", (8, 8)).save(tmp_path / "pets" / name / f"{i}.png")
    out = tmp_path / "out"
    line = refused(*TINY, "--data", tmp_path / "pets", "--workers", workers, "--out", out)
    assert line.startswith(f"Error: cannot read the image {tmp_path / 'pets'}")
    assert line.endswith("not in a format that Pillow can read. Repair it or remove it from the folder.")
    assert not out.exists()


def test_ctrl_c_in_the_middle_writes_nothing_and_exits_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Image.fromarray
    drawn = []

    def interrupt(pixels: Any) -> Any:
        drawn.append(pixels)
        if len(drawn) == 50:  # past the images that are looked at for their size, inside the sweep
            raise KeyboardInterrupt
        return whole(pixels)

    monkeypatch.setattr(Image, "fromarray", interrupt)
    result = lrfind(*TINY, "--workers", "0", "--out", tmp_path / "out")  # a worker would swallow it
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == "Interrupted; nothing was written."
    assert not (tmp_path / "out").exists()


# --- what fails after the sweep ------------------------------------------------------------------------------------


def late(result: Result) -> str:
    """The one line that a run prints when something after the sweep failed; it exits with status 3."""
    assert result.exit_code == 3, result.output
    *_, line = result.stderr.splitlines()
    assert line.startswith("Error: ") and "Traceback" not in result.output
    return line


# A name that matplotlib refuses, as it does the inline backend of a notebook where that is not installed.
@pytest.mark.parametrize("command, backend", [("show", "module://no.such"), ("schedule", "inlin")])
def test_the_backend_of_a_notebook_changes_nothing(saved: Path, tmp_path: Path, command: str, backend: str) -> None:
    arguments = {
        "show": ["show", str(saved), "--plot", str(tmp_path / "squeezenet1_1-sgd.png")],
        "schedule": ["schedule", str(saved), "--total-steps", "90", "--plot", str(tmp_path / "squeezenet1_1-sgd.png")],
    }[command]
    # A process of its own: matplotlib reads the variable once, when it is imported.
    program = [sys.executable, "-c", f"from lrfinder.cli import main; main({arguments}, prog_name='lrfind')"]
    ended = subprocess.run(program, env={**os.environ, "MPLBACKEND": backend}, capture_output=True, text=True)
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False)
    assert (tmp_path / "squeezenet1_1-sgd.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_cannot_be_drawn_keeps_result_and_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shufflenet_v2_x0_5-sgd.png").write_text("of an earlier run")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *args, **options: 1 / 0)
    result = lrfind(*READABLE, "--out", tmp_path)
    line = late(result)
    assert "the plot is missing: ZeroDivisionError" in line
    assert str(tmp_path / "shufflenet_v2_x0_5-sgd.json") in line
    assert str(RangeTestResult.load(tmp_path / "shufflenet_v2_x0_5-sgd.json")) in result.stdout
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".py"}


def test_a_plot_that_cannot_be_written_keeps_the_result(tmp_path: Path) -> None:
    (tmp_path / "squeezenet1_1-sgd.png").mkdir()
    assert "it is a folder" in late(lrfind(*TINY, "--out", tmp_path))
    assert RangeTestResult.load(tmp_path / "squeezenet1_1-sgd.json").curve.losses


def test_a_result_that_cannot_be_written_is_printed_for_show(tmp_path: Path) -> None:
    (tmp_path / "squeezenet1_1-sgd.json").mkdir()
    (tmp_path / "squeezenet1_1-sgd.png").write_text("old")
    result = lrfind(*TINY, "--out", tmp_path)
    assert "the result is on stdout" in late(result)
    (tmp_path / "kept.json").write_text(result.stdout.splitlines()[-1])
    assert str(RangeTestResult.load(tmp_path / "kept.json")) in result.stdout
    assert (tmp_path / "squeezenet1_1-sgd.png").read_text() == "old"


def test_a_recipe_that_cannot_be_written_leaves_the_old_result(tmp_path: Path) -> None:
    (tmp_path / "shufflenet_v2_x0_5-sgd-onecycle.py").mkdir()
    (tmp_path / "shufflenet_v2_x0_5-sgd.json").write_text("old")
    result = lrfind(*READABLE, "--json", "--out", tmp_path)
    assert "shufflenet_v2_x0_5-sgd-onecycle.py: it is a folder" in late(result)
    assert (tmp_path / "shufflenet_v2_x0_5-sgd.json").read_text() == "old"
    assert json.loads(result.stdout)["files"] == {} and json.loads(result.stdout)["curve"]["losses"]


def test_memory_that_ends_in_a_trial_keeps_the_range_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = torch.nn.functional.cross_entropy
    calls = []

    def forward(module: Any, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls.append(output)
        if len(calls) > 40:  # past the sweep of 30 steps
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(output, target)

    monkeypatch.setattr(torch.nn.CrossEntropyLoss, "forward", forward)
    result = lrfind(*READABLE, "--schedule", "cosine", "--refine", "0.9", "--out", tmp_path)
    assert "the advice is not refined: the memory of" in late(result)
    assert RangeTestResult.load(tmp_path / "shufflenet_v2_x0_5-sgd.json").trials is None
    assert (tmp_path / "shufflenet_v2_x0_5-sgd.png").exists()


def test_ctrl_c_after_the_sweep_names_the_saved_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", interrupt)
    result = lrfind(*TINY, "--out", tmp_path)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].endswith(f"saved in {tmp_path / 'squeezenet1_1-sgd.json'}.")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_keeps_the_files(tmp_path: Path) -> None:
    program = f"from lrfinder.cli import main; main({[*TINY, '--out', str(tmp_path)]}, prog_name='lrfind')"
    another_backend = {**os.environ, "MPLBACKEND": "nonsense"}  # which changes nothing, as above
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", program]
        ended = subprocess.run(command, env=another_backend, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 3
    assert "the result is not printed: No space left on device" in ended.stderr.splitlines()[-1]
    assert (tmp_path / "squeezenet1_1-sgd.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", ["show", "run"])
def test_a_closed_pipe_ends_with_the_shells_status_and_no_traceback(tmp_path: Path, saved: Path, command: str) -> None:
    call = ["show", str(saved)] if command == "show" else [*TINY, "--out", str(tmp_path)]
    program = f"from lrfinder.cli import main; main({call}, prog_name='lrfind')"
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        ended = subprocess.run([sys.executable, "-c", program], stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, "Error" in ended.stderr, "Traceback" in ended.stderr) == (141, False, False)
    assert len(list(tmp_path.iterdir())) == (2 if command == "run" else 0)


# --- wrong input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        MemoryError(),
    ],
    ids=["CUDA", "CPU", "MPS", "Python"],
)
def test_exhausted_memory_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def overflow(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(torch.nn.CrossEntropyLoss, "forward", overflow)
    line = refused(*TINY, "--out", tmp_path)
    assert "is too small for this. Lower --batch-size (and raise --accumulation) or --image-size." in line


def test_an_infinite_clip_norm_is_no_clipping_and_can_be_saved(tmp_path: Path) -> None:
    assert lrfind(*TINY, "--clip-grad-norm", "inf", "--out", tmp_path).exit_code == 1
    assert RangeTestResult.load(tmp_path / "squeezenet1_1-sgd.json").curve.facts.clip_grad_norm is None


def test_a_defect_of_the_program_is_not_reported_as_wrong_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "get_model", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lrfind(*TINY, "--out", tmp_path)


def test_option_values_are_python_literals_or_bare_words() -> None:
    typed = ["momentum=0", "weight_decay=1e-4", "betas=(0.9, 0.99)", "line_search_fn=strong_wolfe"]
    parsed = {"momentum": 0, "weight_decay": 1e-4, "betas": (0.9, 0.99), "line_search_fn": "strong_wolfe"}
    assert parse_pairs("--opt", typed) == parsed


def test_errors_name_options_where_the_library_names_arguments(saved: Path, tmp_path: Path) -> None:
    sentence = "--data must be digits, fake or a folder of images; 'nowhere' does not exist."
    assert sentence in refused("run", "resnet18", "--data", "nowhere", "--out", tmp_path)
    line = refused("schedule", saved)  # which can be typed: no text of Python follows the option
    assert "Give --total-steps, or --epochs and --steps-per-epoch, the length of the loader." in line
    assert "--steps-per-epoch, the length of the loader, or" in refused("schedule", saved, "--epochs", "3")
    assert "Add --epochs, or" in refused("schedule", saved, "--kind", "cosine", "--steps-per-epoch", "3")
    # Backquotes around anything else stay.
    assert "`lrfind models resnet`" in refused("models", "zzz")


# --- models --------------------------------------------------------------------------------------------------------


def test_models_lists_every_trainable_model_and_builds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "get_model", None)
    trainable = sorted(name for name in models.list_models() if not name.startswith("quantized_"))
    assert lrfind("models").stdout.splitlines() == trainable
    families = [lrfind("models", "--family", each).stdout.splitlines() for each in FAMILIES]
    assert sorted(sum(families, [])) == trainable
    assert families[0] == sorted(models.list_models(module=models))


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("vgg11", ["vgg11", "vgg11_bn"]),
        ("raft", ["raft_large", "raft_small"]),
        ("vit_*_16", ["vit_b_16", "vit_l_16"]),
        ("ALEX", ["alexnet"]),
    ],
)
def test_models_takes_a_part_of_a_name_or_a_pattern(pattern: str, names: list[str]) -> None:
    assert lrfind("models", pattern).stdout.splitlines() == names
    assert json.loads(lrfind("models", pattern, "--json").stdout) == names


def test_a_pattern_without_matching_models_is_rejected() -> None:
    assert "no model matches 'zzz'" in refused("models", "zzz")


# --- show ----------------------------------------------------------------------------------------------------------


def test_show_prints_what_run_printed(saved: Path, done: tuple[Result, Path]) -> None:
    result = lrfind("show", saved)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{RangeTestResult.load(saved)}\n\nCurve\n")
    assert result.stdout.strip() in done[0].stdout


def test_show_gives_json_and_a_plot(saved: Path, tmp_path: Path) -> None:
    result = lrfind("show", saved, "--json", "--plot", tmp_path / "curve.png")
    in_file = json.loads(saved.read_text())
    content = json.loads(result.stdout)
    assert content.pop("decision")["text"] == RangeTestResult.load(saved).decision.text
    assert content == in_file
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_json_of_show_is_read_again_and_that_of_run_named(saved: Path, tmp_path: Path, refined: Any) -> None:
    shown = lrfind("show", saved, "--json").stdout
    (tmp_path / "shown.json").write_text(shown)
    assert lrfind("show", tmp_path / "shown.json", "--json").stdout == shown
    (tmp_path / "run.json").write_text(json.dumps(refined[0]))
    assert "is what `lrfind run --json` prints, not an lrfinder result" in refused("show", tmp_path / "run.json")


def test_a_result_without_advice_is_printed_too(without_advice: Path) -> None:
    result = lrfind("show", without_advice)
    assert result.exit_code == 0
    assert "grade  none" in result.stdout


@pytest.mark.parametrize("content, reason", [("{", "is not valid JSON"), ("[]", "another"), ("{}", "another program")])
def test_a_foreign_file_is_rejected(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "x.json").write_text(content)
    for command in ("show", "schedule"):
        assert reason in refused(command, tmp_path / "x.json")


@pytest.mark.parametrize(
    "ending, start", [(".png", b"\x89PNG"), (".PNG", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_a_plot_is_of_the_format_that_its_name_says(saved: Path, tmp_path: Path, ending: str, start: bytes) -> None:
    for command in (("show", saved), ("schedule", saved, "--total-steps", 90)):
        assert lrfind(*command, "--plot", tmp_path / f"x{ending}").exit_code == 0
        assert (tmp_path / f"x{ending}").read_bytes().startswith(start)


@pytest.mark.parametrize("name", ["x.jpg", "x", "png", "x.svgz", ".png"])
def test_a_plot_of_another_format_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    for command in (("show", saved), ("schedule", saved, "--total-steps", 90)):
        assert "--plot takes a file that ends in .png, .svg, .pdf" in refused(*command, "--plot", tmp_path / name)


@pytest.mark.parametrize("command, argument", [("run", "MODEL"), ("show", "FILE")])
def test_a_page_that_takes_the_argument_for_its_file_says_so(command: str, argument: str) -> None:
    assert f"got 'resnet18'. To leave the file out, write --html after {argument}." in refused(
        command, "--html", "resnet18"
    )


@pytest.mark.parametrize("command, option", [("run", "--out"), ("run", "--csv"), ("show", "--plot")])
def test_an_empty_path_is_refused_as_empty(command: str, option: str) -> None:
    assert f"Invalid value for '{option}': it is empty. Give a path" in refused(command, "resnet18", option, "")


def test_names_of_files_reach_the_terminal_escaped(saved: Path, tmp_path: Path) -> None:
    line = refused("show", tmp_path / "x\x1b[2J\udcff.json")
    assert r"x\x1b[2J\udcff.json" in line and line.isprintable()
    result = lrfind("show", saved, "--plot", tmp_path / "x\x07\udcff.png")
    assert (result.exit_code, r"x\x07\udcff.png" in result.stderr) == (0, True)


def test_a_missing_file_and_an_unwritable_plot_are_rejected(saved: Path, tmp_path: Path) -> None:
    assert "cannot read" in refused("show", tmp_path / "x.json")
    assert "cannot write" in refused("show", saved, "--plot", tmp_path / "missing" / "x.png")


# --- schedule ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_schedule_prints_the_lines_of_each_kind(saved: Path, kind: str) -> None:
    result = lrfind("schedule", saved, "--kind", kind, "--epochs", 30, "--steps-per-epoch", 10)
    expected = RangeTestResult.load(saved).recipe(kind, epochs=30, steps_per_epoch=10)
    assert (result.exit_code, result.stdout) == (0, expected.code())


def test_schedule_takes_warm_up_and_any_option_of_the_kind(saved: Path, tmp_path: Path) -> None:
    options = ("--kind", "step", "--total-steps", 900, "--warmup-steps", 50, "--option", "gamma=0.3", "--peak-lr", 0.2)
    result = lrfind("schedule", saved, *options, "--json", "--plot", tmp_path / "lr.png")
    expected = recipe("step", peak_lr=0.2, total_steps=900, warmup_steps=50, gamma=0.3, device="cpu")
    assert Recipe.from_dict(json.loads(result.stdout)) == expected
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")


def test_a_schedule_from_a_curve_without_advice_exits_with_1(without_advice: Path) -> None:
    result = lrfind("schedule", without_advice, "--total-steps", 100)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ") and len(result.stderr.splitlines()) == 1


def test_a_curve_without_advice_is_scheduled_with_a_given_peak(without_advice: Path) -> None:
    assert lrfind("schedule", without_advice, "--total-steps", 100, "--peak-lr", 0.1).exit_code == 0


# --- lrfind run --csv, and launchers ------------------------------------------------------------------------------


def test_csv_has_each_step_of_the_curve_with_all_digits(tmp_path: Path) -> None:
    file = tmp_path / "out" / "losses.csv"  # in a folder that the run makes
    printed = json.loads(lrfind(*TINY, "--out", tmp_path / "out", "--csv", file, "--json").stdout)
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3]
    assert [float(row["lr"]) for row in rows] == printed["curve"]["lrs"]
    assert [float(row["loss"]) for row in rows] == printed["curve"]["losses"]
    assert printed["files"]["csv"] == str(file)
    assert sorted(path.name for path in file.parent.iterdir() if path.name.startswith(".")) == []


def test_csv_replaces_an_older_one_and_stays_after_refining(refined: tuple[dict[str, Any], Path]) -> None:
    content, out = refined
    assert content["files"]["csv"] == str(out / "losses.CSV")
    assert (out / "losses.CSV").read_text().startswith("step,lr,loss\n0,0.001,")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing/losses.csv", "No such file or directory. Give a file in a folder that exists and is writable."),
        ("file/losses.csv", "Not a directory. Give a file in a folder that exists and is writable."),
        ("folder.csv", "it is a folder. Give a file name inside it."),
        ("losses.json", "--csv takes a file that ends in .csv; got "),
        ("losses", "--csv takes a file that ends in .csv; got "),
    ],
)
def test_a_csv_that_cannot_be_written_is_refused_before_the_sweep(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.csv").mkdir()
    assert sentence in refused(*TINY, "--out", tmp_path / "out", "--csv", tmp_path / name)
    assert not (tmp_path / "out").exists()


def test_a_csv_that_cannot_be_written_after_the_sweep_keeps_the_result(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path, "model", tmp_path / "gone" / "losses.csv")
    result = RangeTestResult.load(saved_in(tmp_path))
    outputs.save(result, None)
    outputs.save_losses(result)
    assert (tmp_path / "model.json").is_file()
    with pytest.raises(LateError, match=r"the losses are not saved: cannot write .*the range test is saved in"):
        outputs.check()


def test_a_result_is_saved_where_another_run_has_removed_the_folder(tmp_path: Path) -> None:
    """As a run does that made the folder and failed, while this one was going on."""
    outputs = Outputs(tmp_path / "new" / "out", "model")
    outputs.save(RangeTestResult.load(saved_in(tmp_path)), None)
    outputs.check()
    assert (tmp_path / "new" / "out" / "model.json").is_file()


def test_the_end_of_a_sentence_names_where_the_result_is(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "gone", "model", None)
    outputs.problems.append("the result is not saved")
    for shown, place in ((False, "nothing was written"), (True, "the result is on stdout")):
        if shown:
            outputs.show("the text")
        with pytest.raises(LateError, match=f"the result is not saved; {place}"):
            outputs.check()


def test_a_result_without_a_schedule_leaves_no_earlier_recipe(tmp_path: Path) -> None:
    result = RangeTestResult.load(saved_in(tmp_path))
    outputs = Outputs(tmp_path, "model", None)
    outputs.save(result, result.recipe("cosine", peak_lr=0.1, total_steps=100))
    assert (tmp_path / "model-cosine.json").is_file() and (tmp_path / "model-cosine.py").is_file()
    outputs.save(result, None)
    assert sorted(path.name for path in tmp_path.glob("model*")) == ["model.json"]


def saved_in(folder: Path) -> Path:
    lrfind(*TINY, "--out", folder / "out")
    return folder / "out" / "squeezenet1_1-sgd.json"


LAUNCHED = {
    "torchrun": {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"},
    "torchrun, one process": {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "1"},
    "another launcher": {"WORLD_SIZE": "4"},
}


@pytest.mark.parametrize("variables", LAUNCHED.values(), ids=LAUNCHED)
def test_a_run_under_a_launcher_is_refused_once(variables: dict[str, str], tmp_path: Path) -> None:
    printed = []
    for rank in range(int(variables["WORLD_SIZE"])):
        environment = {**variables, "RANK": str(rank)}
        arguments = [*TINY, "--out", str(tmp_path / "out")]
        done = CliRunner().invoke(main, arguments, prog_name="lrfind", env=environment, catch_exceptions=False)
        assert (done.exit_code, done.stdout) == (2, "")
        printed += done.stderr.splitlines()
    assert len(printed) == 1 and printed[0].startswith("Error: lrfind run tests a model on one device, and torchrun")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("variables", [{"WORLD_SIZE": "1", "RANK": "0"}, {"WORLD_SIZE": "2"}, {"RANK": "0"}], ids=str)
def test_other_variables_of_that_name_do_not_matter(variables: dict[str, str]) -> None:
    refuse_launcher(variables)


def test_commands_that_train_nothing_run_under_a_launcher(saved: Path) -> None:
    environment = {**LAUNCHED["torchrun"], "RANK": "1"}
    for arguments in (["show", str(saved)], ["models", "resnet18"], ["run", "--help"]):
        assert CliRunner().invoke(main, arguments, env=environment).exit_code == 0


def test_torchrun_prints_the_refusal_once(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    # torchrun ends all ranks when one has ended: the one that prints is also the last here.
    late = "import os, time\ntime.sleep(os.environ['RANK'] == '0')\n"
    program.write_text(f"{late}from lrfinder.cli import main\nmain()\n")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*launcher, str(program), "run", "resnet18"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and done.stderr.count("Error: lrfind run tests a model on one device") == 1
    assert "exitcode  : 2" in done.stderr


# --- all of them ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples_that_fits_the_terminal(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"], terminal_width=80)
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_first_help_names_every_command_and_the_exit_statuses() -> None:
    text = lrfind("--help").stdout
    assert all(f"  {command} " in text for command in COMMANDS)
    assert "Exit status:" in text
    assert COMMANDS == ["completion", "models", "run", "schedule", "show"]


def test_the_version_is_the_packages() -> None:
    assert lrfind("--version").stdout == f"lrfind, version {__version__}\n"


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "lrfinder", "models", "resnet18"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "resnet18\n", "")


def test_wrong_input_ends_the_process_with_2_and_no_traceback() -> None:
    done = run_python("from lrfinder.cli import main; main(['show', 'nowhere.json'], prog_name='lrfind')")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: cannot read nowhere.json") and len(done.stderr.splitlines()) == 1


def test_completion_lists_the_models_without_importing_torchvision() -> None:
    assert registered_models() == sorted(name for name in models.list_models() if not name.startswith("quantized_"))


@pytest.mark.parametrize(
    "typed, incomplete, offered",
    [
        ([], "sch", ["schedule"]),
        (["run"], "resnet1", ["resnet101", "resnet152", "resnet18"]),
        (["run", "resnet18", "--schedule"], "co", ["cosine", "constant"]),
        (["schedule", "x.json", "--kind"], "w", ["wsd"]),
    ],
)
def test_completion_offers_commands_models_and_kinds(typed: list[str], incomplete: str, offered: list[str]) -> None:
    items = ShellComplete(main, {}, "lrfind", "_LRFIND_COMPLETE").get_completions(typed, incomplete)
    assert [item.value for item in items] == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_prints_the_shells_own_lines(shell: str) -> None:
    assert f"_LRFIND_COMPLETE={shell}_complete" in lrfind("completion", shell).stdout


# From Python 3.12 on, a fork is warned of where there are threads, as there are with CUDA.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.gpu
@pytest.mark.parametrize("amp", [(), ("--amp", "bf16"), ("--amp", "fp16")])
def test_a_run_on_cuda_gives_advice(tmp_path: Path, amp: tuple[str, ...]) -> None:
    result = lrfind(*READABLE, "--device", "cuda", "--workers", "2", *amp, "--out", tmp_path, "--json")
    content = json.loads(result.stdout)
    assert result.exit_code == 0
    assert content["setup"]["device"].startswith("cuda")
    assert content["advice"]["grade"] != "none"
