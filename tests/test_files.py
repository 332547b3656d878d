"""Atomic file writes, and the files that are read."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.errors import ConfigError, FileFormatError
from lrfinder.files import json_text, read_json, saved_content, write_atomic, write_json, write_together

FULL_DISK = OSError(errno.ENOSPC, "No space left on device")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(st.text().filter(lambda key: key not in ("format", "version")), json_values, max_size=5)


def fail_with(error: BaseException):
    def fail(*args: object, **options: object) -> None:
        raise error

    return fail


def test_text_and_bytes_arrive_as_they_are_and_the_path_comes_back(tmp_path: Path) -> None:
    assert write_atomic(tmp_path / "text", "größe\n1 µm") == tmp_path / "text"
    assert (tmp_path / "text").read_bytes() == "größe\n1 µm".encode()
    assert write_atomic(str(tmp_path / "bytes"), b"\x89PNG\r\n\x00") == tmp_path / "bytes"
    assert (tmp_path / "bytes").read_bytes() == b"\x89PNG\r\n\x00"


def test_an_existing_file_is_replaced_and_no_other_file_is_left(tmp_path: Path) -> None:
    target = tmp_path / "lr.json"
    target.write_text("a much longer old content")
    write_atomic(target, "new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("step", ["os.replace", "builtins.open"])
@pytest.mark.parametrize(
    ("error", "raised"), [(FULL_DISK, ConfigError), (KeyboardInterrupt(), KeyboardInterrupt)], ids=["disk full", "^C"]
)
def test_a_write_that_fails_leaves_the_old_file_whole_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException, raised: type[BaseException]
) -> None:
    target = tmp_path / "lr.json"
    target.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(step, fail_with(error))
        with pytest.raises(raised):
            write_atomic(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_write_says_why_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", fail_with(FULL_DISK))
    with pytest.raises(ConfigError, match="No space left on device. Give a path in a folder that exists"):
        write_atomic(tmp_path / "lr.json", "new")


@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_new_file_has_the_permissions_an_ordinary_open_would_give(tmp_path: Path, umask: int, expected: int) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "ours", "x")
        (tmp_path / "ordinary").write_text("x")
    finally:
        after = os.umask(before)
    assert after == umask
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "ordinary")]
    assert modes == [expected, expected]


def test_a_missing_folder_is_refused_and_an_existing_one_accepted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Give a path in a folder that exists and is writable"):
        write_atomic(tmp_path / "missing" / "lr.json", "x")
    (tmp_path / "missing").mkdir()
    write_atomic(tmp_path / "missing" / "lr.json", "x")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Give a path in a folder that exists and is writable"):
        write_atomic(tmp_path / "file" / "lr.json", "x")


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Simulated, since root may write everywhere.
    monkeypatch.setattr("builtins.open", fail_with(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(ConfigError, match="Permission denied. Give a path in a folder that exists and is writable"):
        write_atomic(tmp_path / "lr.json", "x")


def test_a_folder_as_target_is_refused_and_a_file_inside_it_accepted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it is a folder. Give a file name inside it"):
        write_atomic(tmp_path, "x")
    write_atomic(tmp_path / "lr.json", "x")


# --- several files that belong together -------------------------------------------------------------------------------


def old_and_new(folder: Path, *, names: tuple[str, ...] = ("a.json", "b.json", "c.png")) -> dict[Path, str | bytes]:
    """New content for files of which the first two exist with old content."""
    for name in names[:2]:
        (folder / name).write_text(f"old {name}")
    return {folder / name: f"new {name}" for name in names}


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_files_that_belong_together_are_all_written(tmp_path: Path) -> None:
    write_together(old_and_new(tmp_path))
    assert contents(tmp_path) == {name: f"new {name}" for name in ("a.json", "b.json", "c.png")}


@pytest.mark.parametrize("blocked", [0, 1, 2])
def test_one_target_that_is_a_folder_keeps_every_old_file(tmp_path: Path, blocked: int) -> None:
    files = old_and_new(tmp_path)
    target = list(files)[blocked]
    target.unlink(missing_ok=True)
    target.mkdir()
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=f"cannot write {target}: it is a folder"):
        write_together(files)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("error", [FULL_DISK, KeyboardInterrupt()], ids=["disk full", "^C"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_rename_that_fails_puts_the_old_files_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int, error: BaseException
) -> None:
    files = old_and_new(tmp_path)
    before = contents(tmp_path)
    rename, calls = os.replace, []

    def replace(source: str, target: Path) -> None:
        calls.append(target)
        if len(calls) == nth:
            raise error
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises((ConfigError, KeyboardInterrupt)):
        write_together(files)
    assert contents(tmp_path) == before


def test_a_name_as_long_as_the_disk_allows_can_be_written(tmp_path: Path) -> None:
    assert write_atomic(tmp_path / ("x" * 255), "new").read_text() == "new"


def test_the_text_of_a_document_is_that_of_its_file(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", "recipe", {"x": [1, 2]})
    assert json_text("recipe", {"x": [1, 2]}) == path.read_text()
    assert len(json_text("recipe", {"x": [1, 2]}, indent=None).splitlines()) == 1


@given(content=documents)
def test_what_was_written_as_json_is_read_back_equal(tmp_path_factory: pytest.TempPathFactory, content: dict) -> None:
    path = tmp_path_factory.mktemp("json") / "file.json"
    assert read_json(write_json(path, "thing", content), "thing") == content


def test_the_file_names_its_kind_and_version_and_ends_with_a_line_feed(tmp_path: Path) -> None:
    text = write_json(tmp_path / "a.json", "recipe", {"x": 1}).read_text()
    assert json.loads(text) == {"format": "lrfinder.recipe", "version": 1, "x": 1}
    assert text.endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_json_cannot_hold_is_refused_before_the_file_is_touched(tmp_path: Path, value: float) -> None:
    path = write_json(tmp_path / "a.json", "thing", {"x": 1.7976931348623157e308})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, "thing", {"x": value})
    assert read_json(path, "thing") == {"x": 1.7976931348623157e308}


GOOD = '{"format": "lrfinder.result", "version": 1, "x": 1}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is not valid JSON", id="empty"),
        pytest.param(GOOD[:-1].encode(), "is not valid JSON", id="cut off"),
        pytest.param(b"\x89PNG\r\n\x1a\n\xff\xfe", "is not valid JSON", id="binary"),
        pytest.param(GOOD.replace("1}", "NaN}").encode(), "is not valid JSON", id="nan"),
        pytest.param(GOOD.replace("1}", "-Infinity}").encode(), "is not valid JSON", id="infinite"),
        pytest.param(b"[" * 100_000, "is not valid JSON", id="nested without end"),
        pytest.param(b"[1, 2]", "is JSON of another program, not an lrfinder result", id="a list"),
        pytest.param(b"3", "is JSON of another program, not an lrfinder result", id="a number"),
        pytest.param(b'{"x": 1}', "is JSON of another program, not an lrfinder result", id="foreign"),
        pytest.param(GOOD.replace("result", "recipe").encode(), "is marked 'lrfinder.recipe', not", id="other kind"),
        pytest.param(GOOD.replace(": 1,", ": 2,").encode(), "version 2; .* Upgrade lrfinder to read it", id="newer"),
        pytest.param(GOOD.replace(": 1,", ': "1",').encode(), "version '1'; .* Upgrade lrfinder", id="version as text"),
        pytest.param(b'{"format": "lrfinder.result"}', "version None; .* Upgrade lrfinder", id="no version"),
    ],
)
def test_a_foreign_damaged_or_newer_file_is_refused_in_one_sentence(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "lr.json"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=message) as caught:
        read_json(path, "result")
    assert str(path) in str(caught.value)
    path.write_text(GOOD)
    assert read_json(path, "result") == {"x": 1}


def test_a_missing_file_and_a_folder_are_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"No such file or directory. Give a file written by result.save\(path\)"):
        read_json(tmp_path / "none.json", "result")
    with pytest.raises(FileFormatError, match="Give a file written by lrfinder, as a recipe"):
        read_json(tmp_path, "recipe")


# --- values from saved content ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("lr"), "'lr' is missing"),
        (TypeError("3 is no list"), "3 is no list"),
        (ValueError("lr must be positive."), "lr must be positive"),
        (OverflowError("too large"), "too large"),
        (AttributeError("a list has no items"), "a list has no items"),
    ],
    ids=repr,
)
def test_an_error_in_saved_content_names_the_damage_and_the_remedy(error: Exception, reason: str) -> None:
    with pytest.raises(FileFormatError) as caught, saved_content("thing", hint="Make it again."):
        raise error
    assert str(caught.value) == f"the saved thing is damaged: {reason}. Make it again."


def test_an_inner_value_of_saved_content_keeps_its_own_error() -> None:
    with (
        pytest.raises(FileFormatError, match="^the saved inside is damaged: 'x' is missing. Look.$"),
        saved_content("outside", hint="Make it again."),
        saved_content("inside", hint="Look."),
    ):
        raise KeyError("x")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug")], ids=repr)
def test_any_other_error_in_saved_content_passes_through(error: BaseException) -> None:
    with pytest.raises(type(error)), saved_content("thing", hint="Make it again."):
        raise error
