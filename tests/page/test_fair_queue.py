"""Whose turn it is: one visitor's many questions do not keep another's one waiting."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import gradio as gr
import gradio_client
import httpx
import pytest
from gradio.routes import App
from gradio.server_messages import ProgressMessage
from starlette.testclient import TestClient

from whylens.ui.page.fair_queue import MOST_WAITING, FairLine, use_fair_queue


def event(visitor, number=0):
    return SimpleNamespace(session_hash=visitor, number=number, _id="")


def names(line):
    return "".join(e.session_hash for e in line)


def take(line):
    first = line[0]
    line.remove(first)
    return first.session_hash


def test_visitors_take_turns_in_the_order_in_which_they_came():
    line = FairLine()
    for number in range(4):
        line.append(event("a", number))
    for visitor in "bbc":
        line.append(event(visitor))
    assert names(line) == "abcabaa"
    numbers = [e.number for e in line if e.session_hash == "a"]
    assert numbers == [0, 1, 2, 3]


def test_who_comes_when_many_of_another_wait_is_next_but_one_at_most():
    line = FairLine()
    for number in range(40):
        line.append(event("a", number))
    for _ in range(5):
        take(line)
    # However often: what was had does not count, but nobody is served twice in a round.
    for _ in range(3):
        line.append(event("b"))
        assert "b" in (take(line), take(line))
    line.append(event("b"))
    line.append(event("c"))
    assert set(names(line)[:3]) == {"a", "b", "c"}


def test_what_is_not_wanted_any_more_leaves_its_place():
    line = FairLine()
    unwanted = event("b")
    for queued_event in (event("a"), event("a"), unwanted, event("a")):
        line.append(queued_event)
    line.remove(unwanted)
    assert names(line) == "aaa"
    line.append(event("c"))
    assert names(line) == "acaa"
    while line:
        take(line)
    line.append(event("a"))
    line.append(event("b"))
    assert names(line) == "ab"


@pytest.fixture
def page():
    """A page of one slow event, whose queue takes events and begins none."""
    with gr.Blocks() as page:
        box, out = gr.Textbox(), gr.Textbox()
        box.submit(str, box, out, api_name="work", concurrency_id="slow")
    page.queue(api_open=False)
    use_fair_queue(page, {"slow": 1})
    return page


def test_who_gives_no_name_is_one_visitor_with_all_of_the_same_address(page):
    app = App.create_app(page)

    def client(address: str) -> TestClient:
        return TestClient(app, "http://127.0.0.1:7860", client=(address, 5))

    script, second = client("1.1.1.1"), client("2.2.2.2")
    path, body = "/gradio_api/call/work", {"data": ["a"]}
    statuses = [script.post(path, json=body).status_code for _ in range(MOST_WAITING + 2)]
    assert statuses == [200] * MOST_WAITING + [429, 429]
    nameless = {**body, "fn_index": 0, "session_hash": ""}
    assert script.post("/gradio_api/queue/join", json=nameless).status_code == 429
    # A name that looks like an address is a name.
    named_body = {**nameless, "session_hash": "1.1.1.1"}
    assert script.post("/gradio_api/queue/join", json=named_body).status_code == 200
    assert second.post(path, json=body).status_code == 200
    proxied_client = client("10.0.0.1")
    forwarded = {"x-forwarded-for": "9.9.9.9, 1.1.1.1"}
    assert proxied_client.post(path, json=body, headers=forwarded).status_code == 429
    assert proxied_client.post(path, json=body).status_code == 200
    line = page._queue.event_queue_per_concurrency_id["slow"].queue
    first = [e.session_hash == "1.1.1.1" or e.request.client.host for e in line[:5]]
    assert first == ["1.1.1.1", True, "2.2.2.2", "10.0.0.1", "1.1.1.1"]


def test_what_nobody_reads_is_bounded(page, monkeypatch):
    web = TestClient(App.create_app(page), "http://127.0.0.1:7860")
    queue = page._queue
    queue.pending_messages_per_session.max_size = 5

    def ask(visit: str):
        body = {"data": ["a"], "fn_index": 0, "session_hash": visit}
        return web.post("/gradio_api/queue/join", json=body)

    for number in range(9):  # the first asks again and again, and keeps its place
        assert [ask(visit).status_code for visit in ("first", f"v{number}")] == [200, 200]
    assert "first" in queue.pending_messages_per_session
    assert set(queue.pending_event_ids_session) == set(queue.pending_messages_per_session)
    assert not queue.event_analytics
    events = queue.event_queue_per_concurrency_id["slow"].queue
    absent_event = next(event for event in events if event.session_hash == "v0")
    queue.send_message(absent_event, ProgressMessage(progress_data=[]))  # to nobody
    monkeypatch.setattr("whylens.ui.page.fair_queue.MOST_UNREAD", 3)
    answer = ask("first")
    assert (answer.status_code, "answers and steps wait" in answer.text) == (429, True)
    assert ask("another").status_code == 200


def test_a_page_opens_while_the_queue_is_full():
    with gr.Blocks() as page:
        box = gr.Textbox()
        box.submit(str, box, box).then(str, box, box)
        page.load(lambda: "", None, box).then(str, box, box).success(str, box, box)
        page.load(None, None, None, js="() => 1")
    page.queue(api_open=False, max_size=3)
    use_fair_queue(page, {})
    web = TestClient(App.create_app(page), "http://127.0.0.1:7860")

    def join(number: int, visitor: str) -> tuple[int, str]:
        body = {"data": [""] * len(page.fns[number].inputs), "fn_index": number}
        answer = web.post("/gradio_api/queue/join", json={**body, "session_hash": visitor})
        return answer.status_code, answer.text

    assert [join(n % 2, f"v{n}")[0] for n in range(3)] == [200] * 3
    status, words = join(0, "late")
    assert (status, "3 questions wait already" in words) == (503, True)
    assert [join(n, "late")[0] for n in (2, 3, 4)] == [200] * 3
    # Those have a bound of their own.
    assert join(2, "later")[0] == 503


@pytest.mark.slow  # workers/test_reliability.py asks it of a page in a process
def test_on_a_page_the_second_visitor_is_served_second_and_a_flood_is_refused():
    import socket

    gate, order = threading.Event(), []

    def work(name: str) -> str:
        assert gate.wait(60)
        order.append(name)
        return name

    with gr.Blocks() as page:
        box, out = gr.Textbox(), gr.Textbox()
        box.submit(work, box, out, api_name="work", concurrency_id="slow", concurrency_limit=4)
    page.queue(api_open=False)
    use_fair_queue(page, {"slow": 1})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page.launch(
        server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True,
        ssr_mode=False, _frontend=False,
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}/"
        patient = {"timeout": 120}  # a busy machine takes more than the five seconds of httpx
        first, second = (
            gradio_client.Client(address, verbose=False, httpx_kwargs=patient) for _ in range(2)
        )
        jobs = [first.submit(f"a{n}", api_name="/work") for n in range(MOST_WAITING + 1)]
        deadline = time.monotonic() + 60
        while len(page._queue) < MOST_WAITING:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        body = {"data": ["one too many"], "fn_index": 0, "session_hash": first.session_hash}
        refusal = httpx.post(f"{address}gradio_api/queue/join", json=body, **patient)
        assert refusal.status_code == 429
        assert "questions waiting already" in refusal.json()["detail"]
        second_job = second.submit("b", api_name="/work")
        while len(page._queue) <= MOST_WAITING:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        gate.set()
        assert second_job.result(60) == "b"
        assert {job.result(60) for job in jobs} == {f"a{n}" for n in range(MOST_WAITING + 1)}
        assert order.index("b") <= 2
        assert page._queue.cached_event_analytics_summary == {"functions": {}}, "time for nothing"
    finally:
        page.close()
