"""The folder that becomes a Space: chosen files of a checkout, and two that are written for it."""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import ValidationError

from whylens.core.storage.files import write_atomically
from whylens.ui.space.card import SpaceCard, SpaceProblem, with_front_matter

CHECKOUT = Path(__file__).resolve().parents[2]
# Nothing of a checkout is copied but these and the data of its packages: no tests, no tools.
ALLOWED = (
    "demo.py",
    "pyproject.toml",  # the list of built-in explainers
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "whylens/*",
    "core/**/*.py",
    "plugins/**/*.py",
    "ui/**/*.py",
    "examples/*.ipynb",
    "docs/**/*.md",
    "docs/**/*.jpg",
    "docs/**/*.png",
)
README, REQUIREMENTS = "README.md", "requirements.txt"
BUILDER = "gradio"  # installed by the builder at sdk_version, never by requirements.txt


def build_space(folder: Path, *, checkout: Path = CHECKOUT) -> list[Path]:
    """Write the folder of the Space and return the paths in it, relative and sorted.

    Args:
        folder: Absent or empty.

    Raises:
        SpaceProblem: The folder is in use, or the checkout lacks what a Space needs.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpaceProblem(f"{folder} is not empty. Name a folder that does not exist yet.")
    if not (checkout / "constraints.txt").is_file():
        raise SpaceProblem(
            "A Space is built from a checkout of the project, and this is an installed copy. "
            "Clone the repository and run the command there."
        )
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    pinned = pins(checkout)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for path in _allowed_files(checkout, project):
            target = staged / path.relative_to(checkout)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        readme = (checkout / README).read_text(encoding="utf-8")
        card = card_of(project, pinned)
        write_atomically(staged / README, with_front_matter(card, readme).encode())
        lines = "".join(f"{line}\n" for line in requirements_of(project, pinned))
        write_atomically(staged / REQUIREMENTS, lines.encode())
        staged.chmod(0o755)
        if folder.exists():
            folder.rmdir()  # it fails where something was put in meanwhile
        staged.replace(folder)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


def _allowed_files(checkout: Path, project: Mapping[str, Any]) -> Iterator[Path]:
    folders = project["tool"]["setuptools"]["package-data"]
    patterns = [
        f"{package.removeprefix('whylens.').replace('.', '/')}/{name}"
        for package, names in folders.items()
        for name in names
    ]
    for pattern in (*ALLOWED, *patterns):
        for path in checkout.glob(pattern):
            if path.is_file() and not any(part.startswith(".") for part in path.parts[-2:]):
                yield path


def pins(checkout: Path) -> dict[str, str]:
    """Return the version of each package in constraints.txt, by canonical name."""
    lines = (checkout / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version.strip() for name, version in pairs}


def card_of(project: Mapping[str, Any], pinned: Mapping[str, str]) -> SpaceCard:
    """Return the metadata of the Space.

    Args:
        pinned: As `pins` returns them.

    Raises:
        SpaceProblem: A value is not what Hugging Face takes.
    """
    table = {k: v for k, v in project["tool"]["whylens"]["space"].items() if k != "requirements"}
    derived = {
        "sdk": "gradio",
        "sdk_version": pinned[BUILDER],
        "app_file": "demo.py",
        "license": project["project"]["license"].lower(),
    }
    try:
        return SpaceCard.model_validate({**table, **derived})
    except ValidationError as exc:
        raise SpaceProblem(f"[tool.whylens.space] of pyproject.toml: {exc}") from exc


def requirements_of(project: Mapping[str, Any], pinned: Mapping[str, str]) -> list[str]:
    """Return the lines of the Space's requirements.txt.

    Exact versions, but for what gradio itself depends on: the builder installs gradio with extras
    that narrow those, and two exact versions could not agree.

    Args:
        pinned: As `pins` returns them.
    """
    own: dict[str, str] = project["tool"]["whylens"]["space"]["requirements"]
    shared = {canonicalize_name(Requirement(r).name) for r in metadata.requires(BUILDER) or []}
    lines = []
    for text in project["project"]["dependencies"]:
        name = canonicalize_name(Requirement(text).name)
        if name == BUILDER or name in own:
            continue
        lines.append(text if name in shared else f"{name}=={pinned[name]}")
    return sorted([*lines, *(f"{name}{wanted}" for name, wanted in own.items())])
