"""The command `whylens new-plugin`: a package that works, to begin from."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from whylens.ui.cli.common import named_path, one_line_errors

TEMPLATES = Path(__file__).parent / "plugin_template"
MOST_NAME_LETTERS = 30  # so that no line of the package is longer than its own limit
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


def new_plugin(
    name: Annotated[str, typer.Argument(help="Name of the method, kebab-case: edge-glow.")],
    folder: Annotated[
        Path,
        typer.Option(
            "--dir", parser=named_path, metavar="<path>", help="Where the package's folder is made."
        ),
    ] = Path(),
) -> None:
    """Make an installable package with one explainer, its test and a README."""
    with one_line_errors():
        _check_free(name)
        package = write_package(name, folder)
    typer.echo(
        f"{package}\n\nNext:\n  pip install -e {package}\n  pytest --explainer {name}\n"
        "  whylens demo"
    )


def _check_free(name: str) -> None:
    from whylens.core.errors import InvalidParameter
    from whylens.core.registry import load_registry

    if not _NAME.fullmatch(name) or len(name) > MOST_NAME_LETTERS:
        raise InvalidParameter(
            f"A plugin's name is up to {MOST_NAME_LETTERS} lower-case letters and digits, a "
            f"letter first, words joined by '-', as in edge-glow; not {name!r}."
        )
    registry = load_registry(strict=False)
    existing = {
        *registry.entries,
        *registry.datasets,
        *(entry.plugin for entry in registry.entries.values()),
    }
    if name in existing:
        raise InvalidParameter(
            f"There is a plugin called {name!r} already; the first owner of a name keeps it. "
            "Choose another."
        )


def write_package(name: str, folder: Path) -> Path:
    """Return the folder of a new package, whole or not there at all.

    Args:
        name: Of the method, kebab-case.
        folder: Where the package's folder is made; made itself if absent.

    Raises:
        InvalidParameter: There is something of that name, or the folder cannot be written to.
    """
    import shutil
    import tempfile

    from whylens.core.errors import InvalidParameter
    from whylens.core.storage.files import write_atomically

    target = folder / f"whylens-{name}"
    if target.exists() or target.is_symlink():
        raise InvalidParameter(
            f"{target} is there already, and nothing is overwritten. Choose another name or --dir."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=folder))
        try:
            for path, text in package_files(name).items():
                write_atomically(unfinished / path, text.encode())
            unfinished.chmod(0o755)
            unfinished.rename(target)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except OSError as exc:
        raise InvalidParameter(
            f"{target} cannot be written: {exc.strerror}. Choose another --dir."
        ) from exc
    return target


def package_files(name: str) -> dict[str, str]:
    """Return the text of each file of a new package, by its path within it.

    Args:
        name: Of the method, kebab-case.
    """
    words = name.split("-")
    module = "whylens_" + name.replace("-", "_")
    values = {
        "name": name,
        "distribution": f"whylens-{name}",
        "module": module,
        "title": " ".join(words).capitalize(),
        "words": "".join(word.capitalize() for word in words),
    }
    files = {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README.md.txt",
        f"{module}.py": "explainer.py.txt",
        f"test_{module}.py": "test.py.txt",
    }
    return {
        path: Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)
        for path, template in files.items()
    }
