"""The command `whylens bench`. Nothing heavy is imported before it runs: help must be instant."""

from __future__ import annotations

import json
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whylens.ui.cli.common import INTERRUPTED, one_line_errors, progress_display, read_dataset

if TYPE_CHECKING:
    from whylens.core.engine import Engine
    from whylens.core.evaluation.bench import BenchRow, BenchSummary, Figure

SUMMARY, TABLE = "benchmark.json", "benchmark.md"


def bench(
    methods: Annotated[
        list[str] | None,
        typer.Argument(help="Methods; default: all that give a map in a single step."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A network; default: the first here whose pictures' evidence is known."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Its pictures; default: what it was trained on.")
    ] = None,
    pictures: Annotated[int, typer.Option(help="Pictures of the test split.", min=2)] = 100,
    every: Annotated[bool, typer.Option("--all", help="Every method, however slow.")] = False,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("bench"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    badge: Annotated[
        bool, typer.Option("--badge", help="A badge of each named method: an SVG and its Markdown.")
    ] = False,
) -> None:
    """Measure methods on pictures whose evidence is known; the same command goes on if stopped."""
    with one_line_errors():
        _run(tuple(methods or ()), model, data, pictures, every, out, as_json, badge)


def _run(
    names: tuple[str, ...],
    model: str | None,
    data: str | None,
    pictures: int,
    every: bool,
    out: Path,
    as_json: bool,
    badge: bool,
) -> None:
    from whylens.core.engine import Engine
    from whylens.core.errors import BadInput
    from whylens.core.evaluation.bench import quick_methods
    from whylens.core.storage.files import write_atomically

    if badge and not names:
        raise BadInput("--badge is for named methods: whylens bench METHOD --badge.")
    if every and names:
        raise BadInput("Name methods, or give --all.")
    engine = Engine()
    registry = engine.registry
    chosen = names or (tuple(registry.entries) if every else quick_methods(registry))
    model = model or _default_model(engine)
    data = data or _training_data(engine, model)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise BadInput(f"--out {out} cannot be made: {exc.strerror}. Choose another.") from exc
    summary = _measure(engine, model, data, tuple(dict.fromkeys(chosen)), pictures, out)
    content, table = json.dumps(asdict(summary), indent=2), markdown(summary)
    write_atomically(out / SUMMARY, (content + "\n").encode())
    write_atomically(out / TABLE, table.encode())
    typer.echo(content if as_json else table, nl=as_json)
    for row in summary.rows if badge else ():
        if row.method in names:
            path = out / f"badge-{row.method.replace('+', '-plus')}.svg"
            text = badge_text(row)
            write_atomically(path, badge_svg(row.method, text).encode())
            typer.echo(f"![{row.method} on {summary.data}: {text}]({path.name})", err=as_json)
    typer.echo(out / TABLE, err=True)


def _measure(
    engine: Engine, model: str, data: str, names: tuple[str, ...], pictures: int, out: Path
) -> BenchSummary:
    from rich.progress import TimeRemainingColumn

    from whylens.core.evaluation.bench import Bench, run_bench

    with progress_display(TimeRemainingColumn()) as display:
        dataset = read_dataset(display, data, engine.registry.datasets)
        task = display.add_task(f"{model}: choosing pictures", total=1)
        work = run_bench(Bench(engine, model, dataset, names, pictures), out)
        try:
            # What was there before does not count for the time left.
            before: Any = next(work)  # rich takes any number for an int
            display.reset(task, completed=before, description=model)
            while True:
                display.update(task, completed=next(work))
        except StopIteration as end:
            summary: BenchSummary = end.value
            return summary
        except KeyboardInterrupt:
            work.close()
            typer.echo(f"Stopped. The same command goes on from the rows in {out}.", err=True)
            raise typer.Exit(INTERRUPTED) from None


def _default_model(engine: Engine) -> str:
    from whylens.core.datasets.by_name import load_registered
    from whylens.core.errors import WeightsUnavailable
    from whylens.core.evaluation.bench import knows_evidence
    from whylens.core.models.checkpoints import checkpoint_folders
    from whylens.core.train.report import read_report

    for name, folder in checkpoint_folders().items():
        report = read_report(folder)
        dataset = report and load_registered(report.data.name, engine.registry.datasets)
        if dataset and knows_evidence(dataset):
            return name
    raise WeightsUnavailable(
        "No network here was trained on pictures whose evidence is known. Name one with --model."
    )


def _training_data(engine: Engine, model: str) -> str:
    from whylens.core.errors import BadInput
    from whylens.core.train.report import read_report

    folder = engine.backbone(model).identity.folder
    report = read_report(folder) if folder else None
    if report is None or report.data.name.partition(":")[0] not in engine.registry.datasets:
        raise BadInput(
            f"What {model} was trained on is not known here by name. Give its pictures with --data."
        )
    return report.data.name


def markdown(summary: BenchSummary) -> str:
    """Return the table of a benchmark, with what it rests on."""
    from whylens.core.evaluation.bench import COLUMNS

    lines = [
        f"# Benchmark of {summary.model}",
        "",
        f"{summary.pictures} test pictures of {summary.data}, classes in turn; the network "
        f"recognises {summary.recognised:.0%} of them. Weights {summary.model_sha256[:12]}. "
        "Each map explains the picture's own class, with the method's default parameters.",
        "",
        "Mean, and its 95 % interval over pictures (bootstrap) in parentheses. "
        f"{COLUMNS[3].title} and {COLUMNS[4].title.lower()} are measured on the first "
        f"{summary.few} pictures, the former with blur alone in hidden places. The "
        "evidence is what defines the label: a network that learnt something else is right to "
        "look elsewhere. The figures called painted are after FunnyBirds (Hesse et al. 2023), but "
        "not comparable with theirs; a map spread thin is not distracted either, so read that "
        "beside the random map's.",
        "",
        "| Method | "
        + " | ".join(_heading(metric.title, metric.direction) for metric in COLUMNS)
        + " | Pictures | Owner |",
        "|---|" + "---:|" * (len(COLUMNS) + 1) + "---|",
    ]
    for row in summary.rows:
        cells = [_cell(row.figures.get(metric.name)) for metric in COLUMNS]
        lines.append(
            f"| {row.method} | {' | '.join(cells)} | {row.pictures} | {row.owner or 'reference'} |"
        )
    first = summary.rows[0].figures
    chances = [
        f"{metric.title.lower()} {chance:.2f}"
        for metric in COLUMNS
        if metric.name in first and (chance := first[metric.name].chance) is not None
    ]
    lines += ["", f"Chance: {', '.join(chances)}."]
    reasons = [
        f"- {row.method}: {_failures(row)}{' '.join(row.reason.split())}"
        for row in summary.rows
        if row.reason
    ]
    if reasons:
        lines += ["", "Without an answer:", "", *reasons]
    return "\n".join(lines) + "\n"


def _heading(title: str, direction: str) -> str:
    return f"{title} ({direction} is better)"


def _failures(row: BenchRow) -> str:
    return f"{row.failed} of {row.failed + row.pictures} pictures. " if row.failed else ""


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    if figure.low is None or figure.high is None:
        return f"{figure.mean:.2f}"
    return f"{figure.mean:.2f} ({figure.low:.2f} to {figure.high:.2f})"


def badge_text(row: BenchRow) -> str:
    """Return a method's figures in a line."""
    from whylens.core.evaluation.bench import COLUMNS

    words = [
        f"{metric.title.lower()} {row.figures[metric.name].mean:.2f}"
        for metric in COLUMNS
        if metric.name in row.figures
    ]
    return ", ".join(words) or "no answer"


def badge_svg(label: str, text: str) -> str:
    """Return a picture of two words on two grounds, which asks no host for anything."""
    left, right = (round(6.6 * len(words)) + 14 for words in (label, text))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img">'
        f"<title>{escape(label)}: {escape(text)}</title>"
        f'<rect width="{left}" height="20" fill="#444"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="#2a6f97"/>'
        '<g fill="#fff" font-family="monospace" font-size="11">'
        f'<text x="7" y="14" textLength="{left - 14}">{escape(label)}</text>'
        f'<text x="{left + 7}" y="14" textLength="{right - 14}">{escape(text)}</text></g></svg>\n'
    )
