"""The shape of the package: who may import what. Read from the source, so that late imports count as well."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lrfinder

PACKAGE = Path(lrfinder.__file__).parent

LAYERS: dict[str, tuple[int, set[str]]] = {
    # module: (layer, third-party packages it may import)
    "errors": (0, set()),
    "files": (0, set()),
    "tables": (0, set()),
    "tables.kinds": (0, set()),
    "tables.constants": (0, set()),
    "tables.optimizers": (0, set()),
    "checks": (0, set()),
    "numbers": (0, set()),
    "facts": (0, set()),
    "curve": (0, set()),
    "schedules": (0, set()),
    "schedules.specs": (0, set()),
    "schedules.schedule": (0, set()),
    "schedules.plan": (0, set()),
    "schedules.defaults": (0, set()),
    "schedules.code": (0, set()),
    "sweep": (1, set()),
    "param_groups": (1, set()),
    "smoothing": (1, {"numpy", "scipy"}),
    "edges": (1, {"numpy", "scipy"}),
    "stability": (1, {"numpy"}),
    "rules": (1, {"numpy", "scipy"}),
    "advice": (1, {"numpy", "scipy"}),
    "recipes": (3, set()),
    "state": (2, set()),
    "state.capture": (2, {"numpy", "torch"}),
    "state.interrupts": (2, set()),
    "state.randomness": (2, {"numpy", "torch"}),
    "state.snapshot": (2, {"torch"}),
    "state.storage": (2, {"torch"}),
    "batches": (2, {"torch"}),
    "deferred": (2, {"torch"}),
    "losses": (2, {"torch"}),
    "compiled": (2, {"torch"}),
    "setup": (2, {"torch"}),
    "step": (2, {"torch"}),
    "validation": (2, {"torch"}),
    "range_search": (2, set()),
    "model_facts": (2, {"torch"}),
    "loop": (2, {"torch"}),
    "progress": (2, {"tqdm"}),
    "ranks": (2, {"torch"}),
    "plotting": (2, {"PIL", "matplotlib"}),
    "result": (3, set()),
    "trial_runner": (3, {"torch"}),
    "finder": (3, {"torch"}),
    "curve_figure": (2, {"numpy"}),
    "diagnose": (1, {"numpy"}),
    "drawing": (2, {"matplotlib"}),
    "evidence": (1, set()),
    "html": (2, set()),
    "marks": (2, set()),
    "schedule_figure": (2, {"numpy"}),
    "schedules.build": (1, {"torch"}),
    "search": (1, set()),
    "search_words": (1, set()),
    "summary": (2, set()),
    "text": (2, set()),
    "trials": (0, set()),
    "verdict": (1, {"numpy"}),
    "words": (1, set()),
}
CLI = {"click", "numpy", "torch", "torchvision", "PIL"}


def sources() -> dict[str, ast.Module]:
    """Syntax trees of all modules by their name inside the package, as in "cli.run"."""
    trees = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        trees[name] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


SOURCES = sources()
CLI_MODULES = [name for name in SOURCES if name.split(".")[0] == "cli"]
MODULES = [name for name in SOURCES if name and name not in CLI_MODULES]


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names that run-time code imports; imports for type checkers alone do not count."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                yield from imports(other)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def own(name: str) -> str | None:
    """Module of this package that an imported name comes from; "" for the package itself."""
    parts = name.split(".")
    if parts[0] != "lrfinder":
        return None
    return next((".".join(parts[1:end]) for end in range(len(parts), 1, -1) if ".".join(parts[1:end]) in SOURCES), "")


def third_party(tree: ast.Module) -> set[str]:
    packages = {name.split(".")[0] for name in imports(tree)}
    return packages - {"lrfinder"} - set(sys.stdlib_module_names)


def test_every_module_has_a_place_in_the_table_and_the_table_has_no_other() -> None:
    assert set(MODULES) == set(LAYERS)
    assert CLI_MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_the_third_party_packages_of_its_layer(module: str) -> None:
    assert third_party(SOURCES[module]) <= LAYERS[module][1]


@pytest.mark.parametrize("module", CLI_MODULES)
def test_the_command_line_imports_only_what_it_needs(module: str) -> None:
    assert third_party(SOURCES[module]) <= CLI


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    below = LAYERS[module][0]
    for name in imports(SOURCES[module]):
        target = own(name)
        if target is None:
            continue
        assert target in LAYERS, f"{module} imports {name}"
        assert LAYERS[target][0] <= below, f"{module} (layer {below}) imports {target} (layer {LAYERS[target][0]})"


def test_nothing_imports_in_a_circle() -> None:
    needs = {module: {own(name) for name in imports(SOURCES[module])} & set(MODULES) for module in MODULES}
    while needs:
        free = {module for module, targets in needs.items() if not targets & set(needs)}
        assert free, f"a circle among {sorted(needs)}"
        needs = {module: targets for module, targets in needs.items() if module not in free}


def test_torch_and_matplotlib_never_meet_in_one_module() -> None:
    both = [name for name in MODULES if {"torch", "matplotlib"} <= third_party(SOURCES[name])]
    assert both == []


@pytest.mark.parametrize("module", [*MODULES, ""])
def test_nothing_imports_the_command_line(module: str) -> None:
    assert not [name for name in imports(SOURCES[module]) if (own(name) or "").split(".")[0] == "cli"]


@pytest.mark.parametrize("module", [*MODULES, ""])
def test_only_the_command_line_prints(module: str) -> None:
    calls = [ast.unparse(node.func) for node in ast.walk(SOURCES[module]) if isinstance(node, ast.Call)]
    assert not {"print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"} & set(calls)


@pytest.mark.parametrize("module", [name for name in SOURCES if name != "ranks"])
def test_torch_distributed_is_named_in_its_own_module_only(module: str) -> None:
    names = [ast.unparse(node) for node in ast.walk(SOURCES[module]) if isinstance(node, ast.Attribute)]
    names += list(imports(SOURCES[module]))
    assert not [name for name in names if name.startswith("torch.distributed")]


def test_the_package_itself_imports_the_standard_library_alone() -> None:
    assert third_party(SOURCES[""]) == set()
    assert {own(name) for name in imports(SOURCES[""])} == {None}
