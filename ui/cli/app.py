"""The command line. Nothing heavy is imported before a command needs it: help must be instant."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from whylens.ui.cli.bench import bench
from whylens.ui.cli.common import (
    INTERRUPTED,
    first_checkpoint,
    named_path,
    one_line_errors,
    parse_params,
    split_names,
)
from whylens.ui.cli.deploy_space import deploy_space
from whylens.ui.cli.explain_folder import run_batch
from whylens.ui.cli.explain_photos import explain_photos
from whylens.ui.cli.figure import figure
from whylens.ui.cli.fit import fit
from whylens.ui.cli.import_model import import_model
from whylens.ui.cli.means import means
from whylens.ui.cli.new_plugin import new_plugin
from whylens.ui.cli.train import train
from whylens.ui.ending import run_and_end
from whylens.ui.interrupts import restore_interrupt

app = typer.Typer(
    name="whylens",
    help="See why an image classifier decides as it does.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: it answers in a third of the time
    pretty_exceptions_enable=False,
)


@app.command()
def explain(
    images: Annotated[
        list[str],
        typer.Argument(
            help="Photos (PNG, JPEG, WEBP, BMP, GIF, TIFF, AVIF) or signals (CSV, NPY), or one "
            "folder.",
        ),
    ],
    method: Annotated[str, typer.Option(help="Method, or several joined by commas.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="A checkpoint or its folder, a timm name, torchvision:NAME, hf:OWNER/NAME "
            "(transformers) or hf-hub:OWNER/NAME (timm); "
            "default: the network for photos that comes along."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Class to explain, index or label; default: predicted.")
    ] = None,
    versus: Annotated[str | None, typer.Option(help="Explain target rather than this.")] = None,
    quantity: Annotated[str, typer.Option(help="logit or probability.")] = "logit",
    param: Annotated[list[str] | None, typer.Option(help="Parameter as name=value.")] = None,
    seed: Annotated[int, typer.Option(help="For methods that draw random numbers.")] = 0,
    framing: Annotated[
        str,
        typer.Option(
            help="What the network is shown: network (its own crop), whole (the whole photo, "
            "fitted), or left,top,right,bottom in shares of the photo."
        ),
    ] = "network",
    out: Annotated[
        Path, typer.Option(parser=named_path, metavar="<path>", help="Folder to write into.")
    ] = Path("out"),
    maps: Annotated[
        str | None,
        typer.Option(
            "--format", help="Of a folder's maps: npy, png (16 bits) or picture (over the photo)."
        ),
    ] = None,
    engine: Annotated[str | None, typer.Option(help="For a folder: local or ray.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="For a folder: processes; default: one per core.")
    ] = None,
    shard: Annotated[int | None, typer.Option(min=1, help="For a folder: files per part.")] = None,
    device: Annotated[str | None, typer.Option(help="For a folder: cpu or cuda.")] = None,
    report: Annotated[
        bool,
        typer.Option("--report", help="Of a folder: report.html too, a table with small pictures."),
    ] = False,
    scores: Annotated[
        bool,
        typer.Option("--scores", help="Also judge every map: is it to be believed?"),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", help="No line per photo (of a folder the first 200 get one)."),
    ] = False,
) -> None:
    """Explain photos and write pictures, raw values and manifests; or a folder of any size.

    A folder's maps and a table of all answers are written part by part; the same command goes on
    where it was stopped.
    """
    with one_line_errors():
        from whylens.core.errors import BadInput
        from whylens.core.inputs.arrays import check_is_no_address
        from whylens.core.registry import load_registry

        registry = load_registry()
        fields = {
            name: registry.explainer(name).Params.model_fields for name in split_names(method)
        }
        params = parse_params(param, fields)
        if quantity not in ("logit", "probability"):
            raise BadInput("A quantity is logit or probability; for a contrast give --versus.")
        question = {
            "model": model or first_checkpoint(),
            "target": target,
            "versus": versus,
            "quantity": quantity,
            "seed": seed,
            "framing": framing,
        }
        for image in images:
            check_is_no_address(image)  # as a path it would have one slash less
        paths = [Path(image) for image in images]
        if any(path.is_dir() for path in paths):
            if len(paths) > 1:
                raise BadInput("Give photos, or one folder and nothing else.")
            files = {
                "folder": paths[0],
                "out": out,
                "shard_size": shard,
                "device": device or "cpu",
                "report": report,
                "scores": scores,
            }
            request = {**question, **files, "methods": params}
            run_batch(request, engine=engine, workers=workers, maps=maps, quiet=quiet)
            return
        if report or any(o is not None for o in (maps, engine, workers, shard, device)):
            raise BadInput(
                "--report, --format, --engine, --workers, --shard and --device are for a folder."
            )
        from whylens.core.engine import Engine

        explain_photos(Engine(registry), paths, params, question, out, quiet=quiet, judge=scores)


app.command()(train)
app.command()(fit)
app.command()(figure)
app.command()(means)
app.command()(bench)
app.command("import")(import_model)
app.command()(deploy_space)
app.command()(new_plugin)


@app.command()
def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List explainers, data sets, their owners, and every problem."""
    with one_line_errors():
        from whylens.core.registry import load_registry

        registry = load_registry()
        explainers = [
            {
                "name": name,
                "title": entry.explainer.title,
                "family": entry.explainer.family,
                "plugin": entry.plugin,
                "distribution": entry.distribution,
                "version": entry.version,
                "needs": sorted(need.name for need in entry.explainer.needs),
                "summary": entry.explainer.summary,
            }
            for name, entry in registry.entries.items()
        ]
        if as_json:
            datasets = [
                {"names": list(source.names), "summary": source.summary}
                for source in registry.datasets.values()
            ]
            keys = ("stage", "plugin", "distribution", "message")
            problems = [{key: getattr(p, key) for key in keys} for p in registry.problems]
            tables = {"explainers": explainers, "datasets": datasets, "problems": problems}
            typer.echo(json.dumps(tables, indent=2))
            return
        from rich.console import Console
        from rich.table import Table

        table = Table("Name", "Title", "Family", "Owner", "Needs")
        for row in explainers:
            owner = f"{row['distribution']} {row['version']}"
            needs = ", ".join(row["needs"]).lower().replace("_", " ")
            table.add_row(str(row["name"]), str(row["title"]), str(row["family"]), owner, needs)
        Console().print(table)
        table = Table("Data set", "Summary")
        for dataset in registry.datasets.values():
            table.add_row("\n".join(dataset.names), dataset.summary)
        Console().print(table)
        for p in registry.problems:
            typer.echo(f"Problem: {p.plugin} of {p.distribution}: {p.message}", err=True)


