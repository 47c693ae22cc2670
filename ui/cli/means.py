"""The command `whylens means`. Nothing heavy is imported before it runs: help must be instant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whylens.ui.cli.common import one_sentence, params_of

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
    with one_sentence():
        _run(model, data, method, per_class, param or [], out)


def _run(model: str, data: str, method: str, per_class: int, param: list[str], out: Path) -> None:
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    from whylens.core.datasets.by_name import load_dataset
    from whylens.core.engine import Engine
    from whylens.core.outputs.class_means import mean_maps
    from whylens.core.progress import result_of

    engine = Engine()
    fields = engine.registry.explainer(method).Params.model_fields
    given = params_of(param, {method: fields})[method]
    console = Console(stderr=True)
    columns = Progress.get_default_columns()[:-1]
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("reading pictures", total=1)
        dataset = load_dataset(
            data,
            engine.registry.datasets,
            progress=lambda f, said: bar.update(task, completed=f, description=said),
        )
        work = mean_maps(engine, model, method, dataset, params=given, per_class=per_class)
        found = result_of(work, lambda f: bar.update(task, completed=f, description=method))
    spec = engine.backbone(model).spec
    for label, mean in found.items():
        _write(out, label, mean, spec)
    typer.echo(out)


def _write(out: Path, label: str, mean: MeanMap, spec: InputSpec) -> None:
    import io

    from whylens.core.outputs.class_means import mean_picture
    from whylens.core.outputs.export import npy_bytes
    from whylens.core.outputs.render import Style
    from whylens.core.storage.files import write_atomically

    out.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-.") or "class"
    picture = io.BytesIO()
    mean_picture(mean, spec, Style()).save(picture, "PNG")
    write_atomically(out / f"{stem}.png", picture.getvalue())
    write_atomically(out / f"{stem}.values.npy", npy_bytes(mean.heatmap.values))
    if mean.heatmap.error is not None:
        write_atomically(out / f"{stem}.error.npy", npy_bytes(mean.heatmap.error))
