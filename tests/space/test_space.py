"""The Space: its folder, its metadata, its start as the builder does it, and how it is sent."""

from __future__ import annotations

import base64
import http.server
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import tomllib
import urllib.request
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from tests.support.browser import PATIENCE, chromium, open_tab, status, visit
from whylens.ui.cli.app import app
from whylens.ui.space.card import SpaceCard, SpaceProblem, read_card, with_front_matter
from whylens.ui.space.checks import problems_of
from whylens.ui.space.files import build_space, pins, requirements_of
from whylens.ui.space.local_run import (
    builder_packages,
    find_python,
    install_env,
    running_space,
    shared_env,
)
from whylens.ui.space.push import push

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("whylens", "core", "plugins", "ui")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder, built once and only read."""
    folder = tmp_path_factory.mktemp("dry") / "space"
    build_space(folder)
    return folder


@pytest.fixture
def folder(built, tmp_path) -> Path:
    """A small copy that a test may spoil."""
    small = tmp_path / "space"
    small.mkdir()
    for path in (path for path in built.iterdir() if path.is_file()):
        shutil.copy(path, small)
    shutil.copytree(built / "docs", small / "docs")
    (small / "examples").mkdir()
    shutil.copy(built / "examples" / "quickstart.ipynb", small / "examples")
    return small


def test_the_folder_is_valid_and_holds_what_runs_and_nothing_else(built):
    assert problems_of(built) == []
    names = {str(p.relative_to(built)) for p in built.rglob("*") if p.is_file()}
    assert {"demo.py", "core/engine.py", "plugins/measured.json", "ui/page/page.css"} <= names
    assert "checkpoints/painted-cats-breed/model.safetensors" in names
    tops = {name.split("/")[0] for name in names}
    assert not tops & {"tests", "benchmarks", ".git", ".ci", "Makefile", "constraints.txt"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    # Whatever code reads beside itself comes along, or its package would lack it on a Space.
    run_time = {p for room in ROOMS for p in ROOT.glob(f"{room}/**/*") if p.is_file()}
    run_time = {p for p in run_time if "__pycache__" not in p.parts}
    assert {str(p.relative_to(ROOT)) for p in run_time} <= names


def test_the_metadata_say_what_is_pinned(built):
    readme = (built / "README.md").read_text(encoding="utf-8")
    card = read_card(readme)
    assert card.sdk_version == pins(ROOT)["gradio"] == metadata.version("gradio")
    assert re.search(r"^python_version: '3\.12'$", readme, re.MULTILINE)  # 3.10 would become 3.1
    assert card.license == PROJECT["project"]["license"].lower() == "apache-2.0"
    assert card.app_file == "demo.py"
    assert [entry.split()[0] for entry in card.preload_from_hub] == card.models
    assert readme.endswith((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_preloaded_model_is_the_one_that_a_space_begins_with(built):
    from timm.models import get_pretrained_cfg

    from whylens.ui.page.session import PRETRAINED

    card = read_card((built / "README.md").read_text(encoding="utf-8"))
    assert card.models == [get_pretrained_cfg(PRETRAINED).hf_hub_id.removeprefix("hf-hub:")]


def test_requirements_follow_from_the_dependencies(built):
    lines = (built / "requirements.txt").read_text().splitlines()
    requirements = {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}
    dependencies = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    space_requirements = PROJECT["tool"]["whylens"]["space"]["requirements"]
    assert set(requirements) == ({d.name for d in dependencies} | set(space_requirements)) - {
        "gradio"
    }
    assert str(requirements["torch"].specifier) == "==2.11.0"
    shared = {canonicalize_name(Requirement(r).name) for r in metadata.requires("gradio")}
    for dependency in dependencies:
        name = dependency.name
        if name == "gradio" or name in space_requirements:
            continue
        if name in shared:  # the builder's own installation decides
            assert requirements[name].specifier == dependency.specifier
        else:
            assert str(requirements[name].specifier) == f"=={pins(ROOT)[name]}"
        assert metadata.version(name) in requirements[name].specifier


def test_the_versions_for_the_space_fit_the_ranges_of_the_project():
    space_requirements = PROJECT["tool"]["whylens"]["space"]["requirements"]
    for text in PROJECT["project"]["dependencies"]:
        dependency = Requirement(text)
        if dependency.name in space_requirements:
            assert space_requirements[dependency.name].removeprefix("==") in dependency.specifier


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SpaceProblem, match="not empty"):
        build_space(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_an_installed_copy_says_that_it_is_none_of_a_checkout(tmp_path):
    with pytest.raises(SpaceProblem, match="Clone the repository"):
        build_space(tmp_path / "space", checkout=tmp_path)
    assert list(tmp_path.iterdir()) == []


SPOILT = [
    ("README.md", "python_version: '3.12'", "python_version: 3.12", "python_version.*quotes"),
    ("README.md", "python_version: '3.12'", "python_version: '3.11'", "python_version"),
    ("README.md", "sdk: gradio", "sdk: gradioo", "sdk"),
    ("README.md", "colorFrom: indigo", "colorFrom: mauve", "colorFrom"),
    ("README.md", "title: Whylens", "titel: Whylens", "titel.*Extra"),
    ("README.md", "short_description: See", f"short_description: {'S' * 60}", "60 characters"),
    ("README.md", "app_file: demo.py", "app_file: app.py", "app.py as app_file"),
    ("README.md", " model.safetensors,config.json", " model.safetensors, config.json", "preload"),
    ("README.md", "emoji: 🔎", "emoji: lens", "emoji"),
    ("README.md", "license: apache-2.0\n", "", "license.*required"),
    ("README.md", "---\ntitle", "title", "does not begin"),
    ("README.md", "title: Whylens", "title: [Whylens", "no YAML"),
    ("README.md", "(docs/strip.jpg)", "(docs/strips.jpg)", "strips.jpg"),
    ("requirements.txt", "cmap", "-e .\ncmap", "-e \\."),
    ("requirements.txt", "cmap", "./whylens.whl\ncmap", "whylens.whl"),
    ("requirements.txt", "cmap", "x @ git+https://example.org/x\ncmap", "from an address"),
    ("requirements.txt", "cmap", "gradio==6.30.0\ncmap", "gradio==6.30.0"),
    ("requirements.txt", "torch==2.11.0", "torch==2.14.1", "ZeroGPU offers"),
    ("requirements.txt", "torch==2.11.0", "torch>=2.11.0", "ZeroGPU offers"),
]


@pytest.mark.parametrize(
    ("name", "good", "bad", "message"), SPOILT, ids=[s[2][:40] for s in SPOILT]
)
def test_what_the_builder_would_refuse_is_found_here(folder, name, good, bad, message):
    assert problems_of(folder) == []
    text = (folder / name).read_text(encoding="utf-8")
    assert good in text
    (folder / name).write_text(text.replace(good, bad, 1), encoding="utf-8")
    (problem,) = problems_of(folder)
    assert re.search(message, problem)


def test_large_unsafe_and_linked_files_are_found(folder):
    (folder / "large.bin").write_bytes(b"")
    with (folder / "large.jpg").open("wb") as stream:
        stream.truncate(10_000_000)
    (folder / "link.py").symlink_to(folder / "demo.py")
    message = " ".join(problems_of(folder))
    assert all(
        word in message for word in ("large.bin may run", "large.jpg has 10.0", "link.py is")
    )


def test_the_front_matter_is_read_as_it_was_written():
    card = SpaceCard(
        title="No: yes", emoji="🐈", colorFrom="red", colorTo="gray", sdk="gradio",
        sdk_version="6.0.1", python_version="3.10", app_file="a.py", short_description="x",
        license="mit",
    )  # fmt: skip
    assert read_card(with_front_matter(card, "# Title\n---\n")) == card


@pytest.fixture(scope="module")
def space(built, tmp_path_factory):
    """The Space, started as the builder would; packages come from this environment."""
    home = tmp_path_factory.mktemp("home")
    empty = home / "tmp"
    empty.mkdir()
    settings = {"HF_HUB_OFFLINE": "1", "GRADIO_TEMP_DIR": str(empty)}
    with running_space(built, home, shared_env(home), variables=settings) as running_app:
        print(f"first page after {running_app.seconds:.1f} s")  # noqa: T201
        yield running_app
    # It was ended by SIGTERM: what a visitor gave and got is gone, the examples are the page's own.
    leftovers = {path.name for path in empty.rglob("*") if path.is_file()}
    assert leftovers <= {path.name for path in built.glob("examples/*/*")}


@pytest.mark.slow
def test_the_space_runs_from_its_folder_alone(space):
    with urllib.request.urlopen(f"{space.address}config") as answer:
        config = json.load(answer)
    names = {d.get("api_name") for d in config["dependencies"]}
    assert {"grad-cam", "predict", "compare"} <= names
    labels = {c["props"].get("label") for c in config["components"]}
    assert "Your folder" not in labels  # strangers do not train
    with urllib.request.urlopen(f"{space.address}health") as answer:
        assert json.load(answer) == {"status": "ok"}


@pytest.mark.slow
@pytest.mark.browser
def test_a_visitor_of_the_space_gets_a_map(space, tmp_path):
    from playwright.sync_api import expect

    photo = tmp_path / "a-visitors-own.jpg"
    shutil.copy(ROOT / "examples" / "painted" / "bluebell.jpg", photo)
    with chromium() as browser, visit(browser, space.address) as page:
        expect(page.locator("#model input")).to_have_value(re.compile("imagenet-lite0"))
        page.locator("#photo input[type=file]").set_input_files(str(photo))
        expect(status(page, "compare")).to_have_value(re.compile("^Done: 2"), timeout=PATIENCE)
        open_tab(page, "Grad-CAM")
        page.locator("#grad-cam-run").click()
        expect(status(page, "grad-cam")).to_have_value(re.compile("^Done"), timeout=PATIENCE)


def test_the_command_builds_and_checks(tmp_path):
    run = CliRunner().invoke(app, ["deploy-space", "--dry-run", str(tmp_path / "x"), "--no-start"])
    assert run.exit_code == 0, run.output
    assert "Valid" in run.stdout
    assert problems_of(tmp_path / "x") == []
    for words, message in [
        (["--dry-run", str(tmp_path / "x")], "not empty"),
        ([], "--dry-run DIR"),
    ]:
        run = CliRunner().invoke(app, ["deploy-space", *words])
        assert run.exit_code == 1
        assert message in run.stderr


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub's interface as a push of small files needs."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.path, body))
        address = f"http://127.0.0.1:{self.server.server_port}"
        if self.server.refusal:
            self._answer({"error": "Not yours"}, self.server.refusal)
        elif self.path == "/api/repos/create":
            self._answer({"url": f"{address}/spaces/me/whylens"})
        elif "/preupload/" in self.path:
            files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for f in json.loads(body)["files"]]  # fmt: skip
            self._answer({"files": files})
        else:
            self._answer({"commitUrl": f"{address}/spaces/me/whylens/commit/1", "commitOid": "1"})

    def do_GET(self):
        self.server.seen.append((self.path, b""))
        siblings = [{"rfilename": n} for n in (".gitattributes", "old.py", "README.md")]
        if "/tree/" in self.path:
            self._answer([{"type": "file", "path": s["rfilename"], "size": 1, "oid": "1"}
                          for s in siblings])  # fmt: skip
        else:
            self._answer({"id": "me/whylens", "siblings": siblings})

    def _answer(self, content, code=200):
        data = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import HfApi, constants

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.seen, server.refusal = [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    server.api = HfApi(endpoint=f"http://127.0.0.1:{server.server_port}", token="hf_none")
    yield server
    server.shutdown()
    server.server_close()


def test_a_push_is_one_commit_that_mirrors_the_folder(hub, tmp_path):
    (tmp_path / "README.md").write_text("# new")
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "a.py").write_text("a = 1")
    assert push(tmp_path, "me/whylens", api=hub.api).endswith("/commit/1")
    created = json.loads(next(body for path, body in hub.seen if path == "/api/repos/create"))
    assert (created["type"], created["sdk"], created["name"]) == ("space", "gradio", "whylens")
    (commit,) = (body for path, body in hub.seen if "/commit/" in path)
    lines = [json.loads(line) for line in commit.splitlines()]
    files = {x["value"]["path"]: x["value"] for x in lines if x["key"] == "file"}
    assert base64.b64decode(files["core/a.py"]["content"]) == b"a = 1"
    assert set(files) == {"README.md", "core/a.py"}
    assert [x["value"]["path"] for x in lines if x["key"] == "deletedFile"] == ["old.py"]


def test_a_refusal_of_the_hub_is_said_in_words(hub, tmp_path):
    (tmp_path / "README.md").write_text("# new")
    hub.refusal = 400
    with pytest.raises(SpaceProblem, match=r"(?s)The Hub refused.*Not yours"):
        push(tmp_path, "me/whylens", api=hub.api)
    with pytest.raises(SpaceProblem, match="owner/name"):
        push(tmp_path, "me/why lens/x", api=hub.api)


@pytest.mark.slow
def test_the_requirements_resolve_beside_what_the_builder_adds(built, tmp_path):
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed: `make setup` brings it")
    card = read_card((built / "README.md").read_text(encoding="utf-8"))
    requirements_in = tmp_path / "wanted.in"
    lines = (built / "requirements.txt").read_text().splitlines()
    requirements_in.write_text("\n".join([*lines, *builder_packages(card)]))
    run = subprocess.run(
        [uv, "pip", "compile", "-q", "--no-header", "--no-annotate",
         "--python-version", card.python_version, str(requirements_in)],
        capture_output=True, text=True,
    )  # fmt: skip
    if "error sending request" in run.stderr or "dns error" in run.stderr:
        pytest.skip("no package index can be reached")
    assert run.returncode == 0, run.stderr
    versions = dict(line.split("==") for line in run.stdout.splitlines() if "==" in line)
    assert versions["torch"] == "2.11.0"
    assert versions["gradio"] == card.sdk_version
    for text in PROJECT["project"]["dependencies"]:
        assert versions[Requirement(text).name] in Requirement(text).specifier


@pytest.mark.slow
def test_a_clean_environment_starts_within_20_seconds(built, tmp_path):
    # Gigabytes and minutes: only where it is asked for, as `whylens deploy-space --dry-run` does.
    if os.environ.get("WHYLENS_REAL_INSTALL") != "1":
        pytest.skip("installs gigabytes: set WHYLENS_REAL_INSTALL=1 to allow it")
    card = read_card((built / "README.md").read_text(encoding="utf-8"))
    python = install_env(built, tmp_path, find_python(card))
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    with running_space(built, tmp_path, python, variables={"HF_HUB_OFFLINE": "1"}) as space:
        print(f"first page after {space.seconds:.1f} s")  # noqa: T201
    end_usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    # A Space has its two cores for itself; here others may be at work, who cost time on the clock.
    assert end_usage.ru_utime + end_usage.ru_stime - began.ru_utime - began.ru_stime <= 20


def test_requirements_without_pins_of_their_own_are_those_of_the_project():
    bare = {"project": PROJECT["project"], "tool": {"whylens": {"space": {"requirements": {}}}}}
    assert f"torch=={pins(ROOT)['torch']}" in requirements_of(bare, pins(ROOT))
