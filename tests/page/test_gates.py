"""What strangers send to the page, and what it must not cost: without a browser."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from contextlib import suppress
from itertools import product
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio.helpers import special_args
from gradio.routes import App
from gradio.state_holder import SessionState
from PIL import Image
from starlette.requests import Request
from starlette.testclient import TestClient

from tests.page.test_page import fake, registry_of
from tests.support.browser import toy_checkpoint
from tests.support.networks import GapNet, plain_spec, seeded
from whylens.core.engine import Engine
from whylens.core.errors import BadInput
from whylens.core.models.backbone import wrap
from whylens.ui.page import gate
from whylens.ui.page.gate import Gate
from whylens.ui.page.janitor import Janitor
from whylens.ui.page.layout import build_page
from whylens.ui.page.page_store import PageStore
from whylens.ui.page.server import guarded


@pytest.fixture(scope="module")
def page():
    """The page with a toy network for every name."""
    return build_page(Engine(loader=lambda *_: wrap(seeded(GapNet()), spec=plain_spec(32, 32))))


def test_nothing_is_packed_before_its_button_is_pressed(page):
    files = {key for key, block in page.blocks.items() if isinstance(block, gr.DownloadButton)}
    filling = [fn for fn in page.fns.values() if fn.fn and files & {b._id for b in fn.outputs}]
    packing = [fn for fn in filling if fn.fn.__module__.endswith("download")]
    assert len(packing) > 20
    assert {event for fn in packing for _, event in fn.targets} == {"click"}
    # The figure is made at a click; the report of many photos holds small pictures only.
    others = {fn.fn.__module__.rpartition(".")[2] for fn in filling if fn not in packing}
    assert others == {"figure", "many_photos"}


def test_a_photo_that_was_swept_out_is_asked_for_again(tmp_path):
    store, path = PageStore(), tmp_path / "photo.png"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(path)
    assert store.photo(str(path)).size == (20, 20)
    path.unlink()
    for read in (store.photo, store.has_signal, store.signal):
        with pytest.raises(BadInput, match="no longer kept"):
            read(str(path))


EVENT = gr.EventData(None, {"index": 0, "value": "0"})


def test_no_event_loads_what_a_page_may_not(monkeypatch, tmp_path):
    folder, loaded = str(toy_checkpoint(tmp_path / "net")), []

    def load(text, **_):
        loaded.append(text)
        raise BadInput("loaded")

    monkeypatch.setattr("whylens.core.models.public_models.load", load)
    monkeypatch.setattr("whylens.core.engine.load", load)
    page, request, asked = build_page(Engine()), gr.Request(session_hash="visitor"), 0
    request.query_params = {}
    for name, fn in product(("torchvision:resnet18", folder), page.fns.values()):
        values = {"model": name, "compare-networks": [name]}
        names = [getattr(block, "elem_id", None) for block in fn.inputs]
        if fn.fn is None or not values.keys() & set(names):
            continue
        asked += 1
        given = [
            values.get(own, getattr(block, "value", None) or "")
            for own, block in zip(names, fn.inputs, strict=True)
        ]
        first_keyword = len(given) - len(fn.input_keyword_names)
        keywords = dict(zip(fn.input_keyword_names, given[first_keyword:], strict=True))
        arguments, *_ = special_args(fn.fn, given[:first_keyword], request, event_data=EVENT)
        with suppress(gr.Error):
            answer = fn.fn(*arguments, **keywords)
            if hasattr(answer, "__next__"):
                deque(answer, maxlen=0)
            elif asyncio.iscoroutine(answer):
                asyncio.run(answer)
    assert asked > 100
    assert not loaded


@pytest.fixture(scope="module")
def web(page):
    """The page's whole server, asked without a socket."""
    page.max_file_size = 12_000_000  # as `launch` sets it
    app = App.create_app(page, app_kwargs={"lifespan": guarded(page, local=True)})
    with TestClient(app, "http://127.0.0.1:7860", raise_server_exceptions=False) as client:
        yield client


