"""A night as JUnit XML, as CI systems read it: a test suite for each device, a test case for each cell and metric."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from melt.report.escape import one_line
from melt.report.gate_words import about_the_night, change_of, headline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.nightly import Judged, Missing, NightResult

_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What XML 1.0 cannot hold, however it is written."""
_MOST = 1000
_TELLS: dict[str, str] = {
    "suspect": "suspect, not confirmed: ",
    "provisional": "provisional: ",
    "no_verdict": "no verdict: ",
    "quarantined": "quarantined, the device drifted: ",
}
"""Those that are neither passed nor failed are skipped, so that no CI counts them among what passed."""


def junit_xml(result: NightResult, *, strict: bool = False) -> bytes:
    """The whole file. A confirmed change is a failure; what is missing is skipped, or if `strict` an error."""
    of_device: dict[str, tuple[list[Judged], list[Missing]]] = defaultdict(lambda: ([], []))
    for one in result.judged:
        of_device[one.series.device][0].append(one)
    for lost in result.missing:
        of_device[lost.device][1].append(lost)
    root = ET.Element("testsuites", name=_text(f"melt gate {result.suite}"))
    for device in sorted(of_device):
        _suite(root, result, device, *of_device[device], strict=strict)
    _whole(root, result, strict=strict)
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    root.set("time", "0")
    ET.indent(root, space=" ")
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _suite(
    root: ET.Element,
    result: NightResult,
    device: str,
    judged: Sequence[Judged],
    missing: Sequence[Missing],
    *,
    strict: bool,
) -> None:
    suite = ET.SubElement(root, "testsuite", name=_text(device))
    properties = ET.SubElement(suite, "properties")
    about = {
        "suite": result.suite,
        "night": result.night,
        "sessions": " ".join(result.sessions),
        "history": str(result.history),
        "overall": headline(result),
    }
    if result.axis is not None:
        about["axis"] = result.axis
    for quarantine in result.quarantined:
        if quarantine.device == device:
            about["quarantined"] = quarantine.why
    for name, value in about.items():
        ET.SubElement(properties, "property", name=name, value=_text(value))
    for one in judged:
        _case(suite, result.suite, one)
    for lost in missing:
        case = _test(suite, result.suite, device, lost.cell or "every cell", lost.metric or "every metric")
        ET.SubElement(case, "error" if strict else "skipped", message=_text(f"missing: {lost.why}"), type="missing")
    _count(suite)


def _whole(root: ET.Element, result: NightResult, *, strict: bool) -> None:
    """One more test where the night lacks what no other test tells, or would exit 1 with none that failed."""
    told = about_the_night(result)
    failed = result.exit_code(strict=strict) == 1 and all(int(one.get("failures", "0")) == 0 for one in root)
    if not told and (not failed or any(int(one.get("errors", "0")) for one in root)):
        return
    suite = ET.SubElement(root, "testsuite", name="the night as a whole")
    case = _test(suite, result.suite, "night", result.night, "judged")
    message = _text("; ".join([headline(result), *told]))
    ET.SubElement(case, "error" if failed else "skipped", message=message, type=_text(result.overall))
    _count(suite)


def _count(suite: ET.Element) -> None:
    kinds = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    suite.set("tests", str(len(suite.findall("testcase"))))
    for count, tag in kinds.items():
        suite.set(count, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("time", "0")


def _case(suite: ET.Element, name: str, one: Judged) -> None:
    case = _test(suite, name, one.series.device, one.series.cell, one.series.metric)
    if one.trips:
        failure = ET.SubElement(case, "failure", message=_text(f"{one.direction}: {change_of(one)}"), type="confirmed")
        failure.text = _text("; ".join((one.finding.rule, *one.series.notes)))
    elif one.state != "ok":
        said = f"canary {one.state}: " if one.canary else _TELLS[one.state]
        told = f"{one.direction}: {change_of(one)}" if one.outside else one.finding.rule
        ET.SubElement(
            case,
            "skipped",
            message=_text(said + told),
            type=one.state,
        )


def _test(suite: ET.Element, name: str, device: str, cell: str, metric: str) -> ET.Element:
    # a point is where readers divide a class name into folders
    where = ".".join(_text(part).replace(".", "_") for part in (name, device, cell))
    return ET.SubElement(suite, "testcase", classname=where, name=_text(metric), time="0")


def _text(text: str) -> str:
    return _NO_XML.sub("\ufffd", one_line(text, _MOST))
