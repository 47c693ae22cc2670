"""The command line. Nothing heavy is imported before a command needs it: help must be instant."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whylens.ui.cli.common import one_sentence, params_of
from whylens.ui.cli.deploy_space import deploy_space
from whylens.ui.cli.explain_folder import explain_all
from whylens.ui.cli.fit import fit
from whylens.ui.cli.means import means
from whylens.ui.cli.new_plugin import new_plugin
from whylens.ui.cli.train import INTERRUPTED, train
from whylens.ui.interrupts import restore_interrupt

if TYPE_CHECKING:
    from whylens.core.engine import Engine
    from whylens.core.explanation import Explanation

USAGE = 2

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
        list[Path],
        typer.Argument(
            help="Photos (PNG, JPEG, WEBP, BMP, GIF) or signals (CSV, NPY), or one folder."
        ),
    ],
    model: Annotated[str, typer.Option(help="A timm name, torchvision:NAME or a checkpoint.")],
    method: Annotated[str, typer.Option(help="Method, or several joined by commas.")],
    target: Annotated[
        str | None, typer.Option(help="Class to explain, index or label; default: predicted.")
    ] = None,
    versus: Annotated[str | None, typer.Option(help="Explain target rather than this.")] = None,
    quantity: Annotated[str, typer.Option(help="logit or probability.")] = "logit",
    param: Annotated[list[str] | None, typer.Option(help="Parameter as name=value.")] = None,
    seed: Annotated[int, typer.Option(help="For methods that draw random numbers.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("out"),
    maps: Annotated[
        str | None, typer.Option("--format", help="Of a folder's maps: npy or png (16 bits).")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="For a folder: local or ray.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="For a folder: processes; default: one per core.")
    ] = None,
    shard: Annotated[int | None, typer.Option(min=1, help="For a folder: files per part.")] = None,
    device: Annotated[str | None, typer.Option(help="For a folder: cpu or cuda.")] = None,
) -> None:
    """Explain photos and write pictures, raw values and manifests; or a folder of any size.

    A folder's maps and a table of all answers are written part by part; the same command goes on
    where it was stopped.
    """
    with one_sentence():
        from whylens.core.errors import BadInput
        from whylens.core.registry import load_registry

        names = list(dict.fromkeys(name.strip() for name in method.split(",") if name.strip()))
        registry = load_registry()
        fields = {name: registry.explainer(name).Params.model_fields for name in names}
        params = params_of(param or [], fields)
        if quantity not in ("logit", "probability"):
            raise BadInput("A quantity is logit or probability; for a contrast give --versus.")
        if any(image.is_dir() for image in images):
            if len(images) > 1:
                raise BadInput("Give photos, or one folder and nothing else.")
            asked = {
                "folder": images[0],
                "out": out,
                "model": model,
                "methods": params,
                "target": target,
                "versus": versus,
                "quantity": quantity,
                "seed": seed,
                "shard": shard,
                "device": device or "cpu",
            }
            explain_all(asked, engine=engine, workers=workers, maps=maps)
            return
        if any(given is not None for given in (maps, engine, workers, shard, device)):
            raise BadInput("--format, --engine, --workers, --shard and --device are for a folder.")
        from whylens.core.engine import Engine

        jobs = _Jobs(Engine(registry), names, params, out)
        jobs.run(images, model, target, versus, quantity, seed)


class _Jobs:
    """All photos by all methods, with progress on stderr."""

    def __init__(
        self, engine: Engine, names: list[str], params: dict[str, dict[str, str]], out: Path
    ) -> None:
        self.engine, self.names, self.params, self.out = engine, names, params, out

    def run(
        self,
        images: list[Path],
        model: str,
        target: str | None,
        versus: str | None,
        quantity: str,
        seed: int,
    ) -> None:
        from rich.console import Console
        from rich.progress import Progress, TimeRemainingColumn

        from whylens.core.errors import BadInput
        from whylens.core.explanation import Question
        from whylens.core.inputs.photo import read_photo
        from whylens.core.inputs.signal import is_signal_file, read_signal
        from whylens.core.models.labels import class_index

        folders = _folders(self.out, images)
        console = Console(stderr=True)
        with Progress(
            *Progress.get_default_columns()[:-1], TimeRemainingColumn(), console=console
        ) as bar:
            loading = bar.add_task(f"loading {model}", total=1)
            card = self.engine.card(
                model, progress=lambda f, said: bar.update(loading, completed=f, description=said)
            )
            bar.update(loading, completed=1)
            index = class_index(target, card.labels) if target is not None else None
            other = class_index(versus, card.labels) if versus is not None else None
            for image, folder in zip(images, folders, strict=True):
                try:
                    data = image.read_bytes()
                except OSError as exc:
                    raise BadInput(f"{image} cannot be read: {exc.strerror}.") from exc
                is_signal = is_signal_file(image.name)
                question = Question(
                    model=model,
                    photo=None if is_signal else read_photo(data),
                    signal=read_signal(data, image.name) if is_signal else None,
                    target=index,
                    quantity="contrast" if other is not None else quantity,  # type: ignore[arg-type]
                    versus=other,
                    seed=seed,
                )
                for name in self.names:
                    task = bar.add_task(f"{image.name}: {name}", total=1)
                    answer = self._answer(
                        question, name, lambda f, t=task: bar.update(t, completed=f)
                    )
                    self._write(folder, answer, image)

    def _answer(self, question: Any, name: str, advance: Any) -> Explanation:
        answer = None
        work = self.engine.explain(question, name, self.params[name])
        try:
            for answer in work:
                advance(answer.fraction)
        except KeyboardInterrupt:
            # What is there is kept: the manifest says that it is partial.
            if answer is None:
                raise
            typer.echo(f"Stopped at {answer.fraction:.0%}; the partial map is kept.", err=True)
            self.stopped = answer
        assert answer is not None  # noqa: S101 - an explainer yields at least once
        return answer

    stopped: Explanation | None = None

    def _write(self, folder: Path, answer: Explanation, image: Path) -> None:
        from whylens.core.outputs.export import bundle_files, write_files

        for path in write_files(folder, bundle_files(answer, source=str(image))):
            typer.echo(path)
        if self.stopped is not None:
            raise typer.Exit(INTERRUPTED)


def _folders(out: Path, images: list[Path]) -> list[Path]:
    # One photo needs no folder of its own; photos of one name from several places must not meet.
    if len(images) == 1:
        return [out]
    seen: dict[str, int] = {}
    folders = []
    for image in images:
        seen[image.stem] = seen.get(image.stem, 0) + 1
        suffix = f"-{seen[image.stem]}" if seen[image.stem] > 1 else ""
        folders.append(out / f"{image.stem}{suffix}")
    return folders


app.command()(train)
app.command()(fit)
app.command()(means)
app.command()(deploy_space)
app.command()(new_plugin)


@app.command()
def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List explainers, data sets, their owners, and every problem."""
    with one_sentence():
        from whylens.core.registry import load_registry

        registry = load_registry()
        found = [
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
        datasets = [
            {"names": list(source.names), "summary": source.summary}
            for source in registry.datasets.values()
        ]
        problems = [
            {
                "stage": p.stage,
                "plugin": p.plugin,
                "distribution": p.distribution,
                "message": p.message,
            }
            for p in registry.problems
        ]
        if as_json:
            typer.echo(
                json.dumps(
                    {"explainers": found, "datasets": datasets, "problems": problems}, indent=2
                )
            )
            return
        from rich.console import Console
        from rich.table import Table

        table = Table("Name", "Title", "Family", "Owner", "Needs")
        for row in found:
            owner = f"{row['distribution']} {row['version']}"
            needs = ", ".join(row["needs"]).lower().replace("_", " ")
            table.add_row(str(row["name"]), str(row["title"]), str(row["family"]), owner, needs)
        Console().print(table)
        table = Table("Data set", "Summary")
        for dataset in registry.datasets.values():
            table.add_row("\n".join(dataset.names), dataset.summary)
        Console().print(table)
        for problem in problems:
            typer.echo(
                f"Problem: {problem['plugin']} of {problem['distribution']}: {problem['message']}",
                err=True,
            )


@app.command()
def models(
    pattern: Annotated[str, typer.Argument(help="Part of a name, or a pattern with *.")] = "",
) -> None:
    """List local checkpoints and timm names with pretrained weights."""
    from fnmatch import fnmatch

    with one_sentence():
        from whylens.core.errors import UnknownName
        from whylens.core.models.checkpoints import checkpoint_folders
        from whylens.core.models.model_names import timm_names

        glob = pattern if "*" in pattern else f"*{pattern}*"
        known = [*checkpoint_folders(), *sorted(timm_names())]
        found = [name for name in known if fnmatch(name, glob)]
        if not found:
            raise UnknownName.among("model", pattern, known)
        typer.echo("\n".join(found))


@app.command()
def demo(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 7860,
    mcp: Annotated[bool, typer.Option("--mcp", help="Serve agents too (extra: mcp).")] = False,
) -> None:
    """Serve the page."""
    try:
        with one_sentence():
            from whylens.ui.page.server import serve

            serve(host=host, port=port, mcp=mcp)
    except OSError as exc:
        typer.echo(f"whylens: port {port} cannot be used ({exc}). Try another --port.", err=True)
        raise typer.Exit(1) from exc


def main() -> None:
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
