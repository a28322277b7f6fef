"""The lab under a pytest, and one session of its results: what `melt run` does, a workload at a time."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

import melt
from melt.errors import MeltError, UsageError, nearest
from melt.files import Suite
from melt.files.reader import first_problem
from melt.lab import carry_out_session, make_plan
from melt.places import shipped
from melt.pytest_plugin import benchmarks
from melt.pytest_plugin.choice import CHOSEN, VIRTUAL, names_of
from melt.pytest_plugin.measured import Measured
from melt.records import ReasonCode, SuiteRef
from melt.store import Pending, Session, SessionRecord, Slot, digest_of, new_session, utc_stamp, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from melt.files import Lab, LabDevice
    from melt.lab import Plan
    from melt.store import StoredRun

_NOT_READY = frozenset({ReasonCode.PRECHECK, ReasonCode.LOCKED})
"""Why a run did not take place that says nothing of the workload: the test is skipped."""
_log = logging.getLogger("melt")


@dataclass(frozen=True)
class MeltDevice:
    """A device of the lab, for a test."""

    name: str
    profile: str
    address: str
    tags: tuple[str, ...]
    simulated: bool

    @classmethod
    def of(cls, name: str, spec: LabDevice) -> MeltDevice:
        """The device of that name as the lab file has it."""
        return cls(name, spec.profile, spec.address, spec.tags, spec.simulated)


class _Part(Session):
    """What one call has to do in the session; what other calls have left open is theirs."""

    def pending(self) -> list[Pending]:
        return [note for note in super().pending() if note.slot in self.record.order]


class Bench:
    """The lab of the command line, and the results' session, which its first run begins and each call adds to."""

    def __init__(self, config: pytest.Config, lab: Lab) -> None:
        self._config = config
        self._lab = lab
        self._session: Session | None = None

    @classmethod
    @contextlib.contextmanager
    def of(cls, config: pytest.Config) -> Iterator[Bench]:
        """The bench of a pytest, its virtual boards running until the end; what holds no run leaves no folder."""
        with contextlib.ExitStack() as stack:
            try:
                lab = names_of(config)
                if config.getoption("--melt-lab") == VIRTUAL:
                    from melt.virtual.lab import virtual_lab  # noqa: PLC0415 - what only virtual boards need

                    chosen = config.stash.get(CHOSEN, set[str]())
                    lab = stack.enter_context(virtual_lab(only=sorted(chosen), say=_log.warning))
            except MeltError as error:
                pytest.fail(f"melt: {error}", pytrace=False)
            bench = cls(config, lab)
            try:
                yield bench
            finally:
                if bench._session is not None:
                    bench._session.discard_if_empty()

    @property
    def folder(self) -> Path | None:
        """Where the runs of this pytest lie; None until there is one."""
        return self._session.path if self._session is not None and self._session.path.exists() else None

    def device(self, name: str) -> MeltDevice:
        """The device of that name; one that the lab has not fails the test."""
        try:
            return MeltDevice.of(name, self._lab.device(name))
        except UsageError as error:
            pytest.fail(f"melt: {error}", pytrace=False)

    def carry_out(self, device: str, file: Path, workload: str, runs: int, asked: Mapping[str, Any]) -> list[StoredRun]:
        """The runs of a workload on a device, `file` being the test's. Raises MeltError, and KeyboardInterrupt."""
        plan = make_plan(self._suite(file, workload, runs, asked), file, self._lab, (device,), {})
        before = self._begun(plan)
        part = self._grown(before, plan)
        try:
            outcome = carry_out_session(
                part, plan, self._lab, say=_tell, on_progress=lambda _: None, cancelled=threading.Event()
            )
        except MeltError:
            if not _of_part(part):
                self._write(before)  # a wrong parameter leaves no trace
            raise
        if outcome.interrupted:
            raise KeyboardInterrupt
        for sentence in (*outcome.unreachable.values(), *outcome.refusing.values()):
            pytest.fail(f"melt: {sentence}", pytrace=False)
        return _of_part(part)

    def _suite(self, file: Path, workload: str, runs: int, asked: Mapping[str, Any]) -> Suite:
        """The test as a suite of one cell, which its parameters give a name."""
        results = self._results()
        params = dict(asked.get("params") or {})
        settings = {key: value for key, value in asked.items() if key != "params" and value is not None}
        values = {
            **settings,
            "name": results.name,
            "workloads": (str(_workload_file(workload, self._config, file)),),
            "sweep": {f"params.{key}": (value,) for key, value in params.items()},
            "protocol": {**(settings.get("protocol") or {}), "runs": runs},
        }
        try:
            return Suite.model_validate(values)
        except ValidationError as error:
            if any(problem["loc"][:1] == ("name",) for problem in error.errors()):
                why = "its last folder's name is the suite's: lower-case letters, digits, '.', '_' and '-'"
                raise UsageError(f"--melt-results {results}: {why}") from None
            raise UsageError(f"melt_run({workload!r}): {first_problem(error, Suite)}") from None

    def _results(self) -> Path:
        return Path(self._config.invocation_params.dir / self._config.getoption("--melt-results"))

    def _begun(self, plan: Plan) -> Session:
        if self._session is None:
            name, results = plan.suite.name, self._results()
            # what a suite of tests holds is the cells of its sessions: it has no file of its own
            record = SessionRecord(
                session=utc_stamp(),
                suite=SuiteRef(name=name, sha256=digest_of({"pytest": name})),
                melt=melt.__version__,
                cells=(),
                order=(),
                sources={},
            )
            self._session = new_session(results.parent, record)
        return self._session

    def _grown(self, session: Session, plan: Plan) -> _Part:
        """Adds a plan to the session's file, its blocks after those that its cell has; and this part of it alone."""
        old, (cell,) = session.record, plan.cells
        known = session.cells.get(f"{cell.device}/{cell.id}")
        if known is not None and _but_runs(known.resolved) != _but_runs(cell.resolved):
            raise UsageError(
                f"{cell.id} was measured on {cell.device} in this session with other settings than now: give the "
                "parameter that differs in 'params', or the workload another name"
            )
        done = sum((slot.device, slot.cell) == (cell.device, cell.id) for slot in old.order)
        order = tuple(Slot(device=slot.device, block=slot.block + done, cell=slot.cell) for slot in plan.order)
        update = {
            "cells": old.cells if known else (*old.cells, cell.record),
            "order": (*old.order, *order),
            "sources": {**plan.sources, **old.sources},
        }
        whole = old.model_copy(update=update)
        self._write(Session(session.path, whole))
        return _Part(session.path, whole.model_copy(update={"cells": (cell.record,), "order": order}))

    def _write(self, session: Session) -> None:
        try:
            write_text(session.path / "session.json", session.record.model_dump_json(indent=1, by_alias=True) + "\n")
        except OSError as error:
            raise UsageError(f"{session.path} cannot be written: {error.strerror}: mend that and call again") from None
        self._session = session


