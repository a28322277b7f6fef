"""Any program: what it measures of itself it prints as melt's event lines, or in a form that an adapter reads."""

from __future__ import annotations

import contextlib
import hashlib
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from melt import makers
from melt.engines import printed_events
from melt.engines.adapters import ADAPTERS, Printed, Told
from melt.engines.base import Command, OutputCheck, Prepared, Request
from melt.errors import ParseError, UsageError, nearest
from melt.makers import gguf
from melt.records import Strict, gap

if TYPE_CHECKING:
    from collections.abc import Callable

    from melt.engines.printed_events import Life
    from melt.records import Metric

_EVENTS = "events.program.jsonl"
"""A file of the program's own: one that it opens anew must not cost the agent's events."""
_RESULT = "result.txt"
_OUTPUT = "output.bin"
_EVENTS_VARIABLE = "MELT_EVENTS"
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_MAX_WORD_BYTES = 32 << 10
_MAX_READ_BYTES = 64 << 20
_ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
_IS_PROGRAM = 'test -x "$1" || { echo "$1: no file there that can be run" >&2; exit 127; }'


def _number_is_a_word(value: Any) -> Any:
    return str(value) if type(value) is int else value


def _can_be_passed(word: str) -> str:
    try:
        size_bytes = len(word.encode())
    except UnicodeEncodeError:
        raise ValueError("a word is text") from None
    if "\0" in word or size_bytes > _MAX_WORD_BYTES:
        raise ValueError(f"a word has no zero byte, and {_MAX_WORD_BYTES >> 10} KiB at most")
    return word


Word = Annotated[str, BeforeValidator(_number_is_a_word), AfterValidator(_can_be_passed)]
Words = Annotated[list[Word], Field(max_length=1024)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]


class CommandParams(Strict):
    """`params` of a workload for this engine."""

    program: Annotated[str, Field(min_length=1)] | None = None
    """A file of this computer, absolute or seen from where melt was called; it is delivered."""
    on_device: Annotated[str, Field(pattern=r"^/."), AfterValidator(_can_be_passed)] | None = None
    """The path of a program that is on the device already."""
    args: Words = Field(default_factory=list)
    env: Mapping[Variable, Word] = Field(default_factory=dict)
    output: Literal["events", "llama-bench", "llama-server", "onnxruntime-perf-test"] = "events"
    trial: Words | None = None
    """Words with which it ends at once, such as --version."""
    threads: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    """What {threads} stands for."""

    @model_validator(mode="after")
    def _told_where(self) -> Self:
        if self.program is not None and self.on_device is not None:
            raise ValueError("say 'program' (a file of this computer) or 'on_device' (a path there), not both")
        if _EVENTS_VARIABLE in self.env:
            raise ValueError(f"{_EVENTS_VARIABLE} is melt's own: it names the file to append event lines to")
        return self


class CommandEngine:
    """Runs a program with the words it is given, by itself and without a shell."""

    name = "command"

    def prepare(self, request: Request) -> Prepared:
        params = _params(request)
        there = params.on_device or request.library
        if there is None and params.program is None:
            raise UsageError(
                f"workload '{request.name}': engine command runs a program: say which with params.program (a file of "
                "this computer) or params.on_device (a path on the device)"
            )
        files: dict[str, Path] = {}
        if there is None:
            files["program"] = _program(request, str(params.program))
        model_sha256, synthetic = None, False
        if request.model is not None:
            if not request.model.is_file():
                raise UsageError(f"model {request.model} does not exist: correct 'path' in the workload")
            files["model"] = request.model
            model_sha256, synthetic = _about(request.model)
        identity = {
            "model_sha256": model_sha256,
            "program": there,
            "program_sha256": _sha256(files["program"]) if "program" in files else None,
            "args": params.args,
            "env": dict(sorted(params.env.items())),
            "output": params.output,
            "threads": params.threads,
        }
        prepared = Prepared(request, files, params.model_dump(), synthetic, identity, detail=params)
        self.command(prepared, lambda role: role, "")  # a placeholder that is none is told before anything is sent
        return prepared

    def command(self, prepared: Prepared, place: Callable[[str], str], job_dir: str) -> Command:
        params, stop = _own(prepared), prepared.request.stop
        values = {
            "output": f"{job_dir}/{_OUTPUT}",
            "result": f"{job_dir}/{_RESULT}",
            "events": f"{job_dir}/{_EVENTS}",
            "job": job_dir,
            "threads": str(params.threads),
            "warmup_s": f"{stop.warmup_s:.9g}",
            "warmup_n": str(stop.warmup_n),
            "min_s": f"{stop.min_s:.9g}",
            "min_n": str(stop.min_n),
        }
        if "model" in prepared.files:
            values["model"] = place("model")
        name = prepared.request.name
        argv = [_where(prepared, place), *(_filled(name, word, values) for word in params.args)]
        env = {key: _filled(name, word, values) for key, word in sorted(params.env.items())}
        return Command(tuple(argv), {**env, _EVENTS_VARIABLE: values["events"]})

    def trial(self, prepared: Prepared, place: Callable[[str], str]) -> Command:
        program, words = _where(prepared, place), _own(prepared).trial
        # nobody knows what a program does without words: the least is that it is there
        return Command(("sh", "-c", _IS_PROGRAM, "sh", program) if words is None else (program, *words))

    def adopt(self, prepared: Prepared, folder: Path) -> Mapping[str, Metric]:
        params, events = _own(prepared), folder / "events.jsonl"
        sources = [folder / _EVENTS, *([folder / "stdout.log"] if params.output == "events" else [])]
        life = printed_events.life(events)
        told = _adapted(params.output, folder)
        if life.begin is not None:
            own = printed_events.survey(sources, life)
            printed_events.merge(events, sources, life, _concluded(life.begin, life, own, told))
        return told.metrics

    def check(self, prepared: Prepared, output: Path) -> OutputCheck:
        del prepared
        try:
            written = output.stat().st_size
            digest = _sha256(output) if written else None
        except (OSError, UsageError):
            digest = None
        if digest is None:
            return OutputCheck(None, None, None, "the program wrote nothing to {output}")
        return OutputCheck(digest, None, None, "the hash of {output}; nothing on this computer was run beside it")


