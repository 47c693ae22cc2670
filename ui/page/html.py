"""Sentences and small pieces of HTML for the page; all foreign text is escaped here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from whylens.core.explanation import Explanation, ModelCard, Prediction
from whylens.core.outputs.render import Scale, Style, colour_stops
from whylens.core.registry import Registry
from whylens.core.results import Heatmap

# Ids of the tabs that are no method's.
COMPARE, GUIDE, REPORT, TRAIN, PLUGINS = "compare", "guide", "report", "train", "plugins"


def slug(name: str) -> str:
    """Return a name fit for element ids and addresses: no plus signs."""
    return name.replace("+", "-plus")


def family_tab(family: str) -> str:
    """Return the id of the tab that holds a family's methods."""
    return "family-" + "-".join(family.lower().split())


def duration(seconds: float) -> str:
    """Return a time in words, as precise as it is useful."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def status(explanation: Explanation) -> str:
    """Return what a panel says about its answer: progress, time, checks."""
    if not explanation.finished:
        left = explanation.seconds_left
        rest = f", about {duration(left)} left" if left is not None else ""
        return f"{explanation.fraction:.0%} done in {duration(explanation.seconds)}{rest}"
    said = [f"Done in {duration(explanation.seconds)}: {explanation.asked}."]
    result = explanation.result
    if isinstance(result, Heatmap) and result.diagnostics:
        said.append(", ".join(f"{k} {v:.4g}" for k, v in result.diagnostics.items()) + ".")
    if result.note:
        said.append(result.note)
    return " ".join(said)


def legend(scale: Scale, style: Style, *, note: str = "") -> str:
    """Return HTML of a colour scale with its raw values.

    Args:
        scale: Raw values of the ends.
        style: The colours.
        note: A sentence beneath.
    """
    diverges = scale.low < 0
    stops = ", ".join(colour_stops(style.colormap, diverges=diverges))
    middle = f"<span>{0:g}</span>" if diverges else ""
    below = f"<p class='wl-reason'>{escape(note)}</p>" if note else ""
    return (
        "<div class='wl-legend'>"
        f"<div class='wl-bar' style='background:linear-gradient(90deg,{stops})' role='img'"
        f" aria-label='Colour scale from {scale.low:.4g} to {scale.high:.4g}'></div>"
        f"<div class='wl-ticks'><span>{scale.low:.4g}</span>{middle}<span>{scale.high:.4g}</span>"
        f"</div><div class='wl-unit'>{escape(scale.unit)}</div>{below}</div>"
    )


def table_of(answers: Sequence[Explanation], scales: Sequence[Scale]) -> str:
    """Return HTML of a table: what each map's full colour means, its time and what to know.

    Args:
        answers: One per map.
        scales: The maps' own scales, in the same order.
    """
    rows = "".join(
        f"<tr><td>{escape(a.title)}</td><td class='num'>{duration(a.seconds)}</td>"
        f"<td class='num'>{s.high:.4g}</td><td>{escape(s.unit)}</td>"
        f"<td>{escape(_remark(a))}</td></tr>"
        for a, s in zip(answers, scales, strict=True)
    )
    return _table(("Method", "Time", "Largest value", "Unit", "Remarks"), rows)


def plugin_table(registry: Registry) -> str:
    """Return HTML of a table of all explainers and their owners."""
    rows = "".join(
        f"<tr><td>{escape(e.explainer.title)}</td><td><code>{escape(name)}</code></td>"
        f"<td>{escape(e.explainer.family)}</td><td><code>{escape(e.plugin)}</code></td>"
        f"<td>{escape(e.distribution)}</td><td class='num'>{escape(e.version)}</td></tr>"
        for name, e in registry.entries.items()
    )
    return _table(("Explainer", "Name", "Family", "Plugin", "Owner", "Version"), rows)


def _table(heads: Sequence[str], rows: str) -> str:
    cells = "".join(f"<th scope='col'>{escape(head)}</th>" for head in heads)
    return (
        f"<div class='wl-scroll'><table class='wl-table'><thead><tr>{cells}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _remark(answer: Explanation) -> str:
    note = answer.result.note if isinstance(answer.result, Heatmap) else ""
    return " ".join(text for text in (answer.reason, note) if text)


def model_card(card: ModelCard) -> str:
    """Return HTML that says what the model is, whose weights it has and on what terms."""
    notes = "".join(f"<br>{escape(note)}" for note in card.notes) if card.trained else ""
    return (
        f"<p class='wl-card'><b>{escape(card.name)}</b>, {len(card.labels):,} classes. "
        f"{escape(card.source)}. Licence of the weights: {escape(card.licence)}. "
        f"sha256 {escape(card.digest[:12])}…{notes}</p>"
    )


def banner(text: str) -> str:
    """Return HTML of a banner, or nothing for an empty text."""
    return f"<div class='wl-banner' role='status'>{escape(text)}</div>" if text else ""


def unavailable(reason: str) -> str:
    """Return HTML that says why a method cannot be used on this model, or nothing."""
    if not reason:
        return ""
    return f"<div class='wl-banner' role='status'>Not on this model: {escape(reason)}</div>"


def guesses(prediction: Prediction) -> dict[str, float]:
    """Return labels with probabilities as the page lists them; equal labels are told apart."""
    shown: dict[str, float] = {}
    for guess in prediction.guesses:
        name = guess.label if guess.label not in shown else f"{guess.label} ({guess.index})"
        shown[name] = guess.probability
    return shown


def about(summary: str, limits: str, source: str, cost: str) -> str:
    """Return HTML that introduces a method."""
    return (
        f"<p class='wl-about'>{escape(summary)} <span class='wl-limits'><b>Cannot show:</b> "
        f"{escape(limits)}</span></p><p class='wl-source'>{escape(source)} · "
        f"Cost: {escape(cost)}</p>"
    )


def unavailable_list(reasons: Mapping[str, str]) -> str:
    """Return HTML that lists the methods that cannot be used on this model, or nothing."""
    if not reasons:
        return ""
    items = "".join(
        f"<li><b>{escape(name)}</b>: {escape(reason)}</li>" for name, reason in reasons.items()
    )
    return f"<div class='wl-missing'>Not on this model:<ul>{items}</ul></div>"
