"""The slots and types in ort_api.h are those of ONNX Runtime's own header, as Debian 13 packages it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from debian import unpacked

pytestmark = pytest.mark.peer

ONDEVICE = Path(__file__).parents[2] / "melt" / "ondevice"

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


@pytest.fixture(scope="session")
def header_folder() -> Path:
    """The folder of onnxruntime_c_api.h of Debian 13, fetched once for all sessions."""
    if shutil.which("cc") is None:
        pytest.skip("slots are NOT compared: this machine has no cc")
    (header,) = unpacked("libonnxruntime-dev", "slots are").rglob("onnxruntime_c_api.h")
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
