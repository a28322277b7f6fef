"""The slots and types in ort_api.h are those of ONNX Runtime's own header, as Debian 13 packages it.

The header is fetched once with an apt configuration of its own, made from this machine's source list with the
suite's name replaced; the system's packages are left alone.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.peer

ONDEVICE = Path(__file__).parents[2] / "melt" / "ondevice"
SUITE = "trixie"
PACKAGE = "libonnxruntime-dev"

COMPARE = """
#include <stdbool.h>
#include <onnxruntime_c_api.h>
#include "ort_api.h"

#define SAME(slot, name, result, parameters)                                                          \\
  _Static_assert(offsetof(OrtApi, name) == (slot) * sizeof(void *), "slot of " #name);                \\
  _Static_assert(__builtin_types_compatible_p(__typeof__(((OrtApi *)0)->name),                        \\
                                              __typeof__(((struct ort_functions *)0)->name)),         \\
                 "type of " #name);
ORT_FUNCTIONS(SAME)

#define IS(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #ours)
_Static_assert(offsetof(struct ort_base, get_api) == offsetof(OrtApiBase, GetApi), "GetApi");
_Static_assert(offsetof(struct ort_base, get_version_string) == offsetof(OrtApiBase, GetVersionString), "version");
IS(ORT_CODE_INVALID_ARGUMENT, ORT_INVALID_ARGUMENT);
IS(ORT_CODE_NOT_IMPLEMENTED, ORT_NOT_IMPLEMENTED);
IS(ORT_CODE_EP_FAIL, ORT_EP_FAIL);
IS(ORT_VALUE_TENSOR, ONNX_TYPE_TENSOR);
IS(ORT_LOG_WARNING, ORT_LOGGING_LEVEL_WARNING);
IS(ORT_ALLOCATOR_DEVICE, OrtDeviceAllocator);
IS(ORT_MEMORY_DEFAULT, OrtMemTypeDefault);
IS(ORT_LEVEL_DISABLE, ORT_DISABLE_ALL);
IS(ORT_LEVEL_BASIC, ORT_ENABLE_BASIC);
IS(ORT_LEVEL_EXTENDED, ORT_ENABLE_EXTENDED);
IS(ORT_LEVEL_ALL, ORT_ENABLE_ALL);

enum {
  type_float32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
  type_float64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
  type_float16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
  type_bfloat16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
  type_uint8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
  type_uint16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
  type_uint32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
  type_uint64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
  type_int8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
  type_int16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
  type_int32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
  type_int64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
  type_bool_ = ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
  type_float8_e4m3fn = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FN,
  type_float8_e4m3fnuz = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FNUZ,
  type_float8_e5m2 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2,
  type_float8_e5m2fnuz = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2FNUZ,
};
#undef bool
#define type_bool type_bool_
#define SAME_TYPE(number, name, bytes) IS(number, type_##name);
ORT_ELEMENT_TYPES(SAME_TYPE)
"""


def _trixie_sources() -> str:
    """This machine's own Debian sources with the suite replaced; skips where there are none."""
    release = platform.freedesktop_os_release()
    codename = release.get("VERSION_CODENAME", "")
    if release.get("ID") != "debian" or not codename:
        pytest.skip(f"slots NOT compared: the header comes from Debian's archive, and this is {release['ID']}")
    stanzas: list[str] = []
    for file in sorted(Path("/etc/apt/sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text()):
            suites = re.search(r"(?m)^Suites:(.*)$", stanza)
            if suites and codename in suites[1].split() and re.search(r"(?m)^Types:.*\bdeb\b", stanza):
                stanzas.append(re.sub(r"(?m)^Suites:.*$", f"Suites: {SUITE}", stanza))
    one_line = re.compile(rf"^deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+{re.escape(codename)}\s+main\b")
    for file in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.list"))]:
        for line in file.read_text().splitlines() if file.is_file() else ():
            if found := one_line.match(line):
                signed = re.search(r"signed-by=(\S+)", found[1] or "")
                key = f"Signed-By: {signed[1]}\n" if signed else ""
                stanzas.append(f"Types: deb\nURIs: {found[2]}\nSuites: {SUITE}\nComponents: main\n{key}")
    if not stanzas:
        pytest.skip(f"slots NOT compared: the source list names no {codename} main to take the archive from")
    return "\n\n".join(stanzas)


def _fetch_header(into: Path) -> None:
    """Unpack the package below `into`, with apt's whole state in a folder of this function's own."""
    work = into / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "own.sources").write_text(_trixie_sources())
    settings = {
        "Dir::Etc::sourcelist": work / "own.sources",
        "Dir::Etc::sourceparts": "-",
        "Dir::State": work / "state",
        "Dir::State::lists": work / "state/lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
    }
    (work / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    environment = {**os.environ, "APT_CONFIG": str(work / "apt.conf")}
    for argv in (["apt-get", "update"], ["apt-get", "download", PACKAGE]):
        done = subprocess.run(argv, cwd=into, env=environment, capture_output=True, timeout=180, check=False)
        if done.returncode != 0:
            pytest.skip(f"slots NOT compared: {' '.join(argv)} said {done.stderr.decode(errors='replace')[-300:]}")
    (package,) = into.glob(f"{PACKAGE}_*.deb")
    subprocess.run(["dpkg", "-x", package, into], check=True, timeout=60)
    shutil.rmtree(work)


@pytest.fixture(scope="session")
def header_folder() -> Path:
    """The folder of onnxruntime_c_api.h of Debian 13, fetched once for all sessions."""
    for program in ("apt-get", "dpkg", "cc"):
        if shutil.which(program) is None:
            pytest.skip(f"slots NOT compared: this machine has no {program}")
    peers = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "melt" / "peers"
    kept = peers / f"{PACKAGE}-{SUITE}"
    if not kept.is_dir():
        peers.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=peers, ignore_cleanup_errors=True) as made:
            part = Path(made) / "part"
            part.mkdir()
            try:
                _fetch_header(part)
            except subprocess.TimeoutExpired as error:
                pytest.skip(f"slots NOT compared: {error}")
            if not kept.is_dir():
                part.rename(kept)
    (header,) = kept.rglob("onnxruntime_c_api.h")
    return header.parent


def _compare(tmp_path: Path, header_folder: Path, ort_api: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "ort_api.h").write_text(ort_api)
    (tmp_path / "compare.c").write_text(COMPARE)
    argv = ["cc", "-std=gnu11", "-fsyntax-only", f"-I{tmp_path}", f"-I{header_folder}", "compare.c"]
    return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)


def test_every_slot_type_and_constant_is_that_of_the_real_header(tmp_path: Path, header_folder: Path) -> None:
    done = _compare(tmp_path, header_folder, (ONDEVICE / "ort_api.h").read_text())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("X(9, Run,", "X(8, Run,", "slot of Run"),
        ("X(24, SetIntraOpNumThreads, OrtStatus *, (OrtSessionOptions *, int))",
         "X(24, SetIntraOpNumThreads, OrtStatus *, (OrtSessionOptions *, long))", "type of SetIntraOpNumThreads"),
        ("ORT_LEVEL_ALL = 99", "ORT_LEVEL_ALL = 3", "ORT_LEVEL_ALL"),
        ("X(10, float16, 2)", "X(11, float16, 2)", "float16"),
    ],
)  # fmt: skip
def test_the_comparison_sees_what_is_wrong(
    tmp_path: Path, header_folder: Path, right: str, wrong: str, said: str
) -> None:
    text = (ONDEVICE / "ort_api.h").read_text()
    assert text.count(right) == 1
    done = _compare(tmp_path, header_folder, text.replace(right, wrong))
    assert done.returncode != 0
    assert said in done.stderr
