"""Time and memory of a range test, estimated before it: words, hints that fit, the refusal, and no trace."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from lrfinder.cli import main
from lrfinder.errors import SetupError
from lrfinder.tasks.estimate import Estimate, estimate
from lrfinder.tasks.estimate_steps import Line
from lrfinder.tasks.experiment import prepare
from lrfinder.tasks.memory import usable_memory, used_memory
from lrfinder.tasks.settings import Settings

GIGA = 10**9
SHORT: dict[str, Any] = {"start_lr": 1e-4, "end_lr": 1e-2, "num_iter": 3}


def taken(**changed: Any) -> Estimate:
    """An estimate of 1 GB and 0.1 GB for each of 64 images of 224 pixels, in 50 steps of 0.64 seconds."""
    memory = Line(fixed=1e9, each=1e8)
    known: dict[str, Any] = {"steps": 50, "step": Line(fixed=0, each=0.01), "memory": memory, "saved": memory}
    return Estimate(**{**known, "usable": 16 * GIGA, "batch_size": 64, "image_size": 224, **changed})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "About 32 seconds and 7 GB."),
        ({"usable": None}, "About 32 seconds and 7 GB."),
        ({"steps": 300}, "About 3 minutes and 7 GB."),
        (
            {"usable": 5 * GIGA},
            "About 32 seconds and 7 GB.\nMore than the 5 GB that are free: use `batch_size` 16 with "
            "`accumulation_steps` 4, which takes about 3 GB.",
        ),
        (
            {"usable": 5 * GIGA, "batch_size": 61},
            "About 30 seconds and 7 GB.\nMore than the 5 GB that are free: use `image_size` 128, which takes about "
            "3 GB.",
        ),
        (
            {"usable": GIGA},
            "About 32 seconds and 7 GB.\nMore than the 1.0 GB that are free: use a smaller model or a machine with "
            "more memory.",
        ),
        ({"steps": 1000}, "About 11 minutes and 7 GB.\n`image_size` 128 takes about 3 minutes."),
        (
            {"steps": 20_000, "image_size": None},
            "About 4 hours and 7 GB.\nFewer `num_iter`, a smaller `image_size` or a GPU make it shorter.",
        ),
    ],
)
def test_words_name_time_memory_and_what_fits(changed: dict[str, Any], words: str) -> None:
    assert taken(**changed).words == words


@pytest.mark.parametrize("usable", [2, 3, 5, 7])
@pytest.mark.parametrize("batch_size", [2, 3, 48, 64, 100])
@pytest.mark.parametrize("accumulation_steps", [1, 3])
def test_the_batch_that_is_named_fits_and_keeps_its_product(
    usable: int, batch_size: int, accumulation_steps: int
) -> None:
    whole = taken(usable=usable * GIGA, batch_size=batch_size, accumulation_steps=accumulation_steps)
    smaller = whole.smaller_batch()
    if smaller is not None:
        assert smaller.bytes <= 0.8 * usable * GIGA
        assert smaller.batch_size * smaller.accumulation_steps == batch_size * accumulation_steps
    images = whole.smaller_images()
    assert images is None or (images.bytes <= 0.8 * usable * GIGA and (images.image_size or 0) < 224)


def test_only_what_certainly_does_not_fit_is_refused() -> None:
    certain, likely = Line(fixed=1e9, each=1e8), Line(fixed=1e9, each=5e7)
    taken(usable=5 * GIGA, saved=likely).check()
    taken(usable=None).check()
    with pytest.raises(SetupError, match="about 7 GB of memory; 5 GB are free. Use `batch_size` 16 with `accum"):
        taken(usable=5 * GIGA, saved=certain).check()


@pytest.mark.parametrize(
    "chosen",
    [
        {"model": "squeezenet1_1", "batch_size": 12},  # dropout
        {"model": "mobilenet_v3_small", "batch_size": 9, "amp": "bf16", "optimizer": "Adam"},  # BatchNorm
        {"model": "squeezenet1_1", "batch_size": 2, "accumulation_steps": 2, "clip_grad_norm": 1.0, "val": True},
    ],
    ids=lambda chosen: str(chosen["model"]),
)
def test_an_estimate_leaves_no_trace_on_the_curve(chosen: dict[str, Any]) -> None:
    def curve(*, estimated: bool) -> tuple[list[float], list[torch.Tensor], torch.Tensor]:
        experiment = prepare(Settings(**{**SHORT, "num_iter": 4, **chosen}))
        if estimated:
            assert estimate(experiment) is not None
            assert not experiment.finder.optimizer.state
            assert all(each.grad is None for each in experiment.task.model.parameters())
        state = [each.clone() for each in experiment.task.model.state_dict().values()]
        return list(experiment.range_test().curve.losses), state, torch.get_rng_state()

    (losses, state, random), (same_losses, same_state, same_random) = curve(estimated=False), curve(estimated=True)
    assert losses == same_losses
    assert all(map(torch.equal, state, same_state)) and torch.equal(random, same_random)


@pytest.mark.parametrize(
    ("model", "chosen"),
    [
        ("lraspp_mobilenet_v3_large", {"image_size": 32, "batch_size": 4}),
        ("ssdlite320_mobilenet_v3_large", {"batch_size": 2}),
        ("raft_small", {"image_size": 128, "batch_size": 1}),
        ("squeezenet1_1", {"image_size": 32, "batch_size": 4, "amp": "bf16", "accumulation_steps": 2}),
    ],
)
def test_each_family_is_estimated(model: str, chosen: dict[str, Any]) -> None:
    found = estimate(prepare(Settings(model=model, data="fake", **SHORT, **chosen)))
    assert found is not None
    assert found.seconds > 0 and found.bytes >= found.saved.at(found.batch_size) > 0


@pytest.mark.parametrize(("model", "fixed"), [("ssdlite320_mobilenet_v3_large", True), ("squeezenet1_1", False)])
def test_no_smaller_images_are_advised_to_a_model_that_takes_none(model: str, fixed: bool) -> None:
    found = estimate(prepare(Settings(model=model, data="fake", batch_size=2, **SHORT)))
    assert found is not None and (found.image_size is None) == fixed


def test_a_refinement_takes_longer_and_fewer_iterations_less() -> None:
    experiment = prepare(Settings(model="squeezenet1_1", batch_size=4))
    few = dataclasses.replace(experiment, settings=dataclasses.replace(experiment.settings, num_iter=10))
    refined, usual, short = (
        estimate(experiment, epochs=10, budget=0.25), estimate(experiment), estimate(few)
    )
    assert refined is not None and usual is not None and short is not None
    assert refined.steps > usual.steps > short.steps > 10


def test_a_step_that_fails_gives_no_estimate() -> None:
    experiment = prepare(Settings(model="squeezenet1_1", batch_size=4))

    def fail(*args: Any) -> Any:
        raise RuntimeError("on purpose")

    handle = experiment.task.model.register_forward_hook(fail)
    assert estimate(experiment) is None
    handle.remove()
    assert estimate(experiment) is not None


def test_usable_memory_holds_what_is_used_already() -> None:
    usable = usable_memory(torch.device("cpu"))
    assert usable is None or usable > used_memory(torch.device("cpu")) > 10**7


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs the files in which Linux tells its memory")
def test_a_run_that_cannot_fit_ends_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text

    def almost_full(path: Path, *args: Any, **options: Any) -> str:
        return "MemAvailable: 30000 kB\n" if path == Path("/proc/meminfo") else read(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", almost_full)
    arguments = ("run", "squeezenet1_1", "--batch-size", "1000", "--image-size", "96", "--out", str(tmp_path / "out"))
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "of memory;" in result.stderr.splitlines()[-1] and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no memory by process")
def test_the_peak_of_a_process_is_not_that_of_the_one_that_started_it() -> None:
    held = b"x" * 1_000_000_000
    program = "import torch; from lrfinder.tasks.memory import peak_memory; print(peak_memory(torch.device('cpu')))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 50e6 < int(ended.stdout) < len(held)


def test_memory_of_a_run_is_within_a_factor_two_of_its_estimate(tmp_path: Path) -> None:
    program = "from lrfinder.cli import main; main()"
    sweep = ("--num-iter", "2", "--start-lr", "1e-4", "--end-lr", "1e-3")
    arguments = ("run", "squeezenet1_1", "--image-size", "64", "--out", str(tmp_path), "--json", *sweep)
    ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    content = json.loads(ended.stdout)
    assert "About " in ended.stderr
    assert 0.5 < content["estimate"]["bytes"] / content["took"]["bytes"] < 2
