"""Everything that README and docs tell a reader to type is run, or says why it is not."""

from __future__ import annotations

import itertools
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from tests.support.browser import chromium
from tests.support.doc_blocks import PAGES, ROOT, Block, blocks_of
from tests.support.pictures import colour_folder
from whylens.ui.cli.app import app

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = {
    page: [b for b in BLOCKS if b.page == page and b.language in ("python", "bash")]
    for page in PAGES
}
VARIABLE = re.compile(r"^(?:export )?([A-Z_]+)=(\S+)$")


def name_of(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.line}"


def lines_of(block: Block) -> list[list[str]]:
    """Return the words of each command of a bash block."""
    text = block.code.replace("\\\n", " ")
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a photo, pictures in a folder per class, and the shipped networks in reach."""
    shutil.copy(ROOT / "examples" / "painted" / "bluebell.jpg", tmp_path / "photo.jpg")
    for folder in ("signals", "photos"):
        shutil.copytree(ROOT / "examples" / folder, tmp_path / "examples" / folder)
    colour_folder(tmp_path / "photos", {"cherry": 12, "kiwi": 12})
    for label in ("cherry", "kiwi"):
        for number in range(3):
            (tmp_path / "photos" / label / f"{number:03d}.png").rename(
                tmp_path / "photos" / label / f"{number}.png"
            )
    monkeypatch.setattr("whylens.core.models.checkpoints.SHIPPED", ROOT / "checkpoints")
    monkeypatch.delenv("WHYLENS_CHECKPOINTS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


# The others take minutes, as a reader does; their commands are parsed.
QUICK = ("README", "api")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[] if page.stem in QUICK else [pytest.mark.slow], id=page.stem)
        for page in PAGES
        if any(not block.reason for block in RUN[page])
    ],
)
def test_what_a_page_tells_to_type_works_from_top_to_bottom(page, place, monkeypatch):
    before = set(sys.modules)
    for block in RUN[page]:
        if block.reason:
            continue
        if block.file:
            (place / block.file).write_text(block.code)
        if block.language == "python":
            script = place / f"line_{block.line}.py"
            script.write_text(block.code)
            runpy.run_path(str(script))
            continue
        for words in lines_of(block):
            run_line(words, block, monkeypatch)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(place)):
            del sys.modules[name]


def run_line(words: list[str], block: Block, monkeypatch) -> None:
    if variable := VARIABLE.match(" ".join(words)):
        monkeypatch.setenv(*variable.groups())
        return
    assert words[0] == "whylens", f"{name_of(block)}: {words[0]} is not run; say why"
    arguments: list[str] = []
    for word in words[1:]:  # as the shell does
        arguments += sorted(map(str, Path().glob(word))) if "*" in word else [word]
    run = CliRunner().invoke(app, arguments)
    assert run.exit_code == 0, f"{name_of(block)}: {shlex.join(words)}\n{run.output}"


@pytest.mark.slow  # what a figure holds is asked in tests/core/test_figure.py
def test_the_figure_of_the_page_on_figures_is_what_its_commands_make(place, monkeypatch):
    # Where it is not: run them in the checkout with these options, and keep docs/figure.png of it.
    block = next(b for b in blocks_of(ROOT / "docs/tutorials/figure.md") if "explain" in b.code)
    explain, figure = lines_of(block)
    run_line(explain, block, monkeypatch)
    run_line([*figure, "--to", "figure.png", "--dpi", "120"], block, monkeypatch)
    with Image.open("figure.png") as actual, Image.open(ROOT / "docs" / "figure.png") as expected:
        assert actual.size == expected.size
        pair = [np.asarray(picture.convert("RGB"), float) for picture in (actual, expected)]
    assert np.abs(pair[0] - pair[1]).mean() < 3


COMMANDS = [b for b in BLOCKS if b.language == "bash" and re.search("whylens |make ", b.code)]


@pytest.mark.parametrize("block", COMMANDS, ids=name_of)
def test_commands_and_options_exist_and_so_do_make_targets(block):
    makefile = (ROOT / "Makefile").read_text()
    for line in lines_of(block):
        words = list(itertools.dropwhile(lambda word: "=" in word, line))
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
        if words and words[0].split("/")[-1] == "whylens":
            group = get_command(app)
            command = group.get_command(None, words[1])
            assert command is not None, shlex.join(words)
            # Options and arguments are read, nothing is run.
            command.make_context(words[1], list(words[2:]))


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "toml"], ids=name_of)
def test_tables_are_valid_and_name_the_group_of_entry_points(block):
    assert "whylens.explainers" in tomllib.loads(block.code)["project"]["entry-points"]


def test_every_block_is_of_a_language_that_is_checked():
    assert {b.language for b in BLOCKS} <= {"python", "bash", "toml", "text", "nginx"}
    # None escapes the pattern by the way it is written.
    assert 2 * len(BLOCKS) == sum(
        len(re.findall("^ *```", p.read_text(), re.MULTILINE)) for p in PAGES
    )


def test_what_is_not_run_says_why():
    reasons = [b.reason for b in BLOCKS if b.reason]
    assert all(len(reason) > 10 for reason in reasons)
    paths = {name for reason in reasons for name in re.findall(r"tests/[\w/]+\.py", reason)}
    assert all((ROOT / name).is_file() for name in paths)


def test_the_page_of_variables_knows_what_the_code_reads():
    host = (ROOT / "docs" / "tutorials" / "host.md").read_text()
    sources = "".join(
        p.read_text() for room in ("core", "ui") for p in ROOT.glob(f"{room}/**/*.py")
    )
    variables = set(re.findall(r'"(WHYLENS_[A-Z_]+)"', sources))
    assert variables
    for variable in variables:
        assert variable in host, f"{variable} is read and nowhere explained"


def test_the_navigation_names_pages_that_exist_and_fonts_stay_at_home():
    config = yaml.load((ROOT / "mkdocs.yml").read_text(), yaml.BaseLoader)
    pages = re.findall(r"[\w/-]+\.md", json.dumps(config["nav"]))
    assert all((ROOT / "docs" / name).is_file() for name in pages)
    assert config["theme"]["font"] == "false"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    folder = tmp_path_factory.mktemp("docs") / "site"
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_no_other_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    foreign_address = re.compile(
        r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(https?:)?//", re.IGNORECASE
    )
    for page in pages:
        assert not foreign_address.search(page.read_text(encoding="utf-8")), page
    reference = (site / "reference" / "plugins.html").read_text(encoding="utf-8")
    for summary in ("One method of explanation: stateless", "One question to one model."):
        assert summary in reference


@pytest.mark.slow
def test_the_site_is_searched_where_it_is_opened_from_a_folder(site):
    with chromium() as browser:
        page = browser.new_page()
        page.set_viewport_size({"width": 1440, "height": 900})
        page.goto((site / "tutorials" / "host.html").as_uri())
        field = page.locator("input[name=query]")
        field.focus()  # what is typed before the search is ready is lost
        page.locator(".md-search-result__meta", has_text="Type to start").wait_for(state="attached")
        field.press_sequentially("colour bar")
        result = page.locator(".md-search-result__item a", has_text="A figure for a paper").first
        result.click()
        page.wait_for_url(re.compile("tutorials/figure.html"))
        page.goto((site / "models.html").as_uri())
        table = page.locator("table").first
        assert table.evaluate("t => t.offsetWidth <= t.parentElement.parentElement.clientWidth")
