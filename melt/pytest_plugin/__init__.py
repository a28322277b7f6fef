"""Fixtures for tests that measure: `melt_run` carries out a workload on a device of a lab, `melt_device` says which.

    def test_decode_speed(melt_run):
        run = melt_run("workloads/tinyllama-q4_0.yaml", params={"threads": 4})
        assert run["decode_tok_per_s"].value > 10

Every pytest of an environment with melt loads this file, so it imports nothing but pytest: what measures is imported
by the first test that asks for it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from melt.pytest_plugin.bench import Bench, MeltDevice, MeltRun

_FIXTURE = "melt_device"
_MARKER = (
    "melt_device(*names, tags=()): the devices of the lab on which a test with melt_run or melt_device is carried out, "
    "once on each"
)
BENCH = pytest.StashKey["Bench"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options; `--help` has them under melt."""
    group = parser.getgroup("melt", "measuring on devices with melt")
    group.addoption(
        "--melt-lab",
        metavar="LAB",
        help="The lab file: the devices that are here; or 'virtual', for boards that are software.",
    )
    group.addoption(
        "--melt-device",
        action="append",
        default=[],
        metavar="NAME",
        help="A device of the lab for tests that mark none; may be given again. Without it, the lab's usual ones.",
    )
    group.addoption(
        "--melt-results",
        default="results/pytest",
        metavar="DIR",
        help="The folder of the suite that the runs belong to; its name is the suite's. (default: %(default)s)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line("markers", _MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Gives a test that measures one item for each of its devices, unless it names them itself."""
    if _FIXTURE not in metafunc.fixturenames:
        return
    named_itself = any(_FIXTURE in str(mark.args[:1]) for mark in metafunc.definition.iter_markers("parametrize"))
    marker, config = metafunc.definition.get_closest_marker("melt_device"), metafunc.config
    given = marker or config.getoption("--melt-device") or config.getoption("--melt-lab")
    if named_itself or not given:
        return
    from melt.pytest_plugin.choice import devices_of  # noqa: PLC0415 - no other test pays for it

    metafunc.parametrize(_FIXTURE, devices_of(config, marker), indirect=True)


@pytest.fixture(scope="session")
def _melt_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The lab, and the session of the results: one for each pytest, begun by its first run."""
    from melt.pytest_plugin.bench import Bench  # noqa: PLC0415 - no other test pays for it

    with Bench.of(request.config) as bench:
        request.config.stash[BENCH] = bench
        yield bench


@pytest.fixture
def melt_device(request: pytest.FixtureRequest, _melt_bench: Bench) -> MeltDevice:
    """The device that the test is carried out on: `name`, `profile`, `tags`, `address`, `simulated`."""
    return _melt_bench.device(getattr(request, "param", "local"))


@pytest.fixture
def melt_run(request: pytest.FixtureRequest, _melt_bench: Bench, melt_device: MeltDevice) -> MeltRun:
    """Carries out a workload on the test's device: `melt_run(workload, runs=1, params={…}, protocol={…})`.

    The test fails where a run is invalid, and is skipped where the device was not ready for one.
    """
    from melt.pytest_plugin.bench import MeltRun  # noqa: PLC0415 - no other test pays for it

    return MeltRun(_melt_bench, melt_device, request.node)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says where the runs lie."""
    bench = config.stash.get(BENCH, None)
    if bench is not None and bench.folder is not None:
        terminalreporter.write_line(f"melt: the runs lie in {bench.folder}")
