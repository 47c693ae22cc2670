"""Which model names exist; loads nothing."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

from whylens.core.errors import BadInput, NotAllowed, UnknownName, quote

Kind = Literal["timm", "torchvision", "checkpoint", "untrained", "hub"]
_BARE = re.compile(r"[a-z0-9][a-z0-9_]{1,80}(?:\.[a-z0-9_]{1,60})?")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
# On Windows these are devices, whatever follows a dot.
_PORTS = (f"{kind}{number}" for kind in ("COM", "LPT") for number in range(10))
_DEVICES = {"CON", "PRN", "AUX", "NUL", *_PORTS}
_OWNER = r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?"
REPOSITORY = rf"(?!\S*(?:--|\.\.|\.git$)){_OWNER}/{_OWNER}"
_HUB = re.compile(f"hf:({REPOSITORY})", re.ASCII)

# ".tar" is torch's own, as in the checkpoint.pth.tar of its examples.
WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A name, parsed.

    Attributes:
        kind: Where to look.
        name: Without its prefix.
    """

    kind: Kind
    name: str

    def __str__(self) -> str:
        prefixes = {"torchvision": "torchvision:", "untrained": "untrained:", "hub": "hf:"}
        return prefixes.get(self.kind, "") + self.name


def parse_model_name(text: str, checkpoints: Collection[str] = ()) -> ModelName:
    """Return what `text` names, without loading anything.

    Args:
        text: A bare timm name, `torchvision:NAME`, `untrained:NAME`, `hf:OWNER/NAME`, or a
            checkpoint's folder name.

    Raises:
        UnknownName: Nothing has this name; close names are offered.
        NotAllowed: It is a path or an address.
    """
    if text in checkpoints:
        return ModelName("checkpoint", text)
    if repository := _HUB.fullmatch(text):
        return ModelName("hub", repository.group(1))
    prefix, colon, architecture = text.partition(":")
    if colon and prefix in ("torchvision", "untrained"):
        names = torchvision_names() if prefix == "torchvision" else timm_architectures()
        if not _BARE.fullmatch(architecture) or architecture not in names:
            raise UnknownName.among("model", text, (f"{prefix}:{name}" for name in names))
        return ModelName("torchvision" if prefix == "torchvision" else "untrained", architecture)
    if text.lower().endswith((*WEIGHTS_SUFFIXES, ".onnx")):
        raise NotAllowed(
            f"{quote(text)} is not a model name but a file of weights. Make a model of it on your "
            f"own computer: `whylens import {quote(text)[1:-1]} --name my-model`, and then "
            "`--model my-model`."
        )
    if _BARE.fullmatch(text) and (text in timm_names() or text in timm_architectures()):
        return ModelName("timm", text)
    matches = near_names(text, checkpoints)
    hint = f" Did you mean {', '.join(matches)}?" if matches else ""
    if not _BARE.fullmatch(text):
        raise NotAllowed(
            f"{quote(text)} is not a model name.{hint} Use a bare timm name such as "
            "resnet50.a1_in1k, hf:OWNER/NAME for a classifier of transformers on the Hub, or the "
            "name of a local checkpoint. Folders are loaded on the command line and in Python "
            "alone; addresses are never loaded."
        )
    if matches:
        raise UnknownName(f"There is no model called {quote(text)}.{hint}")
    raise UnknownName.among("model", text, [*timm_names(), *checkpoints])


def near_names(text: str, checkpoints: Collection[str] = ()) -> list[str]:
    """Return the names that `text` spells in another way, as with capitals, dashes or a library's.

    Args:
        text: As in "ResNet-50", "timm/resnet18.a1_in1k", "vit_b_16" or a folder's path.
    """
    last = text.strip().rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    last = _AS_IN_CODE.sub("", last)
    key = _squash(last)
    if not key:
        return []
    keys = {key, _squash(text)}  # a slash may belong to the name, as in "ViT-B/16"
    candidates = {
        **{name: name for name in sorted(torchvision_names(), reverse=True)},
        **{name: name for name in (*timm_architectures(), *timm_names(), *checkpoints)},
    }
    for name in torchvision_names() - timm_architectures():
        candidates[name] = f"torchvision:{name}"
    matches = [shown_as for name, shown_as in candidates.items() if _squash(name) in keys]
    if not matches:
        spelt = {_squash(name): shown_as for name, shown_as in candidates.items()}
        matches = [spelt[k] for k in difflib.get_close_matches(key, spelt, n=3, cutoff=0.8)]
    if re.fullmatch(REPOSITORY, text, re.ASCII):
        matches.append(f"hf:{text}")
    return matches[:4]


def plain_name(text: str) -> str:
    """Return a name for a model's folder that is like `text`."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9.]+", "-", ascii_text).strip("-.") or "my-model"


# What stands around a name in Python, as in torchvision.models.ResNet18_Weights.DEFAULT.
_AS_IN_CODE = re.compile(
    r"^(?:torchvision\.)?(?:timm\.)?(?:models\.)?|_Weights(?:\.\w+)?$", re.IGNORECASE
)


@lru_cache(maxsize=8192)  # thousands of known names are compared with each that is none
def _squash(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


@cache
def timm_names() -> frozenset[str]:
    """Return every timm name with pretrained weights, tags included."""
    import timm

    return frozenset(timm.list_models(pretrained=True))


@cache
def timm_architectures() -> frozenset[str]:
    """Return every architecture that timm can build, without tags."""
    import timm

    return frozenset(timm.list_models())


@cache
def torchvision_names() -> frozenset[str]:
    """Return every classification architecture of torchvision."""
    import torchvision

    return frozenset(torchvision.models.list_models(module=torchvision.models))


def check_folder_name(text: str) -> None:
    """Raise BadInput where `text` cannot be the name of a new model."""
    if problem := new_name_problem(text):
        raise BadInput(problem)


def new_name_problem(text: str) -> str:
    """Return why `text` cannot be the name of a new model and what to do, or ""."""
    if not is_folder_name(text):
        return f"{quote(text)} cannot be a model's name. Use letters, digits, dots and dashes."
    if text.endswith(".") or text.partition(".")[0].upper() in _DEVICES:
        return f"{quote(text)} cannot be a model's name: no folder of Windows has it. Use another."
    return ""


def is_folder_name(text: str) -> bool:
    """Return whether `text` can be the name of a checkpoint's folder."""
    return bool(_FOLDER.fullmatch(text))
