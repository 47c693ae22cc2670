"""Which explainers, data sets and metrics there are: isolated, checked; faults become Problems.

Names no plugin: the one list of built-ins is pyproject.toml's own entry-point table.
"""

from __future__ import annotations

import logging
import os
import tomllib
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

import pluggy

from whylens.core import hookspecs
from whylens.core.datasets.dataset import DatasetSource, dataset_errors
from whylens.core.errors import CoreError, UnknownName, words_of
from whylens.core.evaluation.metric import Metric, metric_errors
from whylens.core.explainer import Explainer, contract_errors
from whylens.core.hookspecs import GROUP, PROJECT
from whylens.core.storage.interrupts import noted_interrupts

log = logging.getLogger(__name__)
T = TypeVar("T")

STRICT_VARIABLE, BLOCK_VARIABLE = "WHYLENS_STRICT_PLUGINS", "WHYLENS_BLOCK_PLUGINS"
MOST_DETAIL_LETTERS = 20_000


class PluginProblem(CoreError):
    """A plugin is refused; raised only where strictness is asked for."""


@dataclass(frozen=True, slots=True)
class PluginSource:
    """An entry point and who owns it.

    Attributes:
        point: The entry point.
        distribution: The package that declares it.
        version: That package's version.
    """

    point: metadata.EntryPoint
    distribution: str
    version: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a plugin, or something that it offers, is missing.

    Attributes:
        stage: "load", "register", "hook", "check", "clash" or "blocked".
        plugin: Name of the entry point.
        distribution: The package it comes from.
        message: What happened and what to do, in words.
        details: Traceback for the plugin's author, its end where it is long; may be empty.
    """

    stage: str
    plugin: str
    distribution: str
    message: str
    details: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One explainer and its owner."""

    explainer: Explainer[Any]
    plugin: str
    distribution: str
    version: str


@dataclass(frozen=True, slots=True)
class Registry:
    """All that plugins offer, by name and in the order to show it, and all problems.

    Attributes:
        entries: Name to entry.
        problems: What is missing and why.
        datasets: Name, without an option, to data set.
        metrics: Name to metric.
    """

    entries: Mapping[str, Entry]
    problems: tuple[Problem, ...] = ()
    datasets: Mapping[str, DatasetSource] = field(default_factory=lambda: MappingProxyType({}))
    metrics: Mapping[str, Metric] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def explainers(self) -> dict[str, Explainer[Any]]:
        """Every explainer by name, in the order to show them."""
        return {name: entry.explainer for name, entry in self.entries.items()}

    def explainer(self, name: str) -> Explainer[Any]:
        """Return the explainer called `name`.

        Raises:
            UnknownName: There is none; close names are offered.
        """
        try:
            return self.entries[name].explainer
        except KeyError:
            raise UnknownName.among("method", name, self.entries) from None

    def metric(self, name: str) -> Metric:
        """Return the metric called `name`.

        Raises:
            UnknownName: There is none; close names are offered.
        """
        try:
            return self.metrics[name]
        except KeyError:
            raise UnknownName.among("metric", name, self.metrics) from None


def load_registry(
    sources: Iterable[PluginSource] | None = None,
    *,
    blocked: Mapping[str, str] | None = None,
    strict: bool | None = None,
) -> Registry:
    """Return all explainers that load, with a Problem for each plugin that does not.

    Args:
        sources: Entry points to use instead of the built-in and installed ones.
        blocked: Entry-point names to leave out beside those in WHYLENS_BLOCK_PLUGINS, and why.
        strict: Raise on the first problem; by default if WHYLENS_STRICT_PLUGINS is 1.

    Raises:
        PluginProblem: Only where strict.
    """
    reasons = dict(blocked or {})
    for name in os.environ.get(BLOCK_VARIABLE, "").split(","):
        reasons.setdefault(name, f"Blocked by {BLOCK_VARIABLE}.")
    if strict is None:
        strict = os.environ.get(STRICT_VARIABLE) == "1"
    loader = _Loader(strict=strict)
    with noted_interrupts(loader.interrupts):
        for item in sources if sources is not None else all_entry_points():
            if item.point.name in reasons:
                loader.note("blocked", item, reasons[item.point.name], fatal=False)
            else:
                loader.add(item)
    entries = {
        name: Entry(explainer, item.point.name, item.distribution, item.version)
        for name, (explainer, item) in loader.offers["explainers"].items()
    }
    datasets, metrics = (
        MappingProxyType({name: thing for name, (thing, _) in loader.offers[hook].items()})
        for hook in ("datasets", "metrics")
    )
    return Registry(MappingProxyType(entries), tuple(loader.problems), datasets, metrics)


# What a hook offers: what one is called, and what is wrong with it, one sentence each.
_KINDS: dict[str, tuple[str, Callable[[object], list[str]]]] = {
    "explainers": ("method", contract_errors),
    "datasets": ("data set", dataset_errors),
    "metrics": ("metric", metric_errors),
}


