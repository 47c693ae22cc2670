"""What all work in a process shares, and one piece may leave changed for the next."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch


class Surroundings:
    """The folder, the variables and the settings of a process, as they are now."""

    def __init__(self) -> None:
        """Take note of them."""
        self._folder = Path.cwd()
        self._variables = dict(os.environ)
        self._depth, self._path = sys.getrecursionlimit(), list(sys.path)
        self._floating_errors = np.geterr()
        self._dtype, self._threads = torch.get_default_dtype(), torch.get_num_threads()

    def restore(self) -> None:
        """Make them what they were, before other work begins."""
        with contextlib.suppress(OSError):  # it was removed, and was somebody's own
            os.chdir(self._folder)
        if self._variables != os.environ:
            os.environ.clear()
            os.environ.update(self._variables)
        sys.setrecursionlimit(self._depth)
        sys.path[:] = self._path
        np.seterr(**self._floating_errors)
        torch.set_default_dtype(self._dtype)
        torch.set_grad_enabled(True)
        if torch.are_deterministic_algorithms_enabled():  # else asking imports torch's compiler
            torch.use_deterministic_algorithms(False)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with contextlib.suppress(OSError):  # whoever needs it says so
            Path(tempfile.gettempdir()).mkdir(parents=True, exist_ok=True)
