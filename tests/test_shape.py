"""The rules that keep the code readable: sizes, private names, and one command for every check."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Scripts may grow by what measures something new: 210 lines tell trained weights from fresh ones, 1,020 are trainings
# by situation, with their nets and data, 175 those of heads on the features of frozen networks, 620 those of the nets
# of eight more packages, of torchvision's models and of small batches, 300 run every model and open the pages in a
# browser, 200 compare with torchvision's recipes and measure the estimate of time and memory, 280 are the nets and
# tasks of six packages more, 100 run and report trial searches after range tests by situation, 60 run trials over whole
# grids, 90 tune a network for crystals, 140 are linear layers and losses in other units, 490 are trainings whose
# learning rate is published, 130 ask the other finders there, 45 try optimizers beyond the fitted ones, 145 are
# networks of well-known kinds from random weights, 235 are the nets and tasks of six further packages, 125 are
# embeddings with bounded losses, 150 tune trained networks in the ways people write it, 21 say where an interval has
# a learning rate as good as the best, and what a common factor would change, 41 are adapters beside LoRA, and 3 name
# longer fine-tunings.
FILE_LINES, FUNCTION_LINES, README_LINES, SCRIPT_LINES, TEST_NAME = 250, 40, 200, 8094, 70


def programs(*folders: str) -> list[Path]:
    """Python files of the folders, programs without a suffix included."""
    found = []
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()):
        if path.suffix == ".py":
            found.append(path)
        elif not path.suffix and path.read_bytes().startswith(b"#!/usr/bin/env python"):
            found.append(path)
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def lines_without_docstring(function: ast.FunctionDef) -> int:
    """Lines from ``def`` to the end, less those of the docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        text = function.body[0]
        lines -= (text.end_lineno or 0) - text.lineno + 1
    return lines


CODE = programs("lrfinder", "scripts", "examples")
TESTS = programs("tests")


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_long_file_gives_its_reason_in_the_first_line(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) > FILE_LINES:
        assert lines[0].startswith("# Over 250 lines: "), f"{len(lines)} lines"


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_no_function_is_longer_than_a_screen(path: Path) -> None:
    long = {each.name: lines_without_docstring(each) for each in functions(path)}
    assert {name: count for name, count in long.items() if count > FUNCTION_LINES} == {}


def test_readme_and_scripts_stay_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in programs("scripts")) <= SCRIPT_LINES


# --- private names ----------------------------------------------------------------------------------------------------


LOOKUPS = {"getattr", "hasattr", "setattr", "delattr", "patch", "object"}  # functions that take a name as a string


def private_names(paths: list[Path]) -> set[str]:
    """Every underscore name that these files define: functions, classes, constants and attributes."""
    found: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
                found.add(node.id if isinstance(node, ast.Name) else node.attr)
    # A name like _repr_html_ belongs to a protocol (here IPython's), as __init__ does to Python's.
    return {name for name in found if re.fullmatch(r"_[A-Za-z](\w*[A-Za-z0-9])?", name)}


def used_names(path: Path) -> set[str]:
    """Names that a file imports, reads from an object, or gives as a string to be looked up."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in LOOKUPS:
            strings = [each.value for each in node.args if isinstance(each, ast.Constant)]
            found |= {each.rpartition(".")[2] for each in strings if isinstance(each, str)}
    return found


OURS = private_names(programs("lrfinder"))
TORCHS = {"_iterator"}  # of a DataLoader, which we set


@pytest.mark.parametrize("path", [*TESTS, *programs("scripts", "examples")], ids=name_of)
def test_no_private_name_of_the_package_is_used_outside_it(path: Path) -> None:
    assert used_names(path) & OURS - TORCHS - private_names([path]) == set()


@pytest.mark.parametrize("path", programs("lrfinder"), ids=name_of)
def test_no_private_name_of_one_module_is_used_in_another(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    taken = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lrfinder")
        for alias in node.names
    }
    assert not [name for name in taken if name.startswith("_") and not name.endswith("__")]


PATCHES = ("setattr", "patch", "object")


@pytest.mark.parametrize("path", [*TESTS, *programs("scripts")], ids=name_of)
def test_no_module_of_the_package_is_patched(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ours = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lrfinder"
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1] not in PATCHES:
            continue
        target = ast.unparse(node.args[0]).strip("'\"") if node.args else ""
        assert target not in ours and not target.startswith("lrfinder"), ast.unparse(node)


# --- tests as a specification -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_the_names_of_tests_can_be_read(path: Path) -> None:
    assert [each.name for each in functions(path) if each.name.startswith("test_") and len(each.name) > TEST_NAME] == []


# --- one command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["scripts/check", "scripts/test"])
def test_readme_has_the_one_command(command: str) -> None:
    # tests/test_readme.py shows that .ci/run evaluates the README's block.
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")
