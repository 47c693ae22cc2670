"""The kit that every explainer is held to: the built-ins pass it, and each mistake is found."""

from __future__ import annotations

import copy

import pytest

from tests.support.wrong_explainers import WRONG, ShowsSizes, Sound
from whylens.core.conformance.outcome import CheckFailed, NotApplicable
from whylens.core.conformance.suite import CHECKS
from whylens.core.conformance.toy_networks import ToyNetworks
from whylens.core.conformance.under_test import ExplainerUnderTest
from whylens.core.explainer import contract_errors
from whylens.core.registry import load_registry

REGISTRY = load_registry()
QUICK = [check for check in CHECKS if not check.slow]
SLOW = [check for check in CHECKS if check.slow]
# Of the built-ins; test_engine_contract.py asks all of them at once.
BUILT_IN = [check for check in QUICK if check.number != 16]
# Those that ask less of an explainer that is tested briefly.
ASKS_LESS = [check for check in QUICK if check.number in (7, 8, 9, 11, 16)]
# Built once for all explainers that leave no mark on them; so is what each is fitted with.
NETWORKS = ToyNetworks()
CANDIDATES = {
    name: ExplainerUnderTest(explainer, NETWORKS, brief=True)
    for name, explainer in REGISTRY.explainers.items()
}
# In full the kit is for the long run, and for whoever writes an explainer.
brief_and_in_full = pytest.mark.parametrize(
    "brief", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["brief", "full"]
)

every_method = pytest.mark.parametrize("method", list(CANDIDATES))


def run_check(candidate: ExplainerUnderTest, check) -> None:
    """Run a test; skip where it does not apply."""
    try:
        check.run(candidate)
    except NotApplicable as reason:
        pytest.skip(str(reason))


@every_method
@pytest.mark.parametrize("check", BUILT_IN, ids=lambda c: c.id)
def test_every_built_in_passes(method, check):
    run_check(CANDIDATES[method], check)


@pytest.mark.slow
@every_method
@pytest.mark.parametrize("check", [*ASKS_LESS, *SLOW], ids=lambda c: c.id)
def test_every_built_in_passes_in_full(method, check):
    candidate = copy.copy(CANDIDATES[method])
    candidate.brief = False
    run_check(candidate, check)


def test_there_are_eighteen_tests_each_with_a_sentence_and_a_name_of_its_own():
    assert [c.number for c in CHECKS] == sorted(c.number for c in CHECKS)
    assert {c.number for c in CHECKS} == set(range(1, 19))
    assert len({c.id for c in CHECKS}) == len(CHECKS)
    assert all(c.says.endswith(".") and "\n" not in c.says for c in CHECKS)


def failure_messages(candidate: ExplainerUnderTest, checks) -> dict[str, str]:
    """Return the id and the sentence of every test that fails."""
    messages = {}
    for check in checks:
        try:
            check.run(candidate)
        except NotApplicable:
            continue
        except CheckFailed as exc:
            messages[check.id] = str(exc)
    return messages


@brief_and_in_full
def test_a_sound_explainer_passes_all(brief):
    assert contract_errors(Sound()) == []
    assert failure_messages(ExplainerUnderTest(Sound(), NETWORKS, brief=brief), QUICK) == {}


@brief_and_in_full
@pytest.mark.parametrize("wrong", WRONG, ids=lambda c: c.__name__)
def test_a_wrong_explainer_fails_the_test_that_is_there_for_it_and_no_other(wrong, brief):
    assert contract_errors(wrong()) == []
    networks = ToyNetworks() if 8 in WRONG[wrong] else NETWORKS
    messages = failure_messages(ExplainerUnderTest(wrong(), networks, brief=brief), QUICK)
    assert {int(name[:2]) for name in messages} == WRONG[wrong]
    # What happened, then what to do about it.
    assert all(len(text) > 70 and text.endswith(".") for text in messages.values())


def test_every_number_has_a_mistake_that_it_finds():
    assert set().union(*WRONG.values()) == set(range(1, 19))


def test_what_does_not_apply_is_told_and_not_passed():
    blind = next(c for c in CANDIDATES.values() if c.explainer.class_blind)
    for check in QUICK:
        if check.number in (1, 2, 3, 12, 13):
            with pytest.raises(NotApplicable, match="class_blind"):
                check.run(blind)


def test_sizes_without_signs_pass_where_they_are_declared_in_words_and_shown_as_such():
    class Sizes(ShowsSizes):
        sign_blind = True
        limits = "How strongly, not in which direction."

    class Silent(Sizes):
        limits = "For tests."

    class Signed(Sizes):
        explain = Sound.explain

    assert failure_messages(ExplainerUnderTest(Sizes(), NETWORKS, brief=True), QUICK) == {}
    for undeclared in (Silent, Signed):
        messages = failure_messages(ExplainerUnderTest(undeclared(), NETWORKS, brief=True), QUICK)
        assert list(messages) == ["03-linear-rank"]
        assert "not in which direction" in messages["03-linear-rank"]


def test_an_explainer_that_refuses_every_network_does_not_pass_by_refusing():
    class Shy(Sound):
        def why_not(self, backbone):
            return "it would rather not"

    messages = failure_messages(ExplainerUnderTest(Shy(), NETWORKS, brief=True), QUICK)
    assert list(messages) == ["07-determinism"]
    assert "it would rather not" in messages["07-determinism"]
