"""A whole folder on the command line: `whylens explain FOLDER --out DIR`.

Nothing heavy is imported before it runs: help must be instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from whylens.ui.cli.common import INTERRUPTED, progress_display, updater

if TYPE_CHECKING:
    from whylens.core.batch.protocol import Runner
    from whylens.core.batch.run import Summary

ENGINES, FORMATS = ("local", "ray"), ("npy", "png")


def run_batch(
    fields: dict[str, Any], *, engine: str | None, workers: int | None, maps: str | None
) -> None:
    """Explain all files of a folder, or go on where it was stopped.

    Args:
        engine: "local" or "ray"; None means local.
        workers: Processes or actors; None chooses.
        maps: "npy" or "png"; None means npy.

    Raises:
        CoreError: Of the kind that says what is wrong.
    """
    from rich.progress import MofNCompleteColumn, TimeRemainingColumn

    from whylens.core.batch.plan import Request
    from whylens.core.batch.run import explain_folder

    request = Request(**fields, maps=_check_choice("--format", maps or FORMATS[0], FORMATS))  # type: ignore[arg-type]
    runner = _runner(
        _check_choice("--engine", engine or ENGINES[0], ENGINES), workers, request.device
    )
    with progress_display(MofNCompleteColumn(), TimeRemainingColumn()) as display:
        task = display.add_task(f"loading {request.model}", total=None)
        work = explain_folder(request, runner, progress=updater(display, task))
        try:
            done = 0
            while True:
                try:
                    step = next(work)
                except StopIteration as end:
                    summary: Summary = end.value
                    break
                if not done:  # what was there before does not count for the time left
                    display.reset(task, total=step.count, completed=step.done)
                done = step.done
                display.update(task, description=request.folder.name, completed=done)
        except KeyboardInterrupt:
            display.update(task, description="stopping")
            work.close()
            typer.echo(
                f"Stopped. The same command goes on from the finished parts in {request.out}.",
                err=True,
            )
            raise typer.Exit(INTERRUPTED) from None
    typer.echo(_summary_text(summary), err=True)
    typer.echo(request.out / "manifest")


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> str:
    from whylens.core.errors import InvalidParameter, shown

    if value not in choices:
        raise InvalidParameter(f"{option} is {' or '.join(choices)}, not {shown(value)}.")
    return value


def _runner(engine: str, workers: int | None, device: str) -> Runner:
    if engine == "ray":
        from whylens.core.batch.ray_runner import RayActors

        return RayActors(workers)
    from whylens.core.batch.process_runner import LocalProcesses
    from whylens.core.batch.protocol import cores

    return LocalProcesses(workers or (cores() if device == "cpu" else 1))


def _summary_text(summary: Summary) -> str:
    pace = ""
    new = summary.images - summary.resumed
    if new and summary.seconds > 0:
        pace = f" in {summary.seconds:.0f} s, {new / summary.seconds:.1f} a second"
    before = f"; {summary.resumed:,} were there before" if summary.resumed else ""
    errors = ""
    if summary.failed:
        errors = f", {summary.failed:,} of them with an error instead of an answer"
    return f"{new:,} files explained{pace}{before}. {summary.rows:,} rows{errors}."
