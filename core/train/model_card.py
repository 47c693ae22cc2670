"""A model card for people: the report in words and tables.

May touch the report only.
"""

from __future__ import annotations

from whylens.core.train.report import Figures, ModelReport

_WIDEST = 12  # classes up to which a confusion matrix can be read


def card(report: ModelReport) -> str:
    """Return the Markdown of a report.

    Args:
        report: Of a model.
    """
    recipe = report.recipe
    lines = [
        f"# {report.name}",
        "",
        f"`{recipe['backbone']}` trained by Whylens on {_cell(report.data.name)} from "
        f"{_cell(report.start)}, in {report.seconds / 60:.1f} minutes.",
        "",
        *_table(
            ["", "pictures", "accuracy", "mean recall", "NLL", "ECE", "ECE at temperature"],
            [
                [name, *_row(figures)]
                for name, figures in (("validation", report.val), ("test", report.test))
                if figures is not None
            ],
        ),
        "",
        f"Temperature {report.temperature:.3f} minimises the validation NLL. Validation chose "
        f"epoch {report.best} of {len(report.epochs)}"
        + ("; the test split was looked at once." if report.test else "; there is no test split."),
        "",
    ]
    if report.notes:
        lines += ["## To know", "", *(f"- {note}" for note in report.notes), ""]
    for name, figures in (("Test", report.test), ("Validation", report.val)):
        if figures is not None:
            lines += _split(name, figures)
    sizes = report.data.sizes
    lines += [
        "## Made from",
        "",
        f"- Pictures: {_cell(report.data.name)}, {sizes['train']} train, {sizes['val']} val, "
        f"{sizes['test']} test; licence: {_cell(report.data.licence)}; digest "
        f"`{report.data.digest[:16]}`",
        f"- Weights: sha256 `{report.model_sha256[:16]}`",
        f"- Versions: {', '.join(f'{k} {v}' for k, v in report.versions.items())}",
        "",
        *_table(["recipe", ""], [[k, str(v)] for k, v in recipe.items() if v not in (None, {})]),
        "",
    ]
    return "\n".join(lines)


def _row(figures: Figures) -> list[str]:
    return [
        str(figures.count),
        f"{figures.accuracy:.1%}",
        f"{figures.balanced_accuracy:.1%}",
        f"{figures.nll:.3f}",
        f"{figures.ece:.3f}",
        f"{figures.ece_scaled:.3f}",
    ]


def _split(name: str, figures: Figures) -> list[str]:
    rows = [
        [c.label, f"{c.precision:.3f}", f"{c.recall:.3f}", f"{c.f1:.3f}", str(c.support)]
        for c in figures.classes
    ]
    lines = [f"## {name}", ""]
    lines += _table(["class", "precision", "recall", "F1", "pictures"], rows)
    lines.append("")
    if len(figures.classes) <= _WIDEST:
        labels = [c.label for c in figures.classes]
        counted = [
            [label, *map(str, row)] for label, row in zip(labels, figures.confusion, strict=True)
        ]
        lines += [*_table(["is \\ taken for", *labels], counted), ""]
    return lines


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(_cell(text) for text in line) + " |" for line in lines]


def _cell(text: str) -> str:
    # A class may be called anything; a table cell holds one line without bars.
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
