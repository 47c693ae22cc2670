"""The command `whylens means`. Nothing heavy is imported before it runs: help must be instant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from whylens.ui.cli.common import (
    named_path,
    one_line_errors,
    parse_params,
    progress_display,
    read_dataset,
    unique_names,
)


def means(
    model: Annotated[str, typer.Argument(help="The model.")],
    data: Annotated[str, typer.Argument(help="Its pictures, as for `whylens train`.")],
    method: Annotated[str, typer.Option(help="A method that gives maps.")],
    per_class: Annotated[int, typer.Option(help="Pictures of each class.", min=1)] = 20,
    param: Annotated[list[str] | None, typer.Option(help="Parameter as name=value.")] = None,
    out: Annotated[
        Path, typer.Option(parser=named_path, metavar="<path>", help="Folder to write into.")
    ] = Path("means"),
) -> None:
    """Write the mean map of every class: where a model looks on the whole, not on one picture."""
    with one_line_errors():
        _run(model, data, method, per_class, param, out)


def _run(
    model: str, data: str, method: str, per_class: int, param: list[str] | None, out: Path
) -> None:
    from whylens.core.engine import Engine
    from whylens.core.outputs.class_means import mean_maps, write_means
    from whylens.core.plugin_calls import validate_params
    from whylens.core.progress import run

    engine = Engine()
    explainer = engine.registry.explainer(method)
    params = parse_params(param, {method: explainer.Params.model_fields})[method]
    parameters = validate_params(explainer, explainer.Params, params)
    with progress_display() as display:
        dataset = read_dataset(display, data, engine.registry.datasets)
        task = display.add_task(method, total=1)
        work = mean_maps(engine, model, method, dataset, params=params, per_class=per_class)
        means = run(work, lambda fraction: display.update(task, completed=fraction))
    backbone = engine.backbone(model)
    stems = [re.sub(r"[^\w.+-]+", "-", label).strip("-.") or "class" for label in means]
    description = {
        "model": model,
        "weights_sha256": backbone.identity.digest,
        "method": method,
        "parameters": parameters.model_dump(mode="json"),
        "pictures": dataset.name,
        "at_most_of_each_class": per_class,
    }
    names = dict(zip(means, unique_names(stems), strict=True))
    write_means(out, means, names, backbone.input_spec, description)
    typer.echo(out)
