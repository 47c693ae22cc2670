"""Whether a folder would build and run as a Space, found out without the network."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from whylens.ui.space.card import SpaceCard, SpaceProblem, read_card
from whylens.ui.space.files import BUILDER, README, REQUIREMENTS

LARGEST = 10_000_000  # bytes that Hugging Face takes in a plain file
TORCH = ("2.8.0", "2.9.1", "2.10.0", "2.11.0")  # what ZeroGPU offers
UNSAFE = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt")
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def problems_of(folder: Path) -> list[str]:
    """Return why a folder would not build or run as a Space, one sentence each; empty if it would.

    Args:
        folder: With README.md, requirements.txt and the app.
    """
    found: list[str] = []
    card = None
    try:
        card = read_card((folder / README).read_text(encoding="utf-8"))
    except FileNotFoundError:
        found.append("There is no README.md, which carries the metadata.")
    except SpaceProblem as exc:
        found.append(str(exc))
    if card is not None and not (folder / card.app_file).is_file():
        found.append(f"The metadata name {card.app_file} as app_file, which is not there.")
    return [*found, *_of_requirements(folder, card), *_of_files(folder), *_of_links(folder)]


def _of_requirements(folder: Path, card: SpaceCard | None) -> list[str]:
    path = folder / REQUIREMENTS
    if not path.is_file():
        return ["There is no requirements.txt."]
    found: list[str] = []
    exact: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.split(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            found.append(
                f"requirements.txt is installed before anything else is copied: {text!r} is no "
                "package from an index."
            )
            continue
        if wanted.url is not None:
            found.append(f"requirements.txt fetches {text!r} from an address; name a release.")
        exact[canonicalize_name(wanted.name)] = str(wanted.specifier)
    if card is not None and exact.get(BUILDER, f"=={card.sdk_version}") != f"=={card.sdk_version}":
        found.append(
            f"requirements.txt asks for gradio{exact[BUILDER]}, but the builder installs "
            f"{card.sdk_version}. Leave it out."
        )
    if exact.get("torch", "").removeprefix("==") not in TORCH:
        found.append(f"ZeroGPU offers torch {', '.join(TORCH)}; requirements.txt must pin one.")
    return found


def _of_files(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_symlink():
            found.append(f"{name} is a link; a Space needs the file itself.")
        elif path.is_file() and path.stat().st_size >= LARGEST:
            found.append(f"{name} has {path.stat().st_size / 1e6:.1f} MB; the limit is 10 MB.")
        elif path.suffix in UNSAFE:
            found.append(f"{name} may run code when it is loaded; only safetensors are allowed.")
    return found


def _of_links(folder: Path) -> list[str]:
    path = folder / README
    if not path.is_file():
        return []
    links = _LINK.findall(path.read_text(encoding="utf-8"))
    missing = sorted({link for link in links if not (folder / link).exists()})
    return [f"README.md links {link}, which is not in the folder." for link in missing]
