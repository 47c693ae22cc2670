"""The command `whylens deploy-space`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from whylens.ui.cli.common import one_line_errors


def deploy_space(
    dry_run: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Build the folder here, check it and start it; send nothing."
        ),
    ] = None,
    repo_id: Annotated[
        str | None, typer.Option(help="Space to send to, as owner/name; needs `hf auth login`.")
    ] = None,
    private: Annotated[bool, typer.Option(help="A Space made anew is private.")] = False,
    python: Annotated[
        Path | None, typer.Option(help="Interpreter to start with; default: the Space's version.")
    ] = None,
    reuse_packages: Annotated[
        bool,
        typer.Option(help="Start with the packages of this environment: seconds, not minutes."),
    ] = False,
    start: Annotated[bool, typer.Option(help="Start it after the build.")] = True,
) -> None:
    """Build the folder of a Hugging Face Space, try it out, or send it."""
    with one_line_errors():
        from whylens.core.errors import BadInput

        if dry_run is None and repo_id is None:
            raise BadInput("Say what to do: --dry-run DIR builds and starts, --repo-id ID sends.")
        if dry_run is not None:
            _build(dry_run)
            if start:
                _start(dry_run, python, reuse=reuse_packages)
            if repo_id is not None:
                _send(dry_run, repo_id, private=private)
        elif repo_id is not None:
            with tempfile.TemporaryDirectory(prefix="whylens-space-") as temporary:
                folder = Path(temporary) / "space"
                _build(folder)
                _send(folder, repo_id, private=private)


def _build(folder: Path) -> None:
    from whylens.ui.space.card import SpaceProblem
    from whylens.ui.space.checks import problems_of
    from whylens.ui.space.files import build_space

    files = build_space(folder)
    size = sum((folder / name).stat().st_size for name in files) / 1e6
    typer.echo(f"Built {folder}: {len(files)} files, {size:.1f} MB.")
    problems = problems_of(folder)
    if problems:
        raise SpaceProblem(" ".join(problems))
    typer.echo("Valid: metadata, requirements, sizes and links.")


def _start(folder: Path, python: Path | None, *, reuse: bool) -> None:
    from whylens.ui.space.card import read_card
    from whylens.ui.space.files import README
    from whylens.ui.space.local_run import find_python, install_env, running_space, shared_env

    with tempfile.TemporaryDirectory(prefix="whylens-space-") as temporary:
        home = Path(temporary)
        if reuse:
            interpreter = shared_env(home)
            typer.echo("Packages are those of this environment, not the Space's.", err=True)
        else:
            card = read_card((folder / README).read_text(encoding="utf-8"))
            base = python or find_python(card)
            typer.echo(f"Installing as the builder does, with {base}; this takes minutes.")
            start_time = time.perf_counter()
            interpreter = install_env(folder, home, base)
            typer.echo(f"Installed in {time.perf_counter() - start_time:.0f} s.")
        with running_space(folder, home, interpreter) as space:
            typer.echo(f"First page {space.seconds:.1f} s after the start.")
        typer.echo("It ended cleanly when told to.")


def _send(folder: Path, repo_id: str, *, private: bool) -> None:
    from whylens.ui.space.push import push

    typer.echo(f"Sent: {push(folder, repo_id, private=private)}")
