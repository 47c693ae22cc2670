"""A page in a process of its own, to be measured from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.page_client import Page

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Server:
    """A started page, and what it takes."""

    process: subprocess.Popen[str]
    page: Page
    folder: Path

    def tree(self) -> list[int]:
        """Return the process ids of the server and of all that it started."""
        return tree_of(self.process.pid)

    def memory(self) -> float:
        """Return the gigabytes that all its processes take, what they share counted once."""
        return memory_of(self.tree())


def tree_of(root: int) -> list[int]:
    """Return the ids of a process and of all that it started, and so on."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            parents[int(entry.name)] = int(fields[1])
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return sorted(tree)


def memory_of(processes: Iterable[int]) -> float:
    """Return the gigabytes that processes take, what they share counted once."""
    total = 0
    for pid in processes:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(next(r for r in text.splitlines() if r.startswith("Pss:")).split()[1])
    return total / 1e6


@contextlib.contextmanager
def server(*command: str) -> Iterator[Server]:
    """Yield a page that runs in a process of its own; it is killed at the end."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        own = {"TMPDIR": folder, "GRADIO_TEMP_DIR": "", "WHYLENS_SCORES": "0"}
        process = subprocess.Popen(
            [*command, "--port", f"{port}"], cwd=ROOT, env={**os.environ, **own}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        reading: threading.Thread | None = None
        try:
            next(line for line in process.stdout if "Whylens is at" in line)
            reading = threading.Thread(target=process.stdout.read, daemon=True)
            reading.start()
            page = Page(f"http://127.0.0.1:{port}/")
            try:
                yield Server(process, page, Path(folder))
            finally:
                page.client.close()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if reading is not None:
                reading.join()  # to the end of what it says, which all that it started hold open
            process.stdout.close()


def demo() -> contextlib.AbstractContextManager[Server]:
    """Return a context with the page as `whylens demo` serves it."""
    return server(sys.executable, "-m", "whylens.ui.cli.app", "demo")


def photos(folder: Path, count: int) -> list[Path]:
    """Return photos that differ from one another."""
    generator = np.random.default_rng(5)
    paths = []
    for number in range(count):
        path = folder / f"{number}.png"
        noise = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return paths
