"""What stands between the network and Gradio: real bytes, hosts and addresses are checked here."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import gradio as gr
from gradio.utils import get_upload_folder
from gradio_client.utils import construct_args
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse

from whylens.core.errors import BadInput
from whylens.core.inputs.photo import ImageLimits
from whylens.ui.page.janitor import KEEP_SECONDS, Janitor
from whylens.ui.page.photo_input import save_data_url
from whylens.ui.page.upload_parts import ON_FILE
from whylens.ui.page.visitor_address import visitor_address

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
FORM_BYTES = 100_000  # of JSON; what is longer counts as an upload
UPLOAD_BYTES = 200_000_000  # of one request
VISITOR_BYTES = 400_000_000  # of all that one address sent in an hour
FILE_BYTES = 4_096  # that one file counts beside its content
MOST_UPLOADS, MOST_UPLOADS_EACH = 200, 100  # under way, in all and of one address
STALL_SECONDS = 60.0  # without a byte of a body that is not complete
PATH_BYTES, NAME_BYTES = 2_000, 255  # of an address, and of each part, which may name a file
_CALL_PATH = "/gradio_api/call/"  # of a question without a page, and of its stream of answers
_DRAWING_PATH = "/gradio_api/component_server"
_UPLOAD_PATH = "/gradio_api/upload"
_HEARTBEAT_PATH = "/gradio_api/heartbeat/"  # open while a page is; its end is the page's
_ASKED = re.compile(r"/gradio_api/(run|api|call/v2|call)/([^/]+)/?")
_RANGE = re.compile(rb"bytes=\d{0,18}-\d{0,18}")
_FIELD = re.compile(rb'name="(\w+)"\r\n\r\n([^\r\n]*)\r\n')
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
        host_names = {host.strip() for host in os.environ.get(HOSTS_VARIABLE, "").split(",")} - {""}
        self._hosts = host_names | LOOPBACK_HOSTS if local or host_names else None
        self._sent: defaultdict[str, deque[_Sent]] = defaultdict(deque)  # by address
        self._uploads: Counter[str] = Counter()  # under way, by address
        self._open_visits: set[str] = set()
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
        counter: _Counter | None = None
        visit = ""
        has_begun = False
        # A 500 waits for what was raised: it may be no fault of the program's.
        failed: list[Message] = []

        async def marked(message: Message) -> None:
            nonlocal has_begun
            if body is not None and body.refusal is not None and not has_begun:
                return  # what the application makes of a body that was refused
            if not has_begun and (failed or message.get("status") == 500):
                failed.append(message)
                return
            await answer(message)

        async def answer(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                # Visitors are anonymous: no other site needs to speak for them.
                headers = [
                    pair
                    for pair in message.get("headers", [])
                    if pair[0].lower() != b"access-control-allow-credentials"
                ]
                message = {**message, "headers": [*headers, *self._headers]}
            await send(message)

        refusal: Refusal | None = None
        try:
            # What is no range of bytes may be ignored, and Gradio fails on it.
            allowed_headers = [
                (k, v) for k, v in scope["headers"] if k != b"range" or _RANGE.fullmatch(v)
            ]
            scope = {**scope, "headers": allowed_headers}
            headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
            self._check_address(scope, headers)
            visit = self._open_visit(scope)
            counter = self._counter(scope, headers)
            body = _Body(receive, counter)
            if isinstance(counter, _Form):
                await body.read_ahead()
                content = await self._check(scope, headers, body.content)
                if content is not None:
                    body.replace(content)
                    fields = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
                    length = (b"content-length", str(len(content)).encode())
                    scope = {**scope, "headers": [*fields, length]}
            if isinstance(counter, _Upload):
                ON_FILE.set(counter.add_file)
            await self._app(scope, body.receive, marked)
            refusal = body.refusal
        except ClientDisconnect:
            return  # in the middle of an upload: nobody is there to be answered
        except Exception as exc:
            refusal = _refusal_of(exc) or getattr(body, "refusal", None)
            if refusal is None:
                for message in failed:
                    await answer(message)
                raise
        finally:
            if counter is not None:
                counter.end()
            self._open_visits.discard(visit)
        if refusal is not None and not has_begun:
            response = PlainTextResponse(str(refusal), refusal.status, {"Connection": "close"})
            await response(scope, receive, answer)
            return
        for message in failed:
            await answer(message)

    def _check_address(self, scope: Message, headers: dict[str, str]) -> None:
        query = unquote(scope.get("query_string", b"").decode("latin-1"))
        if any(ord(c) < ord(" ") for c in f"{scope['path']}{query}"):
            raise Refusal(400, "The address holds characters that no address has.")
        parts = [len(part.encode(errors="replace")) for part in scope["path"].split("/")]
        if sum(parts) > PATH_BYTES or max(parts) > NAME_BYTES:
            raise Refusal(414, "The address is longer than any of this page.")
        if scope["path"].startswith(CLOSED):
            raise Refusal(404, "There is nothing at this address.")
        host = _host_name(f"//{headers.get('host', '')}")
        if self._hosts is not None and host not in self._hosts:
            raise Refusal(
                421, f"This page is not served under this name. {HOSTS_VARIABLE} can add it."
            )
        if scope["method"] == "GET" and not self._knows_event(scope["path"]):
            raise Refusal(404, "There is no such event, or its answer was read.")
        if not self._is_own_stream(scope["path"], query):
            raise Refusal(
                403, "This is an event of a visit. Add ?session_hash= with the name that it gave."
            )
        origin = headers.get("origin")
        changes = scope["method"] not in ("GET", "HEAD")
        if self._local and changes and origin and _host_name(origin) not in (self._hosts or ()):
            raise Refusal(403, "Only a page of this machine may ask that.")

    def _open_visit(self, scope: Message) -> str:
        """Return the name of the visit that a request keeps open, or "".

        Gradio takes the end of any such request for the visitor's goodbye, and drops their answers.
        """
        path = scope["path"]
        if scope["method"] != "GET" or not path.startswith(_HEARTBEAT_PATH):
            return ""
        visit = str(path.removeprefix(_HEARTBEAT_PATH))
        if visit in self._open_visits:
            raise Refusal(403, "This visit is open: its own page says when it ends.")
        self._open_visits.add(visit)
        return visit

    def _knows_event(self, path: str) -> bool:
        """Return whether an address names no stream of answers, or that of an event there is."""
        parts = path.removeprefix(_CALL_PATH).split("/")
        if not path.startswith(_CALL_PATH) or len(parts) < 2:
            return True
        queue = self._page._queue
        pending_events = list(queue.pending_event_ids_session.values())
        return parts[-1] in queue.event_ids_to_events or any(
            parts[-1] in ids for ids in pending_events
        )

    def _is_own_stream(self, path: str, query: str) -> bool:
        """Return whether an address names no stream of answers that belongs to somebody else.

        Gradio gives whoever knows one event's id all that the event's visit is sent, and ends the
        visit's work when they leave. An event without a visit is its own: its id is the key.
        """
        parts = path.removeprefix(_CALL_PATH).split("/")
        if not path.startswith(_CALL_PATH) or len(parts) < 2:
            return True
        queue, event_id = self._page._queue, parts[-1]
        event = queue.event_ids_to_events.get(event_id)
        # Until its last message is fetched, an event that has ended is known here alone.
        visits = (
            [event.session_hash]
            if event is not None
            else [
                visit
                for visit, ids in list(queue.pending_event_ids_session.items())
                if event_id in ids
            ]
        )
        session_hash = parse_qs(query).get("session_hash", [event_id])[-1]
        return all(visit in (event_id, session_hash) for visit in visits)

    async def _check(self, scope: Message, headers: dict[str, str], body: bytes) -> bytes | None:
        """Return what to pass on in place of a body that was read, or None for itself."""
        path = scope["path"]
        if path.rstrip("/") == _DRAWING_PATH and scope["method"] == "POST":
            self._check_drawing(headers, body)
            return None
        try:
            values = json.loads(body) if body else None
        except (ValueError, RecursionError):  # what reads it next says so
            values = None
        if isinstance(values, dict):
            self._check_event(path, values)
        # An agent's photo is decoded before its question waits.
        if len(body) <= FORM_BYTES or path.startswith("/gradio_api/mcp"):
            return None
        has_photos = await asyncio.to_thread(_save_photos, values)
        content = json.dumps(values).encode() if has_photos else body
        if len(content) > JSON_BYTES:
            raise _too_large(JSON_BYTES)
        return content if has_photos else None

    def _check_event(self, path: str, values: dict[str, Any]) -> None:
        number = values.get("fn_index")
        if isinstance(number, str | int | float) and str(number) not in self._fns:
            raise Refusal(404, "The page has no handler of this number.")
        event = self._page._queue.event_ids_to_events.get(str(values.get("event_id")))
        visit = values.get("session_hash")
        if isinstance(visit, str) and len(visit) > NAME_BYTES:
            raise Refusal(422, f"The name of a visit has {NAME_BYTES} letters at most.")
        if event is not None and visit is not None and visit != event.session_hash:
            raise Refusal(403, "This is an event of another visit.")
        if (match := _ASKED.fullmatch(path)) is None:
            return
        kind, name = match.groups()
        direct = kind in ("run", "api")
        if direct and number is not None:
            endpoints = [self._fns[str(number)]] if str(number) in self._fns else []
        else:
            endpoints = [fn for fn in self._fns.values() if fn.api_name == name]
        public = self._parameters.get(f"/{name}")
        if not endpoints or endpoints[0].fn is None or (kind == "call/v2" and public is None):
            raise Refusal(404, "There is no such endpoint; /gradio_api/info lists all.")
        data, count = values.get("data"), len(endpoints[0].inputs)
        if direct and isinstance(data, list) and len(data) != count and not endpoints[0].cancels:
            raise Refusal(422, f"This takes {count} values, not {len(data)}.")
        if kind == "call/v2" and public is not None:
            try:
                construct_args(public, (), values)
            except TypeError as exc:
                raise Refusal(422, str(exc)) from None

    @cached_property
    def _fns(self) -> dict[str, Any]:
        """The page's handlers, by number; Gradio alone calls what follows the end of a visit."""
        return {
            str(n): fn
            for n, fn in self._page.fns.items()
            if not any(kind == "unload" for _, kind in fn.targets)
        }

    @cached_property
    def _parameters(self) -> dict[str, list[Any]]:
        endpoints = self._page.get_api_info()["named_endpoints"]
        return {name: endpoint["parameters"] for name, endpoint in endpoints.items()}

    def _check_drawing(self, headers: dict[str, str], body: bytes) -> None:
        """Refuse what is no layer of a drawing, all for which the page lets components be asked."""
        fields = {k.decode(): v.decode(errors="replace") for k, v in _FIELD.findall(body)}
        number, index = fields.get("component_id", ""), fields.get("index", "")
        block = self._page.blocks.get(int(number)) if re.fullmatch("[0-9]{1,9}", number) else None
        if (
            not _is_multipart(headers)
            or not isinstance(block, gr.ImageEditor)
            or fields.get("fn_name") != "accept_blobs"
            or not fields.keys() >= {"session_hash", "id", "type"}
            or b"filename=" not in body
            or not (index in ("", "null") or re.fullmatch("[0-9]{1,9}", index))
        ):
            raise Refusal(400, "This is no part of a drawing.")

    def _counter(self, scope: Message, headers: dict[str, str]) -> _Counter:
        length = headers.get("content-length", "0")
        announced = int(length) if length.isdecimal() else 0
        address = visitor_address(scope)
        limit = time.monotonic() - KEEP_SECONDS
        for key, sent in list(self._sent.items()):
            while sent and sent[0].time < limit:
                sent.popleft()
            if not sent:
                del self._sent[key]
        # Whatever else comes in parts would be held in memory as a whole.
        is_form = not _is_multipart(headers) or scope["path"].rstrip("/") != _UPLOAD_PATH
        counter = (_Form if is_form else _Upload)(self._janitor, self._sent, address)
        try:
            if isinstance(counter, _Upload):
                counter.begin(self._uploads)
            counter.reserve(announced)
        except Refusal:
            counter.end()
            raise
        return counter


