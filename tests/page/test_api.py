"""Scripts and agents: the examples of docs/api.md, run against a page as it is shipped."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.browser import serve
from whylens.core.engine import Engine
from whylens.core.errors import NeedsNotMet
from whylens.core.params import controls_of
from whylens.core.registry import load_registry
from whylens.ui.page import endpoints
from whylens.ui.page.layout import build_page

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "api.md").read_text()
CURL, PYTHON, AGENT = re.findall(r"```(?:bash|python)\n(.*?)```", DOCUMENT, re.DOTALL)
WRITTEN = "http://127.0.0.1:7860"

pytest.importorskip("mcp", reason="the extra for agents is not installed")


@pytest.fixture(scope="module")
def address():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("whylens.core.models.checkpoints.SHIPPED", ROOT / "checkpoints")
        page = build_page(Engine())
        yield serve(page, mcp=True)
        page.close()


def run(command: list[str]) -> str:
    process = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_curl(address):
    output = run(["bash", "-c", CURL.replace(WRITTEN, address)])
    assert "event: complete" in output, output[-2000:]
    *_, last = re.findall(r"event: complete\ndata: (.*)", output)
    picture, values, manifest = json.loads(last)
    assert picture["url"].startswith(address)
    assert values["path"].endswith(".npy")
    assert manifest["parameters"] == {"layer": manifest["parameters"]["layer"], "signed": True}
    assert manifest["finished"]


def test_a_script(address, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    exec(compile(PYTHON.replace(WRITTEN, address), "api.md", "exec"), {})
    assert capsys.readouterr().out.startswith("Bluebell logit per position (16, 16)")


def test_an_agent(address):
    program = AGENT.replace(WRITTEN, address) + (
        "\nimport json\n"
        "kinds = [content.type for content in answer.content]\n"
        "told = [getattr(content, 'text', '') for content in answer.content]\n"
        "print(json.dumps([tools, kinds, answer.isError, told]))\n"
    )
    tools, kinds, failed, answer_text = json.loads(
        run([sys.executable, "-c", program]).splitlines()[-1]
    )
    expected = {endpoints.tool_name(e) for e in load_registry().explainers.values()}
    assert expected | {"methods", "models", "predict"} == set(tools)
    assert not failed
    assert kinds[0] == "image", answer_text
    assert set(kinds[1:]) == {"text"}


def test_every_parameter_is_described_to_agents():
    for explainer in load_registry().explainers.values():
        text = endpoints.endpoint_doc(explainer)
        for field in controls_of(explainer.Params):
            (line,) = re.findall(rf"^    {field.name}: (.+)$", text, re.MULTILINE)
            if field.kind in ("int", "float"):
                low, high = re.findall(r"From (\S+) to (\S+)\.$", line)[0]
                assert [float(low), float(high)] == pytest.approx([field.low, field.high], rel=1e-3)
            for choice in field.choices:
                assert str(choice) in line


def test_without_the_extra_it_says_so_and_does_not_start(monkeypatch):
    from whylens.ui.page.server import serve

    monkeypatch.setattr(endpoints.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NeedsNotMet, match=r"pip install '\.\[mcp\]'` in the checkout"):
        serve(mcp=True)
