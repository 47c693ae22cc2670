"""A figure for a paper: pictures at their own pixels, with text and colour bars as vectors."""

from __future__ import annotations

import io
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from whylens.core.errors import BadInput, NotInstalled
from whylens.core.explanation import Explanation, of_several_networks
from whylens.core.outputs.example_images import sheet
from whylens.core.outputs.export import bibliography
from whylens.core.outputs.render import (
    Scale,
    Style,
    colour_stops,
    render_explanation,
    scales_together,
)
from whylens.core.results import Heatmap
from whylens.core.storage.files import write_described
from whylens.core.words import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("pdf", "svg", "png")
_MM = 25.4  # per inch
_GAP, _BAR = 2.0, 1.4  # mm
_NARROWEST = 34.0  # mm of a picture, where no number of columns is asked for
_TEXT, _SMALL = 7.0, 6.0  # points
_LEADING = 1.25  # of a line
_SHADES = 64  # of a colour bar


@dataclass(frozen=True, slots=True)
class FigureLayout:
    """How a figure is laid out.

    Attributes:
        width: In mm, 20 to 1,000; many journals want 85 for one column and 174 for two.
        dpi: Dots per inch of a PNG, 50 to 1,200. In PDF and SVG pictures have their own pixels, but
            no more than twice as many dots.
        columns: Pictures in a row; by default as many as are 34 mm wide.
        captions: Method, class and score under each picture.
        original: The photo before the first of its maps.
        letters: a), b), c) before the captions.
    """

    width: float = 174.0
    dpi: int = 300
    columns: int | None = None
    captions: bool = True
    original: bool = True
    letters: bool = False

    def __post_init__(self) -> None:
        if not 20 <= self.width <= 1000:
            raise BadInput(f"A figure is 20 to 1,000 mm wide, not {self.width:g}.")
        if not 50 <= self.dpi <= 1200:
            raise BadInput(f"A figure has 50 to 1,200 dots per inch, not {self.dpi}.")
        if self.columns is not None and self.columns < 1:
            raise BadInput("A figure needs at least one column.")


@dataclass(frozen=True, slots=True)
class _Panel:
    picture: Image.Image
    captions: tuple[str, ...]
    scale: Scale | None = None
    colormap: str = ""


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of text under a picture.

    Attributes:
        points: Size of its letters.
        texts: Each with its place as a share of the picture's width, which is its alignment too.
    """

    points: float
    texts: tuple[tuple[float, str], ...]


def save_figure(
    answers: Sequence[tuple[Explanation, Style]],
    path: Path,
    layout: FigureLayout,
    *,
    same_values: bool = False,
) -> list[Path]:
    """Write a figure, and beside it a `.bib` that cites its methods; return both paths.

    The pictures are those of the page: `render_explanation` on the scales of `scales_together`.

    Args:
        path: Ends in .pdf, .svg or .png.
        same_values: One colour is one raw value in all maps of one unit.

    Raises:
        BadInput: There is nothing to show, or the file's ending is another.
        NotInstalled: Matplotlib is not there.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise BadInput(f"A figure's file ends in .pdf, .svg or .png; {path.name!r} does not.")
    if not answers:
        raise BadInput("A figure needs at least one explanation.")
    with_photo = _begins_with_photo(answers, layout)
    side, columns = _side_and_columns(len(answers) + sum(with_photo), layout)
    panels = _panels(answers, with_photo, side, kind, same_values=same_values)
    content = _figure_bytes(panels, kind, layout, side, columns)
    cited = path.with_suffix(".bib")
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = bibliography([explanation for explanation, _ in answers])
    of_figure = f"% What {path.name} shows, sha256 "  # BibTeX reads nothing between entries
    write_described(
        path,
        lambda stream: stream.write(content),
        cited,
        lambda sha256: f"{of_figure}{sha256}\n\n{entries}".encode(),
        recorded=lambda data: data.decode().splitlines()[0].removeprefix(of_figure),
    )
    return [path, cited]


