"""What must be the same before two runs are compared: each key, whether it is hard, and where its value comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from melt.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

Scope = Literal["all", "energy"]
UNKNOWN = "melt itself does not know it, an importer or a newer melt does: hard, so that nothing unlike is compared"


@dataclass(frozen=True)
class Key:
    """A key of the fingerprint. A hard one must match; a soft one travels as a caveat."""

    name: str
    hard: bool
    source: str
    """How its value is obtained, in words for people."""
    scope: Scope = "all"
    """Which metrics it forbids to compare where it differs."""
    of_workload: bool = False
    """Whether a workload's file says it, so that the workload's name may differ along with it."""


@dataclass(frozen=True)
class Difference:
    """A key in which two fingerprints differ."""

    key: str
    a: Any
    b: Any
    hard: bool

    @property
    def source(self) -> str:
        """How the key's value is obtained."""
        return KEYS[self.key].source if self.key in KEYS else UNKNOWN


_PARAMS = "the workload's params, or the engine's default"
_TEXT = "what the workload asks for; the prompt's own text where it names one"
_SHA = "SHA-256 of the file that was delivered"
_FACT = "read from the device before the run"
_READ_BACK = "read from the device, or read back from what the run held it at"

_ALL = (
    # ---- what the record says
    Key("device", True, "the name in the lab: one unit, not its model"),
    Key("workload", True, "the name in the workload's file", of_workload=True),
    Key("simulated", True, "whether the device is hardware, by its profile"),
    Key("synthetic_model", True, "whether melt made the weights, by a mark in the model's file", "energy", True),
    Key("metric_version", True, "the melt that computed the figures; 'melt analyse' computes them anew from raw data"),
    Key("imported", True, "the tool whose results they are, where melt did not carry out the run itself"),
    Key("page_cache", True, "params.load: whether the model's file lay in memory before its load", of_workload=True),
    Key("protocol_mode", True, "burst, where heat is a fault, or sustained, where it is the result; as the suite says"),
    Key("cpus", True, "the processors that the engine was held to, as the workload or the lab says", of_workload=True),
    # ---- the engine
    Key("engine", True, "the name in the workload's file", of_workload=True),
    Key("engine_version", True, "what the engine's library said of itself on the device"),
    Key("engine_compiler", True, "what the runner said it was compiled with"),
    Key("provider_nodes", True, "how many nodes of the graph each provider took, from ONNX Runtime itself"),
    Key("llama_cpp", True, "the commit that melt's own runner was compiled from"),
    Key("level", True, "the level of processor that the runner was compiled for, chosen by the device's features"),
    Key("program", True, "where the person's own program is on the device", of_workload=True),
    Key("program_sha256", True, _SHA, of_workload=True),
    Key("args", True, "params.args", of_workload=True),
    Key("env", True, "params.env", of_workload=True),
    Key("output", True, "params.output: in whose words the program tells its figures", of_workload=True),
    # ---- the model and what is asked of it
    Key("model_sha256", True, _SHA, of_workload=True),
    Key("inputs_sha256", True, "SHA-256 of the inputs' names, types, shapes and values", of_workload=True),
    Key("texts_sha256", True, "SHA-256 of the texts in the model's own template", of_workload=True),
    Key("mode", True, _TEXT, of_workload=True),
    Key("prompt_tokens", True, _TEXT, of_workload=True),
    Key("generate_tokens", True, _TEXT, of_workload=True),
    Key("chat", True, "whether the model's template was put around the text", of_workload=True),
    Key("temperature", True, _PARAMS, of_workload=True),
    Key("seed", True, _PARAMS, of_workload=True),
    Key("context", True, "params.context, or what the prompt and the answer need in blocks of 256", of_workload=True),
    # ---- how it is run
    Key("threads", True, _PARAMS, of_workload=True),
    Key("threads_batch", True, "params.threads_batch, or as many as params.threads", of_workload=True),
    Key("inter_threads", True, _PARAMS, of_workload=True),
    Key("spin", True, _PARAMS, of_workload=True),
    Key("graph_level", True, _PARAMS, of_workload=True),
    Key("provider", True, _PARAMS, of_workload=True),
    Key("provider_options", True, _PARAMS, of_workload=True),
    Key("batch", True, _PARAMS, of_workload=True),
    Key("ubatch", True, _PARAMS, of_workload=True),
    Key("kv_k", True, _PARAMS, of_workload=True),
    Key("kv_v", True, _PARAMS, of_workload=True),
    Key("flash_attn", True, _PARAMS, of_workload=True),
    Key("mmap", True, _PARAMS, of_workload=True),
    Key("mlock", True, _PARAMS, of_workload=True),
    Key("gpu_layers", True, _PARAMS, of_workload=True),
    Key("read_bytes", True, _PARAMS, of_workload=True),
    # ---- the device and what it was held at
    Key("profile", True, "the profile that the lab gives the device"),
    Key("machine", True, "uname -m on the device"),
    Key("governor", True, _READ_BACK),
    Key("device_governors", True, _FACT),
    Key("power_mode", True, _READ_BACK),
    Key("jetson_clocks", True, _FACT),
    Key("held", True, "the profile's 'pin', as it was asked of the device"),
    Key("energy_total", True, "the boundary and the sensors that the device's total is made of", "energy"),
    # ---- what travels as a caveat
    Key("melt", False, "the melt that carried out the run"),
    Key("host", False, "uname -m of the computer that melt ran on"),
    *(
        Key(name, False, _FACT)
        for name in ("kernel", "os", "soc", "device_model", "soc_model", "android_build", "security_patch")
    ),
    Key("jetson_linux", False, _FACT),
)
KEYS: Mapping[str, Key] = MappingProxyType({key.name: key for key in _ALL})
"""Every key of a fingerprint; `device` is not among what a record's fingerprint holds, but a column of its own."""

