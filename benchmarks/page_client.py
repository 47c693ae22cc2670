"""A visitor of a running page, by HTTP alone: asks, waits, cancels, leaves."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

ENDPOINT = "gradio_api"


class Refused(Exception):
    """The page gave a reason instead of an answer."""


class Page:
    """What is the same for all visitors of a page: its endpoints and their values by default."""

    def __init__(self, address: str) -> None:
        """Read the page at an address that ends in a slash."""
        self.address = address
        # A client for each request would take longer to make than many an answer.
        self.client = httpx.Client(timeout=60, limits=httpx.Limits(max_connections=None))
        config = self.client.get(f"{address}config").json()
        self.functions = {
            d["api_name"]: d["id"] for d in config["dependencies"] if d.get("api_name")
        }
        info = self.client.get(f"{address}{ENDPOINT}/info").json()
        self._parameters = {
            name.strip("/"): e["parameters"] for name, e in info["named_endpoints"].items()
        }

    def values(self, name: str, values: Mapping[str, Any]) -> list[Any]:
        """Return an endpoint's values: those that are given, the defaults of the others."""
        parameter = self._parameters[name]
        return [values.get(p["parameter_name"], p.get("parameter_default")) for p in parameter]

    def upload(self, photo: Path) -> dict[str, Any]:
        """Return an uploaded photo, as endpoints take it."""
        with photo.open("rb") as stream:
            reply = self.client.post(f"{self.address}{ENDPOINT}/upload", files={"files": stream})
        reply.raise_for_status()
        return {"path": reply.json()[0], "meta": {"_type": "gradio.FileData"}}


class Visitor:
    """One session of a page."""

    def __init__(self, page: Page) -> None:
        """Begin a session."""
        self.page, self.session = page, secrets.token_hex(8)
        self._events: dict[str, list[Any]] = {}
        self._changed = threading.Condition()
        self._reading = False

    def ask(self, name: str, **inputs: Any) -> str:
        """Return the id of a question that was put in line.

        Raises:
            Refused: It was not.
        """
        values = self.page.values(name, inputs)
        body = {
            "data": values, "fn_index": self.page.functions[name], "session_hash": self.session
        }  # fmt: skip
        reply = self.page.client.post(f"{self.page.address}{ENDPOINT}/queue/join", json=body)
        if reply.status_code != 200:
            raise Refused(str(reply.json().get("detail")))
        event = str(reply.json()["event_id"])
        with self._changed:
            self._events.setdefault(event, [])  # the answer may be there before the reply
            if not self._reading:
                self._reading = True
                threading.Thread(target=self._read, daemon=True).start()
        return event

    def answer(self, event: str, seconds: float = 600.0) -> list[Any]:
        """Return the values that answer a question.

        Raises:
            Refused: There is a reason instead.
        """
        until = time.monotonic() + seconds
        with self._changed:
            while not self._events[event]:
                if not self._changed.wait(until - time.monotonic()):
                    raise Refused("no answer came")
        (message,) = self._events[event]
        if not message["success"]:
            raise Refused(str(message["output"].get("error")))
        values: list[Any] = message["output"]["data"]
        return values

    def answer_count(self) -> int:
        """Return how many questions have an answer, or a reason instead."""
        with self._changed:
            return sum(map(bool, self._events.values()))

    def cancel(self, event: str, name: str) -> None:
        """Stop waiting for an answer, and say so."""
        with self._changed:
            self._events.pop(event, None)
        body = {
            "session_hash": self.session, "fn_index": self.page.functions[name], "event_id": event
        }  # fmt: skip
        self.page.client.post(f"{self.page.address}{ENDPOINT}/cancel", json=body)

    def _read(self) -> None:
        with contextlib.suppress(httpx.TransportError):  # the page has ended
            self._read_until_all_are_answered()

    def _read_until_all_are_answered(self) -> None:
        address = f"{self.page.address}{ENDPOINT}/queue/data?session_hash={self.session}"
        while True:
            for message in _messages(self.page.client, address):
                if message["msg"] == "process_completed":
                    with self._changed:
                        self._events.setdefault(message["event_id"], []).append(message)
                        self._changed.notify_all()
            # The page ends the stream with a session's last event; another may have come since.
            with self._changed:
                if all(self._events.values()):
                    self._reading = False
                    return


def _messages(client: httpx.Client, address: str) -> Iterator[Any]:
    with client.stream("GET", address, timeout=None) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                yield json.loads(line[5:])