def _panels(
    answers: Sequence[tuple[Explanation, Style]],
    with_photo: Sequence[bool],
    side: int,
    kind: str,
    *,
    same_values: bool,
) -> list[_Panel]:
    maps = [answer.result for answer, _ in answers if isinstance(answer.result, Heatmap)]
    scales = iter(scales_together(maps, same_values=same_values))
    panels: list[_Panel] = []
    several = of_several_networks(answer for answer, _ in answers)
    for (answer, style), has_photo in zip(answers, with_photo, strict=True):
        photo = answer.question.photo
        if has_photo and photo is not None:
            panels.append(_Panel(_fit(photo.image(), side, kind), ("Photo",)))
        network = (answer.model.name,) if several else ()
        score = f"score {answer.score:.4g}"
        if answer.target.quantity == "value":
            score = f"{answer.score:.4g} {answer.target.value_unit}".strip()
        if answer.probability is not None:  # it is of a value or a function
            score += f", probability {percent(answer.probability, 1)}"
        captions = (answer.title, *network, answer.question_text, score)
        if isinstance(answer.result, Heatmap):
            scale = next(scales)
            picture = _fit(render_explanation(answer, style, scale=scale), side, kind)
            panels.append(_Panel(picture, captions, scale, style.colormap))
        else:
            picture = _fit(sheet(answer.result, side=224), side, kind)
            panels.append(_Panel(picture, captions))
    return panels


def _begins_with_photo(
    answers: Sequence[tuple[Explanation, Style]], layout: FigureLayout
) -> list[bool]:
    """Return of each answer whether the photo stands before it."""
    digests = [answer.question.digest() for answer, _ in answers]
    return [
        layout.original and answer.question.photo is not None and digest != before
        for (answer, _), digest, before in zip(answers, digests, ["", *digests], strict=False)
    ]


def _side_and_columns(count: int, layout: FigureLayout) -> tuple[int, int]:
    """Return how many dots wide each of so many pictures is, and how many stand in a row.

    Raises:
        BadInput: So many columns do not fit.
    """
    dots = layout.dpi / _MM
    fitting = int((layout.width + _GAP) / (_NARROWEST + _GAP))
    columns = layout.columns or max(1, min(count, fitting))
    side = (round(layout.width * dots) - round(_GAP * dots) * (columns - 1)) // columns
    if side < 4 * round(_BAR * dots):
        raise BadInput(f"{columns} columns do not fit into {layout.width:g} mm; ask for fewer.")
    return side, columns


def _fit(picture: Image.Image, side: int, kind: str) -> Image.Image:
    """Return a picture as the figure holds it: of 24 maps of a large photo one alone is large."""
    height = max(1, round(side * picture.height / picture.width))
    if kind == "png":
        return picture.resize((side, height), Image.Resampling.LANCZOS)
    if picture.width > 2 * side:
        return picture.resize((2 * side, 2 * height), Image.Resampling.LANCZOS)
    return picture


