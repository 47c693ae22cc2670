"""Pretrained weights from the Hub: known within seconds, verified, never half.

May touch huggingface_hub. Its own download retries for most of a minute without a network and
does not check what came; here the address is probed first and every file's sha256 is checked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from core.errors import BadArtifact, WeightsUnavailable
from core.models.digests import file_sha256
from core.models.download import REMEDY, Patience, Progress, answer_within, fetched

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHILD = """
import sys
from huggingface_hub import hf_hub_download
from huggingface_hub.utils import disable_progress_bars
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
    patience: Patience | None = None,
    progress: Progress | None = None,
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
        BadArtifact: What arrived has another hash than the Hub promised; it was deleted.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.file_download import repo_folder_name

    patience = patience or Patience()
    cached = try_to_load_from_cache(repo, filename)
    if isinstance(cached, str):
        return _verified(Path(cached), repo, None)
    sha256, size = _promised(repo, filename, patience)
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
    path = fetched(
        _CHILD,
        [repo, filename],
        what=repo,
        into=folder / "blobs",
        size=size,
        patience=patience,
        progress=progress,
    )
    return _verified(Path(path), repo, sha256)


def _promised(repo: str, filename: str, patience: Patience) -> tuple[str | None, int]:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError
    from huggingface_hub.errors import RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise WeightsUnavailable(
            f"The weights of {repo} are not on this disk and HF_HUB_OFFLINE is set. {REMEDY}"
        )
    url = hf_hub_url(repo, filename)
    try:
        got = answer_within(
            patience.probe + 0.5, lambda: get_hf_file_metadata(url, timeout=patience.probe)
        )
    except (RemoteEntryNotFoundError, RepositoryNotFoundError) as exc:
        raise WeightsUnavailable(
            f"The Hub has no {filename} for {repo}; only safetensors are loaded. "
            "Choose another tag of this model."
        ) from exc
    except (LocalEntryNotFoundError, OSError, RuntimeError, ValueError) as exc:
        raise WeightsUnavailable(
            f"The Hub cannot be reached, and the weights of {repo} are not on this disk. {REMEDY}"
        ) from exc
    return (got.etag if got.etag and _SHA256.fullmatch(got.etag) else None), int(got.size or 0)


def _verified(path: Path, repo: str, promised: str | None) -> HubFile:
    # The cache names a blob after its ETag, which for weights is the sha256.
    blob = path.resolve()
    promised = promised or (blob.name if _SHA256.fullmatch(blob.name) else None)
    found = file_sha256(blob)
    if promised is not None and found != promised:
        blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise BadArtifact(
            f"The weights of {repo} arrived damaged (sha256 {found[:12]}, expected "
            f"{promised[:12]}) and were deleted. Try again."
        )
    return HubFile(path, found)
