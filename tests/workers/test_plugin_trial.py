"""A plugin whose mere loading ends a process, or never ends, is found before the page loads it."""

from __future__ import annotations

import sys
from importlib import metadata

from whylens.core.hookspecs import GROUP
from whylens.core.registry import PluginSource, load_registry
from whylens.core.workers.plugin_trial import harmful_plugins

MODULES = {
    "exits_at_import": "import os; os._exit(3)",
    "raises_at_import": "raise SystemExit(2)",
    "hangs_at_import": "import threading; threading.Event().wait()",
    "sound_at_import": "from whylens import hookimpl\nexplainers = hookimpl(lambda: [])",
    "aborts_at_import": "import os; os.abort()",
}


def test_what_ends_or_holds_a_process_is_named_and_left_out_with_its_reason(tmp_path, monkeypatch):
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    sources = [
        PluginSource(metadata.EntryPoint(name, name, GROUP), "a stranger's", "1")
        for name in MODULES
    ]
    harmful = harmful_plugins(sources, seconds=5)
    assert harmful == {
        "exits_at_import": "The process that loaded it ended with exit code 3.",
        "hangs_at_import": "It took longer than 5 s to load.",
        "aborts_at_import": "The process that loaded it ended by SIGABRT.",
    }
    assert not set(MODULES) & set(sys.modules)
    registry = load_registry(sources, blocked=harmful, strict=False)
    messages = {problem.plugin: problem.message for problem in registry.problems}
    assert messages | harmful == messages
    assert set(messages) - set(harmful) == {"raises_at_import"}
