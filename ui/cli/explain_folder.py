"""A whole folder on the command line: `whylens explain FOLDER --out DIR`.

Nothing heavy is imported before it runs: help must be instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from whylens.ui.cli.train import INTERRUPTED

if TYPE_CHECKING:
    from whylens.core.batch.protocol import Runner
    from whylens.core.batch.run import Summary

ENGINES, FORMATS = ("local", "ray"), ("npy", "png")


def explain_all(
    asked: dict[str, Any], *, engine: str | None, workers: int | None, maps: str | None
) -> None:
    """Explain all files of a folder, or go on where it was stopped.

    Args:
        asked: Fields of the request.
        engine: "local" or "ray"; None means local.
        workers: Processes or actors; None chooses.
        maps: "npy" or "png"; None means npy.

    Raises:
        CoreError: Of the kind that says what is wrong.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from whylens.core.batch.plan import Request
    from whylens.core.batch.run import explain_folder

    request = Request(**asked, maps=one_of("--format", maps or FORMATS[0], FORMATS))  # type: ignore[arg-type]
    runner = _runner(one_of("--engine", engine or ENGINES[0], ENGINES), workers, request.device)
    console = Console(stderr=True)
    columns = [*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(f"loading {request.model}", total=None)
        work = explain_folder(
            request,
            runner,
            progress=lambda share, said: bar.update(task, description=said, completed=share),
        )
        try:
            done = 0
            while True:
                try:
                    step = next(work)
                except StopIteration as end:
                    summary: Summary = end.value
                    break
                if not done:  # what was there before does not count for the time left
                    bar.reset(task, total=step.count, completed=step.done)
                done = step.done
                bar.update(task, description=request.folder.name, completed=done)
        except KeyboardInterrupt:
            bar.update(task, description="stopping")
            work.close()
            typer.echo(
                f"Stopped. The same command goes on from the finished parts in {request.out}.",
                err=True,
            )
            raise typer.Exit(INTERRUPTED) from None
    typer.echo(_told(summary), err=True)
    typer.echo(request.out / "manifest")


def one_of(option: str, given: str, known: tuple[str, ...]) -> str:
    """Return what was given, if it is known.

    Args:
        option: For the message.
        given: By the user.
        known: What may be given.

    Raises:
        InvalidParameter: It is none of them.
    """
    from whylens.core.errors import InvalidParameter, shown

    if given not in known:
        raise InvalidParameter(f"{option} is {' or '.join(known)}, not {shown(given)}.")
    return given


def _runner(engine: str, workers: int | None, device: str) -> Runner:
    if engine == "ray":
        from whylens.core.batch.ray_runner import RayActors

        return RayActors(workers)
    from whylens.core.batch.process_runner import LocalProcesses
    from whylens.core.batch.protocol import cores

    return LocalProcesses(workers or (cores() if device == "cpu" else 1))


def _told(summary: Summary) -> str:
    pace = ""
    new = summary.images - summary.resumed
    if new and summary.seconds > 0:
        pace = f" in {summary.seconds:.0f} s, {new / summary.seconds:.1f} a second"
    told = f"{new:,} files explained{pace}"
    if summary.resumed:
        told += f"; {summary.resumed:,} were there before"
    told += f". {summary.rows:,} rows"
    if summary.failed:
        told += f", {summary.failed:,} of them with an error instead of an answer"
    return told + "."
