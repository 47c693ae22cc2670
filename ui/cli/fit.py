"""The command `whylens fit`. Nothing heavy is imported before it runs: help must be instant."""

from __future__ import annotations

from typing import Annotated

import typer

from whylens.ui.cli.common import (
    one_line_errors,
    parse_params,
    progress_display,
    read_dataset,
    split_names,
    updater,
)


def fit(
    model: Annotated[str, typer.Argument(help="The model whose decisions will be explained.")],
    data: Annotated[
        str,
        typer.Argument(
            help="A folder with a subfolder per class, a ZIP of one, a .npz archive, or a data set "
            "by name: `whylens plugins` lists them."
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option(help="Methods joined by commas; default: all that rest on pictures."),
    ] = None,
    param: Annotated[list[str] | None, typer.Option(help="Parameter as name=value.")] = None,
) -> None:
    """Fit methods that rest on labelled pictures, and keep the outcome beside the checkpoint."""
    with one_line_errors():
        _run(model, data, method, param)


def _run(model: str, data: str, method: str | None, param: list[str] | None) -> None:
    from whylens.core.engine import Engine

    engine = Engine()
    every_method = [name for name, e in engine.registry.explainers.items() if e.artifact_kind]
    names = split_names(method) if method else every_method
    params = parse_params(
        param, {name: engine.registry.explainer(name).FitParams.model_fields for name in names}
    )
    with progress_display() as display:
        dataset = read_dataset(display, data, engine.registry.datasets)
        for name in names:
            task = display.add_task(name, total=1)
            update = updater(display, task)
            for step in engine.fit(model, name, dataset, params[name]):
                update(step.fraction, f"{name}: {step.message}")
                if step.artifact is not None:
                    for key, value in step.artifact.facts.get("report", {}).items():
                        typer.echo(f"{name}: {key} {value}")
    typer.echo(f"{model}: {', '.join(names)}")
