"""The command `whylens bench`. Nothing heavy is imported before it runs: help must be instant."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whylens.ui.cli.bench_table import (
    badge_svg,
    badge_text,
    file_name,
    markdown,
    plot_name,
    plot_svg,
)
from whylens.ui.cli.common import INTERRUPTED, named_path, one_line_errors, progress_display

if TYPE_CHECKING:
    from whylens.core.bench.plan import Bench
    from whylens.core.bench.summary import BenchSummary
    from whylens.core.engine import Engine

SUMMARY, TABLE, SUMMARY_OF_MODEL = "benchmark.json", "benchmark.md", "summary.json"


def bench(
    methods: Annotated[
        list[str] | None,
        typer.Argument(help="Methods; default: all that give a map in a single step."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A network, or several; default: all here whose inputs' evidence is known."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Its inputs: a data set, or a folder of photos with boxes.json; default: what "
            "it was trained on."
        ),
    ] = None,
    pictures: Annotated[int, typer.Option(help="Inputs of the test split.", min=2)] = 200,
    few: Annotated[
        int, typer.Option(help="Inputs that costly metrics and slow methods see.", min=2)
    ] = 20,
    repeats: Annotated[
        int,
        typer.Option(
            help="Inputs of which slow methods have the figures that repeat a method: each some "
            "twenty times as long.",
            min=0,
        ),
    ] = 0,
    random_maps: Annotated[
        int, typer.Option(help="Random maps, over all inputs, that chance is measured by.", min=1)
    ] = 600,
    every: Annotated[bool, typer.Option("--all", help="Every method, however slow.")] = False,
    out: Annotated[
        Path, typer.Option(parser=named_path, metavar="<path>", help="Folder to write into.")
    ] = Path("bench"),
    workers: Annotated[
        int | None, typer.Option(help="Processes; default: one per core.", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    badge: Annotated[
        bool, typer.Option("--badge", help="A badge of each named method: an SVG and its Markdown.")
    ] = False,
) -> None:
    """Measure methods on inputs whose evidence is known; the same command goes on if stopped."""
    with one_line_errors():
        summaries, groups = _run(
            tuple(methods or ()),
            tuple(model or ()),
            data,
            {"pictures": pictures, "few": few, "repeats": repeats, "random_maps": random_maps},
            every,
            out,
            workers,
            badge,
        )
        _write(groups, out, as_json)
        for summary in summaries if badge else ():
            _write_badges(summary, groups, methods or [], out, as_json)
    typer.echo(out / TABLE, err=True)


def _run(
    names: tuple[str, ...],
    models: tuple[str, ...],
    data: str | None,
    counts: dict[str, int],
    every: bool,
    out: Path,
    workers: int | None,
    badge: bool,
) -> tuple[list[BenchSummary], Any]:
    from whylens.core.batch.protocol import cores
    from whylens.core.bench.columns import groups_of
    from whylens.core.bench.plan import Bench, map_methods, quick_methods
    from whylens.core.engine import Engine
    from whylens.core.errors import BadInput
    from whylens.core.storage.files import write_atomically

    if badge and not names:
        raise BadInput("--badge is for named methods: whylens bench METHOD --badge.")
    if every and names:
        raise BadInput("Name methods, or give --all.")
    if data and len(models) != 1:
        raise BadInput("--data is of one network: name it with --model.")
    engine = Engine()
    registry = engine.registry
    methods = names or (map_methods(registry) if every else quick_methods(registry))
    summaries = []
    for model in models or _known_models(engine):
        place = out / file_name(model)
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise BadInput(f"--out {out} cannot be made: {exc.strerror}. Choose another.") from exc
        inputs = data or _training_data(engine, model)
        plan = Bench(model, inputs, tuple(dict.fromkeys(methods)), **counts)
        summary = _measure(engine, plan, place, workers or cores())
        write_atomically(place / SUMMARY_OF_MODEL, json.dumps(asdict(summary)).encode())
        summaries.append(summary)
    return summaries, groups_of(registry.metrics)


def _write(groups: Any, out: Path, as_json: bool) -> None:
    """Write page, JSON and plots of all networks whose summaries lie in the folder."""
    from whylens.core.bench.summary import read_summary
    from whylens.core.errors import BadInput, quote
    from whylens.core.storage.files import write_atomically

    summaries = []
    for path in sorted(out.glob(f"*/{SUMMARY_OF_MODEL}")):
        try:
            summaries.append(read_summary(path.read_bytes()))
        except ValueError as exc:
            raise BadInput(f"{quote(str(path))} is damaged. Delete it, or choose --out.") from exc
    # A line for each network.
    content = "[\n" + ",\n".join(json.dumps(asdict(summary)) for summary in summaries) + "\n]"
    table = markdown(summaries, groups)
    write_atomically(out / SUMMARY, (content + "\n").encode())
    write_atomically(out / TABLE, table.encode())
    for summary in summaries:
        write_atomically(out / plot_name(summary), plot_svg(summary, groups).encode())
    typer.echo(content if as_json else table, nl=as_json)


def _write_badges(
    summary: BenchSummary, groups: Any, methods: list[str], out: Path, as_json: bool
) -> None:
    from whylens.core.storage.files import write_atomically

    for row in summary.rows:
        if row.method in methods:
            path = out / f"badge-{file_name(row.method)}-{file_name(summary.model)}.svg"
            text = badge_text(row, groups)
            write_atomically(path, badge_svg(row.method, text).encode())
            typer.echo(f"![{row.method} on {summary.data}: {text}]({path.name})", err=as_json)


def _measure(engine: Engine, bench: Bench, out: Path, workers: int) -> BenchSummary:
    from rich.progress import TimeRemainingColumn

    from whylens.core.bench.run import run_bench

    with progress_display(TimeRemainingColumn()) as display:
        task = display.add_task(f"{bench.model}: choosing inputs", total=1)
        work = run_bench(engine, bench, out, processes=workers)
        try:
            # What was there before does not count for the time left.
            before: Any = next(work)  # rich takes any number for an int
            display.reset(task, completed=before, description=bench.model)
            while True:
                display.update(task, completed=next(work))
        except StopIteration as end:
            summary: BenchSummary = end.value
            return summary
        except KeyboardInterrupt:
            work.close()
            typer.echo(f"Stopped. The same command goes on from the rows in {out}.", err=True)
            raise typer.Exit(INTERRUPTED) from None


def _known_models(engine: Engine) -> list[str]:
    from whylens.core.bench.plan import knows_evidence
    from whylens.core.datasets.by_name import load_registered
    from whylens.core.errors import WeightsUnavailable
    from whylens.core.models.checkpoints import checkpoint_folders

    names = []
    for name, folder in checkpoint_folders().items():
        dataset = load_registered(_data_name(name, folder), engine.registry.datasets)
        if dataset and knows_evidence(dataset):
            names.append(name)
    if not names:
        raise WeightsUnavailable(
            "No network here was trained on inputs whose evidence is known. Name one with --model."
        )
    return names


def _training_data(engine: Engine, model: str) -> str:
    from whylens.core.errors import BadInput

    text = _data_name(model, engine.backbone(model).identity.folder)
    if text.partition(":")[0] not in engine.registry.datasets:
        raise BadInput(
            f"What {model} was trained on is not known here by name. Give its inputs with --data."
        )
    return text


def _data_name(model: str, folder: Path | None) -> str:
    """Return what a network was trained on, by its report; without one they share a name."""
    from whylens.core.train.report import read_report

    report = read_report(folder) if folder else None
    return report.data.name if report else model
