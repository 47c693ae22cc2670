"""Local checkpoints: a folder with model.json and model.safetensors.

Safetensors only, sha256 always checked; every write is temporary file + fsync + rename.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from torch import Tensor

from whylens.core.errors import BadArtifact, UnknownName
from whylens.core.inputs.spec import CropMode, InputSpec, Interpolation
from whylens.core.models.black_box import ONNX_FILE
from whylens.core.models.model_names import (
    is_folder_name,
    plain_name,
    timm_architectures,
    timm_names,
)
from whylens.core.storage.files import (
    file_sha256,
    find_file,
    read_json_model,
    write_described,
    wrong_field,
)
from whylens.core.targets import Outputs

log = logging.getLogger(__name__)

MANIFEST, WEIGHTS = "model.json", "model.safetensors"
# What a description may ask for, whoever wrote it: of an input, and of a network's arguments.
MOST_SIDE, MOST_SIGNAL, MOST_INPUT = 4096, 65_536, 50_000_000
MOST_LAYERS, MOST_ARGUMENT, MOST_LABELS = 1000, 65_536, 100_000
# What a network is built from one by one, so that a number may cost hours.
DEPTH = re.compile("^(?!.*channel).*(layer|depth|block|stage|repeat|self_attend)")
SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints"
FOLDERS_VARIABLE = "WHYLENS_CHECKPOINTS"
HOME_VARIABLE = "WHYLENS_HOME"

IMAGENET_CLASSES = 1000

Argument = int | float | str | bool | tuple[int, ...]


class CheckpointManifest(BaseModel):
    """The contents of model.json.

    Attributes:
        architecture: A timm name, `torchvision:NAME`, `fastai:NAME` (a residual network of
            torchvision under fastai's head), or "onnx", which is model.onnx beside it.
        arguments: What differs from that architecture, as its maker's keyword arguments: narrower
            or shallower networks are written so. Of "onnx": `output`, its name, and whether these
            are `probabilities`.
        input_size: Spatial size, (height, width).
        mean: Mean per channel, of values in [0, 1].
        std: Standard deviation per channel.
        crop: Share of the resized image that the crop keeps.
        crop_mode: As in InputSpec.
        interpolation: Filter of the resize.
        detail: As in InputSpec.
        labels: One label per class, or "imagenet-1k"; a single one is of a network with one score.
        outputs: "classes" exclude each other; "labels" each hold or not, by a sigmoid; "value" is
            one number, whose name is the one label.
        unit: Of a value.
        licence: Licence of the weights.
        sha256: Of model.safetensors, or of model.onnx.
        trained: False for a demonstration with random weights.
        note: One sentence for visitors.
        group: Heading under which lists show it; by default that of networks of one's own.
        examples: Folder of shipped examples that suit it; by default what its input suggests.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str
    arguments: Mapping[str, Argument] = {}
    input_size: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float = 1.0
    crop_mode: CropMode = "center"
    interpolation: Interpolation = "bilinear"
    detail: int | None = None
    labels: tuple[str, ...] | str
    outputs: Outputs = "classes"
    unit: str = ""
    licence: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    trained: bool = True
    note: str = ""
    group: str = ""
    examples: str = ""

    @field_validator("sha256", mode="before")
    @classmethod
    def _in_small_letters(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value  # PowerShell writes capitals

    @model_validator(mode="after")
    def _check_bounds(self) -> CheckpointManifest:
        longest = MOST_SIGNAL if len(self.input_size) == 1 else MOST_SIDE
        if max(self.input_size, default=0) > longest:
            raise ValueError(f"an input has {longest:,} places along a side at most")
        if math.prod(self.input_size) * len(self.mean) > MOST_INPUT:
            raise ValueError(f"an input has {MOST_INPUT:,} values at most")
        if len(self.labels) > MOST_LABELS:
            raise ValueError(f"{MOST_LABELS:,} labels are read at most")
        for name, value in self.arguments.items():
            values = value if isinstance(value, tuple) else (value,)
            if len(values) > MOST_LAYERS or len(str(value)) > 10_000:
                raise ValueError(f"the argument {name!r} is too long")
            numbers = [abs(v) for v in values if isinstance(v, int | float)]
            if max(numbers, default=0) > MOST_ARGUMENT:
                raise ValueError(f"the argument {name!r} is larger than {MOST_ARGUMENT:,}")
            if DEPTH.search(name) and sum(numbers) > MOST_LAYERS:
                raise ValueError(f"the argument {name!r} asks for more than {MOST_LAYERS:,} layers")
        return self

    def input_spec(self) -> InputSpec:
        """Return how images are fed to this network."""
        shared = self.model_dump(include=InputSpec.model_fields.keys() & type(self).model_fields)
        return InputSpec(size=self.input_size, channels=len(self.mean), **shared)


def checkpoint_folders(root: Path | None = None) -> dict[str, Path]:
    """Return every local checkpoint by name, those that are shipped first.

    Args:
        root: The shipped folder; by default `checkpoints/` beside `core/`.
    """
    folders: dict[str, Path] = {}
    for place in checkpoint_places(root):
        if not place.is_dir():
            continue
        for folder in _checkpoints_in(place):
            if is_folder_name(folder.name):
                if folder.name in folders:
                    log.warning("Checkpoint %s appears twice; the first is used", folder.name)
                folders.setdefault(folder.name, folder)
    return folders


def _checkpoints_in(place: Path) -> Iterator[Path]:
    try:
        candidates = sorted([place, *place.iterdir()])
    except OSError as exc:
        log.warning("The checkpoints in %s cannot be listed: %s", place, exc.strerror)
        return
    for folder in candidates:
        try:
            complete = any((folder / name).is_file() for name in (WEIGHTS, ONNX_FILE))
            if complete and (folder / MANIFEST).is_file():
                yield folder
        except OSError:  # of somebody else
            continue


def misnamed_folders(root: Path | None = None) -> dict[str, Path]:
    """Return the folders that hold a checkpoint under a name that no model can have."""
    return {
        folder.name: folder
        for place in checkpoint_places(root)
        if place.is_dir()
        for folder in sorted(place.iterdir())
        if (folder / MANIFEST).is_file() and not is_folder_name(folder.name)
    }


def place_problems() -> list[str]:
    """Return why checkpoints that a user may look for are not listed, a sentence each."""
    folders = [place for place in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if place]
    return [
        *(
            f"{FOLDERS_VARIABLE} names {place}, which is no folder."
            for place in folders
            if not Path(place).is_dir()
        ),
        *(
            f"The checkpoint in {folder} is not listed: rename it, as to {plain_name(name)}."
            for name, folder in misnamed_folders().items()
        ),
    ]


def no_checkpoint_words(text: str) -> str:
    """Return why what lies at a path, or where models are looked for, is no checkpoint; or ""."""
    try:
        file = Path(text).expanduser()
        if file.is_file():
            if (file.parent / MANIFEST).is_file():
                return f"It is part of a checkpoint: give its folder, {file.parent}."
            return ""
    except (OSError, ValueError, RuntimeError):
        return ""
    candidate_folders = (
        [place / text for place in checkpoint_places()] if is_folder_name(text) else []
    )
    folder = _folder_at(text) or next(
        (folder for folder in candidate_folders if folder.is_dir()), None
    )
    if folder is None:
        return ""
    if is_transformers_path(str(folder)):
        return f"{folder} was written by transformers: give its path."
    if not (folder / MANIFEST).is_file():
        return (
            f"The folder {folder} holds no {MANIFEST}: make a model of its weights by "
            "`whylens import FILE`."
        )
    return f"The folder {folder} holds a {MANIFEST}, and no {WEIGHTS} or {ONNX_FILE} beside it."


def is_checkpoint_path(text: str) -> bool:
    """Return whether `text` is the path of a checkpoint's folder, and no name that timm has."""
    folder = _folder_at(text)
    return folder is not None and (folder / MANIFEST).is_file()


def is_transformers_path(text: str) -> bool:
    """Return whether `text` is the path of a folder that transformers saved a model into."""
    folder = _folder_at(text)
    try:
        return folder is not None and '"model_type"' in (folder / "config.json").read_text()
    except (OSError, ValueError):
        return False


def _folder_at(text: str) -> Path | None:
    # A folder that is called as an architecture does not hide it.
    if not text or "\0" in text or text in timm_names() or text in timm_architectures():
        return None
    try:
        folder = Path(text).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):  # a name too long for the disk, or the home of nobody
        return None


def default_model(root: Path | None = None) -> str | None:
    """Return the local checkpoint to begin with, the first of `default_models`, or None."""
    return next(iter(default_models(root)), None)


def default_models(root: Path | None = None) -> list[str]:
    """Return the local checkpoints that read photos, in the order in which to begin with one.

    A trained one comes first, and then the one that knows most classes.

    Args:
        root: The shipped folder; by default `checkpoints/` beside `core/`.
    """
    ranks = {}
    for name, folder in checkpoint_folders(root).items():
        try:
            manifest = read_manifest(folder)
        except BadArtifact:  # said when it is chosen
            continue
        if len(manifest.input_size) == 2:
            count = IMAGENET_CLASSES if isinstance(manifest.labels, str) else len(manifest.labels)
            ranks[name] = manifest.trained, count
    return sorted(ranks, key=ranks.__getitem__, reverse=True)


def find_models(pattern: str = "") -> list[str]:
    """Return the local checkpoints and timm's pretrained names that match.

    Args:
        pattern: Part of a name, or a pattern with *.

    Raises:
        UnknownName: None does; close names are offered.
    """
    glob = pattern if "*" in pattern else f"*{pattern}*"
    every_name = [*checkpoint_folders(), *sorted(timm_names())]
    names = [name for name in every_name if fnmatch(name, glob)]
    if not names:
        raise UnknownName.among("model", pattern, every_name)
    return names


def checkpoint_places(root: Path | None = None) -> list[Path]:
    """Return the folders in which checkpoints are looked for, the shipped folder first."""
    return [root or SHIPPED, *_own_places()]


def new_model_place() -> Path:
    """Return the folder for what the user makes: the first that they named, else their own."""
    return [*_own_places(), SHIPPED][0]


def _own_places() -> list[Path]:
    places = [Path(p) for p in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if p]
    try:
        home = Path(os.environ.get(HOME_VARIABLE) or Path.home() / ".whylens")
    except RuntimeError:  # a container's user may have no home
        return places
    return [*places, home / "checkpoints"]


def read_manifest(folder: Path) -> CheckpointManifest:
    """Return the manifest of a checkpoint's folder.

    Raises:
        BadArtifact: It is missing or says something impossible.
    """
    remedy = "Correct it, or write the checkpoint again."
    manifest = read_json_model(folder / MANIFEST, CheckpointManifest, remedy)
    try:
        manifest.input_spec()  # means and deviations that disagree are refused here, by name
    except ValidationError as exc:
        raise wrong_field(folder / MANIFEST, exc, remedy) from exc
    return manifest


def read_weights(path: Path, *, sha256: str | None) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file after checking its hash.

    Args:
        sha256: Its expected hash; None skips the check where none is known.

    Raises:
        BadArtifact: It is unreadable, no safetensors file, or has another hash.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        file = path if sha256 is None else find_file(path, sha256)
        if file is None:
            raise BadArtifact(
                f"{path.parent.name}/{path.name} is damaged or was replaced: its sha256 begins "
                f"with {file_sha256(path)[:12]}, expected {(sha256 or '')[:12]}. Fetch or write it "
                "again."
            )
        return dict(load_file(file))
    except OSError as exc:
        raise BadArtifact(
            f"{path.parent.name}/{path.name} cannot be read: {exc.strerror}. "
            "Fetch or write it again."
        ) from exc
    except SafetensorError as exc:
        raise BadArtifact(
            f"{path.parent.name}/{path.name} is not a safetensors file: {exc}. "
            "Fetch or write it again."
        ) from exc


def write_checkpoint(
    folder: Path, weights: Mapping[str, Tensor] | bytes, description: Mapping[str, object]
) -> CheckpointManifest:
    """Write a checkpoint and return its manifest; a reader finds the old one or the new one, whole.

    Args:
        folder: Made if absent.
        weights: By name, or the content of an ONNX file.
        description: The manifest's fields but for sha256.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(weights, bytes):
        name, content = ONNX_FILE, weights
    else:
        # Cloned, since safetensors refuses tensors that share memory, as tied weights do.
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
        name, content = WEIGHTS, save(tensors)
    digest = hashlib.sha256(content).hexdigest()
    manifest = CheckpointManifest.model_validate({**description, "sha256": digest})
    text = json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n"
    write_described(
        folder / name,
        lambda stream: stream.write(content),
        folder / MANIFEST,
        lambda _: text.encode(),
    )
    return manifest


def halve(tensor: Tensor) -> Tensor:
    """Return the tensor in 16 bits, or as it is where those cannot hold it."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    # Variances of a norm behind inputs of up to 255 may lie beyond what 16 bits hold.
    return half if bool(half.isfinite().all()) else tensor
