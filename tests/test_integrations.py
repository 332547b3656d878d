"""Integrations: the core names none of them, each is an extra, and what is missing is named with its install line."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lrfinder"
TRAINERS = {"transformers": "transformers", "lightning": "lightning", "ignite": "ignite", "accelerate": "accelerate"}
MODULES = [path.stem for path in sorted((PACKAGE / "integrations").glob("*.py")) if path.stem in TRAINERS]


def test_the_core_names_no_trainer() -> None:
    naming = re.compile(rf"(?<!vision )(?<!Swin )\b({'|'.join(TRAINERS)}|hugging ?face)\b", re.IGNORECASE)
    linked = re.compile(r"github\.com/huggingface/\S+|https://\S+")
    core = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "integrations"]
    assert len(core) > 100
    for path in core:
        assert not naming.search(linked.sub("", path.read_text(encoding="utf-8"))), path


def test_every_integration_is_an_extra_that_the_tests_install() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = {name: lines.split() for name, lines in config["options.extras_require"].items()}
    assert MODULES == ["ignite", "lightning", "transformers"]
    for name in MODULES:
        assert {re.split("[><=]", line)[0] for line in extras[name]} <= {re.split("[><=]", x)[0] for x in extras["dev"]}


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_trainer_names_the_line_that_installs_it(name: str) -> None:
    missing = {TRAINERS[name]: None, **({"pytorch_lightning": None} if name == "lightning" else {})}
    code = f"import sys; sys.modules.update({missing})\nimport lrfinder.integrations.{name}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 1
    assert f'is not installed. Install it with: pip install "lrfinder[{name}]"' in run.stderr.splitlines()[-1]
