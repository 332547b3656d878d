"""Files that are damaged, foreign, cut off or written under fire: an error of ours, or the whole old or new content."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import random
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from curves import breaks, curve_of

import lrfinder
from lrfinder.errors import ConfigError, FileFormatError
from lrfinder.recipes import Recipe, recipe
from lrfinder.record.curve import StopReason
from lrfinder.record.facts import ModelFacts
from lrfinder.record.trials import Trial, TrialRecord
from lrfinder.result import RangeTestResult
from lrfinder.tables.kinds import KIND_TABLE

TRIALS = TrialRecord(
    schedule="cosine",
    total_steps=100,
    budget_steps=30,
    initial_lr=0.1,
    start_loss=2.0,
    trials=(Trial(lr=0.1, steps=10, loss=1.0), Trial(lr=0.4, steps=10, loss=None)),
)
FACTS = ModelFacts(trainable=10, frozen=2, depth=2, fan_in=(1, 2, 3), weight_rms=(0.5, None), norm_layers=(("N", 2),))


@pytest.fixture
def path() -> Iterator[Path]:
    """Path of a file in a fresh folder, in memory where the system has such a place: thousands of files are written."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder) / "file.json"


def result_of(count: int, level: float = 1.0) -> RangeTestResult:
    """A result with advice, of that many points."""
    facts: dict[str, Any] = {"stop": StopReason.DIVERGED, "optimizer": "SGD", "momentum": 0.9, "facts": FACTS}
    curve = curve_of(breaks, start=1e-4, end=1.0, count=count, noise=0.01, measured="before", **facts)
    losses = tuple(level * loss for loss in curve.losses)
    return RangeTestResult(curve=dataclasses.replace(curve, losses=losses), trials=TRIALS)


def recipe_of(kind: str) -> Recipe:
    """A recipe of that kind with a warm-up where it has one."""
    options: dict[str, Any] = {"warmup_steps": 5} if KIND_TABLE[kind].warmup else {}
    return recipe(kind, peak_lr=0.1, **({} if kind == "plateau" else {"total_steps": 100}), **options)


VALUES: dict[str, Any] = {"result": result_of(24), **{kind: recipe_of(kind) for kind in KIND_TABLE}}
values = pytest.mark.parametrize("name", VALUES)


def loaded(path: Path, content: bytes | None, name: str) -> Any:
    """The value that the file gives, or the error of ours, which names the file in one line; any other is raised."""
    if content is not None:
        path.write_bytes(content)
    try:
        return type(VALUES[name]).load(path)
    except FileFormatError as error:
        text = str(error)
        assert str(path) in text and len(text) < 600 and text.isprintable(), f"{text!r:.700}"
        return error


def use(value: Any) -> None:
    """Do with a value that was read what users do with it."""
    texts = [str(value), repr(value)]
    if isinstance(value, Recipe):
        texts += [value.describe(), value.code(), str(value.lr_at(0)), str(value.momentum_at(0))]
    else:
        advice = value.advice
        assert list(value.curve.pairs()) and all(lr > 0 for lr in value.curve.lrs), "learning rates that are none"
        if advice.grade != "none":
            low, high = advice.interval
            assert 0 < low <= advice.base_lr <= high < float("inf"), "advice outside its interval"
            assert 0 < advice.min_lr <= advice.base_lr and 0 < advice.max_lr < float("inf"), "advice upside down"
            texts.append(value.recipe("constant").code())
    for text in texts:
        text.encode("utf-8")
        assert text.replace("\n", "").isprintable(), "control characters in the text"
    assert type(value).from_dict(json.loads(json.dumps(value.to_dict(), allow_nan=False))) == value


def document(path: Path, name: str) -> Any:
    """The saved value as JSON."""
    return json.loads(VALUES[name].save(path).read_text())


# --- damaged bytes ----------------------------------------------------------------------------------------------------


@values
def test_a_file_cut_off_anywhere_is_refused(path: Path, name: str) -> None:
    whole = VALUES[name].save(path).read_bytes()
    for length in range(len(whole) - 1):  # without the line feed at its end, the file is whole
        assert isinstance(loaded(path, whole[:length], name), FileFormatError), f"cut to {length} bytes"
    assert loaded(path, whole[:-1], name) == VALUES[name]


