"""Shared by the tests of the page."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def _one_server_a_page():
    # Gradio makes three servers of a page before the one that serves it, in 0.25 s each.
    from gradio import blocks

    class ServerAtLaunch(blocks.App):
        @staticmethod
        def create_app(page, **options):
            return blocks_app.create_app(page, **options) if "app_kwargs" in options else None

    blocks_app = blocks.App
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "App", ServerAtLaunch)
        yield


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> str:
    import numpy as np
    from PIL import Image

    path = tmp_path_factory.mktemp("photo") / "p.png"
    pixels = np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)
