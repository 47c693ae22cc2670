"""The page's HTML, from templates that escape what they are given, and its lines of status."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape
from PIL import Image

from whylens.core.evaluation.verdict import GOOD, Verdict
from whylens.core.explainer import Explainer
from whylens.core.explanation import Explanation, ModelCard, Prediction, titles_of
from whylens.core.inputs.view import View
from whylens.core.models.labels import class_text
from whylens.core.needs import Need
from whylens.core.outputs.example_images import tile
from whylens.core.outputs.headline import CoverTest
from whylens.core.outputs.ranking import agreements, mean_agreements
from whylens.core.outputs.render import Scale, Style, colour_stops, scale_words
from whylens.core.outputs.templates import jpeg_url, load_templates
from whylens.core.registry import Registry
from whylens.core.results import Examples, Heatmap, Prototypes
from whylens.core.targets import ClassScore
from whylens.core.train.report import Figures, ModelReport
from whylens.core.words import percent

# Ids of the tabs, and of what lies inside one of them.
COMPARE, WHAT_IF, METHODS, REPORT, PICTURES = "compare", "what-if", "methods", "report", "pictures"
PHOTOS, TRAIN, PLUGINS = "photos", "train", "plugins"
TAB_OF = {PHOTOS: PICTURES, TRAIN: PICTURES, PLUGINS: METHODS}
# Beyond this many classes the grid is too wide to read; the commonest mistakes are listed instead.
MOST_COLUMNS = 24
MOST_PAIRS = 40
MOST_LEVEL = 6  # more column heads than this are written upwards
SPLIT_NAMES = {"val": "validation", "test": "test"}


def share_in_words(share: float) -> str:
    """Return a share or probability in words; what is not nothing never reads 0, nor 100."""
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else percent(share)


def amount(score: ClassScore) -> str:
    """Return a class's probability in words, or the number that a network gives, with its unit."""
    return score.amount if score.probability is None else share_in_words(score.probability)


# A click on anything with data-cell is a click of the component, and tells which.
CELL_JS = """element.addEventListener('click', event => {
  const cell = event.target.closest('[data-cell]');
  if (!cell) return;
  element.querySelectorAll('[data-cell]').forEach(b => b.classList.toggle('wl-chosen', b === cell));
  trigger('click', {cell: cell.dataset.cell});
})"""

# A click on a tile makes it large, or small again; a large one offers to be the photo.
TILES_JS = """element.addEventListener('click', event => {
  const cell = event.target.closest('[data-cell]')?.dataset.cell;
  if (cell) trigger('click', {cell});
  const tile = event.target.closest('[aria-expanded]');
  if (tile) tile.ariaExpanded = tile.closest('figure').classList.toggle('wl-large');
})"""

_TEMPLATES = load_templates(Path(__file__).with_name("templates"))


