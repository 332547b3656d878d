"""The page of a result: complete, self-contained, accessible, the same from every command, safe from its content."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from curves import breaks, curve_of
from odd_curves import ODD_CURVES

from lrfinder import RangeTestResult, StopReason, slide
from lrfinder.cli import main
from lrfinder.display.page import PAGE_COLOURS
from lrfinder.errors import ConfigError
from lrfinder.numbers import format_lr
from lrfinder.record.run import RunRecord

SETUP: dict[str, Any] = {
    **{"model": "resnet18", "data": "digits", "optimizer": "SGD", "optimizer_options": {"momentum": 0.9}},
    **{"weights": None, "batch_size": 64, "accumulation_steps": 1, "steps_per_epoch": 28, "seed": 7},
    "versions": {"lrfinder": "0.1.0", "torch": "2.8.0"},
}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\" onload='x' {{ 7*7 }} & \x1b[2J\u202e"
VOID = {"meta", "img", "br", "hr", "input", "link"}


def result_of(run: dict[str, Any] | None = SETUP, **facts: Any) -> RangeTestResult:
    facts = {"stop": StopReason.DIVERGED, "measured": "before", "optimizer": "SGD", "momentum": 0.9, **facts}
    curve = curve_of(breaks, start=1e-4, end=1.0, count=60, noise=0.01, batches=60, **facts)
    record = None if run is None else RunRecord(setup=run, schedule="cosine", epochs=10, entry="IMAGENET1K_V1")
    return RangeTestResult(curve=curve, run=record)


class Page(HTMLParser):
    """Elements and text of a page; fails on one that is closed out of order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += f" {data}" if self.open[-1:] == ["td"] else data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


RESULT = result_of()
TEXT = RESULT.to_html()
PAGE = Page(TEXT)
WORDS = " ".join(PAGE.text.split())


def test_the_heading_is_the_decision_and_the_recipe_follows() -> None:
    heading = re.findall(r"<h1>(.*?)</h1>", TEXT)
    assert [unescape(each) for each in heading] == [RESULT.decision.sentences[0]]
    assert RESULT.decision.text in WORDS


def test_the_page_has_numbers_reasons_settings_code_evidence_and_sweep() -> None:
    advice, plan = RESULT.advice, RESULT.recipe("cosine", epochs=10, steps_per_epoch=28)
    assert plan.code() in PAGE.text + "\n"
    for words in (*advice.reasons, "cosine, 10 epochs, 280 updates", "seed 7", "torch=2.8.0", "momentum=0.9"):
        assert " ".join(words.split()) in WORDS
    for each in advice.evidence:
        assert f"{each.weight:.0%}" in WORDS and format_lr(each.lr) in WORDS
    assert "60 training batches used" in WORDS and "resnet18 on digits with SGD" in WORDS


def test_the_classic_rules_are_in_a_fold_with_their_rates() -> None:
    fold = re.sub(r"<[^>]+>", " ", TEXT[TEXT.index("<details>") : TEXT.index("</details>")])
    assert f"slide   {format_lr(slide(RESULT.curve).lr)}".split() == fold[fold.index("slide") :].split()[:2]
    assert all(f" {name} " in fold for name in ("slide", "valley", "steepest", "minimum"))
    assert [attributes for attributes in PAGE.all("details")] == [{}]  # closed


def test_findings_are_told_once() -> None:
    for sentence in RESULT.advice.reasons:
        assert WORDS.count(" ".join(sentence.split())) == 1


@pytest.mark.parametrize("name", ODD_CURVES)
def test_every_curve_has_a_page(name: str) -> None:
    result = RangeTestResult(curve=ODD_CURVES[name])
    page = Page(result.to_html())
    assert result.decision.text in " ".join(page.text.split())
    assert not page.all("button")  # no recipe, so nothing to copy


def test_sections_without_content_are_left_out() -> None:
    text = RangeTestResult(curve=ODD_CURVES["constant"]).to_html()
    assert "Why this number" not in text and "Lines to paste" not in text and "recipe</h2>" not in text
    assert "Findings" in text and "Why this number" in TEXT and "recipe</h2>" in TEXT


def test_a_recipe_can_be_given_where_the_length_is_known() -> None:
    result = result_of(None)
    plan = result.recipe("step", epochs=9)
    assert plan.code() in Page(result.to_html(plan)).text + "\n"
    assert "not recorded: the test was made in Python" in result.to_html()
    with pytest.raises(ConfigError, match="takes a recipe, or nothing, and returns the page; got a str"):
        result.to_html("lr.html")  # type: ignore[arg-type]


def test_pictures_are_there_for_wide_and_for_narrow_windows() -> None:
    shown = [each["class"] for each in PAGE.all("div") if each.get("class") in ("wide", "narrow")]
    assert shown == ["wide", "narrow"] * 2
    boxes = [str(each["viewbox"]).split() for each in PAGE.all("svg")]
    assert [float(width) < 300 for _, _, width, _ in boxes] == [False, True] * 2  # points


# --- self-contained -----------------------------------------------------------------------------------------------


def test_nothing_is_loaded_from_elsewhere() -> None:
    named = [pair for _, each in PAGE.elements for pair in each.items()]
    addresses = [value for name, value in named if name in ("src", "href", "srcset")]
    assert {tag for tag, _ in PAGE.elements} & {"link", "img", "iframe", "object", "base", "form"} == set()
    assert [each for each in addresses if each and "github.com" in each] == [RESULT.run.reference.link]  # type: ignore
    assert "@import" not in TEXT and not re.search(r"url\((?!#)", TEXT)


