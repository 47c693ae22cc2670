"""The command `whylens train`. Nothing heavy is imported before it runs: help must be instant."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whylens.core.words import percent
from whylens.ui.cli.common import (
    INTERRUPTED,
    named_path,
    one_line_errors,
    progress_display,
    read_dataset,
    updater,
)

if TYPE_CHECKING:
    from whylens.core.datasets.by_name import Sources
    from whylens.core.datasets.dataset import Dataset


def train(
    data: Annotated[
        str,
        typer.Argument(
            help="A folder with a subfolder per class (or train/ and val/ with such), a ZIP of "
            "one, a .npz archive, or a data set by name: `whylens plugins` lists them."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            parser=named_path,
            metavar="<path>",
            help="Folder to write; its name is the model's name.",
        ),
    ],
    backbone: Annotated[
        str | None, typer.Option(help="A timm name or torchvision:NAME to train.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Start from a safetensors file, a checkpoint's folder or pretrained."),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="head, full or head-then-full; default: the last with --weights."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the pictures.")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="JSON file with any field of the recipe; options win.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it was stopped.")] = False,
    seed: Annotated[int | None, typer.Option(help="For everything random.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the computation.")] = None,
) -> None:
    """Train a network on your own pictures; `explain` takes its folder as --model.

    The page and all commands know it by name where its folder lies in one of WHYLENS_CHECKPOINTS.
    """
    every_option = {
        "backbone": backbone,
        "weights": weights,
        "mode": mode,
        "epochs": epochs,
        "batch": batch,
        "lr": lr,
        "size": size,
        "seed": seed,
        "threads": threads,
    }
    options = {k: v for k, v in every_option.items() if v is not None}
    with one_line_errors():
        from whylens.core.datasets.by_name import load_dataset
        from whylens.core.registry import load_registry

        sources = load_registry().datasets
        source = sources.get(data.partition(":")[0])
        if source is not None and source.kind == "signals":
            _run_on_signals(load_dataset(data, sources), options, recipe, out)
        else:
            _run(data, sources, options, recipe, out, resume=resume)


def _run_on_signals(
    dataset: Dataset, options: dict[str, Any], recipe: Path | None, out: Path
) -> None:
    from whylens.core.errors import BadInput
    from whylens.core.progress import run
    from whylens.core.train.signals import train_on_signals

    unusable = sorted(set(options) - {"epochs", "seed"}) + (["recipe"] if recipe else [])
    if unusable:
        raise BadInput(
            f"Signals are learnt by one small network: only --epochs and --seed can be chosen, "
            f"not --{unusable[0]}."
        )
    with progress_display() as display:
        task = display.add_task("training on signals", total=1.0)
        accuracy = run(
            train_on_signals(dataset, out, **options),
            lambda fraction: display.update(task, completed=fraction),
        )
        display.console.print(
            f"{percent(accuracy, 1)} of the test signals are recognised.", highlight=False
        )
    typer.echo(out)


def _run(
    data: str,
    sources: Sources,
    options: dict[str, Any],
    file: Path | None,
    out: Path,
    *,
    resume: bool,
) -> None:
    from rich.progress import TextColumn

    from whylens.core.errors import BadInput
    from whylens.core.models.model_names import parse_model_name
    from whylens.core.registry import load_registry
    from whylens.core.train.network import fetch_start
    from whylens.core.train.recipe import read_recipe
    from whylens.core.train.run import train as training

    if file is None and "backbone" not in options:
        raise BadInput(
            "Which network? Give --backbone, such as resnet18 or torchvision:squeezenet1_0."
        )
    recipe = read_recipe(file, options)
    parse_model_name(recipe.backbone)  # a typing error should not cost the reading of all pictures
    with progress_display(TextColumn("{task.fields[left]}")) as display:
        fetching = display.add_task("fetching weights", total=1.0, left="")
        fetch_start(recipe, progress=updater(display, fetching))
        display.update(fetching, visible=False)
        dataset = read_dataset(display, data, sources, left="")
        task, show = display.add_task("training", total=1.0, left=""), display.console.print
        try:
            for step in training(dataset, recipe, out, resume=resume):
                time_left = "" if step.seconds_left is None else _time_left(step.seconds_left)
                display.update(
                    task, completed=step.fraction, description=step.message, left=time_left
                )
                if "val_accuracy" in step.figures and step.fraction < 1:
                    show(step.message, highlight=False)
        except KeyboardInterrupt:
            display.update(task, description="stopping", left="")
            _finish_stopped(dataset, out, show)
            raise typer.Exit(INTERRUPTED) from None
        _show_report(out, show)
    typer.echo(out)
    # One that any network can be explained by.
    methods = (name for name, e in load_registry().explainers.items() if not e.needs)
    command = ["whylens", "explain", "photo.jpg", "--method", next(methods, "METHOD")]
    typer.echo(f"Try: {shlex.join([*command, '--model', str(out)])}", err=True)


def _show_report(out: Path, show: Callable[..., None]) -> None:
    from whylens.core.train.report import read_report
    from whylens.core.words import are, number_of

    report = read_report(out)
    if report is None:
        return
    for name, figures in (("validation", report.val), ("test", report.test)):
        if figures is not None:
            count = number_of(figures.count, f"{name} picture")
            show(f"{percent(figures.accuracy, 1)} of {count} {are(figures.count)} recognised.")
    for note in report.notes:
        show(f"Note: {note}", markup=False, highlight=False)


def _finish_stopped(dataset: Dataset, out: Path, show: Callable[..., None]) -> None:
    from whylens.core.models.checkpoints import MANIFEST
    from whylens.core.train.checkpointing import read_log
    from whylens.core.train.evaluate import write_report

    log = read_log(out) if out.is_dir() else None
    if log is None or not log.epochs or not (out / MANIFEST).exists():
        show("Stopped before an epoch was kept. The same command with --resume begins again.")
        return
    show("Stopped; examining the best so far. Ctrl-C again leaves it without a report.")
    for _ in write_report(dataset, out):
        pass
    _show_report(out, show)
    show(f"The best so far is in {out}; go on with the same command and --resume.", markup=False)


def _time_left(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s left"
    minutes = round(seconds / 60)
    return f"{minutes} min left" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min left"
