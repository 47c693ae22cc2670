"""Whether another package took a name that Whylens imports.

The names `core`, `plugins` and `ui` are short, and other packages have them as well. Where two lie
in one environment their files are mixed, and what fails then seldom says why.
"""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path

NAMES = ("core", "plugins", "ui", "demo")
REMEDY = (
    "Give Whylens an environment of its own: `python -m venv whylens-env`, then install it there."
)


def clash_in(root: Path, own: str = "whylens") -> str:
    """Return in one sentence who else has a name of ours, and the remedy; "" if nobody has.

    Args:
        root: The folder that our modules lie in.
        own: Name of our own distribution.
    """
    for name in NAMES:
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).parent if spec is not None and spec.origin else None
        expected = root if name == "demo" else root / name
        if found is None or found.resolve() != expected.resolve():
            where = found or "nowhere"
            return f"`import {name}` finds {where} instead of {expected}. {REMEDY}"
    for other in metadata.distributions(path=[str(root)]):
        title = other.metadata["Name"] or "a package without a name"
        if title.lower() == own:
            continue
        taken = _first_of_ours(other.read_text("RECORD") or "")
        if taken:
            return (
                f"{title} {other.version} brought files of its own into {root / taken}, where "
                f"those of Whylens lie: one of both is broken. {REMEDY}"
            )
    return ""


def _first_of_ours(record: str) -> str:
    for line in record.splitlines():
        top, slash, _ = line.partition("/")
        if slash and top in NAMES:
            return top
        if not slash and top.split(",")[0] in {f"{name}.py" for name in NAMES}:
            return top.split(",")[0]
    return ""