def test_the_policy_allows_the_script_of_the_page_alone() -> None:
    [policy] = [each["content"] for each in PAGE.all("meta") if "http-equiv" in each]
    [script] = re.findall(r"<script>(.*?)</script>", TEXT, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in str(policy)


def test_the_page_is_the_same_every_time() -> None:
    assert RESULT.to_html() == TEXT


# --- names from files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["model", "data", "optimizer", "weights", "device", "versions", "optimizer_options"])
def test_names_from_a_file_cannot_inject_anything(field: str) -> None:
    value: Any = {HOSTILE: HOSTILE} if field in ("versions", "optimizer_options") else HOSTILE
    result = result_of({**SETUP, field: value}, optimizer=HOSTILE)
    advice = dataclasses.replace(result.advice, reasons=(HOSTILE,))
    text = dataclasses.replace(result, advice=advice).to_html()
    page, plain = Page(text), Page(TEXT)
    assert len(page.all("script")) == 1 and not page.all("img")
    handlers = [name for _, each in page.elements for name in each if name.startswith("on")]
    assert handlers == [] and "\x1b" not in text and "\u202e" not in text
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements}
    assert "{{ 7*7 }}" in page.text


def test_a_link_comes_from_the_table_and_not_from_the_file() -> None:
    content = json.loads(json.dumps(RESULT.to_dict()))
    content["run"]["setup"]["link"] = "javascript:alert(1)"
    page = Page(RangeTestResult.from_dict(content).to_html())
    assert [each["href"] for each in page.all("a")] == [RESULT.run.reference.link]  # type: ignore[union-attr]


# --- accessible ---------------------------------------------------------------------------------------------------


def test_language_title_headings_and_names_are_there() -> None:
    assert PAGE.all("html") == [{"lang": "en"}] and "<title>Learning-rate range test of resnet18" in TEXT
    levels = [int(tag[1]) for tag, _ in PAGE.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and set(levels[1:]) == {2}
    ids = [each["id"] for _, each in PAGE.elements if "id" in each]
    assert len(ids) == len(set(ids))
    for picture in PAGE.all("svg"):
        assert picture["role"] == "img" and picture["aria-labelledby"] in ids
    for tag, each in PAGE.elements:
        assert each.get("aria-labelledby", ids[0]) in ids
        if each.get("role") == "region":
            assert each["tabindex"] == "0" and each["aria-label"]
    assert all(each.get("scope") in ("row", "col") for each in PAGE.all("th"))
    assert len(PAGE.all("caption")) == len(PAGE.all("table"))
    assert [each.get("role") for tag, each in PAGE.elements if each.get("id") == "copied"] == ["status"]


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", PAGE_COLOURS)
def test_text_and_lines_have_the_contrast_that_wcag_asks_for(scheme: str) -> None:
    colours = PAGE_COLOURS[scheme]
    paper = colours["--paper"]
    for name in ("--ink", "--muted", "--accent"):
        assert contrast(colours[name], paper) >= 4.5
        assert contrast(colours["--ink"], colours["--code"]) >= 4.5
    for name in ("--line-0", "--line-1", "--line-2"):  # curve, max_lr, base_lr
        assert contrast(colours[name], paper) >= 3


def test_pictures_use_the_variables_of_the_page_and_no_colour_of_their_own() -> None:
    used = set(re.findall(r"var\((--[\w-]+)\)", TEXT))
    assert used <= set(PAGE_COLOURS["light"]) and set(PAGE_COLOURS["light"]) == set(PAGE_COLOURS["dark"])
    for picture in re.findall(r"<svg.*?</svg>", TEXT, flags=re.DOTALL):
        assert not re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", picture)
        assert "var(--line-0)" in picture


# --- commands -----------------------------------------------------------------------------------------------------


def lrfind(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], prog_name="lrfind", catch_exceptions=False)


TINY = ("run", "squeezenet1_1", "--num-iter", "4", "--batch-size", "8", "--start-lr", "1e-4", "--end-lr", "1e-2")


@pytest.mark.parametrize("named", [True, False])
def test_run_and_show_write_one_page(tmp_path: Path, named: bool) -> None:
    given = tmp_path / "page.html" if named else tmp_path / "out" / "squeezenet1_1-sgd.html"
    done = lrfind(*TINY, "--out", tmp_path / "out", "--html", *([given] if named else []))
    assert f"  page    {given}" in done.stdout
    written = given.read_text(encoding="utf-8")
    file = tmp_path / "out" / "squeezenet1_1-sgd.json"
    shown = lrfind("show", file, "--html", tmp_path / "again.HTML")
    assert (tmp_path / "again.HTML").read_text(encoding="utf-8") == written
    assert shown.exit_code == 0 and "again.HTML" in shown.stderr and "Page:" not in shown.stdout
    assert lrfind("show", file, "--json", "--html").exit_code == 0
    assert file.with_suffix(".html").read_text(encoding="utf-8") == written


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("page.txt", "--html takes a file that ends in .html or .htm; got "),
        ("page", "--html takes a file that ends in .html or .htm; got "),
        ("missing/page.html", "cannot write to --html"),
        ("folder.html", "it is a folder. Give a file name inside it."),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_before_anything(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "folder.html").mkdir()
    saved = RESULT.save(tmp_path / "x.json")
    for command in ((*TINY, "--out", tmp_path / "out"), ("show", saved)):
        done = lrfind(*command, "--html", tmp_path / name)
        assert (done.exit_code, done.stdout) == (2, "") and sentence in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_page_that_cannot_be_drawn_keeps_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *args, **options: 1 / 0)
    done = lrfind(*TINY, "--out", tmp_path, "--html", tmp_path / "page.html")
    assert done.exit_code == 3 and "the page is missing: ZeroDivisionError" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["squeezenet1_1-sgd.json"]
