"""What the public functions answer with: explanations show and save themselves."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from whylens.core.errors import BadInput, disk_errors
from whylens.core.evaluation.verdict import Verdict
from whylens.core.explanation import Explanation
from whylens.core.inputs.view import on_original, shrunk, whole_view
from whylens.core.models.backbone import ModelSource
from whylens.core.outputs.example_images import sheet
from whylens.core.outputs.export import bundle_files, write_files
from whylens.core.outputs.figure import FigureLayout, save_figure
from whylens.core.outputs.render import (
    Scale,
    Style,
    Under,
    colour_stops,
    render_explanation,
    scale_of,
    scale_words,
    scales_together,
)
from whylens.core.outputs.templates import load_templates
from whylens.core.progress import last_of
from whylens.core.results import Array, Examples, Heatmap, Prototypes
from whylens.core.targets import EACH_ITS_OWN, ClassScore
from whylens.core.words import percent

_LONGEST = 640  # pixels of a picture in a notebook
_NARROWEST = 280  # pixels of what stands under it


class _Name(str):
    """A name in a line of Python, which stands there without quotation marks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class ExplainedClass:
    """What was explained.

    Attributes:
        index: The class.
        label: Its label.
        quantity: "logit", "probability", "contrast", "value" or "function".
        versus: The other class of a contrast, else None.
        versus_label: Its label, else None.
    """

    index: int
    label: str
    quantity: str = "logit"
    versus: int | None = None
    versus_label: str | None = None

    def __str__(self) -> str:
        words = (
            self.label if self.versus is None else f"{self.label} rather than {self.versus_label}"
        )
        return f"probability of {words}" if self.quantity == "probability" else words


