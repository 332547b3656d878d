"""Bad input of every command, as a user types it: exit status 2, one paragraph in the words of the command line.

A row is a command and words of the answer. In a command, {b} is the folder of tests/bad_files.py, {huge} is 2**70, and
S, F, D, M, K, V and L are small models of each kind.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from bad_files import COCO, build_all
from click.testing import CliRunner

from lrfinder.cli import main
from lrfinder.errors import ConfigError
from lrfinder.tasks.settings import Settings, check_settings

MODELS = {
    "S": "squeezenet1_1",
    "F": "lraspp_mobilenet_v3_large",
    "D": "ssdlite320_mobilenet_v3_large",
    "M": "maskrcnn_resnet50_fpn",
    "K": "keypointrcnn_resnet50_fpn",
    "V": "mc3_18",
    "L": "raft_small",
}
# What else a run is given, so that a row that is accepted by mistake ends soon.
QUICK = {"--num-iter": "2", "--batch-size": "2", "--start-lr": "1e-3", "--out": "new/out"}
PYTHON_NAMES = {
    each.name: each.opts[0]
    for command in main.commands.values()
    for each in command.params
    if isinstance(each, click.Option) and each.name and "_" in each.name
}

ROWS = [
    # MODEL
    ("run", "Missing argument 'MODEL'"),
    ("run resnet19 {b}/good", "unexpected extra argument"),
    ("run resnet19", "Did you mean 'resnet18'?"),
    ("run keypointrcnn", "got 'keypointrcnn'. Did you mean 'keypointrcnn_resnet50_fpn'?"),
    ("run ''", "got ''"),
    ("run 'resnet18 '", "Did you mean 'resnet18'?"),
    ("run quantized_resnet18", "its weights are whole numbers of 8 bits"),
    ("run {b}/good", "lists them"),
    # data
    ("run S --data nowhere", "must be digits, fake or a folder of images; 'nowhere' does not exist"),
    ("run S --data ''", "got an empty name"),
    ("run S --data Digits", "'Digits' does not exist"),
    ("run S --data {b}/empty", "any class folder in {b}/empty"),
    ("run S --data {b}/file", "is a file"),
    ("run S --data {b}/film.mp4", "is a file"),
    ("run S --data {b}/one", "only the class cat"),
    ("run S --data '{b}/line\nbreak é'", "line break é has only the class cat"),
    ("run S --data {b}/val_test", "has only Test, Val, and no part to train on"),
    ("run S --data {b}/train_only", "any class folder in {b}/train_only/train"),
    ("run S --data {b}/train_val_flat", "any class folder in {b}/train_val_flat/Train"),
    ("run S --data {b}/training_validation", "any class folder in {b}/training_validation/training"),
    ("run S --data {b}/train_test", "any class folder in {b}/train_test/train"),
    ("run S --data {b}/images_masks", "has images and masks"),
    ("run S --data {b}/images_labels", "has images and labels"),
    ("run S --data {b}/train_images_masks", "has images and masks"),
    ("run S --data {b}/masks_good", "has images and masks"),
    ("run S --data '{b}/coco good'", "has a COCO file, which has the boxes"),
    ("run S --data {b}/checkpoints", "only the class cat"),
    ("run S --data {b}/own_output", "only the class cat"),
    ("run S --data {b}/system_files", "no valid file for the classes dog"),
    ("run S --data {b}/cycle", "only the class cat"),
    ("run S --data {b}/dangling", "only the class cat"),
    ("run S --data {b}/empty_class", "no valid file for the classes dog"),
    ("run S --data {b}/text_class", "no valid file for the classes dog"),
    ("run S --data {b}/flat", "any class folder"),
    ("run S --data {b}/mixed --val", "only one of them has cow, dog"),
    ("run S --data {b}/good --batch-size 100", "fewer than a batch of 100. Lower --batch-size"),
    # image
    ("run S --data {b}/truncated", "image file is truncated"),
    ("run S --data {b}/html_images", "not in a format that Pillow can read"),
    ("run S --data {b}/empty_images", "not in a format that Pillow can read"),
    ("run S --data {b}/links_to_nothing", ": No such file or directory. Repair it"),
    ("run S --data {b}/nan_images", "from nan to nan"),
    ("run S --data {b}/negative", "from -5 to -5"),
    ("run S --data {b}/huge_values", "from 1e+09"),
    # dataset
    ("run S --dataset CIFAR11", "--dataset must be one of CIFAR10"),
    ("run S --dataset CocoDetection", "--dataset must be one of CIFAR10"),
    ("run S --dataset CIFAR10 --root nowhere", "Set --download to fetch it there"),
    ("run S --dataset CIFAR10 --root {b}/file", "CIFAR10 is not in {b}/file"),
    ("run S --dataset ImageNet --root {b}/empty --download", "cannot be downloaded automatically"),
    ("run S --dataset CIFAR10 --data {b}/good", "--data and --dataset both say which data to use"),
    ("run S --dataset CIFAR10 --data digits", "--data and --dataset both say which data to use"),
    ("run S --root {b}/good", "--root has no effect without --dataset"),
    ("run S --download", "--download has no effect without --dataset"),
    ("run S --masks {b}/masks_good/masks", "--masks is of no use for squeezenet1_1"),
    ("run S --val-batches 3", "--val-batches has no effect without --val."),
    ("run S --val-batches 4", "--val-batches has no effect without --val."),
    # family
    ("run D --data digits", "these have no boxes"),
    ("run F", "these have no masks"),
    ("run V", "these are no sequences"),
    ("run L", "these have no flow"),
    ("run D --dataset CIFAR10", "--dataset is of no use for ssdlite320"),
    ("run F --dataset CIFAR10", "--dataset is of no use for lraspp"),
    ("run V --masks x --data fake", "--masks is of no use for mc3_18"),
    ("run L --data fake --num-classes 3", "Leave --num-classes out"),
    ("run L --data fake --image-size 64", "a multiple of 8"),
    # masks
    ("run F --data fake --masks {b}/masks_good/masks", "--masks is of no use for fake data"),
    ("run F --data nowhere", "'nowhere' does not exist"),
    ("run F --data {b}/file", "is a file"),
    ("run F --data {b}/good", "no folder of images and masks"),
    ("run F --data {b}/images_only", "no folder of masks"),
    ("run F --data {b}/masks_other_size", "Both must have the same size"),
    ("run F --data {b}/masks_zero", "the class 0 alone"),
    ("run F --data {b}/masks_void", "hold 255, which is void, alone"),
    ("run F --data {b}/masks_range", "the mask {b}/masks_range/masks/0.tif holds values from 0 to 300"),
    ("run F --data {b}/masks_negative", "holds values from -1 to 1"),
    ("run F --data {b}/masks_float", "labels are whole numbers from 0 to 254"),
    ("run F --data {b}/masks_nan", "holds values from nan to nan"),
    ("run F --data {b}/masks_coloured", "is coloured"),
    ("run F --data {b}/masks_jpeg", "is a JPEG"),
    ("run F --data {b}/masks_text", "not in a format that Pillow can read"),
    ("run F --data {b}/masks_empty", "(9 images, 0 masks)"),
    ("run F --data {b}/masks_names", "(9 images, 9 masks)"),
    ("run F --data {b}/masks_twice", "both masks of one image"),
    ("run F --data {b}/masks_good --masks {b}/file", "--masks must be a folder of masks"),
    ("run F --data {b}/masks_good --masks nowhere", "--masks must be a folder of masks"),
    # video
    ("run V --data nowhere", "does not exist"),
    ("run V --data {b}/good", "has no folder with images"),
    ("run V --data {b}/frames_one", "at least two are needed"),
    ("run V --data {b}/frames_encoded", "is encoded video"),
    ("run V --data {b}/film.mp4", "is encoded video"),
    ("run V --data {b}/frames_empty", "jump has no folder with images"),
    # flow
    ("run L --data {b}/good", "has no .flo file"),
    ("run L --data {b}/flow_magic", "is no .flo file, or is cut off"),
    ("run L --data {b}/flow_cut", "is no .flo file, or is cut off"),
    ("run L --data {b}/flow_negative", "is no .flo file, or is cut off"),
    ("run L --data {b}/flow_huge", "is no .flo file, or is cut off"),
    ("run L --data {b}/flow_nothing", "is no .flo file, or is cut off"),
    ("run L --data {b}/flow_size", "must have one size"),
    ("run L --data {b}/flow_no_second", "has no image {b}/flow_no_second/0_img2"),
    ("run L --data {b}/flow_split", "must have a 1 or a 2"),
    ("run L --data {b}/flow_no_train", "marks no pair with 1"),
    ("run L --data {b}/flow_name", "does not tell which images"),
    ("run L --data {b}/flow_other", "convert it to .flo"),
    # coco
    ("run D --data {b}/good", "found none"),
    ("run D --data {b}/file", "it is no JSON"),
    ("run D --data '{b}/coco cut'", "it is no JSON"),
    ("run D --data '{b}/coco nothing'", "it is no JSON"),
    ("run D --data '{b}/coco list'", "is no COCO file"),
    ("run D --data '{b}/coco deep'", "it is no JSON"),
    ("run D --data '{b}/coco latin'", "it is no JSON"),
    ("run D --data '{b}/coco two'", "found 2 such files"),
    ("run M --data '{b}/coco good'", "has no segmentation"),
    ("run K --data '{b}/coco good'", "has no keypoints"),
    ("run K --data '{b}/coco keypoints 0'", "the lists have the lengths 2"),
    ("run K --data '{b}/coco keypoints 1'", "must be lists of finite numbers"),
    ("run K --data '{b}/coco keypoints 2'", "must be lists of finite numbers"),
    ("run K --data '{b}/coco keypoints 3'", "must be lists of finite numbers"),
    # weights
    ("run S --weights nope.pth", "--weights must be a file or one of IMAGENET1K_V1"),
    ("run S --weights ''", "--weights must be a file or one of"),
    ("run S --weights {b}/weights", "--weights must be a file or one of"),
    ("run S --weights IMAGENET1K_V9", "--weights must be a file or one of"),
    ("run S --weights {b}/weights/text.pth", "not a file of weights"),
    ("run S --weights {b}/weights/page.pth", "not a file of weights"),
    ("run S --weights {b}/weights/empty.pth", "not a file of weights"),
    ("run S --weights {b}/weights/code.pth", "cannot read weights from"),
    ("run S --weights {b}/weights/object.pth", "which could run code"),
    ("run S --weights {b}/weights/nothing.pth", "holds no state dict"),
    ("run S --weights {b}/weights/list.pth", "holds no state dict"),
    ("run S --weights {b}/weights/other.pth", "do not fit squeezenet1_1"),
    ("run S --weights {b}/weights/shape.pth", "in the weights and"),
    ("run S --weights {b}/weights/cut.pth", "it is damaged"),
    ("run S --weights {b}/weights/empty.safetensors", "it is damaged"),
    ("run S --weights {b}/weights/damaged.safetensors", "it is damaged"),
    ("run S --weights {b}/weights/header.safetensors", "it is damaged"),
    ("run S --weights {b}/weights/offsets.safetensors", "it is damaged"),
    ("run S --weights {b}/weights/dtype.safetensors", "it is damaged"),
    # numbers
    ("run S --num-classes 1", "1 is not in the range"),
    ("run S --num-classes 9", "Set --num-classes to 10"),
    ("run S --num-classes {huge}", "--num-classes must be a whole number from 2 to"),
    ("run S --image-size 0", "0 is not in the range"),
    ("run S --image-size 1", "Set another --image-size; its own is 224"),
    ("run S --image-size 100000000", "Lower --batch-size (and raise --accumulation) or --image-size"),
    ("run S --image-size {huge}", "--image-size must be a whole number from 1 to"),
    ("run S --batch-size 0", "0 is not in the range"),
    ("run S --batch-size -1", "-1 is not in the range"),
    ("run S --batch-size 1.5", "'1.5' is not a valid"),
    ("run S --batch-size nan", "'nan' is not a valid"),
    ("run S --batch-size 1798", "Lower --batch-size"),
    ("run S --batch-size {huge}", "--batch-size must be a whole number from 1 to"),
    ("run S --accumulation 0", "0 is not in the range"),
    ("run S --accumulation {huge}", "--accumulation must be a whole number from 1 to"),
    ("run S --workers -1", "-1 is not in the range"),
    ("run S --workers 100000", "--workers must be a whole number from 0 to 256; got 100000"),
    ("run S --epochs 0", "0 is not in the range"),
    ("run S --epochs {huge}", "--epochs must be a whole number from 1 to"),
    ("run S --clip-grad-norm 0", "--clip-grad-norm must be a positive finite number"),
    ("run S --clip-grad-norm nan", "--clip-grad-norm must be a positive finite number"),
    ("run S --start-lr nan", "--start-lr must be a positive finite number"),
    ("run S --start-lr 0", "--start-lr must be a positive finite number"),
    ("run S --start-lr 1e400", "--start-lr must be a positive finite number; got inf"),
    ("run S --start-lr 1e-300", "--start-lr must be a float32 number"),
    ("run S --end-lr 1e39", "--end-lr must be a float32 number, from 1.2e-38 to 3.4e+38; got 1e+39"),
    ("run S --start-lr 1 --end-lr 0.1", "--end-lr must be greater than --start-lr"),
    ("run S --start-lr 1 --end-lr 1", "--end-lr must be greater than --start-lr"),
    ("run S --num-iter 1", "--num-iter must be a whole number of at least 2"),
    ("run S --num-iter -5", "--num-iter must be a whole number of at least 2"),
    ("run S --num-iter 1e2", "'1e2' is not a valid integer"),
    ("run S --num-iter {huge}", "--num-iter must be a whole number from 2 to"),
    ("run S --mode log", "'log' is not one of"),
    ("run S --seed -1", "-1 is not in the range"),
    ("run S --seed 18446744073709551616", "18446744073709551616 is not in the range"),
    ("run S --val --val-batches 0", "0 is not in the range"),
    ("run S --val --val-batches {huge}", "--val-batches must be a whole number from 1 to"),
    ("run S --refine 0", "0.0 is not in the range"),
    ("run S --refine nan", "--refine must be a number from 0 to 100"),
    ("run S --refine 101", "101.0 is not in the range"),
    ("run S --schedule cosin", "'cosin' is not one of"),
    # optimizer
    ("run S --optimizer Adan", "--optimizer must be one of ASGD"),
    ("run S --optimizer ''", "--optimizer must be one of ASGD"),
    ("run S --optimizer SparseAdam", "--optimizer must be one of ASGD"),
    ("run S --optimizer Muon", "Muon cannot be built with its defaults: Muon only supports 2D parameters"),
    ("run S --opt momentum", "--opt takes KEY=VALUE"),
    ("run S --opt =1", "--opt takes KEY=VALUE"),
    ("run S --opt momentum=high", "momentum of SGD must be a finite number"),
    ("run S --opt momentum=nan", "momentum of SGD must be a finite number"),
    ("run S --opt momentum=-1", "SGD cannot be built with momentum=-1: Invalid momentum value"),
    ("run S --opt momentum=0.9 --opt momentum=0.5", "--opt momentum is given twice"),
    ("run S --opt lr=0.1", "set its bounds with --start-lr and --end-lr"),
    ("run S --opt speed=1", "SGD has no option 'speed'; its options are momentum, dampening"),
    ("run S --opt nesterov=1", "nesterov of SGD must be True or False"),
    ("run S --opt weight_decay=1e400", "weight_decay of SGD must be a finite number"),
    ("run S --optimizer Adam --opt betas=3", "betas of Adam must be 2 finite numbers"),
    ("run S --optimizer Adam --opt capturable=True", "cannot make a step on cpu"),
    ("run S --optimizer LBFGS --opt line_search_fn=wolfe", "only 'strong_wolfe' is supported"),
    # device
    ("run S --device warp", "'warp' is not a device"),
    ("run S --device cuda:99", "device cuda:99 is not available here"),
    ("run S --device meta", "device meta computes nothing"),
    ("run S --device ''", "'' is not a device"),
    ("run S --amp fp8", "'fp8' is not one of"),
    # files
    ("run S --csv missing/x.csv", "cannot write to --csv missing/x.csv"),
    ("run S --csv {b}/file/x.csv", "cannot write to --csv"),
    ("run S --csv {b}/folder.csv", "it is a folder"),
    ("run S --csv x.json", "--csv takes a file that ends in .csv"),
    ("run S --csv ''", "Invalid value for '--csv': it is empty"),
    ("run S --html missing/x.html", "cannot write to --html"),
    ("run S --html {b}/folder.html", "it is a folder"),
    ("run S --html x.pdf", "--html takes a file that ends in .html or .htm"),
    ("run S --out {b}/file", "cannot write to --out"),
    ("run S --out {b}/file/below", "cannot write to --out"),
    ("run S --speed 3", "No such option '--speed'"),
    # models
    ("models zzz", "no model matches 'zzz'"),
    ("models --family cars", "'cars' is not one of"),
    ("models --family classification fasterrcnn", "no model in the family classification matches"),
    ("models resnet vit", "unexpected extra argument"),
    ("models '['", "no model matches '['"),
    # show
    ("show", "Missing argument 'FILE'"),
    ("show ''", "cannot read"),
    ("show gone.json", "No such file or directory"),
    ("show {b}", "Is a directory"),
    ("show {b}/cut.json", "is not valid JSON"),
    ("show {b}/empty.json", "is not valid JSON"),
    ("show {b}/number.json", "JSON of another program"),
    ("show {b}/null.json", "JSON of another program"),
    ("show {b}/deep.json", "is not valid JSON"),
    ("show {b}/binary.json", "is not valid JSON"),
    ("show {b}/newer.json", "Upgrade lrfinder"),
    ("show {b}/no_curve.json", "'curve' is missing"),
    ("show {b}/curve_text.json", "is damaged"),
    ("show {b}/lrs_text.json", "is damaged"),
    ("show {b}/lrs_short.json", "is damaged"),
    ("show {b}/lrs_negative.json", "is damaged"),
    ("show {b}/losses_null.json", "is damaged"),
    ("show {b}/losses_text.json", "is damaged"),
    ("show {b}/stop_unknown.json", "is damaged"),
    ("show {b}/config_null.json", "is damaged"),
    ("show {b}/notebook.ipynb", "JSON of another program"),
    ("show {b}/weights/other.pth", "is not valid JSON"),
    ("show {b}/good.json --plot x.jpg", "--plot takes a file that ends in"),
    ("show {b}/good.json --plot missing/x.png", "cannot write"),
    ("show {b}/good.json --html x.txt", "--html takes a file that ends in"),
    ("show {b}/good.json --html missing/x.html", "cannot write to --html"),
    # schedule
    ("schedule gone.json --total-steps 9", "No such file or directory"),
    ("schedule '' --total-steps 9", "cannot read"),
    ("schedule {b}/good.json", "needs the length of the training"),
    ("schedule {b}/good.json --kind cosin", "'cosin' is not one of"),
    ("schedule {b}/good.json --epochs 3", "--steps-per-epoch"),
    ("schedule {b}/good.json --steps-per-epoch 3", "--steps-per-epoch needs --epochs"),
    ("schedule {b}/good.json --total-steps 0", "0 is not in the range"),
    ("schedule {b}/good.json --total-steps {huge}", "--total-steps must be a whole number"),
    ("schedule {b}/good.json --total-steps 9 --epochs 3", "or epochs with --steps-per-epoch, not both"),
    ("schedule {b}/good.json --total-steps 9 --warmup-steps -1", "-1 is not in the range"),
    ("schedule {b}/good.json --total-steps 9 --warmup-steps 9 --kind cosine", "--warmup-steps"),
    ("schedule {b}/good.json --total-steps 9 --peak-lr -1", "--peak-lr must be a positive finite number"),
    ("schedule {b}/good.json --total-steps 9 --peak-lr nan", "--peak-lr must be a positive finite number"),
    ("schedule {b}/good.json --total-steps 9 --option speed", "--option takes KEY=VALUE"),
    ("schedule {b}/good.json --total-steps 9 --option speed=1", "speed"),
    ("schedule {b}/good.json --total-steps 9 --option kind=cosine", "--kind and an --option set the same"),
    ("schedule {b}/good.json --total-steps 9 --option 'pct_start={[]:1}'", "pct_start must be"),
    ("schedule {b}/good.json --total-steps 9 --option updates=1", "updates follows from the training that was swept"),
    ("schedule {b}/good.json --total-steps 9 --option optimizers=1", "optimizers follows from the training"),
    ("schedule {b}/good.json --total-steps 9 --option ranks=2", "ranks follows from the training"),
    ("schedule {b}/good.json --total-steps 9 --option pct_start=high", "pct_start must be"),
    ("schedule {b}/good.json --total-steps 9 --option pct_start=2", "pct_start must be"),
    ("schedule {b}/good.json --total-steps 9 --option pct_start=nan", "pct_start must be"),
    ("schedule {b}/good.json --total-steps 9 --plot x.jpg", "--plot takes a file that ends in"),
    ("schedule {b}/good.json --total-steps 9 --option self=1", "onecycle has no option 'self'"),
    ("schedule {b}/good.json --total-steps 9 --option peak_lr=1 --peak-lr 2", "--peak-lr and an --option set the same"),
    # completion
    ("completion csh", "'csh' is not one of"),
    # commands
    ("runn resnet18", "No such command 'runn'"),
    ("--verbose", "No such option '--verbose'"),
]
# Whether an image has an object is seen when it is read; an id that is there twice is one image.
ACCEPTED = ("all outside", "id twice")
COCO_ROWS = [(f"run D --data '{{b}}/coco {name}'", "{b}/coco " + name) for name in COCO if name not in ACCEPTED]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bad")
    build_all(path)
    return path


def command_of(row: str, folder: Path) -> list[str]:
    """The row as arguments, with the options of QUICK that it does not set."""
    words = [word.replace("{b}", str(folder)).replace("{huge}", str(2**70)) for word in shlex.split(row)]
    if words[0] != "run" or len(words) == 1:
        return words
    set_range = {"--end-lr", "--start-lr"} & {*words}
    left_out = {*words, "--start-lr"} if set_range else {*words}
    quick = [(key, value) for key, value in QUICK.items() if key not in left_out]
    return ["run", MODELS.get(words[1], words[1]), *words[2:], *(each for pair in quick for each in pair)]


@pytest.mark.parametrize(("row", "words"), [*ROWS, *COCO_ROWS], ids=[row for row, _ in [*ROWS, *COCO_ROWS]])
def test_bad_input_is_refused_in_the_words_of_the_command_line(
    row: str, words: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, command_of(row, folder), prog_name="lrfind", catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (2, "")
    _, *answers = re.split(r"^Error: ", result.stderr, flags=re.MULTILINE)
    assert len(answers) == 1 and len(answers[0].splitlines()) == 1, result.stderr
    answer = answers[0].strip()
    assert words.replace("{b}", str(folder)) in answer
    assert answer[-1] in ".?)" and not answer.endswith("..") and "Traceback" not in result.stderr, answer
    names = {name for name in PYTHON_NAMES if re.search(rf"(?<![\w/]){name}(?!\w)", answer)}
    assert not names, f"{names} in {answer}"
    assert not list(tmp_path.iterdir()), "something is left"


def test_a_process_of_its_own_answers_the_same(folder: Path, tmp_path: Path) -> None:
    code = "from lrfinder.cli import main; main(prog_name='lrfind')"
    words = command_of("run S --data {b}/one --json", folder)
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, os.listdir(tmp_path)) == (2, "", [])
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "settings",
    [{"val_batches": 8}, {"root": "x"}, {"download": True}, {"data": "x", "dataset": "CIFAR10"}, {"data": ""}],
    ids=str,
)
def test_settings_without_effect_are_refused_in_python_too(settings: dict[str, object]) -> None:
    check_settings(Settings(model="resnet18"))
    with pytest.raises(ConfigError, match="`"):
        check_settings(Settings(model="resnet18", **settings))  # type: ignore[arg-type]