def test_a_body_of_many_values_is_refused_while_it_is_read(web):
    def values():
        yield b'{"data": ['
        for _ in range(100):
            yield b"0," * 100_000
        yield b"0]}"

    answer = web.post("/gradio_api/queue/join", content=values())
    assert answer.status_code == 413
    assert "larger than 1 MB" in answer.text
    # What says how long it is need not be read at all.
    announced = web.post("/gradio_api/queue/join", headers={"content-length": "1000000000"})
    assert announced.status_code == 413


def test_a_photo_may_come_in_an_address_of_its_own(web):
    # 3 MB in one text: read, and refused by Gradio for other reasons.
    body = {"data": [{"url": "data:image/png;base64," + "A" * 3_000_000}], "fn_index": 0}
    assert web.post("/gradio_api/queue/join", json=body).status_code not in (413, 500)
    body["data"][0]["url"] += "A" * 17_000_000
    assert web.post("/gradio_api/queue/join", json=body).status_code == 413


def test_uploads_are_bounded_by_request_by_visitor_and_in_all(web, page, monkeypatch):
    def upload(size: int, client=web, **headers):
        files = {"files": ("photo.png", b"x" * size, "image/png")}
        return client.post("/gradio_api/upload", files=files, headers=headers).status_code

    monkeypatch.setattr(gate, "UPLOAD_BYTES", 100_000)
    monkeypatch.setattr(gate, "VISITOR_BYTES", 200_000)
    assert upload(90_000) == 200
    assert upload(110_000) == 413
    assert upload(90_000) == 200
    assert upload(90_000) == 429
    # Only a proxy of one's own network is believed whom it speaks for.
    assert upload(90_000, **{"x-forwarded-for": "1.2.3.4"}) == 429
    proxied = TestClient(web.app, "http://127.0.0.1", client=("10.0.0.1", 5))
    assert upload(90_000, proxied, **{"x-forwarded-for": "6.6.6.6, 1.2.3.4"}) == 200
    full = Gate(web.app, Janitor([Path()], budget=50_000), page, local=True)
    assert upload(90_000, TestClient(full, "http://127.0.0.1", client=("9.9.9.9", 5))) == 507


PATHS = (
    "/gradio_api/file=%00",
    "/gradio_api/proxy=a%00b",
    "/gradio_api/info?x=%00",
    "/%01",
    "/config?%0a",
    "/gradio_api/proxy=https://example.org/x",
    "/gradio_api/file=https://example.org/x",
    "/gradio_api/deep_link?session_hash=x",
    "/monitoring/summary",
)


@pytest.mark.parametrize("path", PATHS)
def test_odd_and_closed_addresses_are_refused(web, path):
    answer = web.get(path)
    assert answer.status_code in (400, 404)
    assert str(Path.cwd()) not in answer.text


def test_only_pages_of_this_machine_use_what_listens_on_loopback(web):
    assert web.get("/config").status_code == 200
    assert web.get("/config", headers={"host": "evil.example"}).status_code == 421
    for origin, status in (
        ("http://evil.example", 403),
        ("null", 403),
        ("http://localhost:7860", 422),
    ):
        answer = web.post("/gradio_api/cancel", json={}, headers={"origin": origin})
        assert answer.status_code == status


def test_headers_keep_answers_what_they_are(web):
    answer = web.get("/config", headers={"origin": "http://localhost:1"})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'self' http://localhost:*" in answer.headers["content-security-policy"]
    assert "access-control-allow-credentials" not in answer.headers


