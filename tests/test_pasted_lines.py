"""The lines to paste make the updates of the training that was swept, and step the scheduler once for each of them."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from small import labelled, network
from torch import nn

from lrfinder import LRFinder, RangeTestResult
from lrfinder.cli import main
from lrfinder.errors import ConfigError
from lrfinder.recipes import Recipe, recipe
from lrfinder.schedules.updates import Updates

torch.set_num_threads(1)

BATCHES, EPOCHS = 10, 3
AMP: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"amp_dtype": torch.bfloat16},
    "float16": {"amp_dtype": torch.float16},
    "float32 with a scaler": {"grad_scaler": True},
}
accumulating = pytest.mark.parametrize("accumulation_steps", [1, 4, 16])
precisions = pytest.mark.parametrize("amp", AMP.values(), ids=AMP)
clipping = pytest.mark.parametrize("clip_grad_norm", [None, 0.01])


class Paste:
    """What the lines did: LR and norm of the gradients at each update, and calls of the scheduler and the model."""

    def __init__(self, code: str, *, loader: Any = None) -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
        self.lrs: list[float] = []
        self.norms: list[float] = []
        self.dtypes: set[torch.dtype] = set()
        self.batches = 0
        optimizer.register_step_pre_hook(self._update)
        model.register_forward_hook(self._forward)
        space = {
            "model": model,
            "optimizer": optimizer,
            "criterion": nn.CrossEntropyLoss(),
            "train_loader": loader or [labelled(i) for i in range(BATCHES)],
        }
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # Torch's own SequentialLR, before pytorch/pytorch#149392.
            warnings.filterwarnings("ignore", message=".*epoch parameter.*")
            exec(compile(code, "pasted", "exec"), space)
        self.calls = space["scheduler"].last_epoch

    def _update(self, optimizer: Any, *_: Any) -> None:
        self.lrs.append(optimizer.param_groups[0]["lr"])
        self.norms.append(float(nn.utils.get_total_norm([p.grad for p in optimizer.param_groups[0]["params"]])))

    def _forward(self, model: Any, inputs: Any, output: torch.Tensor) -> None:
        self.batches += 1
        self.dtypes.add(output.dtype)


@accumulating
@precisions
@clipping
@pytest.mark.parametrize("rounded", ["up", "down"])
@pytest.mark.parametrize("kind", ["onecycle", "cosine"])
def test_a_schedule_by_updates_is_stepped_once_for_each(
    kind: str, rounded: str, accumulation_steps: int, amp: dict[str, Any], clip_grad_norm: float | None
) -> None:
    whole = -(-BATCHES // accumulation_steps) if rounded == "up" else max(1, BATCHES // accumulation_steps)
    epochs = max(EPOCHS, -(-4 // whole))
    options: dict[str, Any] = {"accumulation_steps": accumulation_steps, "clip_grad_norm": clip_grad_norm}
    one = recipe(kind, peak_lr=1e-3, epochs=epochs, steps_per_epoch=whole, device="cpu", **options, **amp)
    done = Paste(one.code())
    assert done.calls == len(done.lrs) == whole * epochs
    assert done.lrs == pytest.approx([one.lr_at(t) for t in range(len(done.lrs))])
    assert done.batches == epochs * min(BATCHES, whole * accumulation_steps)
    assert done.dtypes == {amp.get("amp_dtype", torch.float32)}
    assert (max(done.norms) <= 0.0101) == (clip_grad_norm is not None)


@accumulating
@precisions
@clipping
@pytest.mark.parametrize("kind", ["onecycle", "plateau"])
def test_a_number_of_updates_is_made_exactly_from_any_loader(
    kind: str, accumulation_steps: int, amp: dict[str, Any], clip_grad_norm: float | None
) -> None:
    options: dict[str, Any] = {"accumulation_steps": accumulation_steps, "clip_grad_norm": clip_grad_norm}

    class Stream:
        """A loader without a length."""

        def __iter__(self) -> Any:
            return (labelled(i) for i in range(BATCHES))

    done = Paste(recipe(kind, peak_lr=1e-3, total_steps=12, device="cpu", **options, **amp).code(), loader=Stream())
    if kind == "plateau":  # runs for ten epochs
        assert (done.calls, len(done.lrs)) == (10, 10 * BATCHES // accumulation_steps)
    else:
        assert (done.calls, len(done.lrs), done.batches) == (12, 12, 12 * accumulation_steps)


@pytest.mark.parametrize("accumulation_steps", [1, 4])
@precisions
@clipping
@pytest.mark.parametrize("kind", ["step", "plateau"])
def test_a_schedule_by_epochs_is_stepped_once_for_each(
    kind: str, accumulation_steps: int, amp: dict[str, Any], clip_grad_norm: float | None
) -> None:
    options: dict[str, Any] = {"accumulation_steps": accumulation_steps, "clip_grad_norm": clip_grad_norm}
    done = Paste(recipe(kind, peak_lr=1e-3, epochs=4, device="cpu", **options, **amp).code())
    assert (done.calls, done.batches) == (4, 4 * BATCHES)
    assert len(done.lrs) == 4 * BATCHES // accumulation_steps


def test_accumulated_gradients_are_the_mean_over_the_batches() -> None:
    options: dict[str, Any] = {"peak_lr": 1e-3, "total_steps": 4}
    inputs, target = zip(*(labelled(i) for i in range(4)), strict=True)
    one = Paste(recipe("onecycle", **options).code(), loader=[(torch.cat(inputs), torch.cat(target))])
    many = Paste(recipe("onecycle", accumulation_steps=4, **options).code(), loader=[labelled(i) for i in range(4)])
    assert many.norms == pytest.approx(one.norms, rel=1e-4)


def test_an_update_that_the_scaler_skips_steps_no_scheduler() -> None:
    code = recipe("onecycle", peak_lr=1e-3, total_steps=9, grad_scaler=True, device="cpu").code()
    huge = code.replace('GradScaler("cpu")', 'GradScaler("cpu", init_scale=3e38)')
    done = Paste(huge, loader=[(100 * labelled(i)[0], labelled(i)[1]) for i in range(BATCHES)])
    assert done.calls == len(done.lrs) < 9


# --- where they come from ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulation_steps", [1, 4])
@precisions
@clipping
def test_the_lines_of_a_result_follow_its_finder(
    accumulation_steps: int, amp: dict[str, Any], clip_grad_norm: float | None, tmp_path: Path
) -> None:
    model = network()
    scaler = torch.amp.GradScaler("cpu") if amp.get("grad_scaler") else None
    finder = LRFinder(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        nn.CrossEntropyLoss(),
        amp_dtype=amp.get("amp_dtype"),
        grad_scaler=scaler,
        clip_grad_norm=clip_grad_norm,
        accumulation_steps=accumulation_steps,
    )
    swept = finder.range_test([labelled(i) for i in range(BATCHES)], start_lr=1e-4, end_lr=1.0, num_iter=12)
    result = RangeTestResult.load(swept.save(tmp_path / "lr.json"))
    per_epoch = -(-BATCHES // accumulation_steps)
    one = result.recipe("onecycle", peak_lr=1e-3, epochs=EPOCHS, steps_per_epoch=per_epoch)
    assert one.updates == Updates(
        accumulation_steps=accumulation_steps, clip_grad_norm=clip_grad_norm, device="cpu", **amp
    )
    assert Recipe.load(one.save(tmp_path / "recipe.json")) == one
    assert Paste(one.code()).calls == EPOCHS * per_epoch


@pytest.mark.parametrize("length", [{"total_steps": 8}, {"epochs": 2, "steps_per_epoch": 4}, {"epochs": 2}], ids=str)
@pytest.mark.parametrize("kind", ["cosine", "plateau"])
@clipping
def test_the_lines_of_lbfgs_have_a_closure(kind: str, length: dict[str, int], clip_grad_norm: float | None) -> None:
    model, loader = network(), [labelled(seed) for seed in range(4)]
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    finder = LRFinder(model, optimizer, nn.CrossEntropyLoss(), clip_grad_norm=clip_grad_norm)
    made = finder.range_test(loader, start_lr=1e-3, end_lr=1.0, num_iter=10).recipe(kind, peak_lr=0.1, **length)
    names = {"model": model, "optimizer": optimizer, "criterion": nn.CrossEntropyLoss(), "train_loader": loader}
    before = nn.CrossEntropyLoss()(model(loader[0][0]), loader[0][1]).item()
    exec(made.code().replace("range(10)", "range(2)"), names)  # the epochs of a length that is not known
    assert nn.CrossEntropyLoss()(model(loader[0][0]), loader[0][1]).item() < before
    assert ("clip_grad_norm_" in made.code()) == (clip_grad_norm is not None)
    assert Recipe.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_an_option_of_the_recipe_goes_before_what_was_swept() -> None:
    model = network()
    finder = LRFinder(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss(), accumulation_steps=4)
    swept = finder.range_test([labelled(i) for i in range(BATCHES)], start_lr=1e-4, end_lr=1.0, num_iter=12)
    assert "loss / 2" in swept.recipe("cosine", peak_lr=0.1, total_steps=9, accumulation_steps=2).code()


def test_the_lines_of_the_command_line_follow_its_options(tmp_path: Path) -> None:
    options = "--accumulation 4 --clip-grad-norm 1 --device cpu --epochs 2 --batch-size 8 --num-iter 4"
    run = ["run", "squeezenet1_1", *options.split(), "--start-lr", "1e-5", "--end-lr", "1e-1", "--out", str(tmp_path)]
    outcome = CliRunner().invoke(main, [*run, "--json"])
    content = json.loads(outcome.stdout)
    facts = content["curve"]["facts"]
    assert (facts["accumulation_steps"], facts["clip_grad_norm"], facts["device"]) == (4, 1.0, "cpu")
    saved = content["files"]["result"]
    length = ["--epochs", "2", "--steps-per-epoch", "3", "--peak-lr", "0.01"]
    lines = CliRunner().invoke(main, ["schedule", saved, *length]).stdout
    assert Paste(lines).calls == 6
    assert "(loss / 4).backward()" in lines


def test_of_a_device_its_kind_counts() -> None:
    assert Updates(device="cuda:1") == Updates(device="cuda") != Updates(device="cpu")


@pytest.mark.parametrize(
    ("bad", "good", "remedy"),
    [
        ({"accumulation_steps": 0}, {"accumulation_steps": 1}, "accumulation_steps must be a whole number"),
        ({"clip_grad_norm": 0.0}, {"clip_grad_norm": 1e-9}, "clip_grad_norm must be a finite number above 0"),
        ({"amp_dtype": "float32"}, {"amp_dtype": "float16"}, "must be 'bfloat16', 'float16' or None"),
        ({"grad_scaler": "yes"}, {"grad_scaler": True}, "grad_scaler must be True, False or None"),
        ({"train_mode": ["print"]}, {"train_mode": ["optimizers[12]"]}, "train_mode must be 'model', 'optimizer' or"),
        ({"device": '"); import os'}, {"device": torch.device("cuda", 1)}, "such as 'cuda' or 'cpu'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_updates_that_cannot_be_made_are_refused(bad: dict[str, Any], good: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        recipe("cosine", peak_lr=0.1, total_steps=9, **bad)
    recipe("cosine", peak_lr=0.1, total_steps=9, **good)


def test_only_a_step_of_several_batches_collects_them() -> None:
    for count in (1, 4):
        code = recipe("cosine", peak_lr=0.1, total_steps=9, own_step=True, accumulation_steps=count).code()
        assert ("batches = []" in code) == (count > 1)


def test_every_combination_fits_the_page() -> None:
    for accumulation, amp, clip in itertools.product((1, 4), AMP.values(), (None, 1.0)):
        updates: dict[str, Any] = {"accumulation_steps": accumulation, "clip_grad_norm": clip, **amp}
        code = recipe("onecycle", peak_lr=0.1, epochs=3, steps_per_epoch=1000, **updates).code()
        assert max(map(len, code.splitlines())) <= 120
        assert ("unscale_" in code) == (clip is not None and "GradScaler" in code)


@pytest.mark.parametrize("form", ["plain", "own loss", "two-part step"])
def test_own_step_makes_the_update_whatever_computes_the_loss(form: str) -> None:
    code = recipe("constant", peak_lr=0.1, own_step=True, form=form).code()
    assert ("backward(data)" if form == "two-part step" else "step_fn(data)") in code and "loss_fn" not in code
