"""What a visitor takes home: the picture, the raw values, how they came about, how to redo them.

The same files go into the page's ZIP and the command line's folder; what was explained can be
read back from them without the network.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import shlex
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from whylens.core.errors import BadInput, InvalidParameter
from whylens.core.explanation import (
    Explanation,
    ModelCard,
    Question,
    of_several_networks,
    titles_of,
)
from whylens.core.inputs.framing import NETWORK, framing_text, parse_framing
from whylens.core.inputs.photo import photo_of
from whylens.core.inputs.view import View
from whylens.core.models.labels import class_text
from whylens.core.outputs.example_images import sheet, tile
from whylens.core.outputs.render import Style, render_explanation, scale_of
from whylens.core.results import Example, Examples, Heatmap, Prototypes
from whylens.core.storage.files import FileSet, find_file, write_atomically
from whylens.core.targets import Target

_OF_ANSWERS = ("example-*.png", "overlay.png", "map.png", "values.npy", "standard_error.npy")
MANIFEST = "manifest.json"  # of an answer; it names the other files with their hashes
_VERSIONS = ("whylens", "torch", "torchvision", "timm", "numpy", "pillow", "pluggy")


def bundle_files(
    explanation: Explanation,
    *,
    source: str = "photo.png",
    style: Style | None = None,
    command: str | None = None,
    with_input: bool = True,
) -> Iterator[tuple[str, bytes]]:
    """Yield the files of one explanation, each with its name, in a folder named after the method.

    What was explained lies beside that folder, under a name of its own, once for all methods. One
    after the other, since those of a large photo take 100 MB each.

    Args:
        command: What makes the files again; by default a command line, which knows models by name.
    """
    style = style or Style()
    folder = explanation.method
    if with_input:
        yield _input_file(explanation.question)
    hashes = {}
    for name, content in _answer_files(explanation, style):
        hashes[name] = hashlib.sha256(content).hexdigest()
        yield f"{folder}/{name}", content
        del content  # one of them at a time
    facts = manifest(explanation, source=source, style=style)
    facts |= {"command": command} if command else {}
    text = json.dumps(facts | {"files": hashes}, indent=2) + "\n"
    yield f"{folder}/{MANIFEST}", text.encode()


def _answer_files(explanation: Explanation, style: Style) -> Iterator[tuple[str, bytes]]:
    yield "methods.bib", bibliography([explanation]).encode()
    if isinstance(explanation.result, Heatmap):
        yield "overlay.png", png_bytes(render_explanation(explanation, style))
        if explanation.result.values.ndim > 1:
            alone = replace(style, under="alone")
            yield "map.png", png_bytes(render_explanation(explanation, alone))
        yield "values.npy", npy_bytes(explanation.result.values)
        if explanation.result.error is not None:
            yield "standard_error.npy", npy_bytes(explanation.result.error)
    else:
        for number, item in enumerate(explanation.result.items, start=1):
            picture = tile(item, colormap=style.colormap)
            yield f"example-{number:02d}.png", png_bytes(picture)


def covering_files(
    explanations: Sequence[Explanation], *, source: str, notes: Sequence[str] = ()
) -> Iterator[tuple[str, bytes]]:
    """Yield the files that stand for all explanations of a bundle, each with its name.

    What to cite, the commands that make the explanations again, and what lies where.

    Args:
        source: What was explained, as the commands name it.
        notes: What else to know, a sentence each.
    """
    commands = "\n".join(command_line(explanation, source) for explanation in explanations)
    yield "methods.bib", bibliography(explanations).encode()
    yield "command.txt", f"{commands}\n".encode()
    titles = ", ".join(titles_of(explanations))
    place = "NETWORK/METHOD" if of_several_networks(explanations) else "METHOD"
    text = _README.format(source=source, titles=titles, place=f"{place}/", notes="\n".join(notes))
    yield "README.txt", f"{text.strip()}\n".encode()


_README = """Whylens on {source}: {titles}.

