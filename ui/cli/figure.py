"""`whylens figure`: a figure for a paper from what `whylens explain` wrote.

Nothing heavy is imported before it runs: help must be instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whylens.ui.cli.common import named_path, one_line_errors


def figure(
    manifests: Annotated[
        list[Path], typer.Argument(help="The manifest.json of each map, in the figure's order.")
    ],
    to: Annotated[
        Path,
        typer.Option(
            parser=named_path,
            metavar="<path>",
            help="File to write: .pdf, .svg or .png; a .bib comes beside it.",
        ),
    ] = Path("figure.pdf"),
    width: Annotated[str, typer.Option(help="In mm, as in 85mm or 174mm.")] = "174mm",
    dpi: Annotated[int, typer.Option(help="Dots per inch of a PNG.")] = 300,
    columns: Annotated[
        int | None, typer.Option(help="Pictures in a row; default: as many as are 34 mm wide.")
    ] = None,
    captions: Annotated[bool, typer.Option(help="Method, class and score.")] = True,
    original: Annotated[bool, typer.Option(help="The photo before its maps.")] = True,
    letters: Annotated[
        bool, typer.Option("--letters", help="a), b), c) for each picture.")
    ] = False,
    shared: Annotated[
        bool, typer.Option("--shared", help="One colour is one raw value in maps of one unit.")
    ] = False,
) -> None:
    """Make a figure of maps that were written before; no network is run."""
    with one_line_errors():
        from whylens.core.errors import BadInput
        from whylens.core.outputs.export import read_explanation
        from whylens.core.outputs.figure import FigureLayout, save_figure

        try:
            millimetres = float(width.removesuffix("mm"))
        except ValueError as exc:
            raise BadInput(f"--width is a number of mm, as in 85mm; not {width!r}.") from exc
        layout = FigureLayout(millimetres, dpi, columns, captions, original, letters)
        answers = [read_explanation(manifest) for manifest in manifests]
        for path in save_figure(answers, to, layout, same_values=shared):
            typer.echo(path)
