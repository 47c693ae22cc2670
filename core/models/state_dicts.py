"""Weights from any file that torch or safetensors wrote, as plain tensors under plain names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from whylens.core.errors import BadArtifact, BadInput, quote
from whylens.core.models import pickle_child
from whylens.core.models.checkpoints import read_weights
from whylens.core.models.model_names import WEIGHTS_SUFFIXES
from whylens.core.storage.files import temporary_folder
from whylens.core.storage.interrupts import interrupts_blocked

# Beside the weights that were trained; what their author tested.
AVERAGES = ("teacher", "model_ema", "ema_model", "ema")
_NEARLY_ALL = 0.9
SECONDS_OF_READING = 300.0
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_SAVE = """  import torch
  model = ...  # load it as you always do, where you trust the file
  torch.save(model.state_dict(), "weights.pth")"""


@dataclass(frozen=True)
class StateDict:
    """The tensors of a file.

    Attributes:
        levels: The same tensors with ever more of their names' common prefixes taken off.
        wrapper: The keys behind which they lay, as "state_dict" or "", in words for a note.
        hints: Architectures that the file itself names.
    """

    levels: tuple[dict[str, Tensor], ...]
    wrapper: str = ""
    hints: tuple[str, ...] = ()


def read_state_dict(file: Path) -> StateDict:
    """Return the tensors of a file; a pickle is read by a process of its own.

    Raises:
        BadInput: It cannot be read, or files of its kind are not taken.
        BadArtifact: It is damaged, or holds something else than weights.
    """
    suffix = file.suffix.lower()
    if suffix not in WEIGHTS_SUFFIXES:
        raise BadInput(_unfit_suffix(file, suffix))
    if file.is_dir():
        raise BadInput(f"{file.name} is a folder. Name the file of weights inside it.")
    try:
        with file.open("rb") as stream:
            start = stream.read(64)
    except OSError as exc:
        raise BadInput(f"{file} cannot be read: {exc.strerror}.") from exc
    if not start:
        raise BadArtifact(f"{file.name} is empty. Copy or download it again.")
    if start.startswith(b"version https://git-lfs"):
        raise BadArtifact(
            f"{file.name} is a pointer of Git LFS, not the weights. Fetch them: git lfs pull."
        )
    if start.lstrip().startswith(b"<"):
        raise BadArtifact(
            f"{file.name} is a web page, as a download that failed leaves it. Download it again."
        )
    report: dict[str, Any] = {"path": "", "hints": ()}
    # What is inside counts: Hugging Face's .bin may be either, and people rename files.
    is_pickle = start.startswith((b"PK\x03\x04", b"\x80"))
    if (suffix == ".safetensors" and not is_pickle) or start[8:10] == b'{"':
        tensors = read_weights(file, sha256=None)
    else:
        tensors, report = _read_pickle(file)
    tensors, average = _average(tensors)
    path = ".".join(part for part in (report["path"], average) if part)
    return StateDict(tuple(strip_prefixes(tensors)), path, tuple(report["hints"]))


def _average(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return the averaged ones of two sets of the same weights, and their prefix; else all."""
    for word in AVERAGES:
        prefix = f"{word}."
        inner = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        unprefixed = {name.partition(".")[2] for name in tensors if not name.startswith(prefix)}
        if inner and len(unprefixed & inner.keys()) >= _NEARLY_ALL * len(inner):
            return inner, word
    return tensors, ""


def strip_prefixes(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the tensors, then without their common prefix, and so on while there is one.

    A prefix is common where nearly all names carry it; names without it stay as they are.
    """
    levels = [tensors]
    while True:
        names = levels[-1]
        words = Counter(name.partition(".")[0] for name in names if "." in name)
        word, count = next(iter(words.most_common(1)), ("", 0))
        if not count or count < _NEARLY_ALL * len(names):
            return levels
        prefix = f"{word}."
        shorter = {name.removeprefix(prefix): value for name, value in names.items()}
        if len(shorter) < len(names):  # two would share a name
            return levels
        levels.append(shorter)


def _unfit_suffix(file: Path, suffix: str) -> str:
    if suffix in (".pkl", ".pickle"):
        return (
            f"{file.name} is a pickle of a whole program's objects, as fastai's export writes "
            "them; reading it would run whatever it holds. Save the weights alone, in Python:\n"
            "  from fastai.learner import load_learner\n"
            f'  learn = load_learner("{file.name}")\n'
            '  torch.save(learn.model.state_dict(), "weights.pth")'
        )
    kinds = ", ".join(WEIGHTS_SUFFIXES)
    return f"{file.name} is no file of weights; these are read: {kinds}, and .onnx."


def _read_pickle(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with temporary_folder("whylens-import-") as place:
        code = _run_child(file, place)
        path = place / "report.json"
        if not path.is_file():
            raise BadArtifact(
                f"The process that read {file.name} ended (code {code}) before it was done: the "
                f"file is damaged, or too large for this computer. Save its weights again:\n{_SAVE}"
            )
        report: dict[str, Any] = json.loads(path.read_text())
        if "error" in report:
            raise BadArtifact(_reading_failed(file, report["error"], report["message"]))
        return read_weights(place / "weights.safetensors", sha256=None), report


def _run_child(file: Path, place: Path) -> int:
    with interrupts_blocked():  # on Ctrl-C it is this process that ends the child
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and our own source
            # -P: no module of the folder in which it is started comes before torch.
            [sys.executable, "-P", pickle_child.__file__, str(file.resolve()), str(place)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        return child.wait(SECONDS_OF_READING)
    except subprocess.TimeoutExpired as exc:
        raise BadArtifact(
            f"{file.name} was not read within {SECONDS_OF_READING:.0f} s. "
            f"Save its weights again:\n{_SAVE}"
        ) from exc
    finally:
        child.kill()
        child.wait()


def _reading_failed(file: Path, error: str, message: str) -> str:
    if "TorchScript" in message:
        return (
            f"{file.name} is a scripted network, which is code. Save the weights, in Python:\n"
            "  import torch\n"
            f'  model = torch.jit.load("{file.name}")\n'
            '  torch.save(model.state_dict(), "weights.pth")'
        )
    if match := _GLOBAL.search(message):
        return (
            f"{file.name} holds more than weights: it asks for {quote(match.group(1))}, as files "
            "of whole networks and of trainings do, and reading that could run code. Nothing of "
            f"it was run. Save the weights alone, in Python:\n{_SAVE}"
        )
    if error == "TypeError":
        return (
            f"{file.name} holds no dictionary of weights, but {quote(message)}. Save the weights, "
            f"in Python:\n{_SAVE}"
        )
    # What torch says of a file that is none of its own is about its settings.
    reason = " ".join(message.split())[:160]
    plain = " " in reason and not reason.startswith("Weights only load failed")
    return (
        f"{file.name} is damaged or no file of torch's{f' ({reason})' if plain else ''}. Copy it "
        f"again, or save its weights again:\n{_SAVE}"
    )