@values
def test_changed_bytes_are_refused_or_give_a_value_that_can_be_used(path: Path, name: str) -> None:
    draw = random.Random(name)
    whole = VALUES[name].save(path).read_bytes()
    for _ in range(1500 if name == "result" else 150):
        changed = bytearray(whole)
        for _ in range(draw.choice((1, 1, 2, 20))):
            changed[draw.randrange(len(changed))] = draw.choice((draw.randrange(256), *b'0-9eE."[]{},:\\\n\x1b'))
        check(loaded(path, bytes(changed), name), bytes(changed))


@values
def test_parts_moved_or_repeated_are_refused_or_can_be_used(path: Path, name: str) -> None:
    draw = random.Random(name)
    whole = VALUES[name].save(path).read_bytes()
    for _ in range(100):
        start, end, at = sorted(draw.randrange(len(whole)) for _ in range(3))
        for changed in (whole[:start] + whole[end:], whole[:at] + whole[start:end] + whole[at:], whole + whole[start:]):
            check(loaded(path, changed, name), changed)


def check(value: Any, content: Any) -> None:
    """Fail, with what was in the file, for a value that was read and cannot be used."""
    if isinstance(value, FileFormatError):
        return
    try:
        use(value)
    except Exception as error:
        raise AssertionError(f"read as {value!r:.500}, from {content!r:.2000}") from error


# --- wrong content ----------------------------------------------------------------------------------------------------


DEEP = "[" * 400 + "]" * 400
WRONG = (
    *("null", "true", "0", "-1", "1.5", "1e308", "1e-320", "1e999", "-1e999", "NaN", "-Infinity"),
    *("1" + "0" * 400, "1" + "0" * 5000, "0." + "0" * 400 + "1"),
    *('""', '"x"', '"nan"', '"1e999"', '"\\ud800"', '"\\u001b[31m\\u0007"', '"' + "x" * 5000 + '"', '"\\u202e"'),
    *("[]", "{}", "[null]", "[[1]]", '{"x": 1}', '["a", "b"]', "[1, 1e999]", "[2, 1]", DEEP, "[" * 99_999),
)
MARK = "the value goes here"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys of every value at any depth; of a list the first and the last item."""
    if path:
        yield path
    items: list[Any] = list(value) if isinstance(value, dict) else []
    if isinstance(value, list):
        items = sorted({0, len(value) - 1}) if value else []
    for key in items:
        yield from places(value[key], (*path, key))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value there."""
    whole = copy.deepcopy(content)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return whole


@values
def test_a_wrong_value_under_any_key_is_refused_or_can_be_used(path: Path, name: str) -> None:
    content = document(path, name)
    for keys in places(content):
        text = json.dumps(changed(content, keys, MARK))
        for value in WRONG:
            check(loaded(path, text.replace(f'"{MARK}"', value).encode(), name), f"{value[:60]} at {keys}")


@values
def test_a_missing_key_is_refused_or_has_a_default(path: Path, name: str) -> None:
    content = document(path, name)
    for keys in places(content):
        less = copy.deepcopy(content)
        inner = less
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        check(loaded(path, json.dumps(less).encode(), name), f"without {keys}")


@values
def test_an_unknown_key_is_refused_or_changes_nothing(path: Path, name: str) -> None:
    content = document(path, name)
    for keys in [(), *places(content)]:
        more = copy.deepcopy(content)
        inner = more
        for key in keys:
            inner = inner[key]
        if isinstance(inner, dict):
            inner["unheard of"] = 1
            found = loaded(path, json.dumps(more).encode(), name)
            assert found == VALUES[name] or isinstance(found, FileFormatError), keys


@values
@pytest.mark.parametrize("depth", [10, 100, 300, 500, 700, 900, 950, 980, 1_000, 3_000, 100_000])
def test_nesting_of_any_depth_is_refused(path: Path, name: str, depth: int) -> None:
    content = document(path, name)
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        nested = opening * depth + "1" + closing * depth
        assert isinstance(loaded(path, nested.encode(), name), FileFormatError)
        for key in ("format", "version", *list(content)[2:4]):
            text = json.dumps({**content, key: MARK}).replace(f'"{MARK}"', nested)
            assert isinstance(loaded(path, text.encode(), name), FileFormatError), key


@values
@pytest.mark.parametrize("version", [0, 2, 1.5, -1, 10**400, "1", "1.0", None, [], [1], {}, False])
def test_a_foreign_version_is_refused(path: Path, name: str, version: Any) -> None:
    content = json.dumps({**document(path, name), "version": version}).encode()
    assert isinstance(loaded(path, content, name), FileFormatError)


