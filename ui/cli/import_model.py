"""The command `whylens import`. Nothing heavy is imported before it runs: help must be instant."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whylens.ui.cli.common import named_path, one_line_errors

if TYPE_CHECKING:
    from whylens.core.models.backbone import Backbone
    from whylens.core.targets import Outputs


def import_model(
    file: Annotated[
        Path,
        typer.Argument(
            help="Weights (.safetensors, .pth, .pt, .ckpt, .bin, .pth.tar), or a network: .onnx."
        ),
    ],
    architecture: Annotated[
        str | None,
        typer.Option(help="A timm name, torchvision:NAME or fastai:NAME; default: by the tensors."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="A file with a label per line or in JSON, labels joined by commas, or imagenet-1k."
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Input in pixels, 224 or 224x160 (height x width).")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Mean per channel, joined by commas, of values in 0 to 1.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation, likewise.")] = None,
    crop: Annotated[
        float | None, typer.Option(help="Share of the resized photo that is seen, as 0.875.")
    ] = None,
    interpolation: Annotated[
        str | None, typer.Option(help="Filter of the resize: bilinear, bicubic, lanczos, ...")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the new model; default: that of the file.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=named_path,
            metavar="<path>",
            help="Folder to write; default: one in which models are looked for.",
        ),
    ] = None,
    photo: Annotated[
        Path | None, typer.Option(help="Photo on which it is tried; default: an example.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Of an ONNX file with several outputs, the one to read.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "not stated",
    multi_label: Annotated[
        bool,
        typer.Option("--multi-label", help="Several classes may hold at once: a sigmoid for each."),
    ] = False,
    value: Annotated[
        str | None,
        typer.Option(metavar="UNIT", help="Its one score is a number, of this unit, as 'years'."),
    ] = None,
) -> None:
    """Make a model of a file of weights; the page, `explain` and Python then know it by name.

    Whatever disagrees is listed at once: tensors, labels, input. Code in a file is never run.
    """
    with one_line_errors():
        from whylens.core.errors import BadInput
        from whylens.core.models.import_options import EXAMPLE_PHOTO, ImportOptions
        from whylens.core.models.import_weights import import_weights
        from whylens.core.targets import EACH_ITS_OWN

        if multi_label and value is not None:
            raise BadInput("A network has labels or a value: leave --multi-label or --value.")
        outputs: Outputs = "labels" if multi_label else "classes"
        model = import_weights(
            ImportOptions(
                file=file,
                photo=photo or EXAMPLE_PHOTO,
                architecture=architecture,
                labels=labels,
                size=size,
                mean=mean,
                std=std,
                crop=crop,
                interpolation=interpolation,
                name=name,
                out=out,
                licence=licence,
                outputs="value" if value is not None else outputs,
                unit=(value or "").strip(),
                output=output,
            )
        )
    for note in model.notes:
        typer.echo(note)
    typer.echo(f"\nWhat it says of {(photo or EXAMPLE_PHOTO).name}:")
    for score in model.predictions:
        typer.echo(f"  {score.amount:>7}  {score.label}")
    if multi_label:
        typer.echo(f"  {EACH_ITS_OWN}")
    typer.echo(f"\nWritten to {model.folder}. Try:")
    method = _first_method(model.backbone)
    command = ["whylens", "explain", "photo.jpg", "--method", method, "--model", model.model]
    typer.echo(f"  {shlex.join(command)}")


def _first_method(backbone: Backbone) -> str:
    """Return the first method that follows the network's gradients at once, else any that runs."""
    from whylens.core.explainer import is_single_step
    from whylens.core.needs import Need
    from whylens.core.registry import load_registry

    explainers = load_registry().explainers
    usable = [
        name
        for name, explainer in explainers.items()
        if not explainer.artifact_kind and not backbone.why_not(explainer.needs)
    ]
    quick = [
        name
        for name in usable
        if is_single_step(explainers[name]) and Need.GRADIENTS in explainers[name].needs
    ]
    return [*quick, *usable][0]
