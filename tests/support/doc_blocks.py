"""Fenced blocks of Markdown pages, with what the comment before each says about it."""

from __future__ import annotations

import contextlib
import re
import runpy
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = "examples/photos/squirrel.jpg"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(
    r"^(?:<!-- (?P<remark>[^\n]*?) -->\n\n?)?^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: Where it stands.
        line: Of its first line.
        language: After the fence.
        code: Its text.
        reason: Why it is not run; "" for one that is.
        file: Name under which a reader is told to save it, or "".
    """

    page: Path
    line: int
    language: str
    code: str
    reason: str
    file: str


def run_first_block(place: Path, photo: Path) -> dict[str, object]:
    """Return the names of the README's first block, run on a photo; it writes into the place."""
    block = blocks_of(PAGES[0])[0]
    assert block.language == "python"
    assert f'photo = "{EXAMPLE}"' in block.code
    script = place / "first_block.py"
    script.write_text(block.code.replace(EXAMPLE, str(photo)))
    with contextlib.chdir(place):
        return runpy.run_path(str(script))


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for match in _FENCE.finditer(text):
        kind, _, remark = (match["remark"] or "").partition(": ")
        blocks.append(
            Block(
                page,
                text.count("\n", 0, match.start("code")) + 1,
                match["language"],
                match["code"],
                remark if kind == "not run" else "",
                remark if kind == "file" else "",
            )
        )
    return blocks
