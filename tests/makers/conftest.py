"""Each network is made once for all tests of the makers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from melt.makers import MAKERS, make

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.makers import ModelInfo


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, ModelInfo]:
    """What `make` returned for every maker with seed 1; the files stay for the session."""
    folder = tmp_path_factory.mktemp("models")
    return {name: make(name, folder / f"{name}.onnx") for name in MAKERS}