@dataclass(frozen=True, repr=False, eq=False)
class Why:
    """One explanation: values, what they are of, and pictures of them.

    Attributes:
        explanation: The engine's own answer, as plain data; after `scores` with its verdict.
        prediction: The predicted class.
        source: Name of the input file, or "".
        judge: How the engine that answered judges an explanation.
    """

    explanation: Explanation
    prediction: ClassScore
    source: str = ""
    judge: Callable[[Explanation], Iterator[Explanation]] | None = None

    @property
    def result(self) -> Heatmap | Examples | Prototypes:
        """The result: a map, or examples from training data."""
        return self.explanation.result

    @property
    def values(self) -> Array:
        """(*S) float32, raw: the map; of examples (N,), the figure by which each was ranked."""
        if isinstance(self.result, Heatmap):
            return self.result.values
        return np.array([item.value for item in self.result.items], np.float32)

    @property
    def unit(self) -> str:
        """What one unit of `values` is."""
        return self.result.unit

    @property
    def score(self) -> float:
        """The explained score of the input: a logit, a probability, a difference, or any value."""
        return self.explanation.score

    @property
    def probability(self) -> float | None:
        """Probability of the explained class; None where a value or a function is explained."""
        return self.explanation.probability

    @property
    def target(self) -> ExplainedClass:
        """What was explained."""
        target, labels = self.explanation.target, self.explanation.labels
        return ExplainedClass(
            target.index,
            labels[0],
            target.quantity,
            target.versus,
            labels[1] if target.versus is not None else None,
        )

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """Named figures by which a map can be judged; empty for examples."""
        return self.result.diagnostics if isinstance(self.result, Heatmap) else {}

    @property
    def note(self) -> str:
        """What one should know of this answer, in sentences; "" where there is nothing to say."""
        sentences = [self.explanation.reason, self.result.note, *self.explanation.notes]
        sentences += self.explanation.model.notes
        return " ".join(dict.fromkeys(sentence for sentence in sentences if sentence))

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.explanation.method

    @property
    def title(self) -> str:
        """Title of the method."""
        return self.explanation.title

    @property
    def params(self) -> Mapping[str, object]:
        """The method's parameters."""
        return self.explanation.params

    @property
    def fraction(self) -> float:
        """Share of the work done; 1 for a finished answer."""
        return self.explanation.fraction

    @property
    def finished(self) -> bool:
        """False for a step on the way."""
        return self.explanation.finished

    @property
    def seconds(self) -> float:
        """Computing time so far."""
        return self.explanation.seconds

    def scores(self) -> Verdict:
        """Return whether the map is to be believed: one word, its reason, and all scores.

        Takes some hundreds of forward passes, and the method a few times more; once, for what was
        found is kept, and saved with the rest.

        Raises:
            NeedsNotMet: There is no map.
            BadInput: This was read from a file: no network is at hand.
        """
        if self.explanation.verdict is not None:
            return self.explanation.verdict
        if self.judge is None:
            raise BadInput("No network is at hand to judge this: explain the input anew.")
        judged = last_of(self.judge(self.explanation))
        assert judged.verdict is not None  # noqa: S101 - the last has one
        # Frozen to whoever holds it; what is known of the answer grows by this alone.
        object.__setattr__(self, "explanation", replace(self.explanation, verdict=judged.verdict))
        return judged.verdict

    def on_photo(self) -> Array:
        """Return (H, W) float32: the map at the photo's own size, NaN where the network never saw.

        Raises:
            BadInput: There is no map, or the input has no height and width.
        """
        heat, view = self._heatmap(), self.explanation.view
        if view is None:
            if heat.values.ndim != 2:
                raise BadInput("The input is no photo; `values` lie on it as they are.")
            height, width = self.explanation.question.array.shape[-2:]
            view = whole_view(width, height)
        values, inside = on_original(np.asarray(heat.values), view)
        return np.where(inside, values, np.float32(np.nan))

    def image(
        self,
        *,
        colormap: str = "heat",
        opacity: float = 0.6,
        significant_only: bool = False,
        under: Under = "auto",
    ) -> Image.Image:
        """Return a picture: the map over the whole photo, hatched where unseen; or the examples.

        Args:
            colormap: "heat", "viridis", "rainbow" or "grey".
            opacity: 0 shows the photo alone, 1 the colours alone.
            significant_only: Hide what does not differ from 0 at 95 %, where errors are known.
            under: "photo", "faded" (a pale grey photo), "alone" (no photo), or "auto": "faded" for
                maps of single pixels, as gradients are, else "photo".

        Raises:
            InvalidParameter: A colour map or `under` is unknown, or the opacity not in 0 to 1.
        """
        return self._render(Style(colormap, opacity, significant_only, under))

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write picture, raw values and manifest into a folder of the method's name.

        Args:
            folder: Made if absent.

        Returns:
            The files, which are those of the page's ZIP.

        Raises:
            NotWritten: They cannot be written, in one sentence.
        """
        source = self.source or "photo.png"
        by_name = self.explanation.model.source != ModelSource.source
        if self.target.quantity == "function":
            by_name = False  # no command line knows the function
        command = None if by_name else self._call()
        files = bundle_files(self.explanation, source=source, command=command)
        with disk_errors():
            return write_files(Path(folder), files)

    def figure(
        self,
        path: str | os.PathLike[str],
        *,
        width: float = 85.0,
        dpi: int = 300,
        columns: int | None = None,
        captions: bool = True,
        original: bool = True,
        letters: bool = False,
        colormap: str = "heat",
        opacity: float = 0.6,
        under: Under = "auto",
    ) -> list[Path]:
        """Write a figure for a paper, and a `.bib` that cites the method; return both paths.

        Args:
            path: Ends in .pdf, .svg or .png.
            width: In mm.
            dpi: Dots per inch of a PNG.
            columns: Pictures in a row; by default as many as are 34 mm wide.
            captions: Method, class and score under each picture.
            original: The photo before its map.
            letters: a), b), c) before the captions.
            colormap: As in `image`, and so are `opacity` and `under`.

        Raises:
            BadInput: The file's ending or a size is none that a figure can have.
            InvalidParameter: As of `image`.
            NotInstalled: Matplotlib is not there (extra: figure).
            NotWritten: It cannot be written.
        """
        layout = FigureLayout(width, dpi, columns, captions, original, letters)
        style = Style(colormap, opacity, under=under)
        with disk_errors():
            return save_figure([(self.explanation, style)], Path(path), layout)

    def _call(self) -> str:
        # For a network that has no name on the command line: `model` is the caller's own.
        target, card = self.explanation.target, self.explanation.model
        options: dict[str, object] = {"target": target.index}
        if target.quantity == "value":
            options = {"unit": card.unit}
        elif target.versus is not None:
            options["versus"] = target.versus
        elif target.quantity == "function":
            options["target"] = _Name(self.explanation.labels[0].replace(" ", "_"))
        elif target.quantity != "logit":
            options["quantity"] = target.quantity
        if self.explanation.question.seed:
            options["seed"] = self.explanation.question.seed
        if card.output is not None:
            options["output"] = card.output
        options |= {name: card.input[name] for name in ("size", "mean", "std")}
        options |= self.params
        words = ", ".join(f"{name}={value!r}" for name, value in options.items())
        image = repr(self.source) if self.source else "image"
        return f"whylens.explain(model, {image}, {self.method!r}, {words})"

    def _heatmap(self) -> Heatmap:
        if not isinstance(self.result, Heatmap):
            raise BadInput(f"{self.title} answers with examples, not with a map.")
        return self.result

    def _render(self, style: Style, scale: Scale | None = None) -> Image.Image:
        if isinstance(self.result, Heatmap):
            return render_explanation(self.explanation, style, scale=scale)
        return sheet(self.result)

    def __repr__(self) -> str:
        shape = " x ".join(str(n) for n in self.values.shape)
        ready = "" if self.finished else f", {percent(self.fraction)} done"
        return (
            f"<Why: {self.title} on {self.explanation.model.name}: {self.target}, score "
            f"{self.score:.4g}, {shape} values in {self.unit}{ready}>"
        )

    def _repr_png_(self) -> bytes:
        return _png(_smaller(self.image(), _LONGEST))

    def _repr_html_(self) -> str:
        return str(_html(self))


class SideBySide(Sequence[Why]):
    """Several methods on one input, drawn in one row.

    Each map has a colour scale of its own, since methods have units of their own; with
    `shared=True` one colour is one raw value in all maps of one unit.

    Attributes:
        problems: Why a method gave no answer, by its name.
    """

    def __init__(
        self, answers: Sequence[Why], problems: Mapping[str, str], *, shared: bool = False
    ) -> None:
        self._answers = tuple(answers)
        self.problems = dict(problems)
        self._shared = shared

    def __getitem__(self, key: Any) -> Any:
        """Return an answer by its place or by its method's name."""
        if isinstance(key, str):
            for why in self._answers:
                if why.method == key:
                    return why
            raise KeyError(self.problems.get(key, key))
        return self._answers[key]

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[Why]:
        return iter(self._answers)

    def scales(self) -> list[Scale | None]:
        """Return the colour scale of each map; None for examples."""
        maps = [why.result for why in self if isinstance(why.result, Heatmap)]
        scales = iter(scales_together(maps, same_values=self._shared))
        return [next(scales) if isinstance(why.result, Heatmap) else None for why in self]

    def image(
        self, *, colormap: str = "heat", opacity: float = 0.6, under: Under = "auto"
    ) -> Image.Image:
        """Return all maps in one row, each under its method's title.

        Args:
            colormap: "heat", "viridis", "rainbow" or "grey".
            opacity: 0 shows the photo alone, 1 the colours alone.
            under: "photo", "faded", "alone" or "auto", as in `Why.image`.

        Raises:
            InvalidParameter: A colour map or `under` is unknown, or the opacity not in 0 to 1.
        """
        style = Style(colormap, opacity, under=under)
        side = 280
        tiles = [
            _of_height(why._render(style, scale), side)
            for why, scale in zip(self, self.scales(), strict=True)
        ]
        return _row(tiles, [why.title for why in self])

    def figure(
        self,
        path: str | os.PathLike[str],
        *,
        width: float = 174.0,
        dpi: int = 300,
        columns: int | None = None,
        captions: bool = True,
        original: bool = True,
        letters: bool = False,
        colormap: str = "heat",
        opacity: float = 0.6,
        under: Under = "auto",
    ) -> list[Path]:
        """Write a figure of all answers, and a `.bib` that cites the methods; see `Why.figure`.

        Args:
            width: In mm.

        Raises:
            BadInput: The file's ending or a size is none that a figure can have.
            InvalidParameter: As of `image`.
            NotInstalled: Matplotlib is not there (extra: figure).
            NotWritten: It cannot be written.
        """
        layout = FigureLayout(width, dpi, columns, captions, original, letters)
        style = Style(colormap, opacity, under=under)
        answers = [(why.explanation, style) for why in self]
        with disk_errors():
            return save_figure(answers, Path(path), layout, same_values=self._shared)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the files of every answer, a folder per method, and return their paths.

        Raises:
            NotWritten: They cannot be written, in one sentence.
        """
        return [path for why in self for path in why.save(folder)]

    def __repr__(self) -> str:
        lines = [repr(why) for why in self]
        lines += [f"<{name}: {problem}>" for name, problem in self.problems.items()]
        return "\n".join(lines)

    def _repr_png_(self) -> bytes:
        return _png(self.image())

    def _repr_html_(self) -> str:
        figures = [_html(why, scale) for why, scale in zip(self, self.scales(), strict=True)]
        return str(_render("row", figures, self.problems))


def _html(why: Why, scale: Scale | None = None) -> Markup:
    style, stops, scale_text = Style(), [], ""
    if isinstance(why.result, Heatmap):
        scale = scale or scale_of(why.result)
        stops = colour_stops(style.colormap, diverges=scale.low < 0)
        scale_text = scale_words(scale)
    score = "" if why.target.quantity == "value" else f" Score {why.score:.4g}."
    if why.explanation.model.outputs == "labels":
        score += f" {EACH_ITS_OWN}"
    # A tenth of a PNG's bytes, which a notebook's file would keep.
    picture = _smaller(why._render(style, scale), _LONGEST)
    width = max(picture.width, _NARROWEST)
    return _render("one", why, score, _jpeg(picture), width, scale, stops, scale_text)


def _render(macro: str, *values: object) -> Markup:
    html: Markup = getattr(_templates().get_template("why.html").module, macro)(*values)
    return html


@cache
def _templates() -> Environment:
    return load_templates(Path(__file__).parent)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()


def _smaller(picture: Image.Image, longest: int) -> Image.Image:
    return Image.fromarray(shrunk(np.asarray(picture.convert("RGB")), longest))


def _of_height(picture: Image.Image, height: int) -> Image.Image:
    width = max(1, math.floor(picture.width * height / picture.height))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _row(tiles: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    gap, top = 12, 28
    font = ImageFont.load_default(16)
    width = sum(tile.width for tile in tiles) + gap * (len(tiles) - 1)
    height = top + max((tile.height for tile in tiles), default=0)
    row = Image.new("RGB", (max(1, width), height), "white")
    draw, left = ImageDraw.Draw(row), 0
    for tile, title in zip(tiles, titles, strict=True):
        draw.text((left, 4), title, fill="black", font=font)
        row.paste(tile, (left, top))
        left += tile.width + gap
    return row


class MethodNames(tuple[str, ...]):
    """Names of the methods that can be used.

    Attributes:
        unavailable: Why each of the others cannot.
    """

    unavailable: Mapping[str, str]

    def __repr__(self) -> str:
        lines = [", ".join(self), *(f"not {n}: {why}" for n, why in self.unavailable.items())]
        return "\n".join(lines)
