"""Whose turn it is: one visitor's many questions do not keep another's one waiting."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import gradio as gr
import gradio_client
import httpx

from whylens.ui.page.fair_queue import MOST_WAITING, FairLine, use_fair_queue


def event(visitor, number=0):
    return SimpleNamespace(session_hash=visitor, number=number)


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
    own = [e.number for e in line if e.session_hash == "a"]
    assert own == [0, 1, 2, 3]


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
    for waiting in (event("a"), event("a"), unwanted, event("a")):
        line.append(waiting)
    line.remove(unwanted)
    assert names(line) == "aaa"
    line.append(event("c"))
    assert names(line) == "acaa"
    while line:
        take(line)
    line.append(event("a"))
    line.append(event("b"))
    assert names(line) == "ab"


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
        first, second = (gradio_client.Client(address, verbose=False) for _ in range(2))
        jobs = [first.submit(f"a{n}", api_name="/work") for n in range(MOST_WAITING + 1)]
        until = time.monotonic() + 60
        while len(page._queue) < MOST_WAITING:
            assert time.monotonic() < until
            time.sleep(0.01)
        asked = {"data": ["one too many"], "fn_index": 0, "session_hash": first.session_hash}
        refused = httpx.post(f"{address}gradio_api/queue/join", json=asked)
        assert refused.status_code == 429
        assert "questions waiting already" in refused.json()["detail"]
        other = second.submit("b", api_name="/work")
        while len(page._queue) <= MOST_WAITING:
            assert time.monotonic() < until
            time.sleep(0.01)
        gate.set()
        assert other.result(60) == "b"
        assert {job.result(60) for job in jobs} == {f"a{n}" for n in range(MOST_WAITING + 1)}
        assert order.index("b") <= 2
    finally:
        page.close()