@app.command()
def models(
    pattern: Annotated[str, typer.Argument(help="Part of a name, or a pattern with *.")] = "",
) -> None:
    """List local checkpoints and timm names with pretrained weights."""
    with one_line_errors():
        from whylens.core.models.checkpoints import find_models, place_problems

        for problem in place_problems():
            typer.echo(problem, err=True)
        typer.echo("\n".join(find_models(pattern)))


@app.command()
def demo(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 7860,
    root_path: Annotated[
        str, typer.Option(help="Path below which a proxy serves the page, as in /whylens.")
    ] = "",
    mcp: Annotated[bool, typer.Option("--mcp", help="Serve agents too (extra: mcp).")] = False,
    scores: Annotated[
        bool,
        typer.Option(help="Whether every map is tested once it is shown."),
    ] = True,
    for_class: Annotated[
        bool,
        typer.Option("--class", help="For all in the room: shows the address, also as a QR code."),
    ] = False,
) -> None:
    """Serve the page."""
    if root_path:
        os.environ["GRADIO_ROOT_PATH"] = f"/{root_path.strip('/')}"
    with one_line_errors():
        from whylens.core.storage.garbage import permanent_objects

        with permanent_objects():
            from whylens.ui.page.server import serve

        try:
            address = "0.0.0.0" if for_class else host  # noqa: S104 - the class is elsewhere
            greet = _greet_class if for_class else None
            serve(host=address, port=port, mcp=mcp, scores=scores, greet=greet)
        except OSError as exc:
            if exc.errno is not None:  # of a file; what Gradio raises for a port has no number
                raise
            message = f"whylens: port {port} cannot be used ({exc}). Try another --port."
            typer.echo(message, err=True)
            raise typer.Exit(1) from exc


def _greet_class(port: int) -> None:
    from whylens.ui.cli.class_address import class_words, local_address

    words = class_words(port, local_address())
    try:
        words.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # it cannot draw the code's blocks
        words = words.splitlines()[-1]
    typer.echo(words)


def main() -> None:
    """Run the command line, and end this process."""
    run_and_end(run_command_line)


def run_command_line() -> None:
    """Run the command line; Ctrl-C ends it with the usual code, in the background as well."""
    restore_interrupt()
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch; see demo.py
    try:
        app()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
