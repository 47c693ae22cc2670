"""What strangers send to the page, and what it must not cost: without a browser."""

from __future__ import annotations

import asyncio
import base64
import errno
import io
import json
import os
import time
from contextlib import suppress
from itertools import product
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio.routes import App
from gradio.state_holder import SessionState
from PIL import Image
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from tests.support.networks import GapNet, plain_spec, seeded
from whylens.core.engine import Engine
from whylens.core.models.backbone import wrap
from whylens.ui.page import gate
from whylens.ui.page.fair_queue import MOST_IN_ALL, use_fair_queue
from whylens.ui.page.gate import Gate
from whylens.ui.page.janitor import BROKEN_OFF_SECONDS, Janitor
from whylens.ui.page.layout import build_page
from whylens.ui.page.server import guard
from whylens.ui.page.upload_parts import MOST_FILES


@pytest.fixture(scope="module")
def page():
    """The page with a toy network for every name."""
    return build_page(
        Engine(loader=lambda *_: wrap(seeded(GapNet()), input_spec=plain_spec(32, 32)))
    )


def test_nothing_is_packed_before_its_button_is_pressed(page):
    files = {key for key, block in page.blocks.items() if isinstance(block, gr.DownloadButton)}
    file_events = [fn for fn in page.fns.values() if fn.fn and files & {b._id for b in fn.outputs}]
    packing = [fn for fn in file_events if fn.fn.__module__.endswith("download")]
    assert len(packing) > 20
    assert {event for fn in packing for _, event in fn.targets} == {"click"}
    # The figure is made at a click; the report of many photos holds small pictures only.
    modules = {fn.fn.__module__.rpartition(".")[2] for fn in file_events if fn not in packing}
    assert modules == {"figure", "many_photos"}


@pytest.fixture(scope="module")
def web(page):
    """The page's whole server, asked without a socket."""
    page.max_file_size = 12_000_000  # as `launch` sets it
    page.queue(max_size=MOST_IN_ALL, api_open=False)
    use_fair_queue(page, {})
    app = App.create_app(page, app_kwargs={"lifespan": guard(page, local=True)})
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
    announced_answer = web.post("/gradio_api/queue/join", headers={"content-length": "1000000000"})
    assert announced_answer.status_code == 413


