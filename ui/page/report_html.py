"""The model report as HTML: figures, classes and the confusion matrix."""

from __future__ import annotations

from whylens.core.train.report import Figures, ModelReport
from whylens.ui.page.html import render

# Beyond this many classes the grid is too wide to read; the commonest mistakes are listed instead.
MOST_COLUMNS = 24
MOST_PAIRS = 40
MOST_LEVEL = 6  # more column heads than this are written upwards
SPLIT_NAMES = {"val": "validation", "test": "test"}


def headline(report: ModelReport) -> str:
    """Return HTML of the figures, the data and what to know before believing them."""
    both = (("Test", report.test), ("Validation", report.val))
    splits = [(name, figures) for name, figures in both if figures is not None]
    return render("report", "headline", report=report, splits=splits)


def class_table(figures: Figures) -> str:
    """Return HTML of precision, recall, F1 and support of each class."""
    return render("report", "class_table", classes=figures.classes)


def matrix(figures: Figures) -> str:
    """Return HTML of the confusion matrix as buttons, coloured by their share of the row.

    A button carries its cell as data-cell="ROW-COLUMN". Of many classes only the commonest
    mistakes are listed.
    """
    if len(figures.classes) <= MOST_COLUMNS:
        many = len(figures.classes) > MOST_LEVEL
        return render("report", "matrix", figures=figures, many=many)
    pairs = [
        (count, i, j)
        for i, row in enumerate(figures.confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    return render("report", "mistakes", figures=figures, pairs=pairs, most=MOST_PAIRS)
