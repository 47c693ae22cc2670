"""The attacks of `benchmarks.reliability --short`: everybody is answered, and nothing stays."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest

from benchmarks.reliability import measured_briefly

MARK = "WHYLENS_TEST_MARK"


def with_mark(mark: str) -> list[int]:
    """Return the processes that descend from one whose environment has this mark."""
    process_ids = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                process_ids.append(int(entry.name))
        except OSError:  # somebody else's, or gone
            continue
    return process_ids


@pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="processes cannot be listed")
def test_a_page_under_attack_answers_everybody_and_leaves_nothing(monkeypatch):
    mark = secrets.token_hex(8)
    monkeypatch.setenv(MARK, mark)
    figures = measured_briefly()
    messages = {row[0]: row[2] for row in figures["bad plugins"]}
    assert "ended with exit code 3" in messages["exits"]
    assert "longer than 3 s" in messages["sleeps"]
    crowd, flood = figures["crowd"], figures["flood"]
    assert crowd["answered"] + crowd["refused"] == crowd["sent"] == 18
    assert crowd["of another's picture"] == 0
    assert flood["asked"] == 30
    assert flood["answered before it"] <= 6  # of thirty, where all would go first in one line
    assert set(figures["large"].values()) == {"status 413"}
    (end,) = figures["signals"].values()
    assert (end["exit code"], end["files left"], end["processes left"]) == (0, 0, 0)
    # Whatever its plugins had started.
    deadline = time.monotonic() + 60
    while leftovers := with_mark(mark):
        assert time.monotonic() < deadline, leftovers
        time.sleep(0.05)