@dataclass
class _Sent:
    """What one request has sent, or says that it will."""

    time: float
    size: int


class _Counter:
    """Counts an upload while it comes, together with all that its address sends and has sent."""

    free = 0  # bytes that are not counted

    def __init__(
        self, janitor: Janitor, sent: defaultdict[str, deque[_Sent]], address: str
    ) -> None:
        # What an address has sent is looked up each time: others remove what is empty.
        self._janitor, self._sent, self._address = janitor, sent, address
        self._total = 0
        self._own: _Sent | None = None

    def reserve(self, total: int) -> None:
        """Take note of what will come in all, or raise Refusal where that is too much."""
        if total > self.largest():
            raise _too_large(self.largest())
        already = 0 if self._own is None else self._own.size
        if total <= max(already, self.free):
            return
        recent = sum(upload.size for upload in self._sent[self._address])
        if total - already + recent > VISITOR_BYTES:
            raise Refusal(
                429,
                f"You have sent {VISITOR_BYTES / 1e6:.0f} MB within an hour. Wait, or run Whylens "
                "yourself.",
            )
        if not self._janitor.has_room(total - self._total):
            raise Refusal(507, "The server's disk is full of uploads. Try again in an hour.")
        if self._own is None:
            self._own = _Sent(time.monotonic(), total)
            self._sent[self._address].append(self._own)
        self._own.size = total

    def largest(self) -> int:
        """Return how many bytes one may have."""
        return UPLOAD_BYTES

    def add(self, chunk: bytes) -> None:
        """Count what came, or raise Refusal where it is too much."""
        self._total += len(chunk)
        self.reserve(self._total)
        if self._own is not None and not self._janitor.claim(len(chunk)):
            raise Refusal(507, "The server's disk is full of uploads. Try again in an hour.")

    def end(self) -> None:
        """Take note that no more will come, whatever was said."""
        if self._own is not None:
            self._own.size = self._total