def _figure_bytes(
    panels: Sequence[_Panel], kind: str, layout: FigureLayout, side: int, columns: int
) -> bytes:
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise NotInstalled(
            "A figure needs Matplotlib, which is not installed: `pip install '.[figure]'` in the "
            "checkout."
        ) from exc
    dots = layout.dpi / _MM
    gap, bar = round(_GAP * dots), round(_BAR * dots)
    width = round(layout.width * dots)
    heights = [max(1, round(side * p.picture.height / p.picture.width)) for p in panels]
    with mpl.rc_context(
        {  # text stays text, pictures stay apart, equal figures have equal bytes
            "pdf.fonttype": 42,
            "svg.fonttype": "none",
            "svg.hashsalt": "whylens",
            "image.composite_image": False,
            "text.usetex": False,
            "savefig.bbox": None,  # fonts and colours are left as the user has set them
        }
    ):
        units = [_scale_lines(panel, side / dots) for panel in panels]
        captions = [_captions(p, number, side / dots, layout) for number, p in enumerate(panels)]
        lines = []
        # The pictures of a row end at one height, and the texts begin there.
        places, top = [], 0
        for first in range(0, len(panels), columns):
            row = range(first, min(first + columns, len(panels)))
            bottom = top + max(heights[n] for n in row)
            places += [((n - first) * (side + gap), bottom) for n in row]
            # So do the captions of maps, however long their units are.
            most = max(len(units[n]) for n in row)
            for n in row:
                blank = [_Line(_SMALL, ())] * (most - len(units[n]) if units[n] else 0)
                lines.append([*units[n], *blank, *captions[n]])
            top = bottom + max(2 * bar + _height(lines[n], layout) for n in row) + gap
        size = (width, top - gap)
        figure = Figure((size[0] / layout.dpi, size[1] / layout.dpi), dpi=layout.dpi)
        for panel, texts, (left, bottom), height in zip(
            panels, lines, places, heights, strict=True
        ):
            if kind != "png":
                axes = figure.add_axes(_share((left, bottom - height, side, height), size))
                axes.imshow(np.asarray(panel.picture), interpolation="none", aspect="auto")
                axes.set_axis_off()
            if panel.scale is not None:
                shades = colour_stops(panel.colormap, diverges=panel.scale.low < 0, count=_SHADES)
                axes = figure.add_axes(_share((left, bottom + bar // 2, side, bar), size))
                # Each reaches below the next, so that no seam shows the paper.
                axes.bar(range(_SHADES), 1, 2, color=shades, align="edge")
                axes.set(xlim=(0, _SHADES), ylim=(0, 1))
                axes.set_axis_off()
            start = bottom + (2 * bar if panel.scale is not None else bar // 2)
            _write(figure, texts, (left, start, side), size, layout)
        buffer = io.BytesIO()
        dateless = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
        figure.savefig(buffer, format=kind, dpi=layout.dpi, metadata=dateless)
    if kind != "png":
        return buffer.getvalue()
    # Pasted here: Matplotlib would resize by the nearest pixel and place pictures between dots.
    with Image.open(buffer) as image:
        paper = image.convert("RGB")
    for panel, (left, bottom), height in zip(panels, places, heights, strict=True):
        paper.paste(panel.picture, (left, bottom - height))
    buffer = io.BytesIO()
    paper.save(buffer, "PNG", dpi=(layout.dpi, layout.dpi))
    return buffer.getvalue()


def _share(
    box: tuple[int, int, int, int], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    # From dots below the upper edge to shares above the lower one.
    (left, top, width, height), (whole, tall) = box, size
    return left / whole, 1 - (top + height) / tall, width / whole, height / tall


def _scale_lines(panel: _Panel, width: float) -> list[_Line]:
    """Return what stands below a colour bar: its ends and its unit; nothing without one."""
    if panel.scale is None:
        return []
    return [_Line(_SMALL, _ticks(panel.scale)), *_wrap(panel.scale.unit, _SMALL, width)]


def _captions(panel: _Panel, number: int, width: float, layout: FigureLayout) -> list[_Line]:
    captions = panel.captions if layout.captions else ()
    if layout.letters:
        letter = f"{_letter(number)})"
        captions = (" ".join([letter, *captions[:1]]), *captions[1:])
    return [line for text in captions for line in _wrap(text, _TEXT, width)]


def _letter(number: int) -> str:
    rounds, place = divmod(number, 26)
    return (_letter(rounds - 1) if rounds else "") + string.ascii_lowercase[place]


def _ticks(scale: Scale) -> tuple[tuple[float, str], ...]:
    beyond = scale.largest is not None and scale.largest > scale.high
    ends = (f"{'< ' if beyond else ''}{scale.low:.4g}", f"{'> ' if beyond else ''}{scale.high:.4g}")
    if scale.low == 0:
        return (0.0, "0"), (1.0, ends[1])
    return (0.0, ends[0]), (0.5, "0"), (1.0, ends[1])


def _wrap(text: str, points: float, width: float) -> list[_Line]:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    room, font = width / _MM * 72, FontProperties(size=points)
    texts: list[str] = []
    for word in text.split():
        longer = f"{texts[-1]} {word}" if texts else word
        if texts and text_to_path.get_text_width_height_descent(longer, font, False)[0] <= room:
            texts[-1] = longer
        else:
            texts.append(word)
    return [_Line(points, ((0.0, line),)) for line in texts]


def _line_height(line: _Line, layout: FigureLayout) -> int:
    return round(line.points * _LEADING / 72 * layout.dpi)


def _height(lines: Sequence[_Line], layout: FigureLayout) -> int:
    return sum(_line_height(line, layout) for line in lines)


def _write(
    figure: Figure,
    lines: Sequence[_Line],
    place: tuple[int, int, int],
    size: tuple[int, int],
    layout: FigureLayout,
) -> None:
    left, top, width = place
    for line in lines:
        top += _line_height(line, layout)
        for share, text in line.texts:
            figure.text(
                (left + share * width) / size[0],
                1 - (top - 0.25 * line.points / 72 * layout.dpi) / size[1],
                text,
                fontsize=line.points,
                ha={0.0: "left", 0.5: "center", 1.0: "right"}[share],
                va="baseline",
                parse_math=False,
            )
