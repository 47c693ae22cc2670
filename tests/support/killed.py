"""A process that is killed between two things that it does to the disk."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


class Killed(BaseException):
    """The process is gone: nothing is put away."""


def killed_at(step: int, monkeypatch, work) -> bool:
    """Run `work` up to the step-th thing that it does to the disk; return whether it got there."""
    count, dead = 0, False

    def counting(original):
        def call(*args, **kwargs):
            nonlocal count, dead
            count += 1
            dead = dead or count == step
            if dead:
                raise Killed
            return original(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for owner, name in (
            (os, "fsync"), (Path, "replace"), (Path, "unlink"), (Path, "chmod"),
            (tempfile, "mkstemp"),
        ):  # fmt: skip
            patch.setattr(owner, name, counting(getattr(owner, name)))
        try:
            work()
        except Killed:
            return True
    return False
