"""The XML of a night: what a strict reader of JUnit's format demands, whatever devices and cells are called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from melt.analysis.gate import Finding, Night, SessionValues
from melt.history.nights import Series
from melt.nightly import Judged, Missing, NightResult, Quarantine
from melt.report.gate_files import gate_md
from melt.report.junit import junit_xml

if TYPE_CHECKING:
    from melt.nightly import State

HOSTILE = 'a\x00b\x1b[31m\x85<x & "y"\'>]]>&amp;\ud800\ufffe|`[z](http://x.example)\n# h\u202e' + "w" * 3000
ALLOWED = {
    "testsuites": ({"name", "tests", "failures", "errors", "time"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped", "time"}, {"properties", "testcase"}),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": ({"name", "classname", "time"}, {"failure", "error", "skipped"}),
    "failure": ({"message", "type"}, set()),
    "error": ({"message", "type"}, set()),
    "skipped": ({"message", "type"}, set()),
}
"""The attributes and children of each element, after the schema that Jenkins's xUnit plugin publishes."""
TEXT = {"failure", "error", "skipped"}


def judged(
    state: State, device: str = "pi5", cell: str = "net", metric: str = "load_s", *, canary: bool = False
) -> Judged:
    found = "suspect" if state == "quarantined" else state
    finding = Finding(found, 0.15, 0.03, 1e-6, 0.1, 0.115, 14, "20261015T030000Z", False, f"the rule of {device}")
    nights = (Night((SessionValues("20261015T030000Z", (0.1,)),)),)
    return Judged(Series(device, cell, metric, "s", None, nights, ("a note",)), finding, state, "worse", canary)


def night(*found: Judged, missing: tuple[Missing, ...] = (), suite: str = "nightly") -> NightResult:
    quarantined = tuple(Quarantine(one.series.device, "it drifted") for one in found if one.state == "quarantined")
    return NightResult(suite, ("20261015T030000Z",), 14, None, 15, found, missing, quarantined, (HOSTILE,), HOSTILE)


def strictly(data: bytes) -> ET.Element:
    """Reads the file as a validator would: known elements and attributes alone, and counts that are true."""
    root = ET.fromstring(data)  # noqa: S314 - our own file
    assert root.tag == "testsuites"
    for element in root.iter():
        attributes, children = ALLOWED[element.tag]
        optional = {"failure", "error", "skipped"}
        assert set(element.keys()) == attributes, element.tag
        assert {child.tag for child in element} <= children
        assert element.tag in TEXT or not (element.text or "").strip()
        if element.tag == "testcase":
            assert len(element) <= 1
            assert {child.tag for child in element} <= optional
    for suite in root:
        tags = {"tests": "testcase", "failures": "testcase/failure", "errors": "testcase/error"}
        for count, path in {**tags, "skipped": "testcase/skipped"}.items():
            assert int(suite.attrib[count]) == len(suite.findall(path))
        cases = [(case.attrib["classname"], case.attrib["name"]) for case in suite.findall("testcase")]
        assert len(set(cases)) == len(cases)
    for count in ("tests", "failures", "errors"):
        assert int(root.attrib[count]) == sum(int(suite.attrib[count]) for suite in root)
    return root


def case(root: ET.Element, name: str) -> ET.Element:
    (found,) = [one for one in root.iter("testcase") if one.attrib["name"] == name]
    return found


def test_a_confirmed_change_fails_and_nothing_but_ok_passes() -> None:
    states: tuple[State, ...] = ("ok", "suspect", "confirmed", "provisional", "no_verdict", "quarantined")
    root = strictly(junit_xml(night(*(judged(state, metric=f"{state}_s") for state in states))))
    assert [list(case(root, f"{state}_s")) for state in states if state == "ok"] == [[]]
    failure = case(root, "confirmed_s")[0]
    assert failure.tag == "failure"
    assert "worse: confirmed_s 115 ms, baseline 100 ms (+15.0 %; limit ±3.0 %)" in failure.attrib["message"]
    assert failure.text == "the rule of pi5; a note"
    for state in states[1:]:
        if state != "confirmed":
            assert case(root, f"{state}_s")[0].tag == "skipped", state
    (properties,) = root.iter("properties")
    told = {one.attrib["name"]: one.attrib["value"] for one in properties}
    assert told["overall"].startswith("fail: 1 confirmed change (1 worse)")
    assert told["quarantined"] == "it drifted"


def test_a_confirmed_canary_is_no_failure() -> None:
    root = strictly(junit_xml(night(judged("confirmed", canary=True))))
    assert case(root, "load_s")[0].tag == "skipped"


def test_a_suite_for_each_device_and_what_is_missing_is_skipped_or_if_strict_an_error() -> None:
    missing = (Missing("orin", None, None, "unplugged"), Missing("pi5", "small", None, "skipped: precheck"))
    result = night(judged("ok"), missing=missing)
    root = strictly(junit_xml(result))
    assert [suite.attrib["name"] for suite in root] == ["orin", "pi5"]
    assert [one.attrib["message"] for one in root.iter("skipped")] == [
        "missing: unplugged",
        "missing: skipped: precheck",
    ]
    strict = strictly(junit_xml(result, strict=True))
    assert len(list(strict.iter("error"))) == 2


def test_no_name_breaks_the_file() -> None:
    missing = (Missing(HOSTILE, HOSTILE, None, HOSTILE),)
    data = junit_xml(night(judged("confirmed", HOSTILE, HOSTILE, HOSTILE), missing=missing, suite=HOSTILE))
    root = strictly(data)
    (suite,) = root
    assert suite.attrib["name"].startswith('a b [31m <x & "y"\'>]]>&amp;?')
    for character in "\x00\x1b\x85\ufffe\u202e":
        assert character not in data.decode("utf-8")


def test_ten_thousand_series_are_one_file_and_the_summary_stays_short() -> None:
    many = [judged("suspect", device=f"d{n % 20}", cell=f"c{n // 400}", metric=f"m{n % 400}_s") for n in range(10_000)]
    result = night(*many)
    root = strictly(junit_xml(result))
    assert root.attrib["tests"] == "10000"
    assert len(gate_md(result)) < 10_000
    assert "and 9980 more" in gate_md(result)


def test_the_summary_shows_hostile_text_as_text() -> None:
    text = gate_md(night(judged("confirmed", HOSTILE, HOSTILE, "load_s"), suite=HOSTILE))
    text = re.sub(r"\\.", "", text)
    assert text.count("`") % 2 == 0
    text = re.sub("`[^`]*`", "code", text)  # in which nothing is markup
    assert "\n# h" not in text
    assert "\x1b" not in text
    assert "[z](http" not in text
    assert "<x" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3
