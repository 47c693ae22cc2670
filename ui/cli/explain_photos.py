"""Photos and signals on the command line: `whylens explain PHOTO ... --out DIR`.

Nothing heavy is imported before it runs: help must be instant.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from whylens.core.words import percent
from whylens.ui.cli.common import (
    INTERRUPTED,
    NAME_WIDTH,
    photo_line,
    progress_display,
    updater,
)

if TYPE_CHECKING:
    from rich.progress import Progress

    from whylens.core.engine import Engine
    from whylens.core.explanation import Explanation
    from whylens.core.inputs.framing import Framing
    from whylens.core.inputs.spec import InputSpec
    from whylens.core.targets import ClassScore


def explain_photos(
    engine: Engine,
    images: list[Path],
    params: Mapping[str, Mapping[str, str]],
    request: Mapping[str, Any],
    out: Path,
    *,
    quiet: bool,
    judge: bool,
) -> None:
    """Explain every photo by every method and write what comes of it.

    Args:
        quiet: Say nothing of what is predicted.
        judge: Whether every map is judged as well.

    Raises:
        CoreError: Of the kind that says what is wrong.
    """
    from whylens.core.errors import BadInput
    from whylens.core.explanation import Question
    from whylens.core.inputs.framing import parse_framing
    from whylens.core.models.labels import class_index
    from whylens.core.outputs.export import bundle_files, write_files
    from whylens.core.outputs.headline import familiarity_words, is_unfamiliar
    from whylens.core.results import Heatmap

    with progress_display() as display:
        loading = display.add_task(f"loading {request['model']}", total=1)
        card = engine.card(request["model"], progress=updater(display, loading))
        display.update(loading, completed=1)
        classes = {
            key: None if request[key] is None else class_index(request[key], card.labels)
            for key in ("target", "versus")
        }
        quantity = request["quantity"] if classes["versus"] is None else "contrast"
        framing = parse_framing(request["framing"])
        input_spec = engine.backbone(request["model"]).input_spec
        fields = {**request, **classes, "quantity": quantity}
        del fields["framing"]
        width = min(NAME_WIDTH, max(len(image.name) for image in images))

        owners: dict[str, Path] = {}

        def write(answer: Explanation, image: Path) -> None:
            folder = _folder_of(out, image, answer, owners, alone=len(images) == 1)
            for path in write_files(folder, bundle_files(answer, source=str(image))):
                typer.echo(path)

        def explain_photo(image: Path) -> None:
            question = Question(**fields, **_read_input(image, framing, input_spec))
            scores = engine.predict(question).classes
            if not quiet:
                words = predicted_words(scores, card.outputs)
                share = engine.familiarity(question)
                if is_unfamiliar(share):
                    words = f"{words}. {familiarity_words(share)}"
                typer.echo(photo_line(image.name, words, width), err=True)
            for method, values in params.items():
                task = display.add_task(f"{image.name}: {method}", total=1)
                answer: Explanation | None = None
                try:
                    for answer in engine.explain(question, method, values):
                        display.update(task, completed=answer.fraction)
                except KeyboardInterrupt:
                    # The partial map is written; its manifest says that it is partial.
                    if answer is None:
                        raise
                    typer.echo(
                        f"Stopped at {percent(answer.fraction)}; the partial map is kept.", err=True
                    )
                    write(answer, image)
                    raise typer.Exit(INTERRUPTED) from None
                assert answer is not None  # noqa: S101 - an explainer yields at least once
                if judge and isinstance(answer.result, Heatmap):
                    answer = _judge(engine, answer, display, f"{image.name}: judging {method}")
                write(answer, image)

        problems: list[str] = []
        for image in images:
            try:
                explain_photo(image)
            except BadInput as exc:
                if len(images) == 1:
                    raise
                # Of several, one that cannot be used does not stop the others.
                problems.append(str(image))
                typer.echo(photo_line(image.name, str(exc), width), err=True)
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise BadInput(
            f"{len(problems)} of {len(images)} could not be explained: "
            f"{', '.join(problems[:5])}{more}."
        )


def _judge(engine: Engine, answer: Explanation, display: Progress, words: str) -> Explanation:
    task = display.add_task(words, total=1)
    for answer in engine.judge(answer):  # noqa: B020 - what is judged is what comes of it
        display.update(task, completed=0 if answer.verdict is None else answer.verdict.fraction)
    if answer.verdict is not None:
        typer.echo(f"{answer.title}: {answer.verdict.word}. {answer.verdict.reason}", err=True)
    return answer


def predicted_words(scores: tuple[ClassScore, ...], outputs: str) -> str:
    """Return what a network says of an input: its best class, the labels that hold, a value."""
    from whylens.core.targets import EACH_ITS_OWN

    if outputs != "labels":
        return str(scores[0])
    likely = [score for score in scores if (score.probability or 0) >= 0.5] or scores[:1]
    return f"{', '.join(map(str, likely))}. {EACH_ITS_OWN}"


def _read_input(path: Path, framing: Framing, input_spec: InputSpec) -> dict[str, Any]:
    from whylens.core.errors import BadInput
    from whylens.core.inputs.arrays import read_channels, reads_photos, to_photo
    from whylens.core.inputs.photo import read_photo
    from whylens.core.inputs.signal import is_signal_file, read_signal

    if not reads_photos(input_spec) and len(input_spec.size) > 1:
        signal, notes = read_channels(path, input_spec)
        for note in notes:
            typer.echo(f"{path.name}: {note}", err=True)
        return {"photo": None, "signal": signal, "signal_notes": notes}
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise BadInput(f"{path} cannot be read: {exc.strerror}.") from exc
    if is_signal_file(path.name) and not (
        reads_photos(input_spec) and path.suffix.lower() == ".npy"
    ):
        return {"photo": None, "signal": read_signal(data, path.name)}
    photo = to_photo(data) if path.suffix.lower() == ".npy" else read_photo(data)
    for note in photo.notes:
        typer.echo(f"{path.name}: {note}", err=True)
    return {"photo": replace(photo, framing=framing)}


def _folder_of(
    out: Path, image: Path, answer: Explanation, owners: dict[str, Path], *, alone: bool
) -> Path:
    """Return where an answer goes: nothing of another photo or question is written over.

    Args:
        owners: Of names of this run's folders, to which the answer's is added.
        alone: One photo needs no folder of its own.
    """
    numbered = (f"{image.stem}-{n}" for n in itertools.count(2))
    for name in itertools.chain([""] * alone, [image.stem], numbered):
        key = name.casefold()  # as a disk might take it for the same
        if owners.get(key, image) == image and not _holds_another(out / name, answer):
            owners[key] = image
            return out / name
    raise AssertionError  # the numbers do not end


def _holds_another(folder: Path, answer: Explanation) -> bool:
    from whylens.core.outputs.export import answers_the_same, is_about

    place, digest = folder / answer.method, answer.question.digest()
    if place.exists() and not place.is_dir():
        return True
    in_use = place.is_dir() and any(place.iterdir())
    if in_use and not answers_the_same(place / "manifest.json", answer):
        return True
    return not all(is_about(path, digest) for path in folder.glob("*/manifest.json"))
