"""The attacks of `make reliability`, few of each: everybody is answered, and nothing stays."""

from __future__ import annotations

import os

import pytest

from benchmarks.bad_plugins import ALL
from benchmarks.reliability import measured


@pytest.mark.slow  # some forty seconds, and the page under it is asked of its parts elsewhere
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no signals here")
def test_a_page_under_attack_answers_everybody_and_leaves_nothing():
    figures = measured(short=True)
    assert {row[0] for row in figures["bad plugins"]} == {*ALL}
    for crowd in (figures["crowd"], figures["spread"]):
        assert crowd["answered"] + crowd["refused"] == crowd["sent"]
        assert crowd["of another's picture"] == 0
    assert figures["flood"]["asked"] == 3
    for end in figures["signals"].values():
        assert (end["exit code"], end["files left"], end["processes left"]) == (0, 0, 0)
    refused = [end for what, end, *_ in figures["heavy"] if "100 MB" in what]
    assert refused == ["status 413"] * len(refused)
    assert refused
