"""Known faults of the pinned packages, where a list of them can be reached: `make lint` asks.

pip-audit is fetched for it by uv and is no dependency.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PINNED = Path(__file__).resolve().parents[1] / "constraints.txt"
COMMAND = (
    *("tool", "run", "--quiet", "pip-audit", "--requirement", str(PINNED), "--no-deps"),
    *("--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "5"),
)
UNREACHED = (
    "Known faults of the pinned packages were not looked up: no list of them is reached here."
)


def lines_of(report: str) -> tuple[list[str], int]:
    """Return what is to be said of pip-audit's JSON, and how many packages have known faults."""
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return [UNREACHED], 0
    audits = [package for package in packages if "vulns" in package]
    faulty = [
        f"{package['name']} {package['version']}: {fault['id']}, mended in "
        f"{', '.join(fault['fix_versions']) or 'no version yet'}"
        for package in audits
        for fault in package["vulns"]
    ]
    if not audits:
        return [UNREACHED], 0
    count = len({line.partition(":")[0] for line in faulty})
    summary = (
        f"{len(audits)} of {len(packages)} pinned packages looked up; {count} with known faults."
    )
    return [*faulty, summary], count


def main() -> int:
    """Ask, print, and return 1 where a pinned package has a known fault."""
    uv = Path(sys.executable).with_name("uv")
    try:
        run = subprocess.run(
            [uv, *COMMAND],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "UV_HTTP_TIMEOUT": "5"},
        )
        report = run.stdout
    except (OSError, subprocess.TimeoutExpired):
        report = ""
    lines, count = lines_of(report)
    sys.stdout.write("\n".join(lines) + "\n")
    return int(count > 0)


if __name__ == "__main__":
    raise SystemExit(main())
