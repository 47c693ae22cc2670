"""A Hub on loopback: its files arrive whole, cut, damaged, dripping or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.conftest import ROOT

PROGRAM = """
import json, sys, time

import whylens.core.models.hub as hub
from whylens.core.errors import CoreError
from whylens.core.models.hub import Timeouts

for line in sys.stdin:
    ask = json.loads(line)
    timeouts = Timeouts(**ask.get("timeouts", {}))
    shares = []
    began = time.monotonic()
    try:
        got = hub.hub_file(
            ask["repo"],
            "model.safetensors",
            timeouts=timeouts,
            progress=lambda share, _: shares.append(share),
        )
        answer = {"path": str(got.path), "sha256": got.sha256}
    except CoreError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    answer["seconds"] = time.monotonic() - began
    answer["shares"] = shares
    print(json.dumps(answer), flush=True)
"""


@dataclass
class Repo:
    """One file of the Hub and how it is served."""

    content: bytes
    mode: str = "good"
    etag: str = ""
    gets: list = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.etag = self.etag or hashlib.sha256(self.content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        if (repo := self._repo()) is not None:
            self._head(200, {"Content-Length": len(repo.content)}, repo)

    def do_GET(self) -> None:
        if (repo := self._repo()) is None:
            return
        byte_range = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(byte_range.group(1)) if byte_range else 0
        repo.gets.append(start)
        body, size = repo.content[start:], len(repo.content)
        more = {"Content-Length": len(body)}
        if start:
            more["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._head(206 if start else 200, more, repo)
        getattr(self, "_" + repo.mode.replace(" ", "_"))(repo, body)

    def _repo(self) -> Repo | None:
        owner, name, _, _, filename = self.path.strip("/").split("/")
        repo = self.server.repos.get(f"{owner}/{name}/{filename}")
        if repo is not None:
            return repo
        repo = self.server.repos.get(f"{owner}/{name}")
        if repo is None:
            self._head(404, {"Content-Length": 0, "X-Error-Code": "RepoNotFound"})
        elif repo.mode == "gated":
            self._head(403, {"Content-Length": 0, "X-Error-Code": "GatedRepo"})
        elif repo.mode == "broken":
            self._head(500, {"Content-Length": 0})
        elif repo.mode == "empty":
            self._head(404, {"Content-Length": 0, "X-Error-Code": "EntryNotFound"}, repo)
        else:
            assert filename == "model.safetensors"
            return repo
        return None

    def _head(self, status: int, more: dict, repo: Repo | None = None) -> None:
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, str(value))
        if repo is not None:
            self.send_header("ETag", f'"{repo.etag}"')
            self.send_header("X-Repo-Commit", "c0ffee" * 6 + "c0de")
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def _good(self, repo: Repo, body: bytes) -> None:
        self.wfile.write(body)

    def _wrong(self, repo: Repo, body: bytes) -> None:
        self.wfile.write(body[:-1] + bytes([body[-1] ^ 1]))

    def _cut_once(self, repo: Repo, body: bytes) -> None:
        repo.mode = "good"
        self._hang_up(body[: len(body) // 2])

    def _cut_always(self, repo: Repo, body: bytes) -> None:
        self._hang_up(b"")

    def _hang_up(self, body: bytes) -> None:
        self.wfile.write(body)
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _stall(self, repo: Repo, body: bytes) -> None:
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self._until_left(repo)

    def _drip(self, repo: Repo, body: bytes, *, piece: int = 1, pause: float = 0.02) -> None:
        try:
            for i in range(0, len(body), piece):
                self.wfile.write(body[i : i + piece])
                self.wfile.flush()
                if self.server.closing.wait(pause):
                    break
        except OSError:
            repo.ended.set()
        self.close_connection = True

    def _trickle(self, repo: Repo, body: bytes) -> None:
        self._drip(repo, body, piece=10_000, pause=0.1)

    def _until_left(self, repo: Repo) -> None:
        self.connection.settimeout(20)
        if self.connection.recv(1) == b"":  # the other side is gone
            repo.ended.set()
        self.close_connection = True


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.closing = threading.Event()

    def handle_error(self, request, client_address) -> None:
        pass  # the other side hanging up is what these tests are about

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


# What would lead the Hub's client elsewhere.
NOT_OURS = ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN")


class Program:
    """The child process, asked by one line and answering by one."""

    def __init__(self, home, endpoint: str) -> None:
        variables = {k: v for k, v in os.environ.items() if k not in NOT_OURS}
        self.child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={
                **variables,
                "HF_ENDPOINT": endpoint,
                "HF_HOME": str(home),
                "HF_HUB_DISABLE_XET": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **question) -> dict:
        self.child.stdin.write(json.dumps(question) + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def close(self) -> None:
        self.child.stdin.close()
        self.child.wait(20)
        self.child.stdout.close()


def blobs(home, name: str):
    return home / "hub" / ("models--" + name.replace("/", "--")) / "blobs"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
