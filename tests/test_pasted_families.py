"""The lines to paste compute the loss that was swept, for the models of every family and every kind of update."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import SMALLEST, build_task
from torch import nn

from lrfinder import LRFinder
from lrfinder.recipes import recipe
from lrfinder.schedules.forms import FORMS
from lrfinder.schedules.updates import Updates
from lrfinder.tasks import FAMILIES, Task
from lrfinder.tasks.classification_models import AuxiliaryLoss
from lrfinder.tasks.detection import DetectionLoss
from lrfinder.tasks.optical_flow import FlowLoss
from lrfinder.tasks.own_loss import OutputLoss, OwnLoss
from lrfinder.tasks.segmentation import SegmentationLoss

IMAGES, MASKS = torch.randn(2, 3, 4, 4), torch.tensor([[[0, 1], [255, 2]]] * 2).repeat(1, 2, 2)
FLOW, LABELS = torch.randn(2, 2, 4, 4), torch.tensor([0, 2])


class Double(nn.Module):
    """Stands for a model: its output has the form that those of the family have."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.layer = nn.Conv2d(3, 3, 1)
        self.losses: list[float] = []

    def forward(self, images: Any, targets: Any = None) -> Any:
        if self.form == "detection":
            outputs = [self.layer(image).mean() for image in images]
            return {"boxes": outputs[0] ** 2, "classes": outputs[1] ** 2}
        maps = self.layer(images)
        if self.form == "output":
            return {"loss": nn.functional.cross_entropy(maps.mean((2, 3)), targets)}
        if self.form.startswith("segmentation"):
            return {"out": maps, "aux": 2 * maps} if "auxiliary" in self.form else {"out": maps}
        if self.form == "optical flow":
            return [maps[:, :2], 3 * maps[:, :2]]
        logits = maps.mean((2, 3))
        return (logits, 2 * logits, 3 * logits) if self.form.startswith("auxiliary") else logits


def squares(model: Any, batch: Any) -> torch.Tensor:
    """A loss of the user's own."""
    return torch.as_tensor(model(batch[0]).square().mean())


BATCHES: dict[str, Any] = {
    "plain": (IMAGES, LABELS),
    "auxiliary 0.3": (IMAGES, LABELS),
    "auxiliary 0.4": (IMAGES, LABELS),
    "segmentation": (IMAGES, MASKS),
    "segmentation, auxiliary": (IMAGES, MASKS),
    "detection": ([IMAGES[0], IMAGES[1]], [{}, {}]),
    "optical flow": (IMAGES, IMAGES, FLOW, FLOW[:, 0] > -1),
    "own loss": (IMAGES, LABELS),
    "output": {"images": IMAGES, "targets": LABELS},
}
LOSSES: dict[str, dict[str, Any]] = {
    "plain": {"criterion": nn.CrossEntropyLoss()},
    "auxiliary 0.3": {"criterion": AuxiliaryLoss(0.3)},
    "auxiliary 0.4": {"criterion": AuxiliaryLoss(0.4)},
    "segmentation": {"criterion": SegmentationLoss(auxiliary=False)},
    "segmentation, auxiliary": {"criterion": SegmentationLoss(auxiliary=True)},
    "detection": {"loss_fn": DetectionLoss()},
    "optical flow": {"loss_fn": FlowLoss()},
    "own loss": {"loss_fn": OwnLoss(squares)},
    "output": {"loss_fn": OutputLoss("the double")},
}
UPDATES: dict[str, dict[str, Any]] = {
    "as they are": {},
    "accumulated": {"accumulation_steps": 2},
    "clipped": {"clip_grad_norm": 0.1},
    "bfloat16": {"amp_dtype": torch.bfloat16},
    "with a scaler": {"grad_scaler": True, "clip_grad_norm": 1.0},
}


def model(form: str) -> tuple[Double, torch.optim.Optimizer]:
    torch.manual_seed(0)
    double = Double(form)
    return double, torch.optim.SGD(double.parameters(), lr=0.1)


def pasted(code: str, **names: Any) -> dict[str, Any]:
    space = {"criterion": nn.CrossEntropyLoss(), "loss_fn": squares, **names}
    exec(compile(code, "pasted", "exec"), space)
    return space


