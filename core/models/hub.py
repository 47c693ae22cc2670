"""Pretrained weights from the Hub: known within seconds, verified, never half.

May touch huggingface_hub. Its own download retries for most of a minute without a network and
does not check what came; here the address is probed first and every file's sha256 is checked.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from whylens.core.errors import BadArtifact, WeightsUnavailable
from whylens.core.models.download import (
    REMEDY,
    ProgressCallback,
    Timeouts,
    call_with_deadline,
    download_in_child,
)
from whylens.core.storage.files import file_sha256

log = logging.getLogger(__name__)

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
print(hf_hub_download(sys.argv[1], sys.argv[2]))
"""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A verified file of the Hub on this disk.

    Attributes:
        path: Where it lies.
        sha256: Of its contents.
    """

    path: Path
    sha256: str


def hub_file(
    repo: str,
    filename: str,
    *,
    patience: Timeouts | None = None,
    progress: ProgressCallback | None = None,
) -> HubFile:
    """Return a file of a Hub repository, from the cache or fetched, its sha256 checked.

    Args:
        repo: "owner/name".
        filename: The file inside.
        patience: How long to wait.
        progress: Called with the share fetched (0 to 1) and a sentence.

    Raises:
        WeightsUnavailable: It is neither cached nor to be had; where nothing answers, this is
            known half a second after `patience.probe`.
        BadArtifact: It has another hash than the Hub promised; it was deleted.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.file_download import repo_folder_name

    patience = patience or Timeouts()
    cached = try_to_load_from_cache(repo, filename)
    if isinstance(cached, str):
        return _verified(Path(cached), None, f"The weights of {repo} on this disk are damaged")
    promised, size = _promised(repo, filename, patience)
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
    path = download_in_child(
        _CHILD,
        [repo, filename],
        what=repo,
        into=folder / "blobs",
        size=size,
        patience=patience,
        progress=progress,
    )
    return _verified(Path(path), promised, f"The weights of {repo} arrived damaged")


def _promised(repo: str, filename: str, patience: Timeouts) -> tuple[str | None, int]:
    from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise WeightsUnavailable(
            f"The weights of {repo} are not on this disk and HF_HUB_OFFLINE is set. {REMEDY}"
        )
    url = hf_hub_url(repo, filename)
    try:
        got = call_with_deadline(
            patience.probe + 0.5, lambda: get_hf_file_metadata(url, timeout=patience.probe)
        )
    except errors.GatedRepoError as exc:
        raise WeightsUnavailable(
            f"The weights of {repo} are given only to those who accepted their terms on the Hub. "
            "Accept them there and log in with `hf auth login`, or choose another model."
        ) from exc
    except (errors.RemoteEntryNotFoundError, errors.RepositoryNotFoundError) as exc:
        raise WeightsUnavailable(
            f"The Hub has no {filename} for {repo}; only safetensors are loaded. "
            "Choose another tag of this model."
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
    return got.etag, int(got.size or 0)


def _transport_error() -> type[Exception]:
    # That of whichever HTTP library this version of the Hub's client rests on.
    from huggingface_hub import errors

    return getattr(errors, "HTTPError", OSError)


def _verified(path: Path, promised: str | None, complaint: str) -> HubFile:
    # The cache names a blob after its ETag: the sha256 of large files, git's hash of small ones.
    blob = path.resolve()
    promised = promised or blob.name
    found = file_sha256(blob)
    if _SHA256.fullmatch(promised):
        sound = found == promised
    elif _SHA1.fullmatch(promised):
        sound = _git_hash(blob) == promised
    else:
        log.warning("Its server states no hash, so %s could not be checked", path.name)
        sound = True
    if not sound:
        blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise BadArtifact(
            f"{complaint} (their hash is not {promised[:12]}) and were deleted. Try again."
        )
    return HubFile(path, found)


def _git_hash(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
