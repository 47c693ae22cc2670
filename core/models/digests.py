"""sha256 of files and of parameters.

May touch the standard library; torch only once parameters are hashed, since whoever hashes files
should not wait for it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file, read in pieces.

    Args:
        path: An existing file.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def parameters_sha256(module: nn.Module) -> str:
    """Return the hex sha256 of a network's parameters and buffers, names included.

    Args:
        module: Any network.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(flat.numpy().tobytes())
    return digest.hexdigest()
