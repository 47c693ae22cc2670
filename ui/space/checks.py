"""Whether a folder would build and run as a Space, checked without the network."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from whylens.ui.space.card import SpaceCard, SpaceProblem, read_card
from whylens.ui.space.files import BUILDER, README, REQUIREMENTS

MOST_FILE_BYTES = 10_000_000  # bytes that Hugging Face takes in a plain file
TORCH = ("2.8.0", "2.9.1", "2.10.0", "2.11.0")  # what ZeroGPU offers
UNSAFE = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt")
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def problems_of(folder: Path) -> list[str]:
    """Return why a folder would not build or run as a Space, a sentence each; [] if it would."""
    problems: list[str] = []
    card = None
    try:
        card = read_card((folder / README).read_text(encoding="utf-8"))
    except FileNotFoundError:
        problems.append("There is no README.md, which carries the metadata.")
    except SpaceProblem as exc:
        problems.append(str(exc))
    if card is not None and not (folder / card.app_file).is_file():
        problems.append(f"The metadata name {card.app_file} as app_file, which is not there.")
    return [*problems, *_of_requirements(folder, card), *_of_files(folder), *_of_links(folder)]


def _of_requirements(folder: Path, card: SpaceCard | None) -> list[str]:
    path = folder / REQUIREMENTS
    if not path.is_file():
        return ["There is no requirements.txt."]
    problems: list[str] = []
    exact: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.split(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            problems.append(
                f"requirements.txt is installed before anything else is copied: {text!r} is no "
                "package from an index."
            )
            continue
        if requirement.url is not None:
            problems.append(f"requirements.txt fetches {text!r} from an address; name a release.")
        exact[canonicalize_name(requirement.name)] = str(requirement.specifier)
    if card is not None and exact.get(BUILDER, f"=={card.sdk_version}") != f"=={card.sdk_version}":
        problems.append(
            f"requirements.txt asks for gradio{exact[BUILDER]}, but the builder installs "
            f"{card.sdk_version}. Leave it out."
        )
    if exact.get("torch", "").removeprefix("==") not in TORCH:
        problems.append(f"ZeroGPU offers torch {', '.join(TORCH)}; requirements.txt must pin one.")
    return problems


def _of_files(folder: Path) -> list[str]:
    problems = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_symlink():
            problems.append(f"{name} is a link; a Space needs the file itself.")
        elif path.is_file() and path.stat().st_size >= MOST_FILE_BYTES:
            problems.append(f"{name} has {path.stat().st_size / 1e6:.1f} MB; the limit is 10 MB.")
        elif path.suffix in UNSAFE:
            problems.append(f"{name} may run code when it is loaded; only safetensors are allowed.")
    return problems


def _of_links(folder: Path) -> list[str]:
    path = folder / README
    if not path.is_file():
        return []
    links = _LINK.findall(path.read_text(encoding="utf-8"))
    missing = sorted({link for link in links if not (folder / link).exists()})
    return [f"README.md links {link}, which is not in the folder." for link in missing]
