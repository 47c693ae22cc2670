"""Pretrained weights from the Hub: known within seconds, verified, never half.

The Hub's own download retries for most of a minute without a network and does not check what came;
here the address is probed first and every file's sha256 is checked. Downloads run in a child
process, since neither of the libraries that fetch can be stopped from outside once a server stalls
or drips.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from whylens.core.errors import BadArtifact, WeightsUnavailable
from whylens.core.progress import ProgressCallback
from whylens.core.storage.files import file_sha256
from whylens.core.storage.interrupts import interrupts_blocked

log = logging.getLogger(__name__)

T = TypeVar("T")
REMEDY = "Choose a local checkpoint (they are listed first), or connect and try again."
SECONDS_BETWEEN_COUNTS = 0.25  # of what has come
SECONDS_TO_TAKE_AWAY = 2.0  # its half of a file, for a download that is ended
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
# Written in small pieces: by default 10 MB gather in memory first, so that from outside a slow but
# healthy download looks stalled. Ended by an exception, the library removes its half of a file.
_CHILD = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.utils import disable_progress_bars
constants.DOWNLOAD_CHUNK_SIZE = 16384
disable_progress_bars()
print(flush=True)
print(hf_hub_download(sys.argv[1], sys.argv[2]))
"""


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


def call_with_deadline(seconds: float, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise what it raises, if that happens in time.

    Args:
        seconds: The deadline. A thread waits beyond it where it must: looking up a host's name
            can hang longer than any timeout of the request itself.

    Raises:
        TimeoutError: It did not return in time.
    """
    answers: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(call())
        except BaseException as exc:  # noqa: BLE001 - raised again below, in the caller's thread
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
    timeouts: Timeouts,
    progress: ProgressCallback | None,
) -> str:
    """Return the last line printed by a child that downloads, ended if bytes stop coming.

    Args:
        code: Python source that the child runs; it prints an empty line when it has imported what
            it needs, and the path of the file last.
        arguments: The child's sys.argv[1:].
        into: The folder in which bytes appear.
        size: Bytes expected, 0 if unknown.
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
        if child.stdout is not None:
            os.read(child.stdout.fileno(), 1)  # starting takes seconds on a busy machine: no stall
        before = _bytes_in(into)
        last_bytes, since = before, time.monotonic()
        while True:
            try:
                out, err = child.communicate(timeout=SECONDS_BETWEEN_COUNTS)
                break
            except subprocess.TimeoutExpired:
                present, now = _bytes_in(into), time.monotonic()
            if size and progress is not None:
                share = min(0.99, max(0, present - before) / size)
                progress(share, f"Fetching {what}: {size / 1e6:.0f} MB")
            if present - last_bytes >= timeouts.floor:
                last_bytes, since = present, now
            elif now - since > timeouts.stall:
                raise WeightsUnavailable(
                    f"The download of {what} stalled: fewer than {timeouts.floor / 1000:.0f} kB "
                    f"came in {timeouts.stall:.0f} s. {REMEDY}"
                )
    finally:
        if child is not None:
            _terminate(child)
    if child.returncode != 0:
        last = (err.strip().splitlines() or ["no reason given"])[-1]
        raise WeightsUnavailable(f"The download of {what} failed ({last[:200]}). {REMEDY}")
    return out.strip().splitlines()[-1]


def _terminate(child: subprocess.Popen[str]) -> None:
    if child.poll() is not None:
        return
    child.terminate()  # asked first, so that it takes its half of a file away
    try:
        child.communicate(timeout=SECONDS_TO_TAKE_AWAY)
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


@dataclass(frozen=True, slots=True)
class HubFile:
    """A verified file of the Hub on this disk."""

    path: Path
    sha256: str


def hub_file(
    repo: str,
    filename: str,
    *,
    timeouts: Timeouts | None = None,
    progress: ProgressCallback | None = None,
    most: int | None = None,
) -> HubFile:
    """Return a file of a Hub repository, from the cache or fetched, its sha256 checked.

    Args:
        repo: "owner/name".
        most: Bytes; larger files are not fetched, nor those of no stated size.
        progress: Called with the share fetched (0 to 1) and a sentence.

    Raises:
        WeightsUnavailable: It is neither cached nor to be had; where nothing answers, this is
            known half a second after `timeouts.probe`.
        BadArtifact: It has another hash than the Hub promised; it was deleted.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.file_download import repo_folder_name

    timeouts = timeouts or Timeouts()
    cached = try_to_load_from_cache(repo, filename)
    if isinstance(cached, str):
        return _verify(Path(cached), None, f"The weights of {repo} on this disk are damaged")
    promised, size = _metadata(repo, filename, timeouts)
    if most is not None and not 0 < size <= most:
        raise BadArtifact(
            f"{filename} of {repo} has {size / 1e6:,.1f} MB, and at most {most / 1e6:,.1f} MB can "
            "be right. Choose another model."
        )
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
    path = download_in_child(
        _CHILD,
        [repo, filename],
        what=repo,
        into=folder / "blobs",
        size=size,
        timeouts=timeouts,
        progress=progress,
    )
    return _verify(Path(path), promised, f"The weights of {repo} arrived damaged")


def _metadata(repo: str, filename: str, timeouts: Timeouts) -> tuple[str | None, int]:
    from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise WeightsUnavailable(
            f"The weights of {repo} are not on this disk and HF_HUB_OFFLINE is set. {REMEDY}"
        )
    url = hf_hub_url(repo, filename)
    try:
        metadata = call_with_deadline(
            timeouts.probe + 0.5, lambda: get_hf_file_metadata(url, timeout=timeouts.probe)
        )
    except errors.GatedRepoError as exc:
        raise WeightsUnavailable(
            f"The weights of {repo} are given only to those who accepted their terms on the Hub. "
            "Accept them there and log in with `hf auth login`, or choose another model."
        ) from exc
    except (errors.RemoteEntryNotFoundError, errors.RepositoryNotFoundError) as exc:
        raise WeightsUnavailable(
            f"The Hub has no {filename} for {repo}; only safetensors are loaded. "
            "Choose another tag of this model, or another model."
        ) from exc
    except errors.HfHubHTTPError as exc:
        code = getattr(exc.response, "status_code", "no status")
        raise WeightsUnavailable(
            f"The Hub answered with an error ({code}), and the weights of {repo} are not on this "
            f"disk. {REMEDY}"
        ) from exc
    except (_transport_error(), OSError, RuntimeError, ValueError) as exc:
        raise WeightsUnavailable(
            f"The Hub cannot be reached, and the weights of {repo} are not on this disk. {REMEDY}"
        ) from exc
    return metadata.etag, int(metadata.size or 0)


def _transport_error() -> type[Exception]:
    # That of whichever HTTP library this version of the Hub's client rests on.
    from huggingface_hub import errors

    return getattr(errors, "HTTPError", OSError)


def _verify(path: Path, promised: str | None, complaint: str) -> HubFile:
    # The cache names a blob after its ETag: the sha256 of large files, git's hash of small ones.
    blob = path.resolve()
    promised = promised or blob.name
    sha256 = file_sha256(blob)
    if _SHA256.fullmatch(promised):
        intact = sha256 == promised
    elif _SHA1.fullmatch(promised):
        intact = _git_hash(blob) == promised
    else:
        log.warning("Its server states no hash, so %s could not be checked", path.name)
        intact = True
    if not intact:
        blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise BadArtifact(
            f"{complaint} (their hash is not {promised[:12]}) and were deleted. Try again."
        )
    return HubFile(path, sha256)


def _git_hash(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