class MeltRun:
    """The fixture: carries out a workload on the test's device."""

    def __init__(self, bench: Bench, device: MeltDevice, node: pytest.Item) -> None:
        self._bench = bench
        self._device = device
        self._node = node

    def __call__(
        self,
        workload: str,
        *,
        runs: int = 1,
        params: Mapping[str, Any] | None = None,
        protocol: Mapping[str, Any] | None = None,
        precheck: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        energy: Mapping[str, Any] | None = None,
        cpus: str | None = None,
    ) -> Measured:
        """`runs` runs of a workload, each a fresh process of the engine; the groups are those of a suite's file.

        The workload is a file, seen from where pytest was called or from the test's folder, or a shipped one's name.
        """
        groups = {"params": params, "protocol": protocol, "precheck": precheck, "limits": limits, "energy": energy}
        found, wrong = [], ""
        try:
            found = self._bench.carry_out(self._device.name, self._node.path, workload, runs, {**groups, "cpus": cpus})
        except MeltError as error:
            wrong = str(error)
        if wrong:
            pytest.fail(f"melt: {wrong}", pytrace=False)
        for run in found:
            self._node.user_properties.append(("melt_run", str(run.path)))
        _stop_unless_usable(found, runs)
        measured = Measured(self._device.name, found[0].record.cell, tuple(found))
        benchmarks.tell(self._node, measured)
        return measured


def _tell(sentence: str) -> None:
    """What a person should know stands among what pytest captured of the test."""
    _log.warning("%s", sentence)


def _of_part(part: Session) -> list[StoredRun]:
    mine = {(slot.device, slot.block, slot.cell) for slot in part.record.order}
    return [run for run in part.runs() if (run.record.device, run.record.block, run.record.cell) in mine]


def _stop_unless_usable(found: list[StoredRun], wanted: int) -> None:
    """Fails the test for a run that is not usable; skips it where the device was not ready for one."""
    not_ready = []
    for run in found:
        record = run.record
        reasons = "; ".join(f"{reason.code}: {reason.detail}" for reason in record.reasons) or "no reason is known"
        told = f"melt: {record.cell} on {record.device}, run {record.run_id}"
        if record.status == "skipped" and {reason.code for reason in record.reasons} <= _NOT_READY:
            not_ready.append(f"{told} was skipped: {reasons}")
        elif not record.usable:
            state = record.status if record.status != "ok" else record.verdict
            pytest.fail(f"{told} is {state}: {reasons} ({run.path})", pytrace=False)
    if not_ready:
        pytest.skip(not_ready[0])
    if len(found) < wanted:
        pytest.fail(f"melt: {len(found)} of {wanted} runs were carried out", pytrace=False)


def _workload_file(workload: str, config: pytest.Config, test: Path) -> Path | str:
    """The file that is meant, or a name to be looked for beside the test and among the shipped ones.

    Raises UsageError for a file that is nowhere.
    """
    path = Path(workload)
    if path.suffix not in (".yaml", ".yml"):
        return workload
    places = (config.invocation_params.dir, config.rootpath, test.parent)
    found = [place / path for place in places if (place / path).is_file()]
    known = {file.name: file for file in shipped("workloads").glob("*.yaml")}
    if not found and path.parent in (Path(), Path("workloads")) and path.name in known:
        found = [known[path.name]]
    if not found:
        where = config.invocation_params.dir / path
        raise UsageError(f"{where} does not exist; of the shipped workloads: {nearest(path.name, sorted(known))}")
    return found[0]


def _but_runs(resolved: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.value for key, value in resolved.items() if key != "protocol.runs"}
