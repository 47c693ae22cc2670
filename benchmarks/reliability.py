"""What a page does under bad plugins, crowds, floods and signals, measured on loopback.

`python -m benchmarks.reliability` attacks servers of its own, within a quarter of an hour;
`--write docs/reliability.md` records it. `--short` asks little, of a small network.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.bad_plugins import ALL, bad_engine, bad_registry
from benchmarks.page_client import ENDPOINT, Page, Refused, Visitor
from benchmarks.page_server import Server, demo, photos, server
from benchmarks.table import markdown, this_machine
from whylens.core.engine import Engine

LETTERS = 120  # of what is told, in the table
VISITORS = 100
SLOW_EVERY = 5  # questions
FIRST_QUICK = VISITORS - VISITORS // SLOW_EVERY  # of the first questions of all
BATCH = 16
HARMS = ("exits", "sleeps")  # of a short run
LONGEST = ("rise", "kernel-shap", "lime", "score-cam", "occlusion")


@dataclass(frozen=True)
class Asked:
    """What visitors ask: of which network, and by which quick and which slow method."""

    model: str
    quick: str
    slow: str

    def of(self, photo: Any) -> dict[str, Any]:
        """Return the values of a question about a photo."""
        return {"photo": photo, "model": self.model}


REAL = Asked("imagenet-lite0", "grad-cam", "occlusion")
# Of the page with the bad plugins; what naps takes time and no processor.
TOY = Asked("untrained:test_resnet", "saliency", "naps")


def bad_server(seconds: float, names: Iterable[str] = ALL) -> AbstractContextManager[Server]:
    """Return a context with a page whose plugins do harm, and whose answers may take so long."""
    serve = (sys.executable, "-m", "benchmarks.reliability", "--serve-bad", f"{seconds}")
    return server(*serve, "--plugins", ",".join(names))


def bad_plugins(bad: Server, names: Iterable[str]) -> list[list[str]]:
    """Return a row for each bad plugin: what its asker is told, and how others fare."""
    rows = []
    fields = TOY.of(bad.page.upload(photos(bad.folder, 1)[0]))

    def timed(visitor: Visitor, name: str) -> tuple[float, str]:
        began = time.monotonic()
        try:
            visitor.answer(visitor.ask(name, **fields))
            words = "answered"
        except Refused as exc:
            words = str(exc)
        return time.monotonic() - began, words

    timed(Visitor(bad.page), "good")
    for name in names:
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


def flood(page: Page, photo: Any, many: int, what: Asked = REAL) -> dict[str, float]:
    """Return how long one visitor waits while another has many slow questions in line.

    And how many of the other's were answered while theirs, a slow one, was in line.
    """
    fields = what.of(photo)
    busy, waiting = Visitor(page), Visitor(page)
    _seconds(waiting, what.quick, fields)  # the first of a network loads it
    _seconds(waiting, what.slow, {**fields, "window": 64, "stride": 64})
    alone = _seconds(waiting, what.quick, fields)
    slow_alone = _seconds(waiting, what.slow, fields)
    events, refusals = [], 0
    for _ in range(many):
        try:
            events.append(busy.ask(what.slow, **fields))
        except Refused:
            refusals += 1
    quick = [_seconds(waiting, what.quick, fields) for _ in range(5)]
    before = busy.answer_count()
    slow = _seconds(waiting, what.slow, fields)
    meanwhile = busy.answer_count() - before
    for event in events:
        busy.cancel(event, what.slow)
    return {
        "asked": many, "refused": refusals, "quick alone": alone, "quick": max(quick),
        "slow alone": slow_alone, "slow": slow, "answered before it": meanwhile,
    }  # fmt: skip


def _seconds(visitor: Visitor, name: str, question: dict[str, Any]) -> float:
    began = time.monotonic()
    visitor.answer(visitor.ask(name, **question))
    return time.monotonic() - began


def crowd(
    running: Server, visitors: int, each: int, *, over: float = 0.0, what: Asked = REAL
) -> dict[str, float]:
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
        answer = alone.answer(alone.ask(what.quick, **what.of(uploaded[number])))
        expected[number] = answer[2]["map"]
    assert len({f"{answer}" for answer in expected.values()}) == visitors, "maps tell none apart"
    before = running.memory()

    def visit(number: int) -> list[tuple[str, float, bool]]:
        visitor, results = Visitor(page), []
        time.sleep(over * number / visitors)
        for turn in range(each):
            name = what.slow if (number + turn) % SLOW_EVERY == 0 else what.quick
            began = time.monotonic()
            try:
                event = visitor.ask(name, **what.of(uploaded[number]))
                answer = visitor.answer(event, seconds=900)
                own = name == what.slow or answer[2]["map"] == expected[number]
            except Refused:
                results.append(("refused", time.monotonic() - began, True))
                continue
            results.append((name, time.monotonic() - began, own))
        return results

    began = time.monotonic()
    with ThreadPoolExecutor(visitors) as threads:
        every = [result for results in threads.map(visit, range(visitors)) for result in results]
    seconds = time.monotonic() - began
    quick = sorted(took for name, took, _ in every if name == what.quick)
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


def seconds_in_a_batch(engine: Engine, model: str) -> float:
    """Return how long a forward pass takes for each input of a batch, the least of three."""
    backbone = engine.backbone(model)
    x, times = backbone.probe_inputs()[:1].repeat(BATCH, 1, 1, 1), []
    for _ in range(3):
        began = time.perf_counter()
        backbone.fast_logits(x)
        times.append((time.perf_counter() - began) / BATCH)
    return min(times)


def large_bodies(page: Page, share: float = 1.0) -> dict[str, Callable[[], str]]:
    """Return what sends each body that is too large, and returns how that ended, by its name.

    Args:
        share: Of 100 MB.
    """
    join = f"{page.address}{ENDPOINT}/queue/join"
    size = int(share * 100_000_000)

    def values() -> Iterator[bytes]:
        yield b'{"data": ['
        for _ in range(100):
            yield b"0," * (size // 200)
        yield b"0]}"

    def post(**content: Any) -> str:
        reply = page.client.post(join, timeout=300, **content)
        return f"status {reply.status_code}"

    def upload() -> str:
        files = {"files": ("a.png", b"x" * size, "image/png")}
        reply = page.client.post(f"{page.address}{ENDPOINT}/upload", files=files, timeout=300)
        return f"status {reply.status_code}"

    megabytes = f"{size // 1_000_000} MB"
    return {
        f"JSON, a list of {size / 2e6:.0f} million zeros, {megabytes}": lambda: post(
            content=values()
        ),
        f"JSON, a text of {megabytes}": lambda: post(json={"data": ["x" * size]}),
        f"an upload of {megabytes}": upload,
    }


def heavy_bodies(running: Server) -> list[list[str]]:
    """Return a row for each body that is too heavy, or nearly: its end, seconds and memory."""
    page, rows = running.page, []
    large = running.folder / "large.jpg"
    noise = np.random.default_rng(3).integers(0, 256, (54, 55, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((5500, 5400)).save(large, quality=60)

    def explain() -> str:
        visitor = Visitor(page)
        visitor.answer(visitor.ask(REAL.quick, **REAL.of(page.upload(large))))
        return "answered"

    explain()  # so that what is at rest has seen such a photo
    tries = [(name, 1, send) for name, send in large_bodies(page).items()]
    tries += [
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

        watching = threading.Thread(target=watch, daemon=True)
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


def leaving(
    page: Page, photo: Any, times: int, methods: Iterable[str] = LONGEST, what: Asked = REAL
) -> list[list[str]]:
    """Return for slow methods how soon another is served once their asker cancels."""
    rows = []
    fields = {**what.of(photo), "window": 64, "stride": 64}
    alone = _seconds(Visitor(page), what.slow, fields)
    for method in methods:
        waits = []
        for _ in range(times):
            busy, waiting = Visitor(page), Visitor(page)
            event = busy.ask(method, **what.of(photo))
            # It computes by the time that a quick answer of the same visitor is there.
            busy.answer(busy.ask(what.quick, **what.of(photo)))
            busy.cancel(event, method)
            waits.append(_seconds(waiting, what.slow, fields))
        rows.append(
            [
                method,
                f"{times}",
                *(f"{value:.1f}" for value in (alone, statistics.median(waits), max(waits))),
            ]
        )
    return rows


def ending(running: Server, number: int, method: str, what: Asked = REAL) -> dict[str, float]:
    """Return how a server ends by a signal while it computes a map by a method."""
    visitor = Visitor(running.page)
    photo = running.page.upload(photos(running.folder, 1)[0])
    visitor.ask(method, **what.of(photo))
    visitor.answer(visitor.ask(what.quick, **what.of(photo)))
    for path in running.folder.glob("*.png"):  # what is sent
        path.unlink()
    tree = running.tree()
    began = time.monotonic()
    running.process.send_signal(number)
    code = running.process.wait(60)
    seconds = time.monotonic() - began
    while (after := time.monotonic() - began - seconds) < 60 and any(map(_runs, tree)):
        time.sleep(0.01)
    files = [path for path in running.folder.rglob("*") if path.is_file()]
    return {
        "exit code": code, "seconds": seconds, "its last process ends later by": after,
        "files left": len(files), "processes left": sum(map(_runs, tree)),
    }  # fmt: skip


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def serve_bad(port: int, seconds: float, names: list[str]) -> None:
    """Serve a page whose plugins do harm, until it is told to end."""
    from whylens.core.workers.engine import WorkerEngine
    from whylens.ui.ending import run_and_end
    from whylens.ui.page.server import serve

    engine = WorkerEngine(partial(bad_engine, names), bad_registry(names), seconds=seconds)
    run_and_end(lambda: serve(port=port, engine=engine))


def measure() -> dict[str, Any]:
    """Return all figures."""
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:.0f} s: {what}", file=sys.stderr)

    with bad_server(10.0) as bad:
        figures: dict[str, Any] = {"bad plugins": bad_plugins(bad, ALL)}
    with demo() as running:
        photo = running.page.upload(photos(running.folder, 1)[0])
        say("a flood")
        figures["flood"] = flood(running.page, photo, 40)
        say("who leaves")
        figures["leaving"] = leaving(running.page, photo, 10)
        say("heavy bodies")
        figures["heavy"] = heavy_bodies(running)
        say("a crowd")
        figures["crowd"] = crowd(running, VISITORS, 3)
        say("a crowd that comes within two minutes")
        figures["spread"] = crowd(running, VISITORS, 3, over=120.0)
    engine = Engine()
    figures["forward"] = engine.forward_seconds(REAL.model)
    figures["in batches"] = seconds_in_a_batch(engine, REAL.model)
    say("signals")
    figures["signals"] = {}
    for name in ("SIGTERM", "SIGINT"):
        with demo() as running:
            figures["signals"][name] = ending(running, getattr(signal, name), "rise")
    return figures


def measured_briefly() -> dict[str, Any]:
    """Return figures of few attacks on one server with a small network, within half a minute."""
    with bad_server(3.0, HARMS) as running:
        page = running.page
        photo = page.upload(photos(running.folder, 1)[0])
        return {
            "bad plugins": bad_plugins(running, HARMS),
            "flood": flood(page, photo, 30, TOY),
            "leaving": leaving(page, photo, 1, ("stepping",), TOY),
            "large": {name: send() for name, send in large_bodies(page, 0.2).items()},
            "crowd": crowd(running, 6, 3, what=TOY),
            "signals": {"SIGTERM": ending(running, signal.SIGTERM, "sleeps", TOY)},
        }


def document(figures: dict[str, Any]) -> str:
    """Return docs/reliability.md."""
    return "\n".join(
        [
            "# Reliability",
            "",
            "What a page does when it is attacked, from one recorded run of `make reliability` on "
            f"loopback ({this_machine()}, shared with other work). `{REAL.model}`, maps not "
            "judged. What the limits are: [Limits](limits.md).",
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
            f"alone. A bare forward pass takes {figures['forward']:.2g} s on all cores, in a batch "
            f"of {BATCH} {figures['in batches']:.2g} s: those of the first {FIRST_QUICK} quick "
            f"questions, which come at once, take "
            f"{FIRST_QUICK * min(figures['forward'], figures['in batches']):.2g} s with nothing "
            "else. Seconds.",
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
    parser.add_argument("--plugins", default="", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve_bad:
        serve_bad(args.port, args.serve_bad, args.plugins.split(","))
        return
    figures = measured_briefly() if args.short else measure()
    print(json.dumps(figures, indent=1))
    if args.write and not args.short:
        args.write.write_text(document(figures))


if __name__ == "__main__":
    main()