def test_every_form_is_tried_here() -> None:
    assert set(BATCHES) == set(LOSSES) == set(FORMS)


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({"total_steps": 40}, "scheduler.step() after every update, not after every epoch."),
        ({"epochs": 4}, "scheduler.step() after every epoch, not after every batch."),
    ],
)
def test_a_trainer_has_the_loop(options: dict[str, Any], call: str) -> None:
    made = recipe("cosine", peak_lr=0.1, form="trainer", own_step=True, accumulation_steps=2, **options)
    assert made.code().endswith(f"\n# The loop is that of the trainer: have it call {call}\n")
    _, optimizer = model("plain")
    space = pasted(made.code(), optimizer=optimizer)
    built = made.build(model("plain")[1])
    assert space["scheduler"].state_dict().keys() == built.state_dict().keys()
    assert optimizer.param_groups[0]["lr"] == built.optimizer.param_groups[0]["lr"]
    plateau = recipe("plateau", peak_lr=0.1, form="trainer").code()
    assert "have it call scheduler.step(loss) after every epoch" in plateau


@pytest.mark.parametrize("updates", UPDATES.values(), ids=UPDATES)
@pytest.mark.parametrize("form", BATCHES)
def test_the_lines_run_with_every_kind_of_update(form: str, updates: dict[str, Any]) -> None:
    double, optimizer = model(form)
    before = double.layer.weight.clone()
    code = recipe("cosine", peak_lr=0.1, epochs=2, steps_per_epoch=2, device="cpu", form=form, **updates).code()
    loader = [BATCHES[form]] * 2 * updates.get("accumulation_steps", 1)
    space = pasted(code, model=double, optimizer=optimizer, train_loader=loader)
    assert space["scheduler"].last_epoch == 4
    assert not torch.equal(double.layer.weight, before)


@pytest.mark.parametrize(("form", "losses"), [*LOSSES.items(), ("own loss", {"loss_fn": squares})])
def test_the_lines_compute_the_loss_that_was_swept(form: str, losses: dict[str, Any]) -> None:
    double, optimizer = model(form)
    finder = LRFinder(double, optimizer, **losses)
    result = finder.range_test([BATCHES[form]] * 3, start_lr=1e-3, end_lr=1e-2, num_iter=3, progress=False)
    assert result.curve.facts is not None and result.curve.facts.form == form
    code = result.recipe("constant", peak_lr=1e-3, total_steps=1, warmup_steps=0).code()
    loss = pasted(code, model=double, optimizer=optimizer, train_loader=[BATCHES[form]])["loss"]
    assert float(loss.detach()) == pytest.approx(result.curve.losses[0], rel=1e-5)


@pytest.mark.parametrize("accumulation_steps", [1, 2])
@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_batches_are_moved_to_the_device_of_the_model(form: str, closure: bool, accumulation_steps: int) -> None:
    double, optimizer = model(form)
    double.to("meta")
    options: dict[str, Any] = {"form": form, "closure": closure, "accumulation_steps": accumulation_steps}
    code = recipe("constant", peak_lr=0.1, total_steps=2, **options).code()
    space = pasted(code, model=double, optimizer=optimizer, train_loader=[BATCHES[form]] * 4)
    assert space["loss"].device.type == "meta"
    assert "device" not in recipe("constant", peak_lr=0.1, total_steps=2, device="cpu", **options).code()


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_so_are_those_of_a_step_of_ones_own(accumulation_steps: int) -> None:
    seen: list[Any] = []
    code = recipe("constant", peak_lr=0.1, total_steps=2, own_step=True, accumulation_steps=accumulation_steps).code()
    double, optimizer = model("plain")
    double.to("meta")

    def step_fn(data: Any) -> None:
        seen.append(data)
        optimizer.step()

    pasted(code, model=double, optimizer=optimizer, step_fn=step_fn, train_loader=[{"images": [IMAGES]}] * 4)
    first = seen[0] if accumulation_steps == 1 else seen[0][1]
    assert first["images"][0].device.type == "meta"


def test_a_form_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="form must be one of plain"):
        Updates(form="haiku")


# --- real models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", SMALLEST)
def test_the_lines_train_a_model_of_each_family(family: str) -> None:
    torch.manual_seed(0)
    task: Task = build_task(batch_size=2, **SMALLEST[family])
    loss = task.criterion or task.loss_fn
    code = recipe("constant", peak_lr=1e-5, total_steps=1, warmup_steps=0, form=getattr(loss, "form", "plain")).code()
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.1)
    space = pasted(code, model=task.model, optimizer=optimizer, train_loader=task.train_loader)
    assert torch.isfinite(space["loss"])


def test_the_families_are_all_tried_here() -> None:
    assert set(SMALLEST) == set(FAMILIES)
