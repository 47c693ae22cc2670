"""The command `whylens means`. Nothing heavy is imported before it runs: help must be instant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whylens.ui.cli.common import (
    one_line_errors,
    parse_params,
    progress_display,
    read_dataset,
    unique_names,
)

if TYPE_CHECKING:
    from whylens.core.inputs.spec import InputSpec
    from whylens.core.outputs.class_means import MeanMap


def means(
    model: Annotated[str, typer.Argument(help="The model.")],
    data: Annotated[str, typer.Argument(help="Its pictures, as for `whylens train`.")],
    method: Annotated[str, typer.Option(help="A method that gives maps.")],
    per_class: Annotated[int, typer.Option(help="Pictures of each class.", min=1)] = 20,
    param: Annotated[list[str] | None, typer.Option(help="Parameter as name=value.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("means"),
) -> None:
    """Write the mean map of every class: where a model looks on the whole, not on one picture."""
    with one_line_errors():
        _run(model, data, method, per_class, param, out)


def _run(
    model: str, data: str, method: str, per_class: int, param: list[str] | None, out: Path
) -> None:
    from whylens.core.engine import Engine
    from whylens.core.outputs.class_means import mean_maps
    from whylens.core.progress import run

    engine = Engine()
    fields = engine.registry.explainer(method).Params.model_fields
    params = parse_params(param, {method: fields})[method]
    with progress_display() as display:
        dataset = read_dataset(display, data, engine.registry.datasets)
        task = display.add_task(method, total=1)
        work = mean_maps(engine, model, method, dataset, params=params, per_class=per_class)
        means = run(work, lambda fraction: display.update(task, completed=fraction))
    spec = engine.backbone(model).spec
    stems = [re.sub(r"[^\w.+-]+", "-", label).strip("-.") or "class" for label in means]
    for stem, mean in zip(unique_names(stems), means.values(), strict=True):
        _write(out, stem, mean, spec)
    typer.echo(out)


def _write(out: Path, stem: str, mean: MeanMap, spec: InputSpec) -> None:
    import io

    from whylens.core.outputs.class_means import mean_picture
    from whylens.core.outputs.export import npy_bytes
    from whylens.core.outputs.render import Style
    from whylens.core.storage.files import write_atomically

    out.mkdir(parents=True, exist_ok=True)
    picture = io.BytesIO()
    mean_picture(mean, spec, Style()).save(picture, "PNG")
    write_atomically(out / f"{stem}.png", picture.getvalue())
    write_atomically(out / f"{stem}.values.npy", npy_bytes(mean.heatmap.values))
    if mean.heatmap.error is not None:
        write_atomically(out / f"{stem}.error.npy", npy_bytes(mean.heatmap.error))
