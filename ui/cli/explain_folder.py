"""A whole folder on the command line: `whylens explain FOLDER --out DIR`.

Nothing heavy is imported before it runs: help must be instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from whylens.ui.cli.common import (
    INTERRUPTED,
    NAME_WIDTH,
    photo_line,
    progress_display,
    updater,
)

if TYPE_CHECKING:
    from whylens.core.batch.protocol import Runner
    from whylens.core.batch.run import Summary

ENGINES, FORMATS = ("local", "ray"), ("npy", "png", "picture")
MOST_LINES = 200  # photos that are told of, one a line


def run_batch(
    fields: dict[str, Any],
    *,
    engine: str | None,
    workers: int | None,
    maps: str | None,
    quiet: bool,
) -> None:
    """Explain all files of a folder, or go on where it was stopped.

    Args:
        engine: "local" or "ray"; None means local.
        workers: Processes or actors; None chooses.
        maps: "npy", "png" or "picture"; None means npy.
        quiet: Say nothing of single files.

    Raises:
        CoreError: Of the kind that says what is wrong.
    """
    from rich.progress import MofNCompleteColumn, TimeRemainingColumn

    from whylens.core.batch.folder_rows import REPORT
    from whylens.core.batch.plan import Request
    from whylens.core.batch.run import explain_folder

    request = Request(**fields, maps=_check_choice("--format", maps or FORMATS[0], FORMATS))  # type: ignore[arg-type]
    runner = _runner(
        _check_choice("--engine", engine or ENGINES[0], ENGINES), workers, request.device
    )
    with progress_display(MofNCompleteColumn(), TimeRemainingColumn()) as display:
        task = display.add_task(f"loading {request.model}", total=None)
        work = explain_folder(request, runner, progress=updater(display, task))
        lines = FolderLines(request.out, 0 if quiet else MOST_LINES)
        try:
            files_done = 0
            while True:
                try:
                    step = next(work)
                except StopIteration as end:
                    summary: Summary = end.value
                    break
                if not files_done:  # what was there before does not count for the time left
                    display.reset(task, total=step.count, completed=step.done)
                files_done = step.done
                display.update(task, description=request.folder.name, completed=files_done)
                if step.shard is not None:
                    lines.write(step.shard)
        except KeyboardInterrupt:
            display.update(task, description="stopping")
            work.close()
            typer.echo(
                f"Stopped. The same command goes on from the finished shards in {request.out}.",
                err=True,
            )
            raise typer.Exit(INTERRUPTED) from None
    typer.echo(_summary_text(summary), err=True)
    typer.echo(request.out / "manifest")
    if request.report:
        typer.echo(request.out / REPORT)


class FolderLines:
    """What the terminal says of the files of a run, a line each, up to a number of them."""

    def __init__(self, out: Path, limit: int) -> None:
        """Begin with none."""
        self._out, self._left, self._width, self._silent = out, limit, 0, not limit

    def write(self, shard: int) -> None:
        """Write the lines of a finished shard.

        Args:
            shard: From 0.
        """
        if self._silent:
            return
        if not self._left:
            self._silent = True
            typer.echo(f"... what is said of the others is in {self._out / 'manifest'}.", err=True)
            return
        from whylens.core.batch.folder_rows import rows_by_file

        files = list(rows_by_file(self._out, shard))
        longest = max(len(rows[0]["path"]) for rows in files)
        self._width = min(NAME_WIDTH, max(self._width, longest))
        for rows in files[: self._left]:
            typer.echo(photo_line(rows[0]["path"], _file_words(rows), self._width), err=True)
        self._left = max(0, self._left - len(files))


def _file_words(rows: list[dict[str, Any]]) -> str:
    errors = {row["error"]: row["method"] for row in rows if row["error"]}
    from whylens.core.batch.rows import predicted_score

    best = predicted_score(rows[0])
    if best is None:
        return "; ".join(errors)
    problems = [f"{method}: {error}" for error, method in errors.items()]
    notes = (note.rstrip(".") for note in rows[0]["photo_notes"] or ())
    return "; ".join([str(best), *notes, *problems])


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> str:
    from whylens.core.errors import InvalidParameter, quote

    if value not in choices:
        choices_text = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise InvalidParameter(f"{option} is {choices_text}, not {quote(value)}.")
    return value


def _runner(engine: str, workers: int | None, device: str) -> Runner:
    if engine == "ray":
        from whylens.core.batch.ray_runner import RayActors

        return RayActors(workers)
    from whylens.core.batch.process_runner import LocalProcesses
    from whylens.core.batch.protocol import cores

    return LocalProcesses(workers or (cores() if device == "cpu" else 1))


def _summary_text(summary: Summary) -> str:
    from whylens.core.batch.listing import skipped_words
    from whylens.core.words import number_of, was

    pace = ""
    new = summary.images - summary.resumed
    if new and summary.seconds > 0:
        pace = f" in {summary.seconds:.0f} s, {new / summary.seconds:.1f} a second"
    before = f"; {summary.resumed:,} {was(summary.resumed)} there before" if summary.resumed else ""
    errors = ""
    if summary.failed:
        errors = f", {summary.failed:,} of them with an error instead of an answer"
    skipped_sentence = ""
    if summary.skipped:
        count = summary.skipped.total()
        skipped_sentence = f" {number_of(count, 'file')} of other kinds {was(count)} left out: "
        skipped_sentence += f"{skipped_words(summary.skipped)}."
    files_sentence, rows = number_of(new, "file"), number_of(summary.rows, "row")
    return f"{files_sentence} explained{pace}{before}. {rows}{errors}.{skipped_sentence}"
