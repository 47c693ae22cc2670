"""From a name on the command line to a set of pictures.

May touch the sets beside it, each imported only when its name is given.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from whylens.core.datasets.dataset import Dataset
from whylens.core.errors import BadInput, shown

WORLDS: tuple[Literal["breed", "genuine"], ...] = ("breed", "genuine")
SIGNALS = "mnist1d"


def generated(name: str) -> Dataset | None:
    """Return the set of this name that is made here and needs no file, or None.

    Args:
        name: As in "painted-cats:breed".
    """
    return load_dataset(name) if name in {f"painted-cats:{w}" for w in WORLDS} else None


def load_dataset(text: str, *, progress: Callable[[float, str], None] | None = None) -> Dataset:
    """Return the set that `text` names.

    Args:
        text: A folder, a .npz file, "painted-cats:breed", "painted-cats:genuine" or "mnist1d".
        progress: Called with a share done and a sentence while a folder is read.

    Raises:
        BadInput: There is nothing of this name, or too little in it.
    """
    prefix, colon, world = text.partition(":")
    if colon and prefix == "painted-cats":
        from whylens.plugins.painted_cats import PaintedCats

        for known in WORLDS:
            if world == known:
                return PaintedCats(known)
        offered = " and ".join(f"painted-cats:{known}" for known in WORLDS)
        raise BadInput(f"There is no painted world {shown(world)}; there are {offered}.")
    if text == SIGNALS:
        from whylens.plugins.mnist1d.dataset import GeneratedSignals

        return GeneratedSignals()
    path = Path(text)
    if path.suffix == ".npz":
        from whylens.core.datasets.npz import ImageArchive

        return ImageArchive(path)
    from whylens.core.datasets.folder import ImageFolder

    return ImageFolder(path, progress=progress)