def test_files_of_visitors_go_after_an_hour_and_when_there_are_too_many(tmp_path):
    def names() -> set[str]:
        return {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}

    now = time.time()
    ages = {"a/old.png": 4000, "b/new.png": 10, "b/c/newer.png": 5, "own.css": 9999}
    ages |= {"tmpa1b2c3": 400, "b/tmp.png": 400}  # one broken off, and one that came whole
    for name, age in ages.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (now - age, now - age))
    (tmp_path / "empty").mkdir()
    keep = {str(tmp_path / "own.css")}
    janitor = Janitor([tmp_path], budget=9500)
    janitor.start(keep)
    janitor.stop()
    janitor.sweep(now)
    assert names() == {"b/new.png", "b/c/newer.png", "b/tmp.png", "own.css"}
    janitor = Janitor([tmp_path], budget=2500)
    janitor.start(keep)
    janitor.stop()
    janitor.sweep(now)
    assert names() == {"b/new.png", "b/c/newer.png", "own.css"}
    assert (tmp_path / "empty").is_dir()  # about to be filled
    assert not janitor.has_room(1000)
    assert janitor.has_room(400)
    janitor.sweep(now + 120)
    assert not (tmp_path / "empty").exists()
    (tmp_path / "b" / "newest.png").write_bytes(bytes(1000))
    janitor.sweep(now + 120)
    assert names() == {"b/c/newer.png", "b/newest.png", "own.css"}


def test_no_word_of_a_plugin_or_a_model_is_part_of_a_script():
    page = build_page(Engine(registry_of(fake(1, 'Shapley\'s "values" </script>'))))
    scripts = [fn.js for fn in page.fns.values() if isinstance(fn.js, str)]
    scripts += [getattr(block, "js_on_load", None) or "" for block in page.blocks.values()]
    assert len(scripts) > 20
    assert not [script for script in scripts if "Shapley" in script or "fake" in script]


def test_an_event_is_ended_by_its_own_visit_alone(web):
    join = {"data": [], "fn_index": 0, "session_hash": "mine"}
    event = web.post("/gradio_api/queue/join", json=join).json()["event_id"]
    cancel = {"session_hash": "theirs", "fn_index": 0, "event_id": event}
    answer = web.post("/gradio_api/cancel", json=cancel)
    assert (answer.status_code, answer.text) == (403, "This is an event of another visit.")
    own = {**cancel, "session_hash": "mine"}
    assert web.post("/gradio_api/cancel", json=own).is_success


@pytest.mark.parametrize("number", [-1, 10**6, "-1", 1.5])
def test_handlers_that_are_not_there_are_refused(web, number):
    body = {"data": [], "fn_index": number, "session_hash": "numbers"}
    assert web.post("/gradio_api/queue/join", json=body).status_code in (404, 422)


def test_json_of_endless_depth_is_refused(web):
    assert web.post("/gradio_api/queue/join", content=b"[" * 9000).status_code in (400, 422)


def test_who_leaves_in_the_middle_of_an_upload_leaves_no_stack_trace(page, tmp_path):
    async def app(scope, receive, send):
        await Request(scope, receive).body()

    async def gone():
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "query_string": b""}
    scope["headers"] = [(b"host", b"localhost"), (b"content-length", b"900")]
    guarded_app = Gate(app, Janitor([tmp_path]), page, local=True)
    asyncio.run(guarded_app(scope | {"client": ("127.0.0.1", 1)}, gone, send))


def test_values_that_no_form_sends_are_refused_without_a_stack_trace(page, capfd):
    first = {type(b): fn for fn in page.fns.values() for b in fn.inputs[:1]}
    assert len(first) > 5  # kinds of components
    refusals, state = [], SessionState(page)
    for fn, value in product(first.values(), ("/etc/passwd", ["a", 1], {"path": "/etc/passwd"})):
        try:
            asyncio.run(page.preprocess_data(fn, [value] * len(fn.inputs), state))
        except gr.Error as exc:
            refusals.append(exc)
    assert len(refusals) > len(first)
    assert not any(exc.print_exception or "Cannot move" in exc.message for exc in refusals)
    assert "Traceback" not in capfd.readouterr().err
