"""Libraries imported without what nothing here uses: half of the time until a first answer.

torch's compiler takes longer to import than torch itself. torchvision imports it for a function of
one line, and timm to keep one function from being compiled; both ask for it when they are called,
here. A module is changed while it is imported and in nothing else; a library that is imported
before it is asked for, or that reads otherwise by now, stays as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

ROI_ALIGN = "torchvision.ops.roi_align"
IMPORT = "\nfrom torch._dynamo.utils import is_compile_supported\n"
IMPORT_WHEN_CALLED = """
def is_compile_supported(device_type):
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)

"""


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


class _RoiAlign(SourceFileLoader):
    """Loads torchvision's module with a line of its source in another form."""

    def get_code(self, fullname: str) -> CodeType | None:
        source = self.get_data(self.path).decode()
        if IMPORT not in source:
            return super().get_code(fullname)
        return compile(source.replace(IMPORT, IMPORT_WHEN_CALLED), self.path, "exec")


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
    """Keep torchvision and timm from importing torch's compiler; too late, it changes nothing."""
    sys.meta_path.insert(0, ImportChange({ROI_ALIGN: _RoiAlign, "timm": _Timm}))
