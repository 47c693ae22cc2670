"""Loaded by a fork server before all else: it leaves a file where that one takes itself apart."""

from __future__ import annotations

import atexit
import os
from pathlib import Path

LINGERED = "WHYLENS_TEST_LINGERED"

atexit.register(Path(os.environ.get(LINGERED, os.devnull)).touch)
