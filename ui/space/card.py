"""The front matter of a Space's README: what Hugging Face reads of it, checked without asking it.

Hugging Face's own check needs the network, and its parser accepts any value.
"""

from __future__ import annotations

from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from whylens.core.errors import CoreError

Colour = Literal["red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"]
Repository = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
# A repository, optionally files joined by commas, optionally a revision.
Preload = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+( [^\s,]+(,[^\s,]+)*( [0-9a-f]{40})?)?$")]
FENCE = "---"


class SpaceProblem(CoreError):
    """The folder of a Space cannot be built, or would not run there."""


class SpaceCard(BaseModel):
    """The metadata of a Gradio Space that may run on ZeroGPU.

    Attributes:
        sdk: Always "gradio": ZeroGPU lends to no other.
        sdk_version: Version of gradio, which the builder installs.
        python_version: One that ZeroGPU offers.
        license: As Hugging Face abbreviates it.
        startup_duration_timeout: After how long a start counts as failed.
        preload_from_hub: What the builder fetches into the cache.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    title: str = Field(min_length=1, max_length=100)
    emoji: str = Field(min_length=1, max_length=8, pattern=r"^[^\x00-\x7f]+$")
    colorFrom: Colour  # noqa: N815 - Hugging Face's names
    colorTo: Colour  # noqa: N815
    sdk: Literal["gradio"]
    sdk_version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    python_version: str = Field(pattern=r"^3\.(10|12)(\.\d+)?$")
    app_file: str = Field(pattern=r"^[\w./-]+\.py$")
    short_description: str = Field(min_length=1, max_length=60)
    license: str = Field(pattern=r"^[a-z0-9.-]+$")
    startup_duration_timeout: str = Field(default="30m", pattern=r"^\d+[smh]$")
    tags: list[str] = []
    models: list[Repository] = []
    preload_from_hub: list[Preload] = []


def with_front_matter(card: SpaceCard, text: str) -> str:
    """Return a README that begins with the metadata of a Space."""
    block = yaml.safe_dump(card.model_dump(), sort_keys=False, allow_unicode=True, width=1000)
    return f"{FENCE}\n{block}{FENCE}\n\n{text}"


def read_card(readme: str) -> SpaceCard:
    """Return the metadata at the head of a README's text.

    Raises:
        SpaceProblem: There is none, it is no YAML, or a value is not what Hugging Face takes.
    """
    head, _, rest = readme.partition("\n")
    block, end, _ = rest.partition(f"\n{FENCE}\n")
    if head != FENCE or not end:
        raise SpaceProblem("README.md does not begin with a block of metadata between two '---'.")
    try:
        metadata = yaml.safe_load(block)
    except yaml.YAMLError as exc:
        raise SpaceProblem(f"The metadata of README.md are no YAML: {exc}") from exc
    try:
        return SpaceCard.model_validate(metadata)
    except ValidationError as exc:
        problems = "; ".join(
            f"{'.'.join(str(p) for p in e['loc']) or 'the block'}: {e['msg']}"
            + (" (put it in quotes)" if e["type"] == "string_type" else "")
            for e in exc.errors()
        )
        raise SpaceProblem(f"The metadata of README.md are wrong. {problems}.") from exc
