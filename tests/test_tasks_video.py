"""Video and optical flow on files: frame folders, .flo files, the tasks, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small import build_task
from torch import nn
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d

from lrfinder.errors import ConfigError, SetupError
from lrfinder.tasks.flow_data import open_flow, read_flo
from lrfinder.tasks.frames import clip_places, open_frames
from lrfinder.tasks.optical_flow import FlowLoss

SMALL = "mc3_18"


def sequence(folder: Path, count: int, size: tuple[int, int] = (20, 16)) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", size, (i, i, i)).save(folder / f"{i:03d}.png")


def clips(root: Path, count: int = 2, frames: int = 16) -> Path:
    for name in ("jump", "run"):
        for i in range(count):
            sequence(root / name / str(i), frames)
    return root


def flo(path: Path, width: int = 136, height: int = 128, value: float = 2.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = b"PIEH" + np.array([width, height], "<i4").tobytes()
    path.write_bytes(head + np.full((height, width, 2), value, "<f4").tobytes())
    return path


def picture(path: Path, width: int = 136, height: int = 128) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


def chairs(root: Path, count: int = 3, **size: int) -> Path:
    for i in range(count):
        flo(root / "data" / f"{i:05d}_flow.flo", **size)
        for number in (1, 2):
            picture(root / "data" / f"{i:05d}_img{number}.ppm", **size)
    return root


# --- video ------------------------------------------------------------------------------------------------------------


def test_a_model_trains_and_validates_on_frames(tmp_path: Path) -> None:
    clips(tmp_path / "train"), clips(tmp_path / "val", 1)
    task = build_task(SMALL, tmp_path, val=True, batch_size=2, image_size=16)
    assert task.title == f"{SMALL} on {tmp_path.name}: 4 sequences, 2 classes"
    inputs, labels = next(iter(task.train_loader))
    assert inputs.shape == (2, 3, 16, 16, 16)
    assert task.criterion is not None
    task.criterion(task.model(inputs), labels).backward()
    assert [len(loader) for loader in (task.train_loader, task.val_loader)] == [2, 1]


def test_frames_are_the_middle_of_a_sequence_in_order(tmp_path: Path) -> None:
    samples = open_frames(str(clips(tmp_path, frames=7)), 3)
    frames, label = samples.train[3]
    assert ([frame.getpixel((0, 0))[0] for frame in frames], label) == ([2, 3, 4], 1)


def test_frames_follow_their_numbers_also_without_leading_zeros(tmp_path: Path) -> None:
    for path in sorted(clips(tmp_path, frames=12).rglob("*.png")):
        path.rename(path.with_name(f"frame{int(path.stem)}.png"))
    frames, _ = open_frames(str(tmp_path), 12).train[0]
    assert [frame.getpixel((0, 0))[0] for frame in frames] == list(range(12))


def test_frames_of_short_sequences_are_repeated_and_counted(tmp_path: Path) -> None:
    samples = open_frames(str(clips(tmp_path, frames=2)), 4)
    assert len(samples.train[0][0]) == 4
    assert samples.notes == ("4 of 4 sequences have fewer than 4 frames, which are repeated.",)


@given(st.integers(1, 200), st.integers(1, 64))
def test_places_of_a_clip_are_in_order_and_in_the_sequence(count: int, frames: int) -> None:
    places = clip_places(count, frames)
    assert len(places) == frames and places == sorted(places)
    assert 0 <= places[0] <= places[-1] < count
    assert len(set(places)) == min(count, frames)


def encoded(root: Path) -> None:
    for name in ("jump", "run"):
        (root / name).mkdir()
        (root / name / "a.mp4").write_bytes(b"")


def one_class(root: Path) -> None:
    sequence(root / "jump" / "0", 3)


def images_alone(root: Path) -> None:
    sequence(root / "jump", 3)
    sequence(root / "run", 3)


@pytest.mark.parametrize(
    "make, sentence",
    [
        (encoded, "a.mp4 is encoded video, which torchvision no longer decodes. Write its frames"),
        (one_class, "has 1 class folders; at least two are needed"),
        (images_alone, "has no folder with images"),
    ],
)
def test_folders_without_sequences_are_refused(tmp_path: Path, make: Any, sentence: str) -> None:
    make(tmp_path)
    with pytest.raises(SetupError, match=sentence):
        open_frames(str(tmp_path), 4)


def test_a_video_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(SetupError, match="is encoded video"):
        open_frames(str(tmp_path / "a.mp4"), 4)


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    clips(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "jump" / "0" / "005.png")
    task = build_task(SMALL, tmp_path, batch_size=4, image_size=16)
    with pytest.raises(SetupError, match="005.png has 8x8 pixels, and .*000.png has 20x16. The frames of a sequence"):
        list(task.train_loader)


def test_a_size_that_the_model_cannot_take_is_refused() -> None:
    with pytest.raises(SetupError, match="s3d cannot be trained on frames of 64x64 pixels.*its own is 224"):
        build_task("s3d", image_size=64, batch_size=2)


# --- optical flow -----------------------------------------------------------------------------------------------------


def test_raft_trains_and_validates_on_flying_chairs(tmp_path: Path) -> None:
    task = build_task("raft_small", chairs(tmp_path, 5), val=True, batch_size=1)
    assert task.facts["image_size"] == [128, 136]
    assert task.loss_fn is not None
    task.loss_fn(task.model, next(iter(task.train_loader))).backward()
    assert all(parameter.grad is not None for parameter in task.model.parameters())
    with torch.no_grad():
        assert float(task.loss_fn(task.model.eval(), next(iter(task.val_loader)))) > 0


def test_the_split_of_flying_chairs_is_obeyed(tmp_path: Path) -> None:
    (chairs(tmp_path) / "FlyingChairs_train_val.txt").write_text("1\n2\n1\n")
    samples = open_flow(str(tmp_path))
    assert [len(part) for part in (samples.train, samples.val)] == [2, 1]


def test_sintel_pairs_are_a_frame_and_the_next(tmp_path: Path) -> None:
    for kind in ("clean", "final"):
        for i in (1, 2, 3):
            picture(tmp_path / "training" / kind / "alley" / f"frame_{i:04d}.png")
    for i in (1, 2):
        flo(tmp_path / "training" / "flow" / "alley" / f"frame_{i:04d}.flo")
    pairs = open_flow(str(tmp_path)).train.source
    names = [[str(Path(each).relative_to(tmp_path / "training")) for each in pair] for pair in pairs]
    assert names[1] == ["clean/alley/frame_0002.png", "clean/alley/frame_0003.png", "flow/alley/frame_0002.flo"]


def test_unknown_flow_does_not_count(tmp_path: Path) -> None:
    flo(chairs(tmp_path, 1) / "data" / "00000_flow.flo", value=1e10)
    task = build_task("raft_small", tmp_path, batch_size=1)
    *_, flow, valid = next(iter(task.train_loader))
    assert not valid.any() and not flow.any()


def test_the_loss_weighs_the_last_prediction_most() -> None:
    class Predicts(nn.Module):
        def forward(self, first: Any, second: Any) -> list[torch.Tensor]:
            return [torch.full((1, 2, 2, 2), each) for each in (1.0, 3.0)]

    flow, valid = torch.zeros(1, 2, 2, 2), torch.tensor([[[True, True], [False, False]]])
    assert float(FlowLoss()(Predicts(), (flow, flow, flow, valid))) == pytest.approx(0.8 * 0.5 + 1.5)


def test_weights_for_other_classes_get_a_new_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = models.get_model(SMALL, num_classes=9).state_dict()
    torch.save(state, tmp_path / "w.pth")
    task = build_task(SMALL, weights=tmp_path / "w.pth", batch_size=2, image_size=32)
    assert task.notes[1].endswith("w.pth has 9 classes, not 4.")
    assert torch.equal(task.model.state_dict()["stem.0.weight"], state["stem.0.weight"])


def test_trained_weights_of_raft_keep_batchnorm_frozen(tmp_path: Path) -> None:
    state = models.get_model("raft_large").state_dict()
    torch.save(state, tmp_path / "w.pth")
    task = build_task("raft_large", weights=tmp_path / "w.pth")
    kinds = {type(module) for module in task.model.modules()}
    assert FrozenBatchNorm2d in kinds and nn.BatchNorm2d not in kinds
    assert all(torch.equal(value, state[name]) for name, value in task.model.state_dict().items())


def cut(root: Path) -> None:
    path = chairs(root) / "data" / "00001_flow.flo"
    path.write_bytes(path.read_bytes()[:-1])


def other_size(root: Path) -> None:
    picture(chairs(root) / "data" / "00001_img2.ppm", 128, 128)


def alone(root: Path) -> None:
    flo(root / "00001_flow.flo")


@pytest.mark.parametrize(
    "make, sentence",
    [
        (cut, "is no .flo file, or is cut off"),
        (other_size, "must have one size; they have 136x128, 128x128 and 136x128 pixels"),
        (alone, "has no image .*00001_img1"),
        (lambda root: flo(root / "odd.flo"), "does not tell which images it belongs to"),
        (lambda root: (root / "a.pfm").write_bytes(b""), "has no .flo file. .*a.pfm is in another format"),
        (lambda root: picture(root / "image_2" / "0_10.png"), "has no .flo file. Expected"),
        (lambda root: picture(root / "flow_occ" / "0_10.png"), "0_10.png is in another format; convert"),
    ],
)
def test_flow_that_cannot_be_used_is_refused(tmp_path: Path, make: Any, sentence: str) -> None:
    make(tmp_path)
    with pytest.raises(SetupError, match=sentence):
        list(open_flow(str(tmp_path)).train)


def test_numbers_that_raft_cannot_take_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no classes"):
        build_task("raft_small", num_classes=3)
    with pytest.raises(ConfigError, match="a multiple of 8 from 128 on; got 100"):
        build_task("raft_small", image_size=100)
    with pytest.raises(SetupError, match="RAFT needs at least 128x128"):
        build_task("raft_small", chairs(tmp_path, width=64, height=64))


def test_a_flow_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_flo(str(flo(tmp_path / "a.flo", 3, 2, -1.5))).tolist() == [[[-1.5] * 3] * 2] * 2
