"""Processes that write files under fire, run by tests/test_fuzz_files.py: ``python fuzz_writers.py CASE FOLDER``.

They fork, which a process with threads must not do, so they are no part of the tests' own process.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lrfinder.errors import ConfigError
from lrfinder.files import write_atomic
from lrfinder.recipes import Recipe, recipe

OLD, NEW = recipe("cosine", peak_lr=0.1, total_steps=100), recipe("onecycle", peak_lr=0.2, total_steps=50)
LARGE = {letter: letter.encode() * 3_000_000 for letter in "ab"}


def child(act: Callable[[], object]) -> int:
    """Fork a process that does it and ends; its number."""
    number = os.fork()
    if number == 0:
        try:
            act()
        finally:
            os._exit(0)
    return number


def full_disk(path: Path) -> None:
    """Save where no file may be longer than a limit, as on a full disk."""
    OLD.save(path)
    size = len(NEW.save(path.with_name("other")).read_bytes())
    path.with_name("other").unlink()
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 1, 100, size // 2, size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
        try:
            NEW.save(path)
            raise AssertionError(f"{size} bytes were written to a disk of {limit}")
        except ConfigError as error:
            assert str(path) in str(error) and "too large" in str(error), error
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        assert Recipe.load(path) == OLD
        assert os.listdir(path.parent) == [path.name]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    NEW.save(path)
    assert Recipe.load(path) == NEW


def write_for_ever(path: Path, *, large: bool) -> None:
    """Write one content and the other in turns."""
    while True:
        for value, letter in ((OLD, "a"), (NEW, "b")):
            if large:
                write_atomic(path, LARGE[letter])
            else:
                value.save(path)


def killed(path: Path) -> None:
    """Kill a writer without warning; hidden files may stay, and no reader takes one for the file."""
    draw = random.Random(0)
    for number in range(40):
        large = number % 2 == 0
        write_atomic(path, LARGE["a"]) if large else OLD.save(path)
        writer = child(lambda: write_for_ever(path, large=large))
        time.sleep(draw.uniform(0.0, 0.02))
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        assert path.read_bytes() in LARGE.values() if large else Recipe.load(path) in (OLD, NEW)
        assert all(name == path.name or name.startswith(".") for name in os.listdir(path.parent))


def two_writers(path: Path) -> None:
    """Read while two processes write the same file."""

    def write(value: Recipe) -> None:
        for _ in range(200):
            value.save(path)

    OLD.save(path)
    writers = [child(lambda: write(OLD)), child(lambda: write(NEW))]
    seen = []
    while writers:
        assert Recipe.load(path) in (OLD, NEW)
        done, status = os.waitpid(-1, os.WNOHANG)
        if done:
            writers.remove(done)
            seen.append(status)
    assert seen == [0, 0] and os.listdir(path.parent) == [path.name]


if __name__ == "__main__":
    {"full_disk": full_disk, "killed": killed, "two_writers": two_writers}[sys.argv[1]](Path(sys.argv[2]) / "file.json")
