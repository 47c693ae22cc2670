"""What stands between the network and Gradio: real bytes, hosts and addresses are checked here."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse

from whylens.core.inputs.photo import ImageLimits
from whylens.ui.page.janitor import KEEP_SECONDS, Janitor

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

HOSTS_VARIABLE = "WHYLENS_HOSTS"
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
JSON_BYTES = 1_000_000
# A photo may come in a data URL, a third longer than its bytes; it is a single item of a form.
PHOTO_JSON_BYTES = ImageLimits().bytes * 4 // 3 + JSON_BYTES
PHOTO_JSON_ITEMS = 10_000
UPLOAD_BYTES = 200_000_000  # of one request
VISITOR_BYTES = 400_000_000  # of all that one address sent in an hour
STALL_SECONDS = 60.0  # without a byte of a body that is not complete
# Gradio's own ways to fetch from elsewhere, to write files, and to look into the server: none is
# part of this page.
CLOSED = (
    "/gradio_api/proxy=", "/gradio_api/file=http:", "/gradio_api/file=https:",
    "/gradio_api/deep_link", "/gradio_api/dev", "/gradio_api/vibe", "/gradio_api/undo-vibe",
    "/gradio_api/process_recording", "/gradio_api/stream/", "/gradio_api/custom_component",
    "/gradio_api/run-history", "/gradio_api/runs", "/monitoring", "/proxy=", "/file=http",
)  # fmt: skip
# Gradio's page is made of inline scripts and styles; nothing comes from other hosts.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self' {frames}"
)


class Refusal(Exception):
    """A request that is not passed on."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Gate:
    """An application around another: refuses what it should not see, marks what it answers."""

    def __init__(self, app: App, janitor: Janitor, page: gr.Blocks, *, local: bool) -> None:
        """Stand before an application.

        Args:
            janitor: Knows how much lies on the disk.
            page: Whose handlers and events are asked for.
            local: Whether it listens on loopback: only pages of this machine may use it then.
        """
        self._app, self._janitor, self._page = app, janitor, page
        self._local = local
        named = {host.strip() for host in os.environ.get(HOSTS_VARIABLE, "").split(",")} - {""}
        self._hosts = named | LOOPBACK_HOSTS if local or named else None
        self._uploads: defaultdict[str, deque[tuple[float, int]]] = defaultdict(deque)
        frames = "https://huggingface.co https://*.hf.space" if "SPACE_ID" in os.environ else ""
        if local:
            frames = "http://localhost:* http://127.0.0.1:*"
        self._headers = [
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"same-origin"),
            (b"content-security-policy", _POLICY.format(frames=frames).strip().encode()),
        ]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body: _Body | None = None
        begun = False

        async def marked(message: Message) -> None:
            nonlocal begun
            if body is not None and body.refusal is not None and not begun:
                return  # what the application makes of a body that was refused
            if message["type"] == "http.response.start":
                begun = True
                # Visitors are anonymous: no other site needs to speak for them.
                headers = [
                    pair
                    for pair in message.get("headers", [])
                    if pair[0].lower() != b"access-control-allow-credentials"
                ]
                message = {**message, "headers": [*headers, *self._headers]}
            await send(message)

        try:
            headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
            self._check_address(scope, headers)
            counter = self._counter(scope, headers)
            body = _Body(receive, counter)
            if isinstance(counter, _Form):
                await body.read_ahead()
            self._check_event(body.content)
            await self._app(scope, body.receive, marked)
            refusal = body.refusal
        except ClientDisconnect:
            return  # in the middle of an upload: nobody is there to be answered
        except Exception as exc:
            refusal = exc if isinstance(exc, Refusal) else getattr(body, "refusal", None)
            if refusal is None:
                raise
        if refusal is not None and not begun:
            body = None
            answer = PlainTextResponse(str(refusal), refusal.status, {"Connection": "close"})
            await answer(scope, receive, marked)

    def _check_address(self, scope: Message, headers: dict[str, str]) -> None:
        query = unquote(scope.get("query_string", b"").decode("latin-1"))
        if any(ord(c) < ord(" ") for c in f"{scope['path']}{query}"):
            raise Refusal(400, "The address holds characters that no address has.")
        if scope["path"].startswith(CLOSED):
            raise Refusal(404, "There is nothing at this address.")
        host = _host_name(f"//{headers.get('host', '')}")
        if self._hosts is not None and host not in self._hosts:
            raise Refusal(
                421, f"This page is not served under this name. {HOSTS_VARIABLE} can add it."
            )
        origin = headers.get("origin")
        changes = scope["method"] not in ("GET", "HEAD")
        if self._local and changes and origin and _host_name(origin) not in (self._hosts or ()):
            raise Refusal(403, "Only a page of this machine may ask that.")

    def _check_event(self, body: bytes) -> None:
        try:
            values = json.loads(body) if body else None
        except (ValueError, RecursionError):  # what reads it next says so
            return
        if not isinstance(values, dict):
            return
        number = values.get("fn_index")
        if isinstance(number, str | int | float) and str(number) not in map(str, self._page.fns):
            raise Refusal(404, "The page has no handler of this number.")
        event = self._page._queue.event_ids_to_events.get(str(values.get("event_id")))
        visit = values.get("session_hash")
        if event is not None and visit is not None and visit != event.session_hash:
            raise Refusal(403, "This is an event of another visit.")

    def _counter(self, scope: Message, headers: dict[str, str]) -> _Counter:
        length = headers.get("content-length", "0")
        announced = int(length) if length.isdecimal() else 0
        if headers.get("content-type", "").startswith("multipart/"):
            return _Upload(announced, self._janitor, self._uploads_of(scope, headers))
        return _Form(announced)

    def _uploads_of(self, scope: Message, headers: dict[str, str]) -> deque[tuple[float, int]]:
        # Behind a proxy the visitor's address is what that proxy wrote last.
        address = (scope.get("client") or ("",))[0]
        forwarded = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        if forwarded and _is_private(address):
            address = forwarded
        limit = time.monotonic() - KEEP_SECONDS
        for key, sizes in list(self._uploads.items()):
            while sizes and sizes[0][0] < limit:
                sizes.popleft()
            if not sizes:
                del self._uploads[key]
        return self._uploads[address]


