"""The shape of the package: who may import what, read from the source, late and type-only imports included."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lrfinder

PACKAGE = Path(lrfinder.__file__).parent

# Every module or folder of the package, lowest first, with the third-party packages it may import. Imports point down
# this list; what shares a line imports nothing of each other.
LAYERS: list[dict[str, set[str]]] = [
    {"errors": set(), "numbers": set()},
    {"checks": set(), "files": set()},
    {"tables": set()},
    {"param_groups": set()},
    {"record": set(), "schedules": {"torch"}},
    {"analysis": {"numpy", "scipy"}},
    {"advice": {"numpy"}},
    {"training": {"numpy", "torch", "tqdm"}, "display": {"PIL", "jinja2", "matplotlib", "numpy"}},
    {"recipes": {"matplotlib", "torch"}},  # for type checkers alone, as below; tests/test_imports.py holds the rest
    {"result": {"matplotlib", "torch"}},
    {"finder": {"torch"}},
    # A trainer each, and what its own types are from.
    {"integrations": {"accelerate", "ignite", "lightning", "lightning_utilities", "numpy", "torch", "transformers"}},
    {"tasks": {"PIL", "numpy", "torch", "torchvision"}},
    {"cli": {"click", "matplotlib"}},  # matplotlib for type checkers alone
    {"__main__": set()},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
PACKAGES = {name: packages for names in LAYERS for name, packages in names.items()}


def sources() -> dict[str, ast.Module]:
    """Syntax trees of all modules by their name inside the package, as in "cli.run"; the package itself is ""."""
    trees = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        trees[name] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


SOURCES = sources()
MODULES = [name for name in SOURCES if name]


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names that are imported anywhere in the source: at the top, inside functions, and for type checkers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(name: str) -> str | None:
    """Module of this package that an imported name comes from; "" for the package itself, None for other packages."""
    parts = name.split(".")
    if parts[0] != "lrfinder":
        return None
    return next((".".join(parts[1:end]) for end in range(len(parts), 1, -1) if ".".join(parts[1:end]) in SOURCES), "")


def box(module: str) -> str:
    """The entry of the list that a module belongs to."""
    return module.split(".")[0]


def third_party(module: str) -> set[str]:
    packages = {name.split(".")[0] for name in imports(SOURCES[module])}
    return packages - {"lrfinder"} - set(sys.stdlib_module_names)


def test_the_list_names_every_module_and_no_other() -> None:
    assert {box(module) for module in MODULES} == set(LEVEL)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down_the_list(module: str) -> None:
    targets = {own(name) for name in imports(SOURCES[module])} - {None}
    # The command line asks the package for its version.
    outside = {box(target) for target in targets if target is not None} - {box(module)} - ({""} & {box("")})
    for target in outside:
        assert LEVEL[target] < LEVEL[box(module)], f"{module} imports {target}"


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    needs = {module: {own(name) for name in imports(SOURCES[module])} & set(MODULES) - {module} for module in MODULES}
    while needs:
        free = {module for module, targets in needs.items() if not targets & set(needs)}
        assert free, f"a circle among {sorted(needs)}"
        needs = {module: targets for module, targets in needs.items() if module not in free}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_the_packages_of_its_layer(module: str) -> None:
    assert third_party(module) <= PACKAGES[box(module)]


def test_schedules_need_torch_only_to_build_a_scheduler() -> None:
    assert [name for name in MODULES if box(name) == "schedules" and third_party(name)] == ["schedules.build"]


@pytest.mark.parametrize("module", [name for name in SOURCES if box(name) != "cli"])
def test_only_the_command_line_prints(module: str) -> None:
    calls = [ast.unparse(node.func) for node in ast.walk(SOURCES[module]) if isinstance(node, ast.Call)]
    assert not {"print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"} & set(calls)


DISTRIBUTED = ("training.ranks", "training.meeting", "training.wrappers")


@pytest.mark.parametrize("module", [name for name in SOURCES if name not in DISTRIBUTED])
def test_torch_distributed_is_named_in_three_modules_only(module: str) -> None:
    names = [ast.unparse(node) for node in ast.walk(SOURCES[module]) if isinstance(node, ast.Attribute)]
    names += list(imports(SOURCES[module]))
    assert not [name for name in names if name.startswith("torch.distributed")]


def sentences(module: str) -> list[str]:
    """String literals that read as sentences for users; docstrings and the texts of errors are none."""
    tree = SOURCES[module]
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            skipped.add(id(node.body[0].value))  # type: ignore[attr-defined]
        if isinstance(node, ast.Expr):  # documents an attribute
            skipped.add(id(node.value))
        if isinstance(node, ast.Raise):
            skipped |= {id(inner) for inner in ast.walk(node)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped
    ]
    return [text for text in texts if len(text.split()) >= 5 and text.rstrip().endswith(".")]


@pytest.mark.parametrize("module", [name for name in MODULES if box(name) in ("record", "analysis")])
def test_no_sentence_for_users_is_made_below_the_advice(module: str) -> None:
    if module != "record.curve":  # StopReason carries its own
        assert sentences(module) == []


def test_the_package_itself_imports_the_standard_library_alone() -> None:
    assert third_party("") == set()