_HELD = frozenset({"governor", "device_governors", "power_mode", "jetson_clocks", "held"})
_PROGRAM = frozenset({"engine_version", "engine_compiler", "llama_cpp", "program", "program_sha256", "provider_nodes"})
_PROVIDER = frozenset({"provider", "provider_options", "provider_nodes"})
_QUANT = frozenset({"model_sha256", "synthetic_model", "provider_nodes"})
_ENGINE = (
    frozenset({"engine", "level", "args", "env", "output", "threads_batch", "inter_threads", "spin", "graph_level"})
    | frozenset({"batch", "ubatch", "kv_k", "kv_v", "flash_attn", "mmap", "mlock", "gpu_layers", "context"})
    | frozenset({"chat", "temperature", "seed"})
    | _PROGRAM
    | _PROVIDER
)
_ASKED = frozenset({"mode", "prompt_tokens", "generate_tokens", "texts_sha256", "inputs_sha256", "context", "chat"})
_WIDE: Mapping[str, frozenset[str]] = {
    "session": frozenset(),
    "engine": _ENGINE,
    "engine_version": _PROGRAM,
    "model": _QUANT | {"inputs_sha256", "texts_sha256"},
    "quant": _QUANT,
    "workload": _ASKED | _QUANT | {"page_cache", "temperature", "seed", "args", "env"},
    "prompt": _ASKED - {"chat"},
    # what is derived from a parameter differs with it
    "prompt_tokens": frozenset({"prompt_tokens", "context"}),
    "generate_tokens": frozenset({"generate_tokens", "context"}),
    "threads": frozenset({"threads", "threads_batch"}),
    "graph_level": frozenset({"graph_level", "provider_nodes"}),
    "provider": _PROVIDER,
    "gpu_layers": frozenset({"gpu_layers", "provider_nodes"}),
    "kv": frozenset({"kv_k", "kv_v"}),
    "device": _HELD | {"device", "profile", "machine", "energy_total", "cpus", "level", "engine_compiler", "program"},
    "power_mode": _HELD,
    "governor": frozenset({"governor", "device_governors", "held"}),
    "held": _HELD,
}


def _with_workload(keys: frozenset[str]) -> frozenset[str]:
    """An axis that is written in workloads' files varies from one workload to another, so its name may differ too."""
    return keys | {"workload"} if any(KEYS[key].of_workload for key in keys) else keys


AXES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        axis: keys if axis in ("device", "engine_version", "power_mode", "governor", "held") else _with_workload(keys)
        for axis, keys in {**{key.name: frozenset({key.name}) for key in _ALL if key.hard}, **_WIDE}.items()
    }
)
"""Each axis that a comparison may vary, and every key that varies with it."""

NAMED_BY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "engine": ("engine", "engine_version", "provider"),
        "engine_version": ("engine_version", "llama_cpp", "program_sha256", "program"),
        "model": ("model_sha256",),
        "quant": ("model_sha256",),
        "prompt": ("texts_sha256", "prompt_tokens", "inputs_sha256"),
        "provider": ("provider", "provider_options"),
        "kv": ("kv_k", "kv_v"),
        "device": ("device",),
    }
)
"""The keys whose value names a side of an axis, the first that differs; of any other axis, its own name."""


def axis_keys(axis: str) -> frozenset[str]:
    """The keys that may differ along an axis; any key of the registry is an axis of its own. Raises UsageError."""
    if axis in AXES:
        return AXES[axis]
    if axis in KEYS:
        raise UsageError(f"--axis {axis}: that key is soft, and may differ in any comparison: leave --axis out")
    raise UsageError(f"--axis {axis}: there is no such axis: {nearest(axis, AXES)}")


def differences(a: Mapping[str, Any], b: Mapping[str, Any], varying: frozenset[str] = frozenset()) -> list[Difference]:
    """Every key in which two sets of keys differ, without those that may; one that only one side has differs.

    In the order of the registry; a key that it does not know stands last, and is hard. One that is null on both sides
    does not differ, nor does one that is null here and missing there: neither is known.
    """
    names = a.keys() | b.keys()
    known = [name for name in KEYS if name in names]
    return [
        Difference(name, a.get(name), b.get(name), name not in KEYS or KEYS[name].hard)
        for name in (*known, *sorted(names - KEYS.keys()))
        if name not in varying and canonical(a.get(name)) != canonical(b.get(name))
    ]


def canonical(value: Any) -> str:
    """A value of a key as text: equal for equal values, however they were written."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=True, default=str)


def _plain(value: Any) -> Any:
    """2.0 is 2: what a reader of JSON or YAML made of a number must not set two runs apart."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