class _Loader:
    """The state of one loading; each plugin passes every stage alone."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.offers: dict[str, dict[str, tuple[Any, PluginSource]]] = {hook: {} for hook in _KINDS}
        self.problems: list[Problem] = []
        self.interrupts: list[int] = []

    def note(
        self,
        stage: str,
        item: PluginSource,
        message: str,
        *,
        cause: BaseException | None = None,
        fatal: bool = True,
    ) -> None:
        details = "".join(traceback.format_exception(cause)) if cause else ""
        details = details[-MOST_DETAIL_LETTERS:]
        problem = Problem(stage, item.point.name, item.distribution, message, details)
        self.problems.append(problem)
        log.warning("Plugin %s of %s: %s", problem.plugin, problem.distribution, message)
        if self.strict and fatal:
            raise PluginProblem(f"{item.point.name}: {message}") from cause

    def add(self, item: PluginSource) -> None:
        owner = self.manager.get_plugin(item.point.name)
        if owner is not None:
            self.note("clash", item, f"The entry point {item.point.name!r} is already taken.")
            return
        ok, plugin = self._stage("load", item, item.point.load)
        if not ok:
            return
        ok, _ = self._stage("register", item, lambda: self._register(item, plugin))
        if not ok:
            # A plugin that fails validation stays half registered and would still answer.
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            return
        # A plugin whose offers of one kind fail keeps those of the others.
        for hook in _KINDS:
            caller: pluggy.HookCaller = getattr(self.manager.hook, hook)
            _, things = self._stage("hook", item, partial(_offers, plugin, caller))
            for thing in things or []:
                self._accept(hook, item, thing)

    def _stage(
        self, stage: str, item: PluginSource, work: Callable[[], T]
    ) -> tuple[bool, T | None]:
        try:
            return True, work()
        except BaseException as exc:
            if self.interrupts:  # Ctrl-C was pressed: that is not the stranger's
                raise
            words = f"It failed to {_WORDS[stage]} ({words_of(exc)})."
            self.note(stage, item, words, cause=exc)
            return False, None

    def _register(self, item: PluginSource, plugin: object) -> None:
        self.manager.register(plugin, name=item.point.name)
        self.manager.check_pending()
        callers = self.manager.get_hookcallers(plugin)
        if not callers:
            raise PluginProblem(
                f"it offers no hook; define one of {', '.join(_KINDS)} and mark it with @hookimpl"
            )

    def _accept(self, hook: str, item: PluginSource, thing: Any) -> None:
        noun, errors = _KINDS[hook]
        ok, wrong = self._stage("check", item, partial(errors, thing))
        if not ok:
            return
        if wrong:
            self.note("check", item, " ".join(wrong))
            return
        if thing.name in self.offers[hook]:
            owner = self.offers[hook][thing.name][1]
            self.note(
                "clash",
                item,
                f"The {noun} {thing.name!r} belongs to {owner.point.name} of "
                f"{owner.distribution}; the first keeps the name. Choose another name.",
            )
            return
        self.offers[hook][thing.name] = thing, item


def _offers(plugin: object, hook: pluggy.HookCaller) -> list[object]:
    offers: list[object] = []
    for implementation in hook.get_hookimpls():
        if implementation.plugin is plugin:
            # A generator may fail late.
            offers += list(cast("Iterable[object]", implementation.function()))
    return offers


_WORDS = {
    "load": "load",
    "register": "register",
    "hook": "list what it offers",
    "check": "say what it offers",
}


def all_entry_points() -> list[PluginSource]:
    """Return the built-ins in table order, then strangers by distribution and name."""
    own = _from_pyproject(Path(__file__).resolve().parents[1] / "pyproject.toml")
    installed = _installed_plugins()
    if not own:
        own = [item for item in installed if item.distribution == PROJECT]
    strangers = [item for item in installed if item.distribution != PROJECT]
    return own + sorted(strangers, key=lambda i: (i.distribution, i.point.name))


def _from_pyproject(path: Path) -> list[PluginSource]:
    # The checkout's own table: it needs no installation and outlives stale metadata.
    if not path.is_file():
        return []
    project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    if project.get("name") != PROJECT:
        return []
    table: dict[str, str] = project.get("entry-points", {}).get(GROUP, {})
    return [
        PluginSource(metadata.EntryPoint(name, value, GROUP), PROJECT, str(project["version"]))
        for name, value in table.items()
    ]


def _installed_plugins() -> list[PluginSource]:
    sources = []
    for distribution in metadata.distributions():
        points = distribution.entry_points.select(group=GROUP)
        if not points:
            continue
        # Each of these parses the whole metadata.
        name, version = (distribution.metadata["Name"] or "unknown").lower(), distribution.version
        sources += [PluginSource(point, name, version) for point in points]
    unique = {(item.distribution, item.point.name): item for item in reversed(sources)}
    return list(unique.values())[::-1]
