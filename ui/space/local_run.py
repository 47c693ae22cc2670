"""A Space's folder, installed and started here as the builder does it there.

The builder sees requirements.txt alone before it copies the rest; then the app runs with the
variables of a Space.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from whylens.ui.space.card import SpaceCard, SpaceProblem, read_card
from whylens.ui.space.files import README, REQUIREMENTS

START_SECONDS = 300.0
STOP_SECONDS = 60.0
ANSWER_SECONDS, SECONDS_BETWEEN_TRIES = 10.0, 0.05  # of its first page
# What the builder adds to the requirements, as its public logs show.
WITH_GRADIO = ("uvicorn>=0.14.0", "websockets>=10.4")
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "HF_HUB_OFFLINE", "OMP_WAIT_POLICY")


@dataclass(frozen=True)
class RunningPage:
    """A page in a process of its own.

    Attributes:
        seconds: From the start of the process to the first page.
        log: What it printed.
    """

    address: str
    seconds: float
    log: Path


def find_python(card: SpaceCard) -> Path:
    """Return an interpreter of the Space's version of Python, or this one where there is none."""
    major_minor = ".".join(card.python_version.split(".")[:2])
    path = shutil.which(f"python{major_minor}")
    code = "import sys; print('{}.{}'.format(*sys.version_info))"
    if path is not None:
        # A stand-in on the path may name a version that is not there.
        answer = subprocess.run(  # noqa: S603 - a path that was just looked up
            [path, "-c", code], capture_output=True, text=True, check=False
        )
        if answer.returncode == 0 and answer.stdout.strip() == major_minor:
            return Path(path)
    return Path(sys.executable)


def install_env(folder: Path, home: Path, python: Path) -> Path:
    """Return the interpreter of a clean environment with all that the builder would install.

    Args:
        home: An empty folder; the environment goes into it.

    Raises:
        SpaceProblem: Something cannot be installed.
    """
    card = read_card((folder / README).read_text(encoding="utf-8"))
    _run([str(python), "-m", "venv", str(home / "env")], cwd=home)
    interpreter = _python_of(home / "env")
    build = home / "build"
    build.mkdir()
    shutil.copyfile(folder / REQUIREMENTS, build / REQUIREMENTS)
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.defpath]))
    install = (
        [uv, "pip", "install", "--compile-bytecode", "--python", str(interpreter)]  # as pip does
        if uv
        else [str(interpreter), "-m", "pip", "install"]
    )
    _run([*install, "-q", "-r", REQUIREMENTS, *builder_packages(card)], cwd=build)
    return interpreter


def builder_packages(card: SpaceCard) -> list[str]:
    """Return what the builder installs together with the requirements."""
    return [f"gradio[oauth,mcp]=={card.sdk_version}", *WITH_GRADIO]


def shared_env(home: Path) -> Path:
    """Return the interpreter of a new environment that sees the packages of this one.

    No package of this environment is imported by way of an editable installation: of the project
    only what lies in the Space's folder is found.

    Args:
        home: An empty folder; the environment goes into it.
    """
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(home / "env")
    interpreter = _python_of(home / "env")
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.check_output([interpreter, "-c", code], text=True)  # noqa: S603 - made above
    shared = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    lines = "".join(f"{path}\n" for path in sorted(shared))
    (Path(site.strip()) / "shared.pth").write_text(lines)
    return interpreter


@contextlib.contextmanager
def running_space(
    folder: Path, home: Path, python: Path, *, variables: Mapping[str, str] | None = None
) -> Iterator[RunningPage]:
    """Yield the Space, running in a copy of its folder; on leaving, it is stopped and must end.

    Raises:
        SpaceProblem: It does not start in time, or does not end cleanly on SIGTERM.
    """
    card = read_card((folder / README).read_text(encoding="utf-8"))
    app = home / "app"
    shutil.copytree(folder, app)
    environment = {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        "HOME": str(home),
        "PYTHONPATH": str(app),
        "PYTHONUNBUFFERED": "1",
        # Not SYSTEM=spaces: with it gradio and `spaces` open a port to the world that takes new
        # code, which is for the owner of a Space and not for this machine.
        "SPACE_ID": "someone/whylens",
        "CPU_CORES": "2",
        "GRADIO_SERVER_NAME": "127.0.0.1",  # 0.0.0.0 on a Space; here nobody else need see it
        "GRADIO_SERVER_PORT": str(free_port()),
        "GRADIO_NUM_PORTS": "1",
        **(variables or {}),
    }
    with running_page([str(python), card.app_file], app, environment, home / "log.txt") as space:
        yield space


@contextlib.contextmanager
def running_page(
    command: list[str], folder: Path, environment: Mapping[str, str], log: Path
) -> Iterator[RunningPage]:
    """Yield a page that runs in a process of its own; on leaving, it is stopped and must end.

    Raises:
        SpaceProblem: It does not start in time, or does not end cleanly on SIGTERM.
    """
    with log.open("wb") as stream:
        start_time = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - the app that is to be tried
            command,
            cwd=folder,
            env=dict(environment),
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{environment['GRADIO_SERVER_PORT']}/"
    try:
        _await_page(address, process, log)
        yield RunningPage(address, time.perf_counter() - start_time, log)
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise SpaceProblem(f"It did not end {STOP_SECONDS:.0f} s after SIGTERM.") from None
        if code != 0:
            raise SpaceProblem(f"It ended with {code} on SIGTERM: {_log_tail(log)}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _await_page(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise SpaceProblem(f"It ended before its first page: {_log_tail(log)}")
        # An open port is not enough: the page itself must come.
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(address, timeout=ANSWER_SECONDS) as answer,  # noqa: S310 - loopback
        ):
            if answer.status == 200 and b"gradio" in answer.read():
                return
        time.sleep(SECONDS_BETWEEN_TRIES)
    raise SpaceProblem(f"No first page within {START_SECONDS:.0f} s: {_log_tail(log)}")


def _log_tail(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-3:]) or "it printed nothing"


def _run(command: list[str], *, cwd: Path) -> None:
    run = subprocess.run(  # noqa: S603 - composed in this file
        command, cwd=cwd, capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        output = (run.stderr or run.stdout).strip()[-2000:]
        raise SpaceProblem(f"`{' '.join(command)}` failed as it would at the builder:\n{output}")


def _python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