@values
def test_what_is_no_text_of_json_is_refused(path: Path, name: str) -> None:
    text = VALUES[name].save(path).read_text()
    for content in (b"", b"\n", b"\0" * 4096, text.encode("utf-16"), text.encode("utf-32"), b"\xff\xfe"):
        assert isinstance(loaded(path, content, name), FileFormatError)
    for content in (random.Random(size).randbytes(size) for size in range(1, 300)):
        assert isinstance(loaded(path, content, name), FileFormatError)
    assert isinstance(loaded(path.parent, None, name), FileFormatError)
    assert isinstance(loaded(path / "inside", None, name), FileFormatError)
    assert isinstance(loaded(path.parent / "missing", None, name), FileFormatError)


# --- writing under fire -----------------------------------------------------------------------------------------------


def hidden(folder: Path) -> list[str]:
    """Names in the folder other than that of the file."""
    return [name for name in os.listdir(folder) if name != "file.json"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # an interrupt as an opened file is about to be closed
@pytest.mark.parametrize("name", ["result", "cosine"])
@pytest.mark.parametrize("old", [True, False], ids=["an old file", "none"])
def test_a_save_interrupted_at_any_line_leaves_the_old_file_or_the_new(path: Path, name: str, old: bool) -> None:
    value, before = VALUES[name], b"the old content" if old else None
    for number in range(1000):
        path.unlink(missing_ok=True)
        if before is not None:
            path.write_bytes(before)
        whole = interrupted(lambda: value.save(path), number)
        found = path.read_bytes() if path.exists() else None
        assert found == before or type(value).load(path) == value, f"line {number}"
        assert whole or not hidden(path.parent), f"a file was left at line {number}"
        if whole:
            assert number > 10, "nothing was interrupted"
            return


def interrupted(act: Any, number: int) -> bool:
    """Do it with a Ctrl-C before that line (from 0) of the module that writes files; whether it ended before that."""
    module = sys.modules["lrfinder.files"].__file__
    lines = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != module:
            return None
        if event == "line":
            lines += 1
            if lines == number + 1:
                raise KeyboardInterrupt
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt:
        return False
    finally:
        sys.settrace(previous)
    return True


@contextmanager
def as_nobody() -> Iterator[None]:
    """Context without the rights of root, who may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", ["result", "cosine"])
def test_a_folder_that_may_not_be_written_keeps_its_file(name: str) -> None:
    with as_nobody(), tempfile.TemporaryDirectory() as folder:
        path = VALUES[name].save(Path(folder) / "file.json")
        os.chmod(folder, 0o555)
        with pytest.raises(ConfigError, match=r"cannot write .*: Permission denied\. Give a path in a folder"):
            VALUES[name].save(path)
        assert type(VALUES[name]).load(path) == VALUES[name] and not hidden(Path(folder))
        os.chmod(folder, 0o755)


@pytest.mark.parametrize("name", ["result", "cosine"])
def test_a_path_that_cannot_be_is_refused_with_the_path(path: Path, name: str) -> None:
    path.write_text("a file, not a folder")
    with pytest.raises(ConfigError, match="cannot write .*inside: Not a directory"):
        VALUES[name].save(path / "inside")
    with pytest.raises(ConfigError, match="cannot write .*: it is a folder"):
        VALUES[name].save(path.parent)
    assert path.read_text() == "a file, not a folder" and not hidden(path.parent)


def test_threads_that_save_at_once_leave_the_permissions_of_new_files(path: Path) -> None:
    before, interval = os.umask(0o027), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda number: VALUES["cosine"].save(path.with_name(str(number % 8))), range(400)))
        assert os.umask(0o027) == 0o027
        assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o640}
    finally:
        sys.setswitchinterval(interval)
        os.umask(before)
    assert len(os.listdir(path.parent)) == 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("case", ["full_disk", "killed", "two_writers"])
def test_the_old_file_or_the_new_is_whole_whatever_happens(path: Path, case: str) -> None:
    script = Path(__file__).with_name("fuzz_writers.py")
    root = str(Path(lrfinder.__file__).parent.parent)
    command = [sys.executable, str(script), case, str(path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == 0 and not done.stderr, done.stderr
