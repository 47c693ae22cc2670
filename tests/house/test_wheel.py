"""The wheel: whole, and of use in an environment without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

from whylens.ui.space.local_run import free_port, running_page, shared_env

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("core", "plugins", "ui", "checkpoints", "examples")
pytestmark = pytest.mark.slow


def tracked() -> list[str]:
    """Return the files that belong to the project."""
    run = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if run.returncode != 0:
        pytest.skip("not a checkout: what belongs to the project is not known")
    return [name for name in run.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from the source distribution, as `python -m build` does."""
    pytest.importorskip("build", reason="build is not installed")
    place = tmp_path_factory.mktemp("build")
    for name in tracked():
        (place / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / "src" / name)
    run = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place / "dist"), "."],
        cwd=place / "src", capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:] + run.stdout[-3000:]
    assert "absent from the `packages` configuration" not in run.stderr + run.stdout
    (path,) = (place / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def place(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel; all other packages come from this one."""
    home = tmp_path_factory.mktemp("installed")
    python = shared_env(home)
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps",
         "--no-index", str(wheel)],
        check=True,
    )  # fmt: skip
    # Where the commands are started lie folders of the user's own, with the names of our rooms.
    for room in ("core", "plugins", "ui", "checkpoints", "demo"):
        (home / "elsewhere" / room).mkdir(parents=True)
        (home / "elsewhere" / room / "__init__.py").write_text("raise ImportError('not yours')")
    return home


def environment(place: Path, **more: str) -> dict[str, str]:
    variables = {
        name: os.environ[name] for name in ("PATH", "HF_HUB_OFFLINE") if name in os.environ
    }
    return {**variables, "HOME": str(place), **more}


def whylens(place: Path, *words: str) -> subprocess.CompletedProcess:
    command = [str(place / "env" / "bin" / "whylens"), *words]
    return subprocess.run(
        command, cwd=place / "elsewhere", env=environment(place), capture_output=True, text=True
    )


def test_the_wheel_holds_all_that_runs_and_is_no_burden(wheel):
    # All of `whylens` as it is, and the rooms inside it: no other name reaches site-packages.
    expected = {name for name in tracked() if name.startswith("whylens/")}
    expected |= {f"whylens/{name}" for name in tracked() if name.split("/")[0] in ROOMS}
    # For whoever has the checkout: a notebook, a plugin to copy, and how a network was converted.
    expected -= {n for n in expected if n.startswith("whylens/examples/plugin-captum/")}
    expected -= {"whylens/examples/quickstart.ipynb"}
    expected -= {"whylens/checkpoints/recipes/efficientnet_lite0.py"}
    with zipfile.ZipFile(wheel) as archive:
        actual = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert actual == expected
    assert wheel.stat().st_size < 60_000_000


def test_nothing_but_whylens_reaches_site_packages(place):
    site = next((place / "env").glob("lib/python*/site-packages"))
    names = {path.name for path in site.iterdir() if path.suffix not in (".dist-info", ".pth")}
    assert names - {"__pycache__"} == {"whylens"}


def test_the_command_answers_outside_the_checkout(place):
    help_run = whylens(place, "--help")
    assert help_run.returncode == 0, help_run.stderr
    assert "deploy-space" in help_run.stdout
    plugins_run = whylens(place, "plugins", "--json")
    assert plugins_run.returncode == 0, plugins_run.stderr
    assert '"problems": []' in plugins_run.stdout
    assert plugins_run.stdout.count('"distribution": "whylens"') >= 24


def test_a_shipped_network_explains_a_shipped_picture(place):
    import sysconfig

    site = next((place / "env").glob("lib/python*/site-packages"))
    assert str(site) != sysconfig.get_path("purelib")
    photo = site / "whylens" / "examples" / "painted" / "bluebell.jpg"
    run = whylens(
        place, "explain", str(photo), "--model", "painted-cats-breed", "--method", "cam",
        "--out", "out",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert (place / "elsewhere" / "out" / "cam" / "overlay.png").is_file()


def test_the_page_is_served_outside_the_checkout(place):
    port = str(free_port())
    command = [str(place / "env" / "bin" / "whylens"), "demo", "--port", port]
    variables = environment(place, GRADIO_SERVER_PORT=port, TMPDIR=str(place))
    with (
        running_page(command, place / "elsewhere", variables, place / "log.txt") as page,
        urllib.request.urlopen(f"{page.address}config") as answer,
    ):
        config = answer.read().decode()
    assert "painted-cats-breed" in config
