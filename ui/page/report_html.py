"""The model report as HTML: figures, classes and the confusion matrix; foreign text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from whylens.core.train.report import Figures, ModelReport

# Beyond this many classes the grid is too wide to read; the commonest mistakes are listed instead.
MOST_COLUMNS = 24
MOST_PAIRS = 40
MOST_LEVEL = 6  # more column heads than this are written upwards
SPLIT_NAMES = {"val": "validation", "test": "test"}


def headline(report: ModelReport) -> str:
    """Return HTML of the figures, the data and what to know before believing them.

    Args:
        report: Of the model.
    """
    rows = "".join(
        f"<tr><th scope='row'>{name}</th><td class='num'>{f.count:,}</td>"
        f"<td class='num'><b>{f.accuracy:.1%}</b></td>"
        f"<td class='num'>{f.balanced_accuracy:.1%}</td>"
        f"<td class='num'>{f.ece:.3f}</td><td class='num'>{f.ece_scaled:.3f}</td></tr>"
        for name, f in (("Test", report.test), ("Validation", report.val))
        if f is not None
    )
    heads = ("Split", "Pictures", "Accuracy", "Mean recall", "ECE", "ECE, scaled")
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    sizes = ", ".join(f"{n:,} {split}" for split, n in report.data.sizes.items())
    return (
        f"{_table(heads, rows)}<p class='wl-source'>ECE is the calibration error: how far the "
        "probabilities are from the shares that are right; scaled, after dividing the logits by "
        f"{report.temperature:.3g}. Learnt on <b>{escape(report.data.name)}</b> ({sizes}) from "
        f"{escape(report.start)}. Licence of the pictures: {escape(report.data.licence)}.</p>"
        + (f"<ul class='wl-notes'>{notes}</ul>" if notes else "")
    )


def class_table(figures: Figures) -> str:
    """Return HTML of precision, recall, F1 and support of each class.

    Args:
        figures: Of one split.
    """
    rows = "".join(
        f"<tr><th scope='row'>{escape(c.label)}</th><td class='num'>{c.precision:.3f}</td>"
        f"<td class='num'>{c.recall:.3f}</td><td class='num'>{c.f1:.3f}</td>"
        f"<td class='num'>{c.support:,}</td></tr>"
        for c in figures.classes
    )
    table = _table(("Class", "Precision", "Recall", "F1", "Pictures"), rows)
    return table.replace("class='wl-scroll'", "class='wl-scroll wl-high' tabindex='0'", 1)


def matrix(figures: Figures) -> str:
    """Return HTML of the confusion matrix as buttons, coloured by their share of the row.

    A button carries its cell as data-cell="ROW-COLUMN". Of many classes only the commonest
    mistakes are listed.

    Args:
        figures: Of one split.
    """
    labels = [c.label for c in figures.classes]
    if len(labels) > MOST_COLUMNS:
        return _pairs(figures, labels)
    heads = "".join(f"<th scope='col'><span>{escape(label)}</span></th>" for label in labels)
    rows = "".join(
        f"<tr><th scope='row'>{escape(label)}</th>"
        + "".join(_cell(labels, i, j, row) for j in range(len(labels)))
        + "</tr>"
        for i, (label, row) in enumerate(zip(labels, figures.confusion, strict=True))
    )
    many = " wl-many" if len(labels) > MOST_LEVEL else ""
    return (
        "<p class='wl-source'>A row is what the pictures are, a column what they are taken for. "
        "Colour is the share of the row. Choose a cell to see its pictures.</p>"
        f"<div class='wl-scroll'><table class='wl-matrix{many}'><caption>Confusion matrix</caption>"
        f"<thead><tr><th scope='col'>is \\ taken for</th>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cell(labels: Sequence[str], i: int, j: int, row: Sequence[int]) -> str:
    share = row[j] / max(1, sum(row))
    kind = "right" if i == j else "wrong"
    said = (
        f"{row[j]} of {sum(row)} {labels[i]} are recognised"
        if i == j
        else f"{row[j]} of {sum(row)} {labels[i]} are taken for {labels[j]}"
    )
    # A single mistake of many shall still be seen.
    depth = 0.12 + 0.43 * share if row[j] else 0.0
    return (
        f"<td><button type='button' class='wl-cell wl-{kind}' data-cell='{i}-{j}' "
        f"style='--depth:{depth:.3f}' aria-label='{escape(said)}' title='{escape(said)}'>"
        f"{row[j]:,}</button></td>"
    )


def _pairs(figures: Figures, labels: Sequence[str]) -> str:
    counts = figures.confusion
    pairs = [
        (counts[i][j], i, j)
        for i in range(len(labels))
        for j in range(len(labels))
        if i != j and counts[i][j]
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    rows = "".join(
        f"<tr><td>{escape(labels[i])}</td><td>{escape(labels[j])}</td>"
        f"<td>{_button(n, sum(counts[i]), i, j, labels)}</td></tr>"
        for n, i, j in pairs[:MOST_PAIRS]
    )
    return (
        f"<p class='wl-source'>{len(labels):,} classes are too many for a grid: these are the "
        f"{min(MOST_PAIRS, len(pairs))} commonest mistakes of {len(pairs):,} kinds. Choose one to "
        "see its pictures.</p>" + _table(("Is", "Taken for", "Pictures"), rows)
    )


def _button(count: int, total: int, i: int, j: int, labels: Sequence[str]) -> str:
    said = escape(f"{count} of {total} {labels[i]} are taken for {labels[j]}")
    return (
        f"<button type='button' class='wl-cell wl-wrong' data-cell='{i}-{j}' style='--depth:0.2' "
        f"aria-label='{said}'>{count:,} of {total:,}</button>"
    )


def _table(heads: Sequence[str], rows: str) -> str:
    cells = "".join(f"<th scope='col'>{escape(head)}</th>" for head in heads)
    return (
        f"<div class='wl-scroll'><table class='wl-table'><thead><tr>{cells}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )
