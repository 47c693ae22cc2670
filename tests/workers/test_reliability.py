"""The attacks of `make reliability`, few of each: everybody is answered, and nothing stays."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.bad_plugins import ALL
from tests.conftest import ROOT

MARK = "WHYLENS_TEST_MARK"


def with_mark(mark: str) -> list[int]:
    """Return the processes that descend from one whose environment has this mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:  # somebody else's, or gone
            continue
    return found


@pytest.mark.slow  # one to seven minutes by what else runs; its parts are tested elsewhere
@pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="processes cannot be listed")
def test_a_page_under_attack_answers_everybody_and_leaves_nothing():
    # In a process of its own: what measures leaves its sockets to its end.
    mark = secrets.token_hex(8)
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.reliability", "--short"],
        cwd=ROOT, env={**os.environ, MARK: mark}, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout)
    assert {row[0] for row in figures["bad plugins"]} == {*ALL}
    for crowd in (figures["crowd"], figures["spread"]):
        assert crowd["answered"] + crowd["refused"] == crowd["sent"]
        assert crowd["of another's picture"] == 0
    assert figures["flood"]["asked"] == 3
    for end in figures["signals"].values():
        assert (end["exit code"], end["files left"], end["processes left"]) == (0, 0, 0)
    ends = {what: end for what, end, *_ in figures["heavy"]}
    refused = {end for what, end in ends.items() if "100 MB" in what}
    answered = {end for what, end in ends.items() if "megapixels" in what}
    assert (refused, answered) == ({"status 413"}, {"answered"})
    # Of servers that were killed as well, whatever their plugins had started.
    until = time.monotonic() + 60
    while left := with_mark(mark):
        assert time.monotonic() < until, left
        time.sleep(0.05)
