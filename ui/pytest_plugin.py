"""`pytest --explainer NAME` and `--metric NAME`: the conformance tests, in any folder.

Registered with pytest by the distribution, so it must cost a pytest run that has other things to do
next to nothing: it lies here because importing anything of `core` costs half a second.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from whylens.core.conformance.suite import Check

ALL = "all"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the option."""
    group = parser.getgroup("whylens", "Whylens")
    for kind in ("explainer", "metric"):
        group.addoption(
            f"--{kind}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"run the conformance tests on this {kind}, or on 'all'; may be given several "
            "times; other tests run only where their files are named",
        )


def pytest_configure(config: pytest.Config) -> None:
    """Leave out the tests of the folder where only explainers or metrics are asked for."""
    if not config.getoption("explainer") and not config.getoption("metric"):
        return
    config.addinivalue_line("markers", "slow: takes minutes; leave out by -m 'not slow'")
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add one item for every explainer or metric and every test; -k and -m choose among them."""
    explainers: list[str] = list(dict.fromkeys(config.getoption("explainer")))
    metrics: list[str] = list(dict.fromkeys(config.getoption("metric")))
    if not explainers and not metrics:
        return
    from whylens.core.conformance.metric_suite import METRIC_CHECKS
    from whylens.core.conformance.metric_under_test import MetricUnderTest
    from whylens.core.conformance.suite import CHECKS
    from whylens.core.conformance.under_test import ExplainerUnderTest
    from whylens.core.errors import UnknownName
    from whylens.core.registry import load_registry

    registry = load_registry(strict=False)
    if ALL in explainers:
        explainers = list(registry.entries)
    if ALL in metrics:
        metrics = list(registry.metrics)
    suites: list[tuple[str, Any, tuple[Check[Any], ...]]]
    try:
        suites = [
            *((n, ExplainerUnderTest(registry.explainer(n)), CHECKS) for n in explainers),
            *((n, MetricUnderTest(registry.metric(n)), METRIC_CHECKS) for n in metrics),
        ]
    except UnknownName as exc:
        problems = [f"{p.plugin} of {p.distribution}: {p.message}" for p in registry.problems]
        raise pytest.UsageError("\n".join([str(exc), *problems])) from exc
    for name, under_test, checks in suites:
        suite: Suite = Suite.from_parent(session, name=name, nodeid=name)
        suite.under_test, suite.checks = under_test, checks
        # By way of the hooks, so that pytest counts what is collected.
        report = config.hook.pytest_make_collect_report(collector=suite)
        config.hook.pytest_collectreport(report=report)
        items.extend(report.result)


class Suite(pytest.Collector):
    """All conformance tests of one explainer or metric."""

    under_test: Any
    checks: tuple[Check[Any], ...]

    def collect(self) -> Iterator[pytest.Item]:
        """Yield them in order."""
        for check in self.checks:
            item: Conformance = Conformance.from_parent(self, name=check.id)
            item.check = check
            if check.slow:
                item.add_marker("slow")
            yield item


class Conformance(pytest.Item):
    """One conformance test of one explainer or metric."""

    check: Check[Any]

    def runtest(self) -> None:
        """Run it; where it does not apply it is skipped with the reason, never passed."""
        from whylens.core.conformance.outcome import NotApplicable

        suite = self.parent
        assert isinstance(suite, Suite)  # noqa: S101 - made above
        try:
            self.check.run(suite.under_test)
        except NotApplicable as reason:
            pytest.skip(str(reason))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        """Return what the author must fix, and the traceback of their own code where it raised."""
        from whylens.core.conformance.outcome import CheckFailed

        if not isinstance(excinfo.value, CheckFailed):
            return super().repr_failure(excinfo, *args)
        lines = [self.check.says, "", str(excinfo.value)]
        if excinfo.value.__cause__ is not None:
            lines += ["", *traceback.format_exception(excinfo.value.__cause__)]
        return "\n".join(lines)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the test is written and what it is called."""
        code = self.check.run.__code__
        suite = "" if self.parent is None else self.parent.name
        return Path(code.co_filename), code.co_firstlineno - 1, f"{suite}: {self.name}"