@pytest.fixture
def visitors(page, tmp_path, monkeypatch):
    """A gate of its own before an application that reads a body, and clients of its addresses."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    bodies = []

    async def app(scope, receive, send):
        bodies.append(await Request(scope, receive).body())
        assert int(dict(scope["headers"])[b"content-length"]) == len(bodies[-1])
        await PlainTextResponse("read")(scope, receive, send)

    gated = Gate(app, Janitor([tmp_path / "uploads"], budget=10**9), page, local=True)
    return bodies, lambda address: TestClient(gated, "http://127.0.0.1", client=(address, 5))


def test_a_photo_in_an_address_waits_on_the_disk(visitors, tmp_path):
    (bodies, client), content = visitors, os.urandom(300_000)
    url = "data:image/png;base64," + base64.b64encode(content).decode()
    body = {"data": [{"url": url, "path": "/etc/passwd"}, "x"], "fn_index": 0, "session_hash": "s"}
    web = client("1.1.1.1")
    assert web.post("/gradio_api/queue/join", json=body).text == "read"
    photo, text = json.loads(bodies[0])["data"]
    assert text == "x"
    assert len(bodies[0]) < 1000
    assert photo["url"] is None
    path = Path(photo["path"])
    assert path.read_bytes() == content
    assert path.parent.parent == tmp_path / "uploads"
    janitor = Janitor([tmp_path / "uploads"])
    janitor.sweep(time.time() + BROKEN_OFF_SECONDS + 60)
    assert path.is_file()  # whole: not swept as one that was broken off
    # Whatever else is as long as a photo would wait in memory.
    body["data"][0]["url"] = "https://example.org/" + "A" * 1_100_000
    assert web.post("/gradio_api/queue/join", json=body).status_code == 413
    body["data"][0]["url"] = "data:image/png;base64,no base64" + "-" * 200_000
    answer = web.post("/gradio_api/queue/join", json=body)
    assert (answer.status_code, answer.text) == (422, "The picture arrived damaged. Send it again.")
    body["data"][0]["url"] = url + "A" * 17_000_000
    assert web.post("/gradio_api/queue/join", json=body).status_code == 413
    assert len(bodies) == 1


def test_photos_in_addresses_are_uploads_of_an_address(visitors, monkeypatch):
    (_, client), body = visitors, {"data": ["A" * 150_000], "fn_index": 0, "session_hash": "s"}
    monkeypatch.setattr(gate, "VISITOR_BYTES", 400_000)

    def join(web):
        return web.post("/gradio_api/queue/join", json=body).status_code

    assert [join(client("1.1.1.1")) for _ in range(3)] == [200, 200, 429]
    assert join(client("2.2.2.2")) == 200
    body["data"] = ["a question"]
    assert join(client("1.1.1.1")) == 200


def test_the_whole_server_takes_a_photo_in_an_address(web):
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)).save(
        content, "PNG"
    )
    url = "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
    assert len(url) > gate.FORM_BYTES
    body = {"data": [{"url": url}], "fn_index": 0, "session_hash": "photo"}
    assert web.post("/gradio_api/queue/join", json=body).status_code == 200


def test_uploads_are_bounded_by_request_by_visitor_and_in_all(web, page, monkeypatch):
    def upload(size: int, client=web, **headers):
        files = {"files": ("photo.png", b"x" * size, "image/png")}
        return client.post("/gradio_api/upload", files=files, headers=headers).status_code

    def client(address: str) -> TestClient:
        return TestClient(web.app, "http://127.0.0.1", client=(address, 5))

    monkeypatch.setattr(gate, "UPLOAD_BYTES", 100_000)
    monkeypatch.setattr(gate, "VISITOR_BYTES", 200_000)
    visitor = client("127.0.0.9")
    assert upload(90_000, visitor) == 200
    assert upload(110_000, visitor) == 413
    assert upload(90_000, visitor) == 200
    assert upload(90_000, visitor) == 429
    # Only a proxy of one's own network is believed whom it speaks for.
    assert upload(90_000, client("1.2.3.5")) == 200
    assert upload(90_000, client("1.2.3.5")) == 200
    assert upload(90_000, client("1.2.3.5"), **{"x-forwarded-for": "1.2.3.4"}) == 429
    proxied_client = client("10.0.0.1")
    assert upload(90_000, proxied_client, **{"x-forwarded-for": "6.6.6.6, 1.2.3.4"}) == 200
    full = Gate(web.app, Janitor([Path()], budget=50_000), page, local=True)
    assert upload(90_000, TestClient(full, "http://127.0.0.1", client=("9.9.9.9", 5))) == 507


def test_only_uploads_come_in_parts_and_hold_files_alone(web):
    def send(path: str, parts: list[tuple[str, tuple[str | None, bytes]]]):
        return web.post(f"/gradio_api/{path}", files=parts)

    file, field = ("files", ("a.png", b"x")), ("files", (None, b"x"))
    assert send("upload", [file]).is_success
    for parts in ([field], [file, field]):
        answer = send("upload", parts)
        assert (answer.status_code, answer.text) == (400, "An upload is files, and nothing else.")
    assert send("upload", [file] * MOST_FILES).is_success
    assert "Too many files" in send("upload", [file] * (MOST_FILES + 1)).text
    # What waits in memory is bounded, whatever it is called.
    large = [("files", ("a.png", bytes(gate.PHOTO_JSON_BYTES)))]
    for path in ("queue/join", "call/predict", "run/x", "cancel", "nosuch"):
        assert send(path, large).status_code == 413


@pytest.mark.parametrize("announced", [True, False])
def test_uploads_that_overlap_are_counted_together(page, tmp_path, monkeypatch, announced):
    monkeypatch.setattr(gate, "VISITOR_BYTES", 200_000)

    async def app(scope, receive, send):
        with suppress(gate.Refusal):
            await Request(scope, receive).body()
        await PlainTextResponse("")(scope, receive, send)

    gated = Gate(app, Janitor([tmp_path], budget=10**9), page, local=True)

    async def upload(begin: asyncio.Event, size: int) -> int:
        headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")]
        if announced:
            headers.append((b"content-length", str(size).encode()))
        scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload"}
        scope |= {"query_string": b"", "headers": headers, "client": ("9.9.9.9", 1)}
        parts, statuses = iter(range(size // 10_000)), []

        async def receive():
            await begin.wait()
            more = next(parts) < size // 10_000 - 1
            return {"type": "http.request", "body": bytes(10_000), "more_body": more}

        async def send(message):
            statuses.append(message.get("status"))

        await gated(scope, receive, send)
        return statuses[0]

    async def at_once(count: int, size: int) -> list[int]:
        begin = asyncio.Event()
        tasks = [asyncio.create_task(upload(begin, size)) for _ in range(count)]
        await asyncio.sleep(0)  # all have begun
        begin.set()
        return sorted(await asyncio.gather(*tasks))

    answers = asyncio.run(at_once(10, 90_000))
    assert answers[-8:] == [429] * 8
    # Who says what will come has it kept; else none of them may get through.
    assert answers.count(200) == 2 or not announced
    assert asyncio.run(at_once(2, 90_000))[-1] == 429


def test_so_many_uploads_are_under_way_and_one_address_has_half(page, tmp_path, monkeypatch):
    monkeypatch.setattr(gate, "MOST_UPLOADS", 3)
    monkeypatch.setattr(gate, "MOST_UPLOADS_EACH", 2)

    async def app(scope, receive, send):
        await Request(scope, receive).body()
        await PlainTextResponse("")(scope, receive, send)

    gated = Gate(app, Janitor([tmp_path], budget=10**9), page, local=True)
    headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "query_string": b""}

    async def upload(address: str, more: asyncio.Event) -> int:
        statuses = []

        async def receive():
            await more.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            statuses.append(message.get("status"))

        await gated({**scope, "headers": headers, "client": (address, 1)}, receive, send)
        return statuses[0]

    async def at_once(*addresses: str) -> list[int]:
        more = asyncio.Event()
        tasks = [asyncio.create_task(upload(address, more)) for address in addresses]
        await asyncio.sleep(0)  # all have begun
        more.set()
        return await asyncio.gather(*tasks)

    for _ in range(2):  # what has ended is under way no longer
        assert asyncio.run(at_once("1", "1", "1", "2", "2")) == [200, 200, 503, 200, 503]


def test_many_small_files_count_as_what_they_take(web, monkeypatch):
    monkeypatch.setattr(gate, "VISITOR_BYTES", 100 * gate.FILE_BYTES)
    client = TestClient(web.app, "http://127.0.0.1", client=("127.0.0.77", 5))
    files = [("files", ("a.png", b"x"))] * 60
    assert client.post("/gradio_api/upload", files=files).status_code == 200
    answer = client.post("/gradio_api/upload", files=files)
    assert "within an hour" in answer.text
    assert not answer.is_success


def test_a_visit_has_a_short_name(web):
    body = {"data": [], "fn_index": 0, "session_hash": "x" * 300}
    assert web.post("/gradio_api/queue/join", json=body).status_code == 422


LONG = "a" * 5000
PATHS = (
    f"/static/{LONG}",
    f"/assets/{LONG}",
    "/svelte/" + "a" * 300,
    "/static/" + "a/" * 1500,
    f"/gradio_api/file={LONG}",
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
    assert answer.status_code in (400, 404, 414)
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


def test_an_event_is_ended_by_its_own_visit_alone(web):
    join = {"data": [], "fn_index": 0, "session_hash": "mine"}
    event = web.post("/gradio_api/queue/join", json=join).json()["event_id"]
    cancel = {"session_hash": "theirs", "fn_index": 0, "event_id": event}
    answer = web.post("/gradio_api/cancel", json=cancel)
    assert (answer.status_code, answer.text) == (403, "This is an event of another visit.")
    own_body = {**cancel, "session_hash": "mine"}
    assert web.post("/gradio_api/cancel", json=own_body).is_success


def test_a_visits_answers_are_read_and_its_work_is_ended_by_that_visit_alone(web, page):
    join = {"data": [], "fn_index": 0, "session_hash": "reader"}
    event = web.post("/gradio_api/queue/join", json=join).json()["event_id"]
    queue = page._queue
    assert event in queue.event_ids_to_events
    addresses = [f"/gradio_api/call/{name}/{event}" for name in ("x", "v2/x")]
    for address, query in product(addresses, ("", "?session_hash=theirs")):
        assert web.get(address + query).status_code == 403
    assert event in queue.event_ids_to_events
    # Nor once it has ended and its last message waits.
    queue.event_ids_to_events.pop(event)
    assert [web.get(address).status_code for address in addresses] == [403, 403]
    gate_of = web.app.middleware_stack
    own_stream = [f"/gradio_api/call/x/{event}", "session_hash=reader"]
    assert gate_of._is_own_stream(*own_stream)
    # Who asks without a visit has the event's id alone to read it by.
    call = web.post("/gradio_api/call/predict", json={"data": [None] * 20})
    event_id = call.json().get("event_id", "")
    assert event_id in queue.event_ids_to_events
    assert gate_of._is_own_stream(f"/gradio_api/call/predict/{event_id}", "")


def test_a_stream_of_no_event_is_refused(web):
    for address in ("call/predict/nothing", "call/v2/predict"):
        assert web.get(f"/gradio_api/{address}").status_code == 404


def test_odd_ranges_are_ignored_and_odd_boundaries_refused(web):
    path = web.post("/gradio_api/upload", files={"files": ("a.png", b"0123456789")}).json()[0]

    def part(ranges: bytes):
        answer = web.get(f"/gradio_api/file={path}", headers={b"range": ranges})
        return answer.status_code, answer.content

    assert part(b"bytes=2-4") == (206, b"234")
    for odd in (b"bytes=0-,1-,2-", b"bytes=\xb2-\xb3", b"bytes=1-2-3", b"bytes=-" + b"9" * 30):
        assert part(odd) == (200, b"0123456789")
    for boundary in ("x" * 60_000, "", "\xff"):
        kind = f"multipart/form-data; boundary={boundary}".encode("latin-1")
        answer = web.post(
            "/gradio_api/upload", content=b"--x\r\n\r\n", headers={b"content-type": kind}
        )
        assert answer.status_code == 400


def test_nobody_says_goodbye_in_anothers_name(page, web):
    ends, statuses = asyncio.Event(), []

    async def app(scope, receive, send):
        await ends.wait()
        await PlainTextResponse("ALIVE")(scope, receive, send)

    async def listen(visit: str):
        gated_path = f"/gradio_api/heartbeat/{visit}"
        scope = {"type": "http", "method": "GET", "path": gated_path, "query_string": b""}
        scope |= {"headers": [(b"host", b"localhost")], "client": ("9.9.9.9", 1)}

        async def receive():
            return {"type": "http.request"}

        async def send(message):
            if "status" in message:
                statuses.append((visit, message["status"]))

        await gated(scope, receive, send)

    async def visits():
        first = asyncio.create_task(listen("mine"))
        await asyncio.sleep(0)
        await listen("mine")
        second = asyncio.create_task(listen("theirs"))
        ends.set()
        await asyncio.gather(first, second)
        await listen("mine")  # one that was lost is taken up again

    gated = Gate(app, Janitor([Path()]), page, local=True)
    asyncio.run(visits())
    assert statuses == [("mine", 403), ("mine", 200), ("theirs", 200), ("mine", 200)]
    # Nor by the number, or by the name, of what then drops the answers.
    (number,) = (n for n, fn in page.fns.items() if ("unload" in [kind for _, kind in fn.targets]))
    join = {"data": [], "fn_index": number, "session_hash": "mine"}
    for path in ("queue/join", "run/x", f"call/{page.fns[number].api_name}"):
        assert web.post(f"/gradio_api/{path}", json=join).status_code == 404


ENDPOINTS = (
    ("call/nosuch", {"data": []}, 404),
    ("call/v2/nosuch", {}, 404),
    ("call/v2/predict", {}, 422),
    ("call/v2/predict", {"data": [], "session_hash": ["x"]}, 422),
    ("run/nosuch", {"data": []}, 404),
    ("run/nosuch", {"data": [], "fn_index": 0}, 404),
    ("api/nosuch", {"data": [], "fn_index": 0}, 404),
    ("queue/join", {"data": [], "fn_index": 0, "session_hash": ""}, 200),
)


@pytest.mark.parametrize(("path", "body", "status"), ENDPOINTS)
def test_endpoints_that_are_not_there_are_refused_in_words(web, path, body, status):
    answer = web.post(f"/gradio_api/{path}", json=body)
    assert answer.status_code == status, answer.text
    assert "Internal" not in answer.text


def test_a_call_without_its_values_is_told_which(web, page):
    answer = web.post("/gradio_api/call/v2/predict", json={})
    assert answer.text == "No value provided for required argument: photo"
    direct = next(n for n, fn in page.fns.items() if fn.fn and not fn.queue and fn.inputs)
    answer = web.post("/gradio_api/run/x", json={"data": [], "fn_index": direct})
    assert answer.status_code == 422
    assert "values, not 0" in answer.text


def test_components_are_asked_for_nothing_but_drawings(web, page):
    editor = next(n for n, block in page.blocks.items() if isinstance(block, gr.ImageEditor))
    dropdown = next(n for n, block in page.blocks.items() if isinstance(block, gr.Dropdown))
    sound = {"component_id": editor, "session_hash": "x", "fn_name": "accept_blobs"}
    sound |= {"id": "a", "type": "layer", "index": "0"}

    def post(data, files=True):
        files = {"file": ("a.png", b"x")} if files else {"file": (None, b"x")}
        data = {key: str(value) for key, value in data.items()}
        return web.post("/gradio_api/component_server", data=data, files=files).status_code

    assert post(sound) == 200
    for missing_field in sound.keys() - {"index"}:
        assert post({k: v for k, v in sound.items() if k != missing_field}) == 400
    wrong = {"component_id": (dropdown, "x", -1, 10**8), "fn_name": ("launch",), "index": ("x", -1)}
    for name, values in wrong.items():
        assert {post({**sound, name: value}) for value in values} == {400}
    assert post({**sound, "index": 100_000_000}) == 413
    assert post(sound, files=False) == 400
    assert web.post("/gradio_api/component_server", json=sound).status_code == 400


def test_a_full_disk_is_said_and_a_fault_stays_one(web, page, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gradio.route_utils.NamedTemporaryFile", full)
    answer = web.post("/gradio_api/upload", files={"files": ("a.png", b"x", "image/png")})
    assert (answer.status_code, answer.text) == (
        507,
        "The server's disk is full: it can take no file now. Try again later.",
    )

    async def broken_app(scope, receive, send):
        await PlainTextResponse("Internal Server Error", 500)(scope, receive, send)
        raise ValueError("a fault")

    gated = Gate(broken_app, Janitor([tmp_path]), page, local=True)
    client = TestClient(gated, "http://127.0.0.1", raise_server_exceptions=False)
    assert client.get("/").status_code == 500
    with pytest.raises(ValueError, match="a fault"):
        TestClient(gated, "http://127.0.0.1").get("/")


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
