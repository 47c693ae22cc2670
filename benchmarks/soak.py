"""A page under mixed traffic with faults for hours: what is answered, and what grows.

`python -m benchmarks.soak` starts a page of its own, with the real methods beside plugins that do
harm, and visits it on loopback for two hours; `--minutes 5` asks less, `--write docs/soak.md`
records it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.bad_plugins import ALL, bad_registry
from benchmarks.page_client import ENDPOINT, Refused, Visitor
from benchmarks.page_server import Server, photos, server
from benchmarks.table import markdown, this_machine
from whylens.core.engine import Engine
from whylens.core.registry import Registry, load_registry

MODELS = ("imagenet-lite0", "photos-10", "painted-cats-breed", "untrained:test_resnet")
QUICK = ("grad-cam", "grad-cam-plus-plus", "hires-cam", "grad-cam", "eigen-cam")
SLOW = (
    ("occlusion", {"window": 64, "stride": 64}),
    ("smoothgrad", {}),
    ("integrated-gradients", {}),
)
VISITORS = 4
THINKING = 3.0  # seconds between two questions of one visitor, on average
SECONDS_BETWEEN_KILLS = 120.0
SECONDS_OF_WORK = 30.0
ROWS = 12


def soak_registry() -> Registry:
    """Return the real methods and those that do harm."""
    real = load_registry()
    bad = {name: entry for name, entry in bad_registry().entries.items() if name in ALL}
    return Registry({**real.entries, **bad}, (), real.datasets, real.metrics)


def soak_engine() -> Engine:
    """Return an engine with them; made anew in every process."""
    return Engine(soak_registry())


def serve(port: int) -> None:
    """Serve a page with them, until killed."""
    from whylens.core.workers.engine import WorkerEngine
    from whylens.ui.page.layout import build_page
    from whylens.ui.page.server import launch

    engine = WorkerEngine(soak_engine, soak_registry(), seconds=SECONDS_OF_WORK)
    engine.load_public_models_only()
    page = build_page(engine, public=True, judges=False)
    print(f"Whylens is at {launch(page, host='127.0.0.1', port=port, block=False, slow=1)}")
    sys.stdout.flush()
    page.block_thread()


@dataclass
class Tally:
    """What became of everything that was tried, since the last row."""

    counts: Counter[str] = field(default_factory=Counter)
    quick: list[float] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)


class Soak:
    """Visitors of a page, each in a thread, and one who ends its processes."""

    def __init__(self, running: Server, minutes: float) -> None:
        """Prepare the photos; the visits begin with `run`."""
        self._running, self._until = running, time.monotonic() + 60 * minutes
        self._minutes = minutes
        self._lock, self._tally = threading.Lock(), Tally()
        self._expected: dict[tuple[int, str, str], str] = {}
        self._photos = photos(running.folder, 12)
        self._over = threading.Event()

    def run(self) -> list[list[str]]:
        """Return a row for each part of the time."""
        threads = [threading.Thread(target=self._visit, args=(n,)) for n in range(VISITORS)]
        threads.append(threading.Thread(target=self._end_processes))
        for thread in threads:
            thread.start()
        began, rows = time.monotonic(), []
        for row in range(1, ROWS + 1):
            self._over.wait(max(0.0, began + row * 60 * self._minutes / ROWS - time.monotonic()))
            rows.append(self._row(time.monotonic() - began))
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
        self._over.set()
        for thread in threads:
            thread.join(60)
        return rows

    def _row(self, seconds: float) -> list[str]:
        with self._lock:
            tally, self._tally = self._tally, Tally()
        for oddity in tally.oddities:
            print(oddity, file=sys.stderr)
        quick = sorted(tally.quick) or [float("nan")]
        server_folder = Path(f"/proc/{self._running.process.pid}")
        files = [path for path in self._running.folder.rglob("*") if path.is_file()]
        counts = tally.counts
        return [
            f"{seconds / 60:.0f}",
            *(f"{counts[n]}" for n in ("answered", "refused", "left", "killed", "odd")),
            f"{quick[(len(quick) - 1) // 2]:.2f}",
            f"{quick[-(len(quick) // 20) - 1]:.2f}",
            f"{self._running.memory():.2f}",
            f"{len(list((server_folder / 'fd').iterdir()))}",
            f"{len(list((server_folder / 'task').iterdir()))}",
            f"{len(self._running.tree())}",
            f"{len(files)}",
        ]

    def _visit(self, number: int) -> None:
        chance = random.Random(number)
        actions: list[tuple[int, Callable[[random.Random], str]]] = [
            (60, self._quick),
            (9, self._slow),
            (9, self._leave),
            (9, self._bad_plugin),
            (9, self._bad_file),
            (4, self._bad_request),
        ]
        weights = [weight for weight, _ in actions]
        while not self._over.wait(chance.expovariate(1 / THINKING)):
            (_, action), *_ = chance.choices(actions, weights)
            try:
                outcome = action(chance)
            except Refused as exc:
                outcome = "refused"
                if "our side" in str(exc) or str(exc) in ("None", ""):
                    outcome = f"{action.__name__}: {exc}"
            except Exception as exc:  # noqa: BLE001 - it is counted and printed
                outcome = f"{action.__name__}: {exc!r}"
            with self._lock:
                is_outcome = outcome in ("answered", "refused", "left")
                self._tally.counts[outcome if is_outcome else "odd"] += 1
                if not is_outcome:
                    self._tally.oddities.append(outcome)

    def _end_processes(self) -> None:
        chance = random.Random(-1)
        while not self._over.wait(SECONDS_BETWEEN_KILLS):
            # Working processes are started by another that only starts them.
            mine = self._running.process.pid
            workers = [pid for pid in self._running.tree() if _parent(pid) not in (mine, 0)]
            workers = [pid for pid in workers if pid != mine and _parent(_parent(pid)) == mine]
            if workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
                    with self._lock:
                        self._tally.counts["killed"] += 1

    def _question(self, chance: random.Random) -> tuple[int, dict[str, Any]]:
        number = chance.randrange(len(self._photos))
        photo = self._running.page.upload(self._photos[number])
        return number, {"photo": photo, "model": chance.choice(MODELS)}

    def _quick(self, chance: random.Random) -> str:
        visitor, method = Visitor(self._running.page), chance.choice(QUICK)
        number, fields = self._question(chance)
        began = time.monotonic()
        answer = visitor.answer(visitor.ask(method, **fields), seconds=200)
        # What it is drawn from: the picture of a map is the map of that photo, and no other's.
        digest = hashlib.sha256(json.dumps(answer[2]["map"]).encode()).hexdigest()
        with self._lock:
            self._tally.quick.append(time.monotonic() - began)
            first = self._expected.setdefault((number, fields["model"], method), digest)
        return "answered" if digest == first else f"{method} of {fields['model']}: another map"

    def _slow(self, chance: random.Random) -> str:
        visitor = Visitor(self._running.page)
        method, params = chance.choice(SLOW)
        visitor.answer(visitor.ask(method, **self._question(chance)[1], **params), seconds=400)
        return "answered"

    def _leave(self, chance: random.Random) -> str:
        visitor = Visitor(self._running.page)
        method, _ = chance.choice(SLOW)
        event = visitor.ask(method, **self._question(chance)[1])
        self._over.wait(chance.random())
        visitor.cancel(event, method)
        return "left"

    def _bad_plugin(self, chance: random.Random) -> str:
        visitor, method = Visitor(self._running.page), chance.choice(sorted(ALL))
        visitor.answer(visitor.ask(method, **self._question(chance)[1]), seconds=400)
        return f"{method} was answered"

    def _bad_file(self, chance: random.Random) -> str:
        whole = chance.choice(self._photos).read_bytes()
        content = chance.choice([whole[: len(whole) // 9], b"GIF89a", b"", chance.randbytes(9999)])
        path = self._running.folder / f"bad-{threading.get_ident()}.png"
        path.write_bytes(content)
        visitor, page = Visitor(self._running.page), self._running.page
        try:
            visitor.answer(visitor.ask("grad-cam", photo=page.upload(path), model=MODELS[0]))
        except httpx.HTTPStatusError as exc:
            return "refused" if exc.response.status_code < 500 else f"upload: {exc}"
        return f"{len(content)} bytes that are no photo were explained"

    def _bad_request(self, chance: random.Random) -> str:
        page = self._running.page
        join = f"{page.address}{ENDPOINT}/queue/join"
        replies = [
            lambda: httpx.post(join, json={"data": [0] * 600_000, "fn_index": 1}, timeout=60),
            lambda: httpx.post(join, content=b"{", timeout=60),
            lambda: httpx.get(f"{page.address}{ENDPOINT}/file=/etc/passwd", timeout=60),
            lambda: httpx.get(f"{page.address}{ENDPOINT}/file=%00", timeout=60),
            lambda: httpx.get(page.address, headers={"Host": "elsewhere"}, timeout=60),
        ]
        status = chance.choice(replies)().status_code
        return "refused" if 400 <= status < 500 else f"a bad request: status {status}"


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def document(rows: list[list[str]], minutes: float) -> str:
    """Return docs/soak.md."""
    head = (
        "Minute", "Answered", "Refused in words", "Left", "Processes killed", "Neither",
        "Quick, median s", "95 %", "Memory, GB", "Descriptors", "Threads", "Processes", "Files",
    )  # fmt: skip
    return "\n".join(
        [
            "# Soak",
            "",
            f"A page under {VISITORS} visitors for {minutes:.0f} minutes, from one recorded run of "
            f"`make soak` on loopback ({this_machine()}, shared with other work). They ask "
            f"quick and slow maps of {len(MODELS)} networks, leave in the middle, ask {len(ALL)} "
            "plugins that do harm, send files that are no photos and requests that are none; every "
            "two minutes a working process is killed. *Neither* counts what was neither rightly "
            "answered nor refused in words: a wrong map among it. Memory is that of all processes "
            "together, "
            "what they share counted once; descriptors and threads are the server's; uploads and "
            "pictures lie for an hour ([Limits](limits.md)).",
            "",
            markdown(head, rows),
            "",
        ]
    )


def main() -> None:
    """Soak, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.port)
        return
    with server(sys.executable, "-m", "benchmarks.soak", "--serve") as running:
        rows = Soak(running, args.minutes).run()
    text = document(rows, args.minutes)
    print(text)
    if args.write:
        args.write.write_text(text)


if __name__ == "__main__":
    main()
