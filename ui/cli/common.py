"""What the commands share: errors in one line, parameters, progress, and the code of Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

    from whylens.core.datasets.by_name import Sources
    from whylens.core.datasets.dataset import Dataset

INTERRUPTED = 130  # exit code
NAME_WIDTH = 48  # of the column of names, at most


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an error that is fit to be shown, or one of the disk, into one line and exit code 1."""
    from whylens.core.errors import CoreError, disk_problem

    try:
        yield
    except CoreError as exc:
        typer.echo(f"whylens: {exc}", err=True)
        raise typer.Exit(1) from exc
    except BrokenPipeError:  # nobody reads on: no error
        raise
    except OSError as exc:
        typer.echo(f"whylens: {disk_problem(exc)}", err=True)
        raise typer.Exit(1) from exc


def named_path(text: str | Path) -> Path:
    """Return what an option names; as a path, nothing would be the folder that one works in."""
    if not str(text).strip():
        raise typer.BadParameter("It is empty: name a place, as '.' for this folder.")
    return Path(text)


def first_checkpoint() -> str:
    """Return the name of the network to use where none is named.

    Raises:
        WeightsUnavailable: No network lies here.
    """
    from whylens.core.errors import WeightsUnavailable
    from whylens.core.models.checkpoints import default_model

    name = default_model()
    if name is None:
        raise WeightsUnavailable("No network for photos lies here. Name one with --model.")
    return name


def photo_line(name: str, text: str, width: int) -> str:
    """Return what the terminal says of one photo: its name, and what the network or an error says.

    Args:
        width: Of the column of names, in characters; longer names are cut at the left.
    """
    name = name if len(name) <= width else f"...{name[3 - width :]}"
    line = f"{name:<{width}}  {text}"
    # A name may hold anything, such as what moves a terminal's cursor.
    return "".join(c if c.isprintable() else "?" for c in line)


def unique_names(texts: Iterable[str]) -> list[str]:
    """Return the names, with a number after those that a disk might take for one before."""
    names: list[str] = []
    in_use: set[str] = set()
    for text in texts:
        name, number = text, 1
        while name.casefold() in in_use:
            number += 1
            name = f"{text}-{number}"
        in_use.add(name.casefold())
        names.append(name)
    return names


def split_names(text: str) -> list[str]:
    """Return the names in a text that joins them by commas, each once.

    Raises:
        InvalidParameter: It names none.
    """
    from whylens.core.errors import InvalidParameter

    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise InvalidParameter("--method names no method. `whylens plugins` lists them.")
    return names


def parse_params(
    texts: Collection[str] | None, fields: Mapping[str, Collection[str]]
) -> dict[str, dict[str, str]]:
    """Return for each method those of the parameters that it has.

    Raises:
        InvalidParameter: One is no pair, or no method has it.
    """
    from whylens.core.errors import InvalidParameter

    pairs = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidParameter(f"--param takes name=value, not {text!r}.")
        pairs[key.strip()] = value.strip()
    every_field = sorted({field for names in fields.values() for field in names})
    for key in pairs:
        if key not in every_field:
            raise InvalidParameter(
                f"There is no parameter {key!r}; there are: {', '.join(every_field) or 'none'}."
            )
    return {
        method: {key: value for key, value in pairs.items() if key in names}
        for method, names in fields.items()
    }


def progress_display(*columns: ProgressColumn) -> Progress:
    """Return a progress display on stderr; `columns` stand where rich shows the time left."""
    from rich.console import Console
    from rich.progress import Progress

    default = Progress.get_default_columns()
    every_column = (*default[:-1], *columns) if columns else default
    return Progress(*every_column, console=Console(stderr=True))


def updater(display: Progress, task: TaskID) -> Callable[[float, str], None]:
    """Return what shows a fraction and a message as the progress of a task."""
    return lambda fraction, message: display.update(task, completed=fraction, description=message)


def read_dataset(display: Progress, data: str, sources: Sources, **fields: Any) -> Dataset:
    """Return the data set that a user named, with a task for the reading."""
    from whylens.core.datasets.by_name import load_dataset

    task = display.add_task("reading pictures", total=1, **fields)
    dataset = load_dataset(data, sources, progress=updater(display, task))
    display.update(task, completed=1)
    return dataset
