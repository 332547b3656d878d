"""Pages in a headless browser, by scripts/check_page. Skipped without Playwright, axe-core or Chromium."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_page import SETUP, result_of

CHECK = Path(__file__).resolve().parent.parent / "scripts" / "check_page"
LONG = f"/data/{'a_long_name_without_a_space' * 5}"
INSTALLED = importlib.util.find_spec("axe_playwright_python") and importlib.util.find_spec("playwright")

pytestmark = [
    pytest.mark.skipif(not INSTALLED, reason='needs pip install ".[page]"'),
    pytest.mark.skipif(not shutil.which("chromium"), reason="needs apt-get install chromium"),
]


def check(*pages: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, CHECK, *pages], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_pages_have_no_fault_in_a_browser(tmp_path: Path) -> None:
    pages = {
        "hostile": result_of({**SETUP, "data": "<b>R&D</b> \"cats\" $x^2$ \u05ea\u05de\u05d5\u05e0\u05d5\u05ea"}),
        "long": result_of({**SETUP, "model": "fasterrcnn_mobilenet_v3_large_320_fpn", "data": LONG}),
    }
    for name, result in pages.items():
        (tmp_path / f"{name}.html").write_text(result.to_html(), encoding="utf-8")
    status, said = check(*(tmp_path / f"{name}.html" for name in pages))
    assert (status, said) == (0, "hostile.html: 0 faults\nlong.html: 0 faults\n")


FAULTS = [
    ("--ink: #1a1c1e", "--ink: #cccccc", "light: axe-core: color-contrast (serious)"),
    ("<main>", "<main><p style='width: 1500px'>wide</p>", "light: the page is 15"),
    ("</main>", "<img alt='' src='other.png'></main>", "light: the console says: Loading the image"),
    ("lines.textContent);", "'other');", "dark: the console says: Executing inline script"),  # the policy refuses it
    ("Copy the lines", "Copy", "copy by key: the button says '', and 9 of "),
    ("@media screen and", "@media", "print: the paper is rgb(18, 20, 23)"),
]


def test_faults_are_found(tmp_path: Path) -> None:
    page, text = tmp_path / "page.html", result_of().to_html()
    for old, new, _ in FAULTS:
        assert old in text
        text = text.replace(old, new)
    page.write_text(text, encoding="utf-8")
    status, said = check(page)
    assert status == 1 and [fault for *_, fault in FAULTS if fault not in said] == [], said