class _Upload(_Counter):
    """Counts an upload of files, of which there are only so many at a time: each holds one open."""

    _uploads: Counter[str] | None = None

    def begin(self, uploads: Counter[str]) -> None:
        """Take note that it is under way, or raise Refusal where too many are."""
        if uploads.total() >= MOST_UPLOADS or uploads[self._address] >= MOST_UPLOADS_EACH:
            raise Refusal(503, "As many uploads are under way as can be. Try again shortly.")
        uploads[self._address] += 1
        self._uploads = uploads

    def add_file(self) -> None:
        """Count a file, however small: it takes a block of the disk, and a place in a folder."""
        self._total += FILE_BYTES
        self.reserve(self._total)

    def end(self) -> None:
        """Take note that no more will come, whatever was said."""
        super().end()
        if self._uploads is not None:
            self._uploads[self._address] -= 1
            self._uploads += Counter()  # which forgets those without any


class _Form(_Counter):
    """Counts JSON, which is held in memory until its question is answered: a long one likewise."""

    free = FORM_BYTES

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self._items = 0

    def largest(self) -> int:
        """Return how many bytes one may have."""
        return PHOTO_JSON_BYTES

    def add(self, chunk: bytes) -> None:
        """Count what came, or raise Refusal where it is too much."""
        # What costs time and memory is not a long text but many values.
        self._items += sum(map(chunk.count, (b",", b":", b"[", b"{")))
        if self._total + len(chunk) > JSON_BYTES and self._items > PHOTO_JSON_ITEMS:
            raise _too_large(JSON_BYTES)
        super().add(chunk)


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

    def replace(self, content: bytes) -> None:
        """Hand the application another body than the one that was read ahead."""
        self.content = b""
        self._ahead = deque([{"type": "http.request", "body": content, "more_body": False}])

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
        if not message.get("more_body"):
            self._complete = True
        return message


def _is_multipart(headers: dict[str, str]) -> bool:
    return headers.get("content-type", "").startswith("multipart/")


def _save_photos(values: Any) -> int:
    """Write photos that came in addresses to files, which the values then name; return how many.

    What waits in line would else hold them in memory.
    """
    count, parts = 0, [values]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            url = part.get("url")
            if isinstance(url, str) and url.startswith("data:"):
                try:
                    path = save_data_url(url, Path(get_upload_folder()))
                except BadInput as exc:
                    raise Refusal(422, str(exc)) from None
                part |= {"path": path, "url": None, "meta": {"_type": "gradio.FileData"}}
                count += 1
            parts.extend(part.values())
        elif isinstance(part, list):
            parts.extend(part)
    return count


def _refusal_of(exc: Exception) -> Refusal | None:
    """Return what to say of an error that is no fault of the program's, or None."""
    if isinstance(exc, Refusal):
        return exc
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return Refusal(507, "The server's disk is full: it can take no file now. Try again later.")
    return None


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"This is larger than {limit / 1e6:.0f} MB. Send less.")


def _host_name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