def _params(request: Request) -> CommandParams:
    try:
        return CommandParams.model_validate(dict(request.params))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            hint = nearest(key, CommandParams.model_fields)
            raise UsageError(f"workload '{request.name}': engine command has no parameter '{key}': {hint}") from None
        said = problem["msg"].removeprefix("Value error, ")
        if not key:
            raise UsageError(f"workload '{request.name}': params: {said}") from None
        shown = reprlib.repr(problem["input"])
        raise UsageError(f"workload '{request.name}': params.{key}: {said} (it is {shown})") from None


def _own(prepared: Prepared) -> CommandParams:
    params = prepared.detail
    return params if isinstance(params, CommandParams) else CommandParams.model_validate(dict(prepared.params))


def _where(prepared: Prepared, place: Callable[[str], str]) -> str:
    return (
        place("program") if "program" in prepared.files else _own(prepared).on_device or str(prepared.request.library)
    )


def _program(request: Request, told: str) -> Path:
    """The file to deliver. Raises UsageError for one that the device could not run."""
    where = f"workload '{request.name}': params.program: {told}"
    try:
        path = Path(told).expanduser().absolute()
        if not path.is_file():
            raise UsageError(
                f"{where} is no file here: correct the path, or say params.on_device for one that is there"
            )
        with path.open("rb") as file:
            head = file.read(20)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{where} cannot be read ({error})") from None
    if head.startswith(b"#!"):
        return path
    if not head.startswith(b"\x7fELF"):
        raise UsageError(f"{where} is neither a program of Linux nor a script whose first line begins with #!")
    made_for, wanted = int.from_bytes(head[18:20], "little"), _ELF_MACHINES.get(request.machine)
    if wanted is not None and made_for != wanted:
        names = {number: name for name, number in _ELF_MACHINES.items()}
        machine = names.get(made_for, f"machine {made_for}")
        raise UsageError(f"{where} is made for {machine}, and the device is {request.machine}: name one made for it")
    return path


def _about(model: Path) -> tuple[str, bool]:
    """The model's hash, and whether melt made it. What is neither ONNX nor GGUF, or is damaged, is the program's."""
    with contextlib.suppress(UsageError):
        if gguf.is_gguf(model):
            told = gguf.info(model)
            return told.sha256, told.synthetic
        if model.suffix == ".onnx":
            onnx = makers.info(model)
            return onnx.sha256, onnx.synthetic
    return _sha256(model), False


def _filled(workload: str, word: str, values: Mapping[str, str]) -> str:
    """A word with its placeholders replaced, in one pass: what is put in is never looked at again."""

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name in values:
            return values[name]
        why = "the workload names no model" if name == "model" else nearest(name, values)
        raise UsageError(f"workload '{workload}': params: nothing stands for {{{name}}}: {why}")

    return _PLACEHOLDER.sub(value, word)


def _adapted(output: str, folder: Path) -> Told:
    """What the program told in its own form: gaps, with the reason, where it cannot be read."""
    adapter = ADAPTERS.get(output)
    if adapter is None:
        return Told({})
    names = ("stdout.log", "stderr.log", _RESULT)
    try:
        return adapter.parse(Printed(*(_read(folder / name) for name in names)))
    except ParseError as error:
        return Told(dict.fromkeys(adapter.names, gap(f"no_output: {error}")), wrong=str(error))


def _concluded(begin_ns: int, life: Life, own: printed_events.Survey, told: Told) -> list[dict[str, Any]]:
    """The events that a program leaves unsaid and that are true of it: what it is, when it was measured, that it ended.

    A program that marks no phase is measured throughout. One that ended well was done, unless what it printed is not
    what the workload says it prints.
    """
    more: list[dict[str, Any]] = []
    if told.engine:
        more.append({"t": begin_ns, "ev": "mark", **told.engine, "name": "engine"})
    if own.first is not None and "measure.begin" not in own.names:
        more.append({"t": own.first, "ev": "mark", "name": "measure.begin", "by": "melt"})
    if not life.ended_well or life.end is None or "error" in own.names:
        return more
    wrong = told.wrong
    if own.strays:
        wrong = f"{own.strays} event lines bear stamps outside of the program's life: stamp with CLOCK_MONOTONIC in ns"
    elif own.broken:
        wrong = wrong or f"{own.broken} of its event lines are broken"
    if wrong is not None:
        more.append({"t": life.end, "ev": "error", "kind": "output", "message": wrong})
    elif "done" not in own.names:
        more.append({"t": life.end, "ev": "done", "by": "exit status"})
    return more


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_READ_BYTES)
    except OSError:
        return b""


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
