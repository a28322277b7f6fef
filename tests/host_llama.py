"""llama-cpp-python in the tests' own process, over the library that melt's processes open."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import pytest

from melt.errors import MeltError
from melt.native.host import PLACE_VARIABLE, host_library, need_package


@functools.cache
def llama_cpp() -> Any:
    """The package. Skips loudly where it or its library cannot be had."""
    try:
        need_package()
        folder = host_library()
    except MeltError as error:
        pytest.skip(f"no llama-cpp-python ({error}): NOT tested is what llama.cpp itself says of melt's models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PLACE_VARIABLE, str(folder))
        return importlib.import_module("llama_cpp")
