"""The plain implementations that benchmarks compare with: `benchmarks/baseline_*.py`, never installed.

They are loaded from the source tree that this package is run from; an installed package has none, and says so.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from maskact_ros.core.errors import MaskACTError

_FOLDER = Path(__file__).parent


def baseline(name: str) -> ModuleType:
    """`benchmarks/baseline_NAME.py`; raises MaskACTError where there is no source tree."""
    file = _FOLDER / f"baseline_{name}.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if not file.exists() or spec is None or spec.loader is None:
        raise MaskACTError(
            "the baseline is in benchmarks/ of the source tree, and this package is installed without it"
        )
    if spec.name not in sys.modules:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[spec.name] = module
    return sys.modules[spec.name]
