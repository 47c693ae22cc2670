"""What a user says about a file of weights, read without stopping at the first fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from os.path import lexists
from pathlib import Path
from typing import Any, TypeVar

from whylens.core.errors import BadInput, CoreError, quote
from whylens.core.inputs.photo import Photo, read_photo
from whylens.core.models.black_box import ONNX_FILE
from whylens.core.models.checkpoints import MANIFEST, WEIGHTS, checkpoint_folders, new_model_place
from whylens.core.models.model_names import new_name_problem, timm_architectures, timm_names
from whylens.core.targets import Outputs

Value = TypeVar("Value")
EXAMPLE_PHOTO = Path(__file__).resolve().parents[2] / "examples" / "photos" / "cat.jpg"

# Names of files that say nothing of what is in them; the folder's name says more.
_PLAIN_STEMS = ("model", "pytorch_model", "weights", "best", "last", "checkpoint", "model_best")


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a user says about a file of weights; what is None is found out or assumed.

    Attributes:
        file: The weights.
        photo: A photo to prove the network on.
        architecture: A timm name, `torchvision:NAME` or `fastai:NAME`.
        labels: A file with a label per line or in JSON, or labels joined by commas, or
            "imagenet-1k".
        size: "224", or "224x160" for height and width.
        mean: A value per channel, joined by commas, or one for all; of values in 0 to 1.
        std: Likewise.
        crop: Share of the resized photo that the crop keeps.
        interpolation: Filter of the resize.
        name: Of the new model.
        out: Folder to write; by default one that is searched for models.
        licence: Of the weights.
        outputs: "classes" that exclude each other, "labels" that each hold or not, or "value".
        unit: Of a value.
        output: Of an ONNX file with several outputs, the name of the one to read.
    """

    file: Path
    photo: Path = EXAMPLE_PHOTO
    architecture: str | None = None
    labels: str | None = None
    size: str | None = None
    mean: str | None = None
    std: str | None = None
    crop: float | None = None
    interpolation: str | None = None
    name: str | None = None
    out: Path | None = None
    licence: str = "not stated"
    outputs: Outputs = "classes"
    unit: str = ""
    output: str | None = None


class Findings:
    """What is wrong and what was assumed, collected to be said at once."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []

    def attempt(self, call: Callable[[], Value]) -> Value | None:
        """Return what `call` returns, or None where it raises what a visitor may read."""
        try:
            return call()
        except CoreError as exc:
            self.problems.append(str(exc))
            return None


def new_folder(options: ImportOptions) -> Path:
    """Return the folder for the new model; it is not made yet.

    Raises:
        BadInput: It cannot be used, or a model's file is there.
    """
    name = options.name
    if name is None and options.out is not None:
        name = options.out.name
    if name is None:
        stem = options.file.stem.removesuffix(".pth")  # of a .pth.tar
        if stem.lower() in _PLAIN_STEMS:
            stem = options.file.resolve().parent.name
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "imported"
    if problem := new_name_problem(name):
        raise BadInput(f"{problem} Give it by --name.")
    if options.out is not None:
        folder = options.out if options.out.name == name else options.out / name
    else:
        folder = new_model_place() / name
        if name in {*checkpoint_folders(), *timm_names(), *timm_architectures()}:
            raise BadInput(f"There is a model called {quote(name)} already. Give another --name.")
    check_new(folder)
    return folder


def check_new(folder: Path) -> None:
    """Raise BadInput where a file lies in `folder` that a model's own would replace."""
    present = [name for name in (MANIFEST, WEIGHTS, ONNX_FILE) if lexists(folder / name)]
    if MANIFEST in present:
        raise BadInput(f"There is a model in {folder} already. Give another --name or --out.")
    if present:
        raise BadInput(
            f"There is a {present[0]} in {folder} already, and no import writes over a file. Give "
            "another --name or --out."
        )


def open_photo(path: Path) -> Photo:
    """Return the photo at `path`.

    Raises:
        BadInput: It cannot be read.
    """
    try:
        return read_photo(path.read_bytes())
    except OSError as exc:
        raise BadInput(f"The photo {path} cannot be read: {exc.strerror}. Give --photo.") from exc
    except CoreError as exc:
        raise BadInput(f"The photo {path.name}: {exc} Give another --photo.") from exc


def stated_input(options: ImportOptions, findings: Findings) -> dict[str, Any]:
    """Return the fields of an InputSpec that the user stated; unreadable ones become findings."""
    fields: dict[str, Any] = {}
    if options.size is not None:
        sides = re.fullmatch(r"(\d{1,5})(?:[x,](\d{1,5}))?", options.size.replace(" ", ""))
        if sides is None or 0 in (size := _size(sides)):
            findings.problems.append(
                f"--size is 224, or 224x160 for height and width, not {quote(options.size)}."
            )
        else:
            fields["size"] = size
    for name in ("mean", "std"):
        text = getattr(options, name)
        if text is not None:
            try:
                fields[name] = tuple(float(part) for part in text.split(","))
            except ValueError:
                findings.problems.append(
                    f"--{name} is a number per channel, joined by commas, not {quote(text)}."
                )
    fields["crop"] = options.crop
    fields["interpolation"] = options.interpolation
    return {key: value for key, value in fields.items() if value is not None}


def _size(sides: re.Match[str]) -> tuple[int, int]:
    return int(sides.group(1)), int(sides.group(2) or sides.group(1))