photo-*.png or signal-*.npy     what was explained
{place}overlay.png              the map over it, in the colours of the page
{place}map.png                  the map alone
{place}values.npy               the map's raw values, for numpy.load
{place}standard_error.npy       of a sampled map: the standard error of each value
{place}example-*.png            of methods that show examples
{place}manifest.json            network, weights, class, parameters, seed, versions, scale
command.txt                     what makes the same again, a line for each method
methods.bib                     the methods' papers

{notes}"""


def read_explanation(path: Path) -> tuple[Explanation, Style]:
    """Return what the files of one explanation say, and the style of its picture.

    Of examples, the pictures are those of the files, boxes drawn in.

    Args:
        path: Of the manifest, among its files.

    Raises:
        BadInput: A file is missing or damaged, or another version of the program wrote it.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return _explanation_of(facts, path.parent), Style(**facts["style"])
    except (OSError, ValueError, KeyError, TypeError, InvalidParameter) as exc:
        raise BadInput(
            f"{path} cannot be read back ({type(exc).__name__}: {exc}). Give a manifest.json that "
            "`whylens explain` wrote, among all its files; the command in it makes them anew."
        ) from exc


def is_about(path: Path, digest: str) -> bool:
    """Return whether a manifest can be read, and is about the input of a digest."""
    about = _describe(path).get("input")
    return isinstance(about, dict) and about.get("sha256_of_pixels") == digest


def answers_the_same(path: Path, explanation: Explanation) -> bool:
    """Return whether a manifest can be read, and its answer is to the same question.

    That is of input and framing, network and its weights, class, parameters and seed.
    """
    facts = json.loads(json.dumps(manifest(explanation, source="", style=Style())))
    return _question_of(_describe(path)) == _question_of(facts)


