"""Weights from a Hub on loopback: cut, damaged, stalled, dripping and missing.

One child process stands for the program: what the Hub's client reads from the environment, it
reads at import.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from contextlib import closing

import pytest

from tests.support.loopback_hub import Program, Repo, blobs, sha
from whylens.core.models.hub import Timeouts, call_with_deadline, download_in_child

# Seconds after which a test's download counts as stalled.
STALL = 1.0


@pytest.fixture(scope="module")
def program(hub, home):
    with closing(Program(home, hub.address)) as hub_program:
        yield hub_program


@pytest.fixture
def serve(hub):
    """Put a file on the Hub under a name of its own."""

    def publish(mode: str = "good", *, size: int = 200_000, **more) -> tuple[str, Repo]:
        name = f"acme/number-{len(hub.repos)}"
        repo = Repo(os.urandom(size), mode, **more)
        hub.repos[name] = repo
        return name, repo

    return publish


def test_a_file_is_fetched_once_and_then_comes_from_the_disk(program, serve):
    name, repo = serve()
    first, second = program.ask(repo=name), program.ask(repo=name)
    assert first["sha256"] == second["sha256"] == sha(repo.content)
    assert repo.gets == [0]


def test_progress_grows_and_stays_a_share(program, serve):
    name, _ = serve("cut once", size=3_000_000)  # its second of waiting lets the watcher look
    shares = program.ask(repo=name)["shares"]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] < 1
    assert shares[-1] > 0.4  # half of it had come when the line was cut


def test_a_cut_download_is_resumed_where_it_was_cut(program, serve):
    name, repo = serve("cut once")
    assert program.ask(repo=name)["sha256"] == sha(repo.content)
    assert len(repo.gets) == 2
    assert 0 < repo.gets[1] <= 100_000


@pytest.mark.slow  # its opposite, below, is asked by the same clock
def test_a_slow_download_that_moves_is_not_given_up(program, serve):
    name, repo = serve("trickle")  # two seconds of it: longer than the timeouts
    answer = program.ask(repo=name, timeouts={"stall": STALL, "floor": 15_000})
    assert answer["sha256"] == sha(repo.content)
    assert answer["seconds"] > STALL
    assert repo.gets == [0]


def test_a_download_cut_again_and_again_fails_in_words_and_the_next_try_works(program, serve, home):
    name, repo = serve("cut always")
    answer = program.ask(repo=name, timeouts={"stall": STALL})
    assert answer["error"] == "WeightsUnavailable"
    assert re.search(r"stalled|failed", answer["message"])
    assert "Choose a local checkpoint" in answer["message"]
    assert repo.gets
    assert list(blobs(home, name).iterdir()) == []
    repo.mode = "good"
    assert program.ask(repo=name)["sha256"] == sha(repo.content)


@pytest.mark.parametrize("kind", ["sha256", "git"])
def test_wrong_bytes_of_the_right_length_are_refused_and_deleted(program, serve, home, kind):
    name, repo = serve("wrong")
    if kind == "git":  # small files carry git's hash instead
        head = b"blob %d\0" % len(repo.content)
        repo.etag = hashlib.sha1(head + repo.content).hexdigest()
    answer = program.ask(repo=name)
    assert answer["error"] == "BadArtifact"
    assert "arrived damaged" in answer["message"]
    assert "Try again" in answer["message"]
    assert list(blobs(home, name).iterdir()) == []
    repo.mode = "good"
    assert program.ask(repo=name)["sha256"] == sha(repo.content)


@pytest.mark.parametrize("harm", [pytest.param("truncated", marks=pytest.mark.slow), "flipped"])
def test_a_cached_file_that_rots_is_refused_deleted_and_fetched_anew(program, serve, home, harm):
    name, repo = serve()
    assert "path" in program.ask(repo=name)
    (blob,) = blobs(home, name).iterdir()
    content = blob.read_bytes()
    blob.write_bytes(content[:-7] if harm == "truncated" else b"\0" + content[1:])
    answer = program.ask(repo=name)
    assert answer["error"] == "BadArtifact"
    assert "on this disk are damaged" in answer["message"]
    assert not blob.exists()
    assert program.ask(repo=name)["sha256"] == sha(repo.content)
    assert len(repo.gets) == 2


@pytest.mark.parametrize(
    ("mode", "floor"),
    [
        ("stall", 20_000),
        pytest.param("drip", 20_000, marks=pytest.mark.slow),
        pytest.param("trickle", 1_000_000, marks=pytest.mark.slow),
    ],
)
def test_a_download_that_hardly_moves_is_given_up_and_its_process_ended(
    program, serve, home, mode, floor
):
    name, repo = serve(mode, size=900_000 if mode == "trickle" else 200_000)
    answer = program.ask(repo=name, timeouts={"stall": STALL, "floor": floor})
    assert answer["error"] == "WeightsUnavailable"
    assert "stalled" in answer["message"]
    assert "Choose a local checkpoint" in answer["message"]
    assert repo.gets == [0]
    assert STALL <= answer["seconds"] < 8
    assert repo.ended.wait(5), "the downloading process still holds the line"
    assert list(blobs(home, name).iterdir()) == [], "half a file stayed on the disk"
    repo.mode = "good"
    assert program.ask(repo=name)["sha256"] == sha(repo.content)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("empty", "has no model.safetensors"),
        ("gated", "accepted their terms"),
        ("broken", r"answered with an error \(500\)"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(program, serve, mode, words):
    name, repo = serve(mode)
    answer = program.ask(repo=name)
    assert answer["error"] == "WeightsUnavailable"
    assert re.search(words, answer["message"])
    assert re.search("[Cc]hoose", answer["message"])
    assert repo.gets == []


def test_a_repository_that_does_not_exist_is_said_in_words(program):
    answer = program.ask(repo="acme/nowhere")
    assert answer["error"] == "WeightsUnavailable"
    assert "Choose another tag" in answer["message"]


def test_ctrl_c_does_not_reach_the_child_that_downloads(tmp_path):
    code = (
        "import signal; print(flush=True);"
        "print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    )
    last = download_in_child(
        code, [], what="x", into=tmp_path, size=0, timeouts=Timeouts(), progress=None
    )
    assert last == "True"


def test_waiting_ends_in_time_and_passes_errors_on():
    assert call_with_deadline(1, lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        call_with_deadline(1, lambda: 1 / 0)
    hold, began = threading.Event(), time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within"):
        call_with_deadline(0.2, hold.wait)
    assert time.monotonic() - began < 1
    hold.set()
