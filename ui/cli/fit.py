"""The command `whylens fit`. Nothing heavy is imported before it runs: help must be instant."""

from __future__ import annotations

from typing import Annotated

import typer

from whylens.ui.cli.common import one_sentence, params_of


def fit(
    model: Annotated[str, typer.Argument(help="The model whose decisions will be explained.")],
    data: Annotated[
        str,
        typer.Argument(
            help="A folder with a subfolder per class, a .npz archive, or a data set by name: "
            "`whylens plugins` lists them."
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option(help="Methods joined by commas; default: all that rest on pictures."),
    ] = None,
    param: Annotated[list[str] | None, typer.Option(help="Parameter as name=value.")] = None,
) -> None:
    """Fit methods that rest on labelled pictures, and keep the outcome beside the checkpoint."""
    with one_sentence():
        _run(model, data, method, param or [])


def _run(model: str, data: str, method: str | None, param: list[str]) -> None:
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    from whylens.core.datasets.by_name import load_dataset
    from whylens.core.engine import Engine

    engine = Engine()
    fitted = [name for name, e in engine.registry.explainers.items() if e.artifact_kind]
    names = [n.strip() for n in method.split(",") if n.strip()] if method else fitted
    schemas = {n: engine.registry.explainer(n).FitParams.model_fields for n in names}
    given = params_of(param, schemas)
    console = Console(stderr=True)
    columns = Progress.get_default_columns()[:-1]
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        loading = bar.add_task("reading pictures", total=1)
        dataset = load_dataset(
            data,
            engine.registry.datasets,
            progress=lambda f, said: bar.update(loading, completed=f, description=said),
        )
        bar.update(loading, completed=1)
        for name in names:
            task = bar.add_task(name, total=1)
            for step in engine.fit(model, name, dataset, given[name]):
                bar.update(task, completed=step.fraction, description=f"{name}: {step.message}")
                if step.artifact is not None:
                    report = step.artifact.facts.get("report", {})
                    for key, value in report.items():
                        typer.echo(f"{name}: {key} {value}")
    typer.echo(f"{model}: {', '.join(names)}")
