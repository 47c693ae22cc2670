"""What is made to stay is not looked through for garbage, and all else is as before."""

from __future__ import annotations

import contextlib
import gc

import pytest

from whylens.core.storage.garbage import permanent_objects


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_what_is_made_is_frozen_and_the_collector_is_as_it_was(monkeypatch, enabled, fails):
    states = []
    # In truth it would keep what other tests left from being collected.
    monkeypatch.setattr(gc, "freeze", lambda: states.append(gc.isenabled()))
    (gc.enable if enabled else gc.disable)()
    try:
        with contextlib.suppress(ImportError), permanent_objects():
            states.append(gc.isenabled())
            if fails:
                raise ImportError
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
    assert states == [False, False]
