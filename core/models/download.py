"""Waiting for a network with an end: a question with a deadline, a download that must move.

May touch the standard library only. Downloads run in a child process, since neither of the
libraries that fetch can be stopped from outside once a server stalls or drips.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from whylens.core.errors import WeightsUnavailable
from whylens.core.interrupts import interrupts_blocked

ProgressCallback = Callable[[float, str], None]
T = TypeVar("T")
REMEDY = "Choose a local checkpoint (they are listed first), or connect and try again."


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait.

    Attributes:
        probe: Seconds for the first answer.
        stall: Seconds over which at least `floor` bytes must arrive.
        floor: Bytes.
    """

    probe: float = 3.0
    stall: float = 20.0
    floor: int = 20_000


def call_with_deadline(seconds: float, ask: Callable[[], T]) -> T:
    """Return what `ask` returns, or raise what it raises, if that happens in time.

    Args:
        seconds: The deadline. A thread waits beyond it where it must: looking up a host's name
            can hang longer than any timeout of the request itself.
        ask: The question.

    Raises:
        TimeoutError: There was no answer.
    """
    answers: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as exc:  # noqa: BLE001 - raised again below, in the asker's thread
            failures.append(exc)

    thread = threading.Thread(target=run, daemon=True, name="whylens probe")
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return answers[0]


def download_in_child(
    code: str,
    arguments: list[str],
    *,
    what: str,
    into: Path,
    size: int,
    patience: Timeouts,
    progress: ProgressCallback | None,
) -> str:
    """Return the last line printed by a child that downloads, ended if bytes stop coming.

    Args:
        code: Python source that the child runs; it prints the path of the file last.
        arguments: Its arguments.
        what: What is fetched, for messages.
        into: The folder in which bytes appear.
        size: Bytes expected, 0 if unknown.
        patience: How long to wait.
        progress: Called with the share fetched (0 to 1) and a sentence.

    Raises:
        WeightsUnavailable: It failed or stalled.
    """
    child: subprocess.Popen[str] | None = None
    try:
        with interrupts_blocked():  # on Ctrl-C it is this process that ends the child
            child = subprocess.Popen(  # noqa: S603 - our own interpreter and our own source
                [sys.executable, "-c", code, *arguments],
                # Plain HTTP: what has come can then be counted, and a cut download resumed.
                env={**os.environ, "HF_HUB_DISABLE_XET": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        before = _bytes_in(into)
        seen, since = before, time.monotonic()
        while True:
            try:
                out, err = child.communicate(timeout=0.25)
                break
            except subprocess.TimeoutExpired:
                have, now = _bytes_in(into), time.monotonic()
            if size and progress is not None:
                share = min(0.99, max(0, have - before) / size)
                progress(share, f"Fetching {what}: {size / 1e6:.0f} MB")
            if have - seen >= patience.floor:
                seen, since = have, now
            elif now - since > patience.stall:
                raise WeightsUnavailable(
                    f"The download of {what} stalled: fewer than {patience.floor / 1000:.0f} kB "
                    f"came in {patience.stall:.0f} s. {REMEDY}"
                )
    finally:
        if child is not None:
            _end(child)
    if child.returncode != 0:
        last = (err.strip().splitlines() or ["no reason given"])[-1]
        raise WeightsUnavailable(f"The download of {what} failed ({last[:200]}). {REMEDY}")
    return out.strip().splitlines()[-1]


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is not None:
        return
    child.terminate()  # asked first, so that it takes its half of a file away
    try:
        child.communicate(timeout=2)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # renamed between listing and asking
            continue
    return total
