"""What a page does under bad plugins, crowds, floods and signals, measured on loopback.

`python -m benchmarks.reliability` attacks servers of its own, within a quarter of an hour;
`--write docs/reliability.md` records it. `--short` asks less of everything.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks.bad_plugins import ALL, bad_engine, bad_registry
from benchmarks.page_client import ENDPOINT, Page, Refused, Visitor
from benchmarks.page_server import Server, demo, photos, server
from benchmarks.table import markdown, this_machine

MODEL = "imagenet-lite0"
LETTERS = 120  # of what is told, in the table
QUICK, SLOW = "grad-cam", "occlusion"
LONGEST = ("rise", "kernel-shap", "lime", "score-cam", "occlusion")


def bad_plugins(seconds: float) -> list[list[str]]:
    """Return a row for each bad plugin: what its asker is told, and how others fare."""
    rows = []
    with server(sys.executable, "-m", "benchmarks.reliability", "--serve-bad", f"{seconds}") as bad:
        photo = bad.page.upload(photos(bad.folder, 1)[0])
        asked = {"photo": photo, "model": "untrained:test_resnet"}

        def timed(visitor: Visitor, name: str) -> tuple[float, str]:
            began = time.monotonic()
            try:
                visitor.answer(visitor.ask(name, **asked))
                words = "answered"
            except Refused as exc:
                words = str(exc)
            return time.monotonic() - began, words

        timed(Visitor(bad.page), "good")
        for name in ALL:
            harmed, bystander = Visitor(bad.page), Visitor(bad.page)
            with ThreadPoolExecutor(2) as threads:
                harm = threads.submit(timed, harmed, name)
                meanwhile, outcome = timed(bystander, "good")
                assert outcome == "answered", outcome
                took, words = harm.result()
            after, outcome = timed(bystander, "good")
            assert outcome == "answered", outcome
            assert bad.process.poll() is None, "the server is gone"
            head = words.split(").")[0].split(". ")[0].replace("|", "/")
            head = head if len(head) <= LETTERS else f"{head[:LETTERS]}…"
            rows.append([name, f"{took:.1f}", head, f"{meanwhile:.1f}", f"{after:.1f}"])
    return rows


def flood(page: Page, photo: Any, many: int) -> dict[str, float]:
    """Return how long one visitor waits while another has many slow questions in line."""
    asked = {"photo": photo, "model": MODEL}
    busy, waiting = Visitor(page), Visitor(page)
    _seconds(waiting, QUICK, asked)  # the first of a network loads it
    _seconds(waiting, SLOW, {**asked, "window": 64, "stride": 64})
    alone = _seconds(waiting, QUICK, asked)
    slow_alone = _seconds(waiting, SLOW, asked)
    events, refused = [], 0
    for _ in range(many):
        try:
            events.append(busy.ask(SLOW, **asked))
        except Refused:
            refused += 1
    quick = [_seconds(waiting, QUICK, asked) for _ in range(5)]
    slow = _seconds(waiting, SLOW, asked)
    for event in events:
        busy.cancel(event, SLOW)
    return {
        "asked": many, "refused": refused, "quick alone": alone, "quick": max(quick),
        "slow alone": slow_alone, "slow": slow,
    }  # fmt: skip


def _seconds(visitor: Visitor, name: str, asked: dict[str, Any]) -> float:
    began = time.monotonic()
    visitor.answer(visitor.ask(name, **asked))
    return time.monotonic() - began


def crowd(running: Server, visitors: int, each: int, *, over: float = 0.0) -> dict[str, float]:
    """Return what becomes of a crowd's questions, a fifth of which are slow.

    Args:
        over: Seconds within which they come, one after the other; 0: all at once.
    """
    page = running.page
    paths = photos(running.folder, visitors)
    with ThreadPoolExecutor(16) as threads:
        uploaded = list(threads.map(page.upload, paths))
    expected = {}
    for number in range(visitors):
        alone = Visitor(page)
        answer = alone.answer(alone.ask(QUICK, photo=uploaded[number], model=MODEL))
        expected[number] = answer[2]["map"]
    before = running.memory()

    def visit(number: int) -> list[tuple[str, float, bool]]:
        visitor, results = Visitor(page), []
        time.sleep(over * number / visitors)
        for turn in range(each):
            name = SLOW if (number + turn) % 5 == 0 else QUICK
            began = time.monotonic()
            try:
                answer = visitor.answer(
                    visitor.ask(name, photo=uploaded[number], model=MODEL), seconds=900
                )
                own = name == SLOW or answer[2]["map"] == expected[number]
            except Refused:
                results.append(("refused", time.monotonic() - began, True))
                continue
            results.append((name, time.monotonic() - began, own))
        return results

    began = time.monotonic()
    with ThreadPoolExecutor(visitors) as threads:
        every = [result for results in threads.map(visit, range(visitors)) for result in results]
    seconds = time.monotonic() - began
    quick = sorted(took for name, took, _ in every if name == QUICK)
    return {
        "sent": visitors * each,
        "answered": sum(name != "refused" for name, _, _ in every),
        "refused": sum(name == "refused" for name, _, _ in every),
        "of another's picture": sum(not own for _, _, own in every),
        "seconds in all": seconds,
        "quick, median": statistics.median(quick),
        "quick, 95th percentile": quick[int(0.95 * (len(quick) - 1))],
        "memory before, GB": before,
        "memory after, GB": running.memory(),
    }


def heavy_bodies(running: Server) -> list[list[str]]:
    """Return a row for each body that is too heavy, or nearly: its end, seconds and memory."""
    page, rows = running.page, []
    join = f"{page.address}{ENDPOINT}/queue/join"
    large = running.folder / "large.jpg"
    noise = np.random.default_rng(3).integers(0, 256, (54, 55, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((5500, 5400)).save(large, quality=60)

    def values() -> Iterator[bytes]:
        yield b'{"data": ['
        for _ in range(100):
            yield b"0," * 500_000
        yield b"0]}"

    def post(**content: Any) -> str:
        reply = httpx.post(join, timeout=300, **content)
        return f"status {reply.status_code}"

    def upload(size: int) -> str:
        files = {"files": ("a.png", b"x" * size, "image/png")}
        reply = httpx.post(f"{page.address}{ENDPOINT}/upload", files=files, timeout=300)
        return f"status {reply.status_code}"

    def explain() -> str:
        visitor = Visitor(page)
        visitor.answer(visitor.ask(QUICK, photo=page.upload(large), model=MODEL))
        return "answered"

    explain()  # so that what is at rest has seen such a photo
    tries: list[tuple[str, int, Callable[[], str]]] = [
        ("JSON, a list of 50 million zeros, 100 MB", 1, lambda: post(content=values())),
        ("JSON, a text of 100 MB", 1, lambda: post(json={"data": ["x" * 100_000_000]})),
        ("an upload of 100 MB", 1, lambda: upload(100_000_000)),
        ("a photo of 30 megapixels", 1, explain),
        ("two of them at once", 2, explain),
        ("six of them at once", 6, explain),
    ]
    for name, times, attack in tries:
        rest, began = running.memory(), time.monotonic()
        peak, over = [rest], threading.Event()

        def watch(peak: list[float] = peak, over: threading.Event = over) -> None:
            while not over.wait(0.05):
                peak.append(running.memory())

        watching = threading.Thread(target=watch)
        watching.start()
        with ThreadPoolExecutor(times) as threads:
            ends = list(threads.map(lambda _, attack=attack: attack(), range(times)))
        over.set()
        watching.join()
        seconds = time.monotonic() - began
        rows.append(
            [name, ", ".join(sorted(set(ends))), f"{seconds:.1f}", f"{max(peak) - rest:.2f}"]
        )
    return rows


def leaving(page: Page, photo: Any, times: int) -> list[list[str]]:
    """Return for slow methods how soon another is served once their asker cancels."""
    rows = []
    asked = {"photo": photo, "model": MODEL, "window": 64, "stride": 64}
    alone = _seconds(Visitor(page), SLOW, asked)
    for method in LONGEST:
        waits = []
        for _ in range(times):
            busy, waiting = Visitor(page), Visitor(page)
            event = busy.ask(method, photo=photo, model=MODEL)
            # It computes by the time that a quick answer of the same visitor is there.
            busy.answer(busy.ask(QUICK, photo=photo, model=MODEL))
            busy.cancel(event, method)
            waits.append(_seconds(waiting, SLOW, asked))
        rows.append(
            [
                method,
                f"{times}",
                *(f"{value:.1f}" for value in (alone, statistics.median(waits), max(waits))),
            ]
        )
    return rows


def ending(number: int) -> dict[str, float]:
    """Return how a server ends by a signal in the middle of its work."""
    with demo() as running:
        visitor = Visitor(running.page)
        photo = running.page.upload(photos(running.folder, 1)[0])
        visitor.ask("rise", photo=photo, model=MODEL)
        visitor.answer(visitor.ask(QUICK, photo=photo, model=MODEL))
        (running.folder / "0.png").unlink()
        tree = running.tree()
        began = time.monotonic()
        running.process.send_signal(number)
        code = running.process.wait(60)
        seconds = time.monotonic() - began
        while (after := time.monotonic() - began - seconds) < 60 and any(map(_runs, tree)):
            time.sleep(0.01)
        left = [path for path in running.folder.rglob("*") if path.is_file()]
        return {
            "exit code": code, "seconds": seconds, "its last process ends later by": after,
            "files left": len(left), "processes left": sum(map(_runs, tree)),
        }  # fmt: skip


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def serve_bad(port: int, seconds: float) -> None:
    """Serve a page whose plugins do harm, until killed."""
    from whylens.core.workers.engine import WorkerEngine
    from whylens.ui.page.layout import build_page
    from whylens.ui.page.server import launch

    engine = WorkerEngine(bad_engine, bad_registry(), seconds=seconds)
    page = build_page(engine, judges=False)
    print(f"Whylens is at {launch(page, host='127.0.0.1', port=port, block=False, slow=1)}")
    sys.stdout.flush()
    page.block_thread()


def measured(*, short: bool) -> dict[str, Any]:
    """Return all figures."""
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:.0f} s: {what}", file=sys.stderr)

    figures: dict[str, Any] = {"bad plugins": bad_plugins(5.0 if short else 10.0)}
    with demo() as running:
        photo = running.page.upload(photos(running.folder, 1)[0])
        say("a flood")
        figures["flood"] = flood(running.page, photo, 3 if short else 40)
        say("who leaves")
        figures["leaving"] = leaving(running.page, photo, 1 if short else 10)
        say("heavy bodies")
        figures["heavy"] = heavy_bodies(running)
        say("a crowd")
        size = (4, 1) if short else (100, 3)
        figures["crowd"] = crowd(running, *size)
        say("a crowd that comes within two minutes")
        figures["spread"] = crowd(running, *size, over=2.0 if short else 120.0)
    say("signals")
    figures["signals"] = {name: ending(getattr(signal, name)) for name in ("SIGTERM", "SIGINT")}
    return figures


def document(figures: dict[str, Any]) -> str:
    """Return docs/reliability.md."""
    return "\n".join(
        [
            "# Reliability",
            "",
            "What a page does when it is attacked, from one recorded run of `make reliability` on "
            f"loopback ({this_machine()}, shared with other work). `{MODEL}`, maps not judged. "
            "What the limits are: [Limits](limits.md).",
            "",
            "## Plugins that do harm",
            "",
            "Each does its worst in its `explain`; an answer may take 10 s here. Meanwhile, and "
            "again at once afterwards, another visitor asks a sound method. Times in seconds.",
            "",
            markdown(
                ("The plugin", "Its asker waits", "and is told", "Another meanwhile", "The next"),
                figures["bad plugins"],
            ),
            "",
            "## One visitor's flood",
            "",
            "One asks many slow maps at once; another asks one quick map, five times in turn, then "
            "a slow one. Seconds.",
            "",
            _pairs(figures["flood"]),
            "",
            "## A crowd",
            "",
            "All at once, each with an own photo, three questions one after the other, a fifth of "
            "them slow. An answer belongs to its photo if its map is that of the photo asked "
            "alone. Seconds.",
            "",
            _pairs(figures["crowd"]),
            "",
            "The same where they come one after the other within two minutes, as visitors do.",
            "",
            _pairs(figures["spread"]),
            "",
            "## Heavy bodies",
            "",
            "What it takes beyond what all processes took before, in gigabytes, at its worst.",
            "",
            markdown(("What is sent", "End", "Seconds", "GB"), figures["heavy"]),
            "",
            "## Who leaves",
            "",
            "A script cancels a slow map; another's slow question, alone or at once after that, is "
            "answered after so many seconds.",
            "",
            markdown(("Method", "Times", "Alone", "Median", "Longest"), figures["leaving"]),
            "",
            "## Signals in the middle of work",
            "",
            markdown(
                ("Signal", *next(iter(figures["signals"].values()))),
                [[n, *(f"{v:.3g}" for v in f.values())] for n, f in figures["signals"].items()],
            ),
            "",
        ]
    )


def _pairs(figures: dict[str, float]) -> str:
    return markdown(
        ("Figure", "Value"), [[name, f"{value:.3g}"] for name, value in figures.items()]
    )


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--serve-bad", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve_bad:
        serve_bad(args.port, args.serve_bad)
        return
    figures = measured(short=args.short)
    print(json.dumps(figures, indent=1))
    if args.write:
        args.write.write_text(document(figures))


if __name__ == "__main__":
    main()
