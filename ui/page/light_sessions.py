"""Visitors' sessions without what this page has no use for.

For each new session Gradio describes every component of the page anew, for links of its own kind,
which this page refuses: a fifth of a second in which the server answers nobody, for each visitor.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio.state_holder import SessionState, StateHolder


class LightSession(SessionState):  # type: ignore[misc]  # Gradio has no types here
    """A session that keeps its values, and no description of its components."""

    def __init__(self, page: gr.Blocks) -> None:
        """Begin a session.

        Args:
            page: What it is a session of.
        """
        # It describes the components that it is told of.
        super().__init__(SimpleNamespace(default_config=page.default_config, blocks={}))
        self.blocks_config.config_for_block = _no_description


class LightSessions(StateHolder):  # type: ignore[misc]  # Gradio has no types here
    """The sessions of a page, each made when it is first asked for."""

    def __getitem__(self, session_id: str) -> SessionState:
        """Return a visitor's session."""
        if session_id not in self.session_data:
            self.session_data[session_id] = LightSession(self.blocks)
        return super().__getitem__(session_id)


def _no_description(*_: object) -> dict[str, Any]:
    return {}