def code(text: str) -> Markup:
    """Return a sentence as HTML, with what stands between backticks as code."""
    parts = str(escape(text)).split("`")
    words = (f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
    return Markup("".join(words))  # noqa: S704 - escaped above


def without_commands(text: str) -> str:
    """Return a reason without the sentences that hold commands: the page offers buttons."""
    sentences = text.split(". ")
    return (". ".join(s for s in sentences if "`" not in s) or text).rstrip(".")


_TEMPLATES.filters |= {
    "share": share_in_words,
    "code": code,
    "plain": without_commands,
}


def render(template: str, macro: str, **values: object) -> str:
    """Return the HTML of one macro of a template; values are escaped."""
    module = _TEMPLATES.get_template(f"{template}.html").module
    return str(getattr(module, macro)(**values))


def heading(text: str) -> str:
    """Return HTML of a heading inside a tab."""
    return render("pieces", "heading", text=text)


def slug(name: str) -> str:
    """Return a name fit for element ids and addresses: no plus signs."""
    return name.replace("+", "-plus")


def duration(seconds: float) -> str:
    """Return a time in words, as precise as it is useful."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def status(explanation: Explanation, *, said: str = "") -> str:
    """Return what a panel says about its answer: progress, time, notes.

    Args:
        said: A sentence that stands beside it, and is not said twice.
    """
    if not explanation.finished:
        seconds = explanation.seconds_left
        rest = f", about {duration(seconds)} left" if seconds is not None else ""
        return f"{percent(explanation.fraction)} done in {duration(explanation.seconds)}{rest}"
    words = f"Done in {duration(explanation.seconds)}: {explanation.question_text}."
    note = explanation.result.note
    return " ".join([words, *([note] if note and note != said else []), *explanation.notes])


def diagnostics_table(diagnostics: Mapping[str, float]) -> str:
    """Return HTML of the figures by which a map can be judged, to be unfolded; "" of none."""
    return render("pieces", "diagnostics_table", diagnostics=diagnostics) if diagnostics else ""


def waiting(ahead: int) -> str:
    """Return what a panel says until there is a first step.

    Args:
        ahead: How many answers go before it.
    """
    if not ahead:
        return "Working ..."
    return f"Waiting: {ahead} {'answer goes' if ahead == 1 else 'answers go'} before yours ..."


class State(StrEnum):
    """What the answer card shows; that it waits or is stale is seen in the browser alone."""

    EMPTY = "empty"
    WORKING = "working"
    DONE = "done"
    BLANK = "blank"
    REFUSED = "refused"
    FAILED = "failed"


def answer_head(
    state: State, verdict: str, sentence: str = "", *, question: str = "", way_out: str = ""
) -> str:
    """Return HTML of the answer card's head.

    Args:
        question: Id of the question that it is about, or "".
        way_out: The button that mends what it says: "example", "class", "methods" or "".
    """
    words = {"verdict": verdict, "sentence": sentence, "way_out": way_out}
    return stamp(question) + render("answer", "head", state=state, **words)


def chips(prediction: Prediction, target: int | None, labels: tuple[str, ...]) -> str:
    """Return HTML of the best classes as buttons, that of the question pressed."""
    best = prediction.classes[0].index
    cells = [
        (
            class_text(c.index, labels),
            c.label,
            amount(c),
            c.index == (best if target is None else target),
        )
        for c in prediction.classes
    ]
    return render("answer", "chips", cells=cells)


def by(answer: Explanation) -> str:
    """Return HTML that says by which method the card's map was made, and what is striped."""
    seconds, has_unseen = duration(answer.seconds), answer.view is not None and _unseen(answer.view)
    return render("answer", "by", title=answer.title, seconds=seconds, unseen=has_unseen)


def source(text: str) -> str:
    """Return HTML of a sentence that stands back behind others."""
    return render("pieces", "source", text=text)


def _unseen(view: View) -> float:
    # The share of the photo that the network was not shown, where it is worth a word.
    x0, y0, x1, y1 = view.visible_box
    share = 1 - (x1 - x0) * (y1 - y0) / (view.original[0] * view.original[1])
    return share if share > 0.01 else 0.0


def frame(image: Image.Image, part: tuple[float, float, float, float]) -> str:
    """Return HTML of a photo with a frame on it that can be moved.

    Args:
        part: Left, top, right and bottom of the frame in shares of the photo.
    """
    left, top, right, bottom = (100 * share for share in part)
    size = {"left": left, "top": top, "width": right - left, "height": bottom - top}
    ratio = (bottom - top) / (right - left)
    return render("answer", "frame", url=_data_url(image), size=size, ratio=ratio)


def cover_words(test: CoverTest, question_text: str) -> str:
    """Return HTML of what the class loses when the map's strongest places are covered."""
    figures = (test.before, test.after, test.chance)
    if test.unit is None:
        words = [share_in_words(figure) for figure in figures]
    else:
        words = [f"{figure:.4g} {test.unit}".strip() for figure in figures]
    picture = test.covered_pixels is not None
    return render(
        "answer", "cover", share=test.share, asked=question_text, words=words, picture=picture
    )


def example_buttons(examples: Mapping[str, bytes]) -> str:
    """Return HTML of pictures to choose from.

    Args:
        examples: JPEG bytes of thumbnails by name.
    """
    return render("answer", "examples", thumbnails=examples)


def legend(
    scale: Scale,
    style: Style,
    *,
    note: str = "",
    words: str | None = None,
    folded: str | None = None,
) -> str:
    """Return HTML of a colour scale with the raw values of its ends, and a sentence beneath.

    Args:
        words: What full colour stands for; by default in `scale_words`.
        folded: HTML of what is unfolded with unit and words; None: these are seen.
    """
    stops = colour_stops(style.colormap, diverges=scale.low < 0)
    words = scale_words(scale) if words is None else words
    more = None if folded is None else Markup(folded)  # noqa: S704 - from a template
    values = {"scale": scale, "stops": stops, "words": words, "note": note, "folded": more}
    return render("pieces", "legend", **values)


def verdict(outcome: Verdict) -> str:
    """Return HTML of whether a map is to be believed, with its scores and curves to be unfolded."""
    rows = []
    for name, good in GOOD.items():
        score = outcome.scores[name]
        value, span = "" if score.value is None else f"{score.value:.2f}", score.span
        if span is not None and f"{span[0]:.2f}" != f"{span[1]:.2f}":
            value += f" ({span[0]:.2f} to {span[1]:.2f})"
        chance = "" if score.chance is None else f"{score.chance:.2f}"
        note = score.note if span is None else ""  # else it says the span once more
        if value or note:
            rows.append((name.capitalize(), note, value, chance, good))
    curves = {}
    for name in ("deletion", "insertion"):
        score = outcome.scores[name]
        top = max((abs(y) for y in score.curve), default=0.0)
        scale = 100 / max(1.0, top)
        places = zip(score.shares, score.curve, strict=True)
        curves[name] = " ".join(f"{200 * x:.1f},{100 - scale * y:.1f}" for x, y in places)
    return render("answer", "verdict", verdict=outcome, rows=rows, curves=curves if rows else {})


def map_table(
    answers: Sequence[Explanation], scales: Sequence[Scale], options: Sequence[str]
) -> str:
    """Return HTML of a table of maps: scores, time, full colour and remarks.

    How far each two maps of one network agree is to be unfolded beneath.

    Args:
        options: What parameters of each differ from the method's own, in words.
    """
    names = dict.fromkeys(answer.model.name for answer in answers)
    titles = titles_of(answers)
    agree: dict[int, float | None] = {}
    tables: dict[str, tuple[list[str], list[list[float]]]] = {}
    for name in names:
        places = [i for i, answer in enumerate(answers) if answer.model.name == name]
        if len(places) > 1:
            matrix = agreements([answers[i] for i in places])
            agree |= zip(places, mean_agreements(matrix), strict=True)
            tables[name] = ([answers[i].title for i in places], matrix.tolist())
    judged = any(answer.verdict is not None for answer in answers)
    rows = [
        (
            titles[number],
            duration(answer.seconds),
            scale,
            [
                *(_scores(answer.verdict) if judged else ()),
                *([_figure(agree.get(number))] if tables else ()),
            ],
            (
                changed and f"Options: {changed}.",
                answer.reason,
                answer.result.note if isinstance(answer.result, Heatmap) else "",
            ),
        )
        for number, (answer, scale, changed) in enumerate(
            zip(answers, scales, options, strict=True)
        )
    ]
    heads = (["Verdict", *map(str.capitalize, GOOD)] if judged else []) + ["Agrees"] * bool(tables)
    table = render("pieces", "map_table", rows=rows, heads=heads)
    return table + (render("pieces", "agreement", tables=tables) if tables else "")


def _scores(verdict: Verdict | None) -> list[str]:
    """Return what a row of the table says of a verdict: its word, then every score."""
    if verdict is None or verdict.word is None:
        return [""] * (1 + len(GOOD))
    return [verdict.word, *(_figure(verdict.figures.get(name)) for name in GOOD)]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def agreeing_methods(agreements: Mapping[str, tuple[float, bool]], stamp_id: str) -> str:
    """Return HTML of how many methods mark the same places; "" where there is one alone.

    Args:
        agreements: From `agreeing`.
        stamp_id: Id of the question.
    """
    if not agreements:
        return ""
    agree = 1 + sum(agrees for _, agrees in agreements.values())
    words = {"agree": agree, "count": 1 + len(agreements), "others": agreements}
    return stamp(stamp_id) + render("answer", "agreeing", **words)


def plugin_table(registry: Registry, failures: Mapping[str, str]) -> str:
    """Return HTML of a table of all explainers and their owners.

    Args:
        failures: What is to be said of methods that failed, by name.
    """
    return render("pieces", "plugin_table", entries=registry.entries, failures=failures)


def stamp(question: str = "", network: str = "", address: str = "") -> str:
    """Return HTML, not to be seen, that says what an answer is for.

    Args:
        question: Id of the question, or "" where it does not matter.
        network: Id of the network and of how photos are shown to it, likewise.
        address: What of the page's address says which question it is, as a query.
    """
    return render("pieces", "stamp", question=question, network=network, address=address)


def waiting_note() -> str:
    """Return HTML of the place in line, which the browser fills in while there is one."""
    return render("pieces", "waiting_note")


def stale_note(
    text: str = "This is for the previous question. Ask again to see the answer to this one.",
) -> str:
    """Return HTML that is seen above an answer that is for something else than what is asked."""
    return render("pieces", "stale_note", text=text)


@dataclass(frozen=True)
class Card:
    """A method as a card shows it.

    Attributes:
        cost: Time on the loaded network, in words.
        reason: Why it cannot be used on it, or "".
        thumbnail: JPEG bytes of its map, where there is one.
    """

    explainer: Explainer[Any]
    cost: str
    reason: str
    is_open: bool
    is_compared: bool
    thumbnail: bytes | None

    @property
    def key(self) -> str:
        """The method's slug."""
        return slug(self.explainer.name)

    @property
    def badges(self) -> list[str]:
        """What it needs and what it does not know, a word or two each."""
        return _badges(self.explainer)


def method_cards(groups: Mapping[str, Sequence[Card]], stamp_id: str) -> str:
    """Return HTML of all methods as buttons under the questions that they answer.

    Args:
        groups: Cards by question.
        stamp_id: Id of the question that their maps answer.
    """
    return render("answer", "method_cards", groups=groups, mark=Markup(stamp(stamp_id)))  # noqa: S704


def _badges(explainer: Explainer[Any]) -> list[str]:
    badges = [need.badge for need in Need if need in explainer.needs]
    badges += ["needs training pictures"] if explainer.artifact_kind else []
    return [*badges, "knows no class"] if explainer.class_blind else badges


def model_card(card: ModelCard) -> str:
    """Return HTML that says what the model is, whose weights it has and on what terms."""
    return render("pieces", "model_card", card=card)


def network_facts(card: ModelCard, methods: int, unavailable: int) -> str:
    """Return HTML of all that is known of a network: what it knows, takes, and comes from.

    Args:
        methods: How many there are.
        unavailable: How many of them cannot be used on it.
    """
    inputs = {
        name.replace("_", " "): ", ".join(f"{v:g}" for v in value)
        if isinstance(value, list) and all(isinstance(v, int | float) for v in value)
        else f"{value}"
        for name, value in card.input.items()
        if value not in (None, "", [])
    }
    usable = f"{methods - unavailable} of {methods}"
    return render("report", "network_facts", card=card, inputs=inputs, usable=usable)


def banner(text: str) -> str:
    """Return HTML of a banner, or nothing for an empty text."""
    return render("pieces", "banner", text=text)


def unavailable(reason: str, key: str) -> str:
    """Return HTML that says why a method cannot be used, with the way out; or nothing.

    Args:
        key: The method's slug.
    """
    return render("pieces", "refused", reason=reason, key=key) if reason else ""


def unavailable_list(reasons: Mapping[str, str]) -> str:
    """Return HTML that lists the methods that cannot be used on this model, or nothing."""
    return render("compare", "unavailable", reasons=reasons)


def about(explainer: Explainer[Any]) -> str:
    """Return HTML that introduces a method."""
    return render("pieces", "about", explainer=explainer)


def class_probabilities(prediction: Prediction) -> dict[str, float] | str:
    """Return labels with probabilities as the page lists them, or a value in words.

    Equal labels are told apart.
    """
    probabilities: dict[str, float] = {}
    for score in prediction.classes:
        if score.probability is None:
            return str(score)
        name = score.label if score.label not in probabilities else f"{score.label} ({score.index})"
        probabilities[name] = score.probability
    return probabilities


def tiles_html(result: Examples | Prototypes, *, colormap: str, are_photos: bool = False) -> str:
    """Return HTML of a result's pictures under their headings, with the sum of their points.

    Args:
        are_photos: Whether each can be made the photo; its number is then a button's data-cell.
    """
    top = max((abs(item.value) for item in result.items), default=0.0) or 1.0
    groups = [
        (
            heading,
            [
                (str(i) if are_photos else "", item, _data_url(tile(item, colormap=colormap)),
                 item.value / top)
                for i, item in members
            ],
        )
        for heading, members in groupby(enumerate(result.items), key=lambda pair: pair[1].group)
    ]  # fmt: skip
    bars = isinstance(result, Prototypes)
    return render("tiles", "tiles", result=result, groups=groups, bars=bars)


def _data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return jpeg_url(buffer.getvalue())


def report_headline(report: ModelReport) -> str:
    """Return HTML of the figures, the data and what to know before believing them."""
    both = (("Test", report.test), ("Validation", report.val))
    splits = [(name, figures) for name, figures in both if figures is not None]
    return render("report", "headline", report=report, splits=splits)


def class_table(figures: Figures) -> str:
    """Return HTML of precision, recall, F1 and support of each class."""
    return render("report", "class_table", classes=figures.classes)


def confusion_matrix(figures: Figures) -> str:
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
