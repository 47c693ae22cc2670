"""The command line: files, errors in one sentence, exit codes, instant help, Ctrl-C, SIGTERM."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.support.browser import toy_checkpoint
from tests.support.networks import plain_spec
from whylens.core.engine import Engine
from whylens.ui.cli.app import app, run_command_line
from whylens.ui.cli.explain_photos import _read_input

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a toy checkpoint and two photos."""
    folder = tmp_path_factory.mktemp("cli")
    toy_checkpoint(folder / "checkpoints" / "toy")
    rng = np.random.default_rng(1)
    for name in ("one.png", "two.png"):
        pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def environment(place) -> dict[str, str]:
    return {
        **os.environ,
        "WHYLENS_CHECKPOINTS": str(place / "checkpoints"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }


def whylens(place, *words: str):
    """Return the result of a command, run in this process: starting torch anew takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("WHYLENS_CHECKPOINTS", str(place / "checkpoints"))
        return CliRunner().invoke(app, list(words))


def test_photos_are_explained_by_several_methods(place):
    run = whylens(
        place, "explain", "one.png", "two.png", "--model", "toy",
        "--method", "grad-cam,occlusion", "--target", "goldfish", "--versus", "tench",
        "--param", "stride=32", "--out", "out",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    manifest = json.loads((place / "out" / "two" / "occlusion/manifest.json").read_text())
    assert manifest["target"]["label"] == "goldfish"
    assert manifest["target"]["versus_label"] == "tench"
    assert manifest["parameters"]["stride"] == 32
    with Image.open(place / "out" / "one" / "grad-cam/overlay.png") as picture:
        assert picture.size == (80, 60)
    assert len(run.stdout.split()) == 24
    assert re.findall(r"^(\w+\.png)  .+ \d+\.\d %$", run.stderr, re.MULTILINE) == [
        "one.png", "two.png",
    ]  # fmt: skip


def test_one_bad_photo_of_several_is_named_and_stops_no_other(place):
    (place / "bad.jpg").write_bytes((place / "one.png").read_bytes()[:200])
    run = whylens(
        place, "explain", "one.png", "bad.jpg", "two.png", "--model", "toy",
        "--method", "grad-cam", "--out", "three",
    )  # fmt: skip
    assert run.exit_code == 1
    assert re.search(r"^bad\.jpg +The picture is damaged", run.stderr, re.MULTILINE)
    assert "1 of 3 could not be explained: bad.jpg." in run.stderr
    assert {path.name for path in (place / "three").iterdir()} == {"one", "two"}


def test_an_array_of_a_photo_is_one(tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 4000, (48, 48, 3)).astype(np.uint16)
    np.save(tmp_path / "x.npy", pixels)
    fields = _read_input(tmp_path / "x.npy", "network", plain_spec(32, 32))
    assert (fields["photo"].pixels == np.rint(pixels / 257)).all()
    assert (
        "x.npy: 16-bit values were scaled to 8 bits. Only 12 of its 16" in capsys.readouterr().err
    )


def test_no_answer_for_another_photo_is_written_over(place):
    (place / "b").mkdir()
    shutil.copy(place / "two.png", place / "b" / "one.png")

    def folders(*photos):
        run = whylens(
            place, "explain", *photos, "--model", "toy", "--method", "grad-cam", "--out", "mine"
        )
        assert run.exit_code == 0, run.stderr
        files = [Path(line) for line in run.stdout.split() if line.endswith("manifest.json")]
        return [file.parent.parent.as_posix() for file in files]

    assert folders("one.png") == folders("one.png") == ["mine"]
    assert folders("b/one.png") == folders("b/one.png") == ["mine/one"]
    assert folders("one.png", "b/one.png") == ["mine/one-2", "mine/one"]


def test_scores_are_said_and_written(place):
    words = ("explain", "one.png", "--model", "toy", "--method", "layer-cam", "--scores")
    run = whylens(place, *words, "--out", "scored")
    manifest = json.loads((place / "scored" / "layer-cam/manifest.json").read_text())
    scores = manifest["scores"]
    assert f"LayerCAM: {scores['verdict']}. {scores['reason']}" in run.stderr
    assert manifest["command"].endswith("--scores --out out")


def test_the_command_in_the_manifest_reproduces_the_values(place):
    whylens(place, "explain", "one.png", "--model", "toy", "--method", "occlusion", "--out", "a")
    manifest = json.loads((place / "a" / "occlusion/manifest.json").read_text())
    import shlex

    run = whylens(place, *shlex.split(manifest["command"])[1:-1], "b")
    assert run.exit_code == 0, run.stderr
    first, second = (np.load(place / f / "occlusion/values.npy") for f in "ab")
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["explain", "one.png", "--model", "toy", "--method", "gradcam"], 1, "Did you mean"),
        (["explain", "none.png", "--model", "toy", "--method", "cam"], 1, "cannot be read"),
        (["explain", "one.png", "--model", "toyy", "--method", "cam"], 1, "toy"),
        (["explain", "one.png", "--model", "local-dir:/x", "--method", "cam"], 1, "never loaded"),
        (
            ["explain", "one.png", "--model", "toy", "--method", "cam", "--target", "golfish"],
            1,
            "goldfish",
        ),
        (
            ["explain", "one.png", "--model", "toy", "--method", "cam", "--param", "x=1"],
            1,
            "parameter 'x'",
        ),
        (["explain", "one.png", "--model", "toy"], 2, "--method"),
        (
            ["explain", "https://x.org/a.jpg", "--model", "toy", "--method", "cam"],
            1,
            "'https://x.org/a.jpg' is an address; nothing is fetched",
        ),
        *(
            ([*words, ""], 2, "It is empty: name a place")
            for words in (
                ["explain", "one.png", "--model", "toy", "--method", "cam", "--out"],
                ["train", "photos", "--out"],
                ["means", "toy", "photos", "--out"],
                ["bench", "toy", "--out"],
                ["import", "net.onnx", "--out"],
                ["figure", "manifest.json", "--to"],
                ["new-plugin", "edge-glow", "--dir"],
            )
        ),
        (["explain", "one.png", "--model", "resnet18.a1_in1k", "--method", "cam"], 1, "HF_HUB_"),
        (["models", "zzzz"], 1, "no model"),
    ],
)
def test_errors_are_one_sentence_on_stderr_and_an_exit_code(place, words, code, message):
    run = whylens(place, *words)
    assert run.exit_code == code
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


def test_plugins_lists_all_and_can_speak_json(place):
    listing = json.loads(whylens(place, "plugins", "--json").stdout)
    assert [row["name"] for row in listing["explainers"]][:2] == ["cam", "grad-cam"]
    assert listing["problems"] == []
    assert "Grad-CAM++" in whylens(place, "plugins").stdout


def test_models_finds_checkpoints_and_timm_names(place):
    assert whylens(place, "models", "toy").stdout.split()[0] == "toy"
    names = whylens(place, "models", "resnet18*").stdout.split()
    assert "resnet18.a1_in1k" in names
    assert all(name.startswith("resnet18") for name in names)


def test_help_imports_nothing_heavy(place):
    code = (
        "import sys, whylens.ui.cli.app\n"
        "try: whylens.ui.cli.app.app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'gradio', 'numpy', 'PIL', 'pydantic', 'rich'}\n"
        "found = sorted(heavy & set(sys.modules))\n"
        "sys.exit(str(found) if found else 0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment(place), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "explain" in run.stdout


INTERRUPTED_WORDS = (
    "explain", "one.png", "--model", "toy", "--method", "occlusion", "--param", "window=16",
    "--param", "stride=4", "--out", "stopped",
)  # fmt: skip


def interrupted(explain):
    """Return what answers as `explain` does, with Ctrl-C after the second part."""

    def parts(*arguments):
        for number, answer in enumerate(explain(*arguments)):
            yield answer
            if number == 1:
                os.kill(os.getpid(), signal.SIGINT)

    return parts


def check_partial_map(folder: Path) -> None:
    manifest = json.loads((folder / "occlusion/manifest.json").read_text())
    assert manifest["finished"] is False
    assert 0 < manifest["fraction"] < 1
    assert np.isfinite(np.load(io.BytesIO((folder / "occlusion/values.npy").read_bytes()))).all()


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.default_int_handler])
def test_ctrl_c_keeps_the_partial_map_and_says_so(place, monkeypatch, capsys, handler):
    """A shell starts what it puts into the background with SIGINT ignored."""
    monkeypatch.setattr(Engine, "explain", interrupted(Engine.explain))
    monkeypatch.setattr(sys, "argv", ["whylens", *INTERRUPTED_WORDS])
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(place / "checkpoints"))
    monkeypatch.chdir(place)
    shutil.rmtree(place / "stopped", ignore_errors=True)
    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(SystemExit) as error:
            run_command_line()
    finally:
        signal.signal(signal.SIGINT, before)
    assert error.value.code == 130
    assert "partial map is kept" in capsys.readouterr().err
    check_partial_map(place / "stopped")


@pytest.mark.slow  # in a process of its own; within this one is enough to know that it is heard
@pytest.mark.parametrize("handler", ["default_int_handler", "SIG_IGN"])
def test_ctrl_c_ends_a_process_of_its_own(place, handler):
    shutil.rmtree(place / "stopped", ignore_errors=True)
    code = (
        f"import signal; signal.signal(signal.SIGINT, signal.{handler})\n"
        "import whylens.ui.cli.app\n"
        "from tests.cli.test_cli import Engine, interrupted\n"
        "Engine.explain = interrupted(Engine.explain)\n"
        "whylens.ui.cli.app.main()"
    )
    child = subprocess.run(
        [sys.executable, "-u", "-c", code, *INTERRUPTED_WORDS],
        cwd=place, env=environment(place), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert child.returncode == 130, child.stderr
    assert "partial map is kept" in child.stderr
    check_partial_map(place / "stopped")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_demo_that_is_still_starting_puts_visitors_files_away(monkeypatch, ending):
    from whylens.ui.page import server

    ends = []
    monkeypatch.setattr(server, "local_engine", lambda costs: Engine())
    monkeypatch.setattr(server, "warm_up", lambda engine: None)
    monkeypatch.setattr(
        server, "build_page", lambda *_, **__: SimpleNamespace(close=lambda: ends.append(True))
    )
    monkeypatch.setattr(server, "launch", lambda *_, **__: signal.raise_signal(ending))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts what is in the background
        server.serve()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ends == [True]


ENDING = """
import atexit, sys, threading, time
from whylens.ui.ending import run_and_end
class TakenApart:
    def __del__(self):
        sys.stdout.write("taken apart, ")
kept = [TakenApart()]
kept.append(kept)  # a circle, as of modules: gone at the very end
def work():
    atexit.register(sys.stdout.write, "at exit")
    threading.Thread(target=lambda: (time.sleep(0.1), sys.stdout.write("thread, "))).start()
    sys.exit(eval(sys.argv[1]))
run_and_end(work)
"""


@pytest.mark.parametrize(
    ("code", "status", "message"), [("3", 3, ""), ("None", 0, ""), ("'why'", 1, "why")]
)
def test_a_process_ends_as_python_does_but_for_taking_all_apart(place, code, status, message):
    run = subprocess.run(
        [sys.executable, "-c", ENDING, code], env=environment(place), capture_output=True, text=True
    )
    assert (run.returncode, run.stderr.strip()) == (status, message)
    # What Python has to say it says in its own way.
    assert run.stdout == "thread, at exit" + "taken apart, " * bool(message)


def test_a_class_sees_the_address_and_scans_it(monkeypatch, capsys):
    import segno

    from whylens.ui.cli import class_address

    served = []
    monkeypatch.setattr("whylens.ui.page.server.serve", lambda *a, **k: served.append((a, k)))
    monkeypatch.setattr(class_address, "local_address", lambda: "10.1.2.3")
    assert CliRunner().invoke(app, ["demo", "--class", "--port", "7999"]).exit_code == 0
    _, options = served.pop()
    assert (options["host"], options["port"]) == ("0.0.0.0", 7999)
    options["greet"](7999)
    words = capsys.readouterr().out
    code, _, last = words.strip("\n").rpartition("\n")
    assert last == "Everybody in this network opens http://10.1.2.3:7999/"
    terminal = io.StringIO()
    segno.make("http://10.1.2.3:7999/", error="m").terminal(terminal, compact=True)
    assert code.strip("\n") == terminal.getvalue().strip("\n")
    assert "in no network" in class_address.class_words(7999, None)
    assert CliRunner().invoke(app, ["demo"]).exit_code == 0
    assert served.pop()[1]["host"] == "127.0.0.1"
    assert class_address.local_address() != ""
