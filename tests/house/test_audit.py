"""What `make lint` says of known faults in packages."""

from __future__ import annotations

import json

from tests.audit import UNREACHED, lines_of


def report(*packages):
    return json.dumps({"dependencies": list(packages), "fixes": []})


SOUND = {"name": "sound", "version": "1.0", "vulns": []}
FAULTY = {
    "name": "faulty",
    "version": "2.0",
    "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}, {"id": "CVE-2", "fix_versions": []}],
}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found"}


def test_a_known_fault_is_named_with_its_remedy():
    lines, count = lines_of(report(SOUND, FAULTY, UNKNOWN))
    assert count == 1
    assert lines == [
        "faulty 2.0: CVE-1, mended in 2.1",
        "faulty 2.0: CVE-2, mended in no version yet",
        "2 of 3 pinned packages looked up; 1 with known faults.",
    ]
    assert lines_of(report(SOUND)) == (
        ["1 of 1 pinned packages looked up; 0 with known faults."],
        0,
    )


def test_where_no_list_is_reached_that_is_said():
    for text in ("", "no JSON", "[]", report(UNKNOWN, UNKNOWN)):
        assert lines_of(text) == ([UNREACHED], 0)
