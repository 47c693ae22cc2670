"""Libraries imported without what nothing here uses: half of the time until a first answer.

torch's compiler takes longer to import than torch itself. torchvision imports it for a function of
one line, timm to keep one function from being compiled, and torch's optimisers to tell it where
to cut what it compiles. The first two ask for it when they are called, here, and optimisers
where it is there. A module is changed while it is imported and in nothing else; a library that is
imported before it is asked for, or that reads otherwise by now, stays as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

# By module, what its source says and what it says here, in the order in which it is changed.
CHANGES = {
    "torchvision.ops.roi_align": {
        "\nfrom torch._dynamo.utils import is_compile_supported\n": """
def is_compile_supported(device_type):
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)

"""
    },
    # Where the compiler was never imported it compiles nothing.
    "torch._compile": {
        """            if disable_fn is None:
                import torch._dynamo
""": """            if disable_fn is None:
                import sys

                if "torch._dynamo" not in sys.modules:
                    return fn(*args, **kwargs)
                import torch._dynamo
"""
    },
    "torch.optim.optimizer": {
        "            torch._dynamo.graph_break()\n": "            graph_break()\n",
        "        import torch._dynamo\n": """        import sys

        def graph_break():
            if "torch._dynamo" in sys.modules:
                torch._dynamo.graph_break()
""",
    },
}


class ImportChange(MetaPathFinder):
    """Finds some modules for loaders of their own, and leaves all others to those that follow."""

    def __init__(self, loaders: Mapping[str, type[SourceFileLoader]]) -> None:
        """Take the loaders by the names of their modules."""
        self._loaders = loaders

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module lies, None of any other."""
        loader = self._loaders.get(fullname)
        if loader is None:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = loader(spec.loader.name, spec.loader.path)
        return spec


class _ChangedSource(SourceFileLoader):
    """Loads a module of CHANGES with some lines of its source in another form."""

    def get_code(self, fullname: str) -> CodeType | None:
        source = self.get_data(self.path).decode()
        changes = CHANGES[fullname]
        if not all(text in source for text in changes):
            return super().get_code(fullname)
        for text, instead in changes.items():
            source = source.replace(text, instead)
        return compile(source, self.path, "exec")


class _Timm(SourceFileLoader):
    """Loads timm while what keeps functions from being compiled waits until they are called."""

    def exec_module(self, module: ModuleType) -> None:
        import torch

        try:
            from torch._compile import _disable_dynamo
        except ImportError:  # a torch of another time: timm is imported as it is
            super().exec_module(module)
            return
        disable = torch.compiler.disable

        def disable_when_called(
            fn: Callable[..., Any] | None = None, recursive: bool = True, **_: Any
        ) -> Any:
            return _disable_dynamo(fn, recursive)

        torch.compiler.disable = disable_when_called
        try:
            super().exec_module(module)
        finally:
            torch.compiler.disable = disable


def skip_compiler() -> None:
    """Keep libraries from importing torch's compiler; too late, it changes nothing."""
    loaders = {**dict.fromkeys(CHANGES, _ChangedSource), "timm": _Timm}
    sys.meta_path.insert(0, ImportChange(loaders))