def _describe(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _question_of(facts: Mapping[str, Any]) -> list[object]:
    parts = {
        "input": ("sha256_of_pixels", "framing"),
        "model": ("name", "weights_sha256", "output"),
        "target": ("index", "quantity", "versus"),
    }
    fields: list[object] = [facts.get(name) for name in ("method", "parameters", "seed")]
    for name, keys in parts.items():
        part = facts.get(name)
        fields += [part.get(key) if isinstance(part, dict) else None for key in keys]
    return fields


def _explanation_of(facts: Mapping[str, Any], folder: Path) -> Explanation:
    fields, model, target = facts["input"], facts["model"], facts["target"]
    file = folder / fields["file"]
    if file.suffix == ".npy":
        signal = np.load(file, allow_pickle=False)
        question = Question(model["name"], signal=signal, signal_notes=tuple(fields["notes"]))
    else:
        with Image.open(file) as picture:
            photo = replace(
                photo_of(np.asarray(picture)),
                notes=tuple(fields["notes"]),
                framing=parse_framing(fields["framing"]),
            )
        question = Question(model["name"], photo)
    if question.digest() != fields["sha256_of_pixels"]:
        raise ValueError(f"{file.name} is not what was explained")
    result: Heatmap | Examples
    files: dict[str, str] | None = facts.get("files")
    if "map" in facts:
        heat, error = facts["map"], folder / "standard_error.npy"
        has_error = error.name in files if files is not None else error.is_file()
        result = Heatmap(
            np.load(_part(folder / "values.npy", files), allow_pickle=False),
            heat["unit"],
            heat["signed"],
            heat["diagnostics"],
            heat["note"],
            np.load(_part(error, files), allow_pickle=False) if has_error else None,
        )
    else:
        items = []
        for number, item in enumerate(facts["items"], start=1):
            with Image.open(_part(folder / f"example-{number:02d}.png", files)) as picture:
                items.append(Example(np.asarray(picture.convert("RGB")), **item))
        result = Examples(tuple(items), facts["unit"], facts["note"])
    labels = (target["label"], target["versus_label"])
    view = facts["view"]
    return Explanation(
        method=facts["method"],
        title=facts["title"],
        plugin=facts["plugin"],
        model=ModelCard(
            model["name"],
            model["weights_sha256"],
            model["licence"],
            model["source"],
            model["trained"],
            notes=(),
            labels=(),
            input=model["transform"],
            outputs=model["outputs"],
            output=model["output"],
        ),
        question=replace(question, seed=facts["seed"]),
        target=Target(
            target["index"],
            target["quantity"],
            target["versus"],
            model["outputs"],
            value_unit=target["unit"],
        ),
        labels=tuple(label for label in labels if label is not None),
        score=target["score"],
        probability=target["probability"],
        result=result,
        view=View.from_dict(view) if view else None,
        params=facts["parameters"],
        fraction=facts["fraction"],
        seconds=facts["seconds"],
        finished=facts["finished"],
        reference=facts["reference"],
    )


def _part(path: Path, recorded: Mapping[str, str] | None) -> Path:
    """Return where a file lies that a manifest records, or any where an older version wrote it."""
    if recorded is None:
        return path
    file = find_file(path, recorded[path.name])
    if file is None:
        raise ValueError(f"{path.name} is not what was written with it")
    return file


def _input_name(question: Question) -> str:
    kind = "photo-{}.png" if question.photo is not None else "signal-{}.npy"
    return kind.format(question.digest()[:8])


def _input_file(question: Question) -> tuple[str, bytes]:
    photo = question.photo
    content = png_bytes(photo.image()) if photo is not None else npy_bytes(question.array)
    return _input_name(question), content


_CITED = re.compile(r"(?P<authors>[^,;]+?) (?P<year>(?:19|20)\d\d), ")


def bibliography(explanations: Iterable[Explanation]) -> str:
    """Return a BibTeX entry for each method; what its explainer names as its source is the note."""
    entries = {}
    for explanation in explanations:
        fields = {"title": explanation.title, "note": explanation.reference}
        if cited := _CITED.match(explanation.reference):
            fields["author"] = cited["authors"].replace(" et al.", " and others")
            fields["year"] = cited["year"]
        lines = [f"  {name} = {{{_latex(text)}}},\n" for name, text in fields.items() if text]
        entries[explanation.method] = f"@misc{{{explanation.method},\n{''.join(lines)}}}\n"
    return "\n".join(entries.values())


def _latex(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text)


def npy_bytes(values: npt.NDArray[np.generic]) -> bytes:
    """Return values as an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def manifest(explanation: Explanation, *, source: str, style: Style) -> dict[str, object]:
    """Return everything needed to tell how an explanation came about, as JSON-able data."""
    card, target, result = explanation.model, explanation.target, explanation.result
    photo = explanation.question.photo
    facts: dict[str, object] = {
        "method": explanation.method,
        "title": explanation.title,
        "reference": explanation.reference,
        "plugin": explanation.plugin,
        "finished": explanation.finished,
        "fraction": explanation.fraction,
        "seconds": round(explanation.seconds, 4),
        "input": {
            "name": source,
            "file": f"../{_input_name(explanation.question)}",
            "sha256_of_pixels": explanation.question.digest(),
            "notes": list(explanation.notes),
            "framing": framing_text(photo.framing) if photo is not None else None,
        },
        "model": {
            "name": card.name,
            "weights_sha256": card.digest,
            "licence": card.licence,
            "source": card.source,
            "trained": card.trained,
            "outputs": card.outputs,
            "output": card.output,
            "transform": dict(card.input),
        },
        "view": explanation.view.as_dict() if explanation.view else None,
        "target": {
            "index": target.index,
            "label": explanation.labels[0],
            "quantity": target.quantity,
            "versus": target.versus,
            "versus_label": explanation.labels[1] if len(explanation.labels) > 1 else None,
            "score": explanation.score,
            "probability": explanation.probability,
            "unit": target.value_unit,
        },
        "parameters": dict(explanation.params),
        "seed": explanation.question.seed,
        "style": {
            "colormap": style.colormap,
            "opacity": style.opacity,
            "significant_only": style.significant_only,
            "under": style.under,
        },
        "versions": versions(),
        "command": command_line(explanation, source),
    }
    if explanation.verdict is not None:
        facts["scores"] = explanation.verdict.as_dict()
    if isinstance(result, Heatmap):
        scale = scale_of(result)
        facts["map"] = {
            "shape": list(result.values.shape),
            "unit": result.unit,
            "signed": result.signed,
            "minimum": float(result.values.min()),
            "maximum": float(result.values.max()),
            "colour_scale": [scale.low, scale.high],
            "diagnostics": dict(result.diagnostics),
            "note": result.note,
            "blank_because": result.blank_reason(),
        }
    else:
        facts["items"] = [_item(item) for item in result.items]
        facts |= {"unit": result.unit, "note": result.note}
        if isinstance(result, Prototypes):
            facts |= {
                "predicted": result.predicted,
                "score": result.score,
                "rest": result.rest,
            }
    return facts


def _item(item: Example) -> Mapping[str, object]:
    return {
        "caption": item.caption,
        "value": item.value,
        "key": item.key,
        "group": item.group,
        "diagnostics": dict(item.diagnostics),
    }


def command_line(explanation: Explanation, source: str) -> str:
    """Return the command that makes the same files again."""
    target = explanation.target
    words = ["whylens", "explain", source, "--model", explanation.model.name]
    words += ["--method", explanation.method]
    labels = explanation.model.labels
    if target.quantity != "value":
        words += ["--target", class_text(target.index, labels)]
    if target.versus is not None:
        words += ["--versus", class_text(target.versus, labels)]
    if target.quantity == "probability":
        words += ["--quantity", "probability"]
    for name, value in explanation.params.items():
        words += ["--param", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
    photo = explanation.question.photo
    if photo is not None and photo.framing != NETWORK:
        words += ["--framing", framing_text(photo.framing)]
    if explanation.question.seed:
        words += ["--seed", str(explanation.question.seed)]
    if explanation.verdict is not None:
        words.append("--scores")
    return shlex.join([*words, "--out", "out"])


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the numbers."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _VERSIONS}}


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # a bare checkout has no metadata of its own
        return "checkout"


def write_zip(stream: BinaryIO, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a ZIP of named contents, one after the other; the same bytes for the same files."""
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files:
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            # A picture is packed already.
            is_compressed = name.endswith((".png", ".jpg"))
            info.compress_type = zipfile.ZIP_STORED if is_compressed else zipfile.ZIP_DEFLATED
            archive.writestr(info, content)


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Write files into `folder` and return their paths; a reader never sees half a file.

    Those of an answer are its old ones or its new ones, all of them, however this process ends.
    Maps and examples of an earlier answer that the new one has not are deleted: beside its manifest
    they would pass for the new one's.

    Args:
        folder: Made if absent.
        files: Names and contents; those of an answer lie in a folder, its manifest is the last.
    """
    paths = []
    file_sets: dict[Path, FileSet] = {}
    try:
        for name, content in files:
            path = folder / name
            place = path.parent
            place.mkdir(parents=True, exist_ok=True)
            paths.append(path)
            if place == folder:
                write_atomically(path, content)
                continue
            if place not in file_sets:
                file_sets[place] = FileSet(place / MANIFEST, recorded_files, alone=True)
            if path.name != MANIFEST:
                file_sets[place].add_bytes(path.name, content)
                continue
            file_sets.pop(place).commit(content)
            for pattern in _OF_ANSWERS:  # of versions that recorded no files
                for old in set(place.glob(pattern)) - set(paths):
                    old.unlink()
    finally:
        for unfinished in file_sets.values():
            unfinished.discard()
    return paths


def recorded_files(description: bytes) -> dict[str, str]:
    """Return the hashes by name that a manifest holds; none where an older version wrote it.

    Raises:
        ValueError: It is no JSON, or names what is no file beside it.
    """
    hashes = json.loads(description).get("files", {})
    if any(not re.fullmatch(r"[^/\\.][^/\\]*", name) for name in hashes):
        raise ValueError("a file that does not lie beside it")
    return dict(hashes)


def explanation_picture(explanation: Explanation, style: Style | None = None) -> Image.Image:
    """Return an answer as one picture: its map over the photo, or its examples side by side."""
    if isinstance(explanation.result, Heatmap):
        return render_explanation(explanation, style or Style())
    return sheet(explanation.result, count=12)


def png_bytes(picture: Image.Image) -> bytes:
    """Return a picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)  # of photos as small as 3, in half the time
    return buffer.getvalue()
