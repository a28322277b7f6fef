"""`make` writes a labelled file whole or not at all, and says what is wrong in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from melt.errors import UsageError
from melt.makers import MAKERS, info, make


def test_the_three_networks_can_be_made_and_say_what_they_are() -> None:
    assert set(MAKERS) == {"mobilenetv3-large", "vit-tiny", "mlp"}
    assert all(maker.name == name and maker.summary for name, maker in MAKERS.items())


def test_the_file_is_labelled_synthetic_with_its_maker_and_seed(tmp_path: Path) -> None:
    told = make("mlp", tmp_path / "m.onnx", seed=12)
    model = onnx.load(told.path)
    labels = {entry.key: entry.value for entry in model.metadata_props}
    assert labels == {"melt.synthetic": "true", "melt.maker": "mlp", "melt.seed": "12"}
    assert model.doc_string.startswith("Synthetic: ")
    assert told.synthetic
    assert told.seed == 12


def test_making_returns_what_info_tells(tmp_path: Path) -> None:
    told = make("mlp", tmp_path / "m.onnx")
    assert told == info(tmp_path / "m.onnx")


def test_the_seed_decides_the_bytes(tmp_path: Path) -> None:
    shas = [make("mlp", tmp_path / f"{i}.onnx", seed=seed).sha256 for i, seed in enumerate((5, 5, 6))]
    assert shas[0] == shas[1] != shas[2]


def test_a_file_that_is_there_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("old")
    make("mlp", tmp_path / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert info(tmp_path / "m.onnx").opset == 17


def test_a_disk_that_fills_up_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    out.write_text("old")
    script = (
        "import resource, sys; from pathlib import Path; from melt.makers import make\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "make('mlp', Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(out)], capture_output=True, text=True, check=False, timeout=60
    )
    assert "UsageError" in done.stderr
    assert "cannot be written (File too large)" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert out.read_text() == "old"


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'mobilenetv3-larg'.*did you mean 'mobilenetv3-large'"):
        make("mobilenetv3-larg", tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"folder {tmp_path}/absent does not exist"):
        make("mlp", tmp_path / "absent" / "m.onnx")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        make("mlp", tmp_path)


def test_a_folder_that_takes_no_files_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        make("mlp", Path("/proc/self/m.onnx"))


def test_a_name_too_long_for_the_file_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        make("mlp", tmp_path / ("m" * 300))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(tmp_path: Path, seed: int) -> None:
    with pytest.raises(UsageError, match="seed"):
        make("mlp", tmp_path / "m.onnx", seed=seed)


@pytest.mark.parametrize("call", ["make('mlp', out)", "info(out)"])
def test_without_onnx_the_makers_import_and_say_what_to_install(tmp_path: Path, call: str) -> None:
    script = (
        "import sys; sys.modules['onnx'] = None\n"  # what an absent package looks like to import
        "from pathlib import Path; from melt.errors import UsageError; from melt.makers import info, make\n"
        "out = Path(sys.argv[1])\n"
        f"try: {call}\n"
        "except UsageError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "m.onnx")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "pip install 'melt[onnx]'" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())