class _Counter:
    """What a body may hold."""

    def add(self, chunk: bytes) -> None:
        """Raise Refusal where it is too much with this chunk."""
        raise NotImplementedError

    def end(self) -> None:
        """Take note that no more will come."""


class _Form(_Counter):
    def __init__(self, announced: int) -> None:
        self._total = self._items = 0
        if announced > PHOTO_JSON_BYTES:
            raise _too_large(PHOTO_JSON_BYTES)

    def add(self, chunk: bytes) -> None:
        self._total += len(chunk)
        # What costs time and memory is not a long text but many values.
        self._items += sum(map(chunk.count, (b",", b":", b"[", b"{")))
        if self._total > JSON_BYTES and self._items > PHOTO_JSON_ITEMS:
            raise _too_large(JSON_BYTES)
        if self._total > PHOTO_JSON_BYTES:
            raise _too_large(PHOTO_JSON_BYTES)


class _Upload(_Counter):
    def __init__(self, announced: int, janitor: Janitor, sizes: deque[tuple[float, int]]) -> None:
        self._janitor, self._sizes, self._total = janitor, sizes, 0
        self._check(announced)

    def _check(self, total: int) -> None:
        if total > UPLOAD_BYTES:
            raise _too_large(UPLOAD_BYTES)
        if total + sum(size for _, size in self._sizes) > VISITOR_BYTES:
            raise Refusal(
                429,
                f"You have sent {VISITOR_BYTES / 1e6:.0f} MB within an hour. Wait, or run Whylens "
                "yourself.",
            )
        if not self._janitor.has_room(total):
            raise Refusal(507, "The server's disk is full of uploads. Try again in an hour.")

    def add(self, chunk: bytes) -> None:
        self._total += len(chunk)
        self._check(self._total)

    def end(self) -> None:
        if self._total:
            self._sizes.append((time.monotonic(), self._total))
            self._total = 0


class _Body:
    """A request's body, counted as it is read."""

    def __init__(self, receive: Receive, counter: _Counter) -> None:
        self._receive, self._counter = receive, counter
        self._complete = False
        self._ahead: deque[Message] = deque()
        self.content = b""  # of what was read ahead
        self.refusal: Refusal | None = None

    async def read_ahead(self) -> None:
        """Read all of it, for whoever looks at it before the application does."""
        messages = []
        while not self._complete:
            messages.append(await self.receive())
        self._ahead.extend(messages)
        self.content = b"".join(message.get("body", b"") for message in messages)

    async def receive(self) -> Message:
        """Return the next part, or raise Refusal."""
        if self._ahead:
            return self._ahead.popleft()
        if self._complete:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), STALL_SECONDS)
            self._counter.add(message.get("body", b""))
        except TimeoutError:
            self._complete, self.refusal = True, Refusal(408, "Nothing arrived for a minute.")
            raise self.refusal from None
        except Refusal as exc:
            self._complete, self.refusal = True, exc
            raise
        finally:
            if self._complete:
                self._counter.end()
        if not message.get("more_body"):
            self._complete = True
            self._counter.end()
        return message


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"This is larger than {limit / 1e6:.0f} MB. Send less.")


def _host_name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _is_private(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_private
    except ValueError:
        return False
