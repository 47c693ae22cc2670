"""Operations watched one by one."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class EagerMode(TorchDispatchMode):
    """Sees every operation of its thread where nothing is compiled.

    torch keeps such a mode from being compiled, for which it imports its compiler: seconds.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
