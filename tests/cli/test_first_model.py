"""With which model the page begins: what is here, what the Hub has, or one that says it is raw."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from tests.support.browser import toy_checkpoint
from whylens.core.engine import Engine
from whylens.core.errors import WeightsUnavailable
from whylens.core.models.checkpoints import default_model
from whylens.ui.page.session import PRETRAINED, UNTRAINED, first_model


class Cards:
    """Stands in for the engine: loads everything but what is out of reach."""

    def __init__(self, *, hub: bool) -> None:
        self.hub, self.asked = hub, []

    def card(self, name):
        self.asked.append(name)
        if name == PRETRAINED and not self.hub:
            raise WeightsUnavailable("The Hub is out of reach.")


@pytest.fixture
def local(tmp_path, monkeypatch):
    toy_checkpoint(tmp_path / "toy")
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(tmp_path))


def test_a_local_checkpoint_comes_first_and_the_hub_is_not_asked(local):
    cards = Cards(hub=True)
    assert first_model(cards) == ("toy", "")
    assert cards.asked == ["toy"]


def test_of_several_the_one_that_knows_most_photos_comes_first(tmp_path, monkeypatch):
    toy_checkpoint(tmp_path / "a-small", labels=("cat", "dog"))
    toy_checkpoint(tmp_path / "b-large")
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(tmp_path))
    assert first_model(Cards(hub=True)) == ("b-large", "")
    assert default_model(ROOT / "checkpoints") == "imagenet-lite0"


def test_without_checkpoints_the_hub_is_asked(monkeypatch):
    monkeypatch.delenv("WHYLENS_CHECKPOINTS", raising=False)
    assert first_model(Cards(hub=True)) == (PRETRAINED, "")


def test_without_anything_the_page_begins_untrained_and_says_why(monkeypatch):
    monkeypatch.delenv("WHYLENS_CHECKPOINTS", raising=False)
    assert first_model(Cards(hub=False)) == (UNTRAINED, "The Hub is out of reach.")


def test_a_damaged_checkpoint_is_left_out_in_words(tmp_path, monkeypatch):
    toy_checkpoint(tmp_path / "sound", labels=("cat", "dog"))
    toy_checkpoint(tmp_path / "flipped")
    weights = bytearray((tmp_path / "flipped" / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (tmp_path / "flipped" / "model.safetensors").write_bytes(weights)
    toy_checkpoint(tmp_path / "cut")
    (tmp_path / "cut" / "model.json").write_text('{"architecture": "tes')
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(tmp_path))
    name, reason = first_model(Engine())
    assert name == "sound"
    assert reason.startswith("flipped is left out: flipped/model.safetensors is damaged")
