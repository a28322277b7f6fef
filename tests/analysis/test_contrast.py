"""What is said of two sides: a ratio, its interval, what could have been found, and one word."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import nctdtrinc, stdtrit

from melt.analysis.contrast import Contrast, adjusted, contrast, nameable, sense, word

A = [10.0, 10.2, 9.9, 10.1, 10.05]
B = [11.0, 11.5, 10.9, 11.3, 10.95]

VALUES = st.floats(1e-3, 1e3)
PAIRS = st.lists(st.tuples(VALUES, VALUES), min_size=3, max_size=12)


def between(ratio: float, low: float, high: float, n: int = 10) -> Contrast:
    return Contrast(ratio, low, high, 0.01, n, n, paired=True, detectable=0.02)


# ------------------------------------------------------------------------------------------------- the figures


def test_pairs_are_compared_by_the_t_of_the_logs_of_their_ratios() -> None:
    found = contrast(A, B, paired=True)
    logs = np.log(B) - np.log(A)
    half = stats.t.ppf(0.975, 4) * stats.sem(logs)
    assert found.ratio == pytest.approx(math.exp(logs.mean()))
    assert (found.low, found.high) == pytest.approx((math.exp(logs.mean() - half), math.exp(logs.mean() + half)))
    assert found.p == pytest.approx(stats.ttest_1samp(logs, 0).pvalue)
    assert (found.n_a, found.n_b, found.paired, found.why_not, found.notes) == (5, 5, True, None, ())


def test_groups_are_compared_by_welchs_t_of_their_logs_and_need_not_be_of_one_size() -> None:
    found = contrast(A, B[:4], paired=False)
    reference = stats.ttest_ind(np.log(B[:4]), np.log(A), equal_var=False)
    low, high = reference.confidence_interval(0.95)
    assert found.p == pytest.approx(reference.pvalue)
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert (found.n_a, found.n_b) == (5, 4)


@pytest.mark.parametrize(("n", "paired"), [(4, True), (10, True), (5, False), (10, False)])
def test_a_change_as_large_as_the_detectable_one_is_found_in_four_of_five_cases(n: int, paired: bool) -> None:
    rng = np.random.default_rng(300 + n)
    noise, freedom = 0.02, n - 1 if paired else 2 * n - 2
    # what the detectable change would be if the noise was known, and by the same formula from the noise of each case
    change = float(nctdtrinc(freedom, 0.2, stdtrit(freedom, 0.975))) * noise * math.sqrt(2 / n)
    cases = 2500
    a, b = np.exp(rng.normal(0, noise, (cases, n))), np.exp(rng.normal(change, noise, (cases, n)))
    found = [contrast(x.tolist(), y.tolist(), paired=paired) for x, y in zip(a, b, strict=True)]
    assert np.mean([one.p is not None and one.p <= 0.05 for one in found]) == pytest.approx(0.8, abs=0.04)
    told = [one.detectable for one in found if one.detectable is not None]
    assert len(told) == cases
    assert np.sqrt(np.mean(np.log1p(told) ** 2)) == pytest.approx(change, rel=0.05)


@pytest.mark.parametrize("paired", [True, False])
def test_the_interval_of_two_equal_sides_holds_one_in_95_of_100_cases(paired: bool) -> None:
    rng = np.random.default_rng(17)
    held = []
    for _ in range(2000):
        a, b = np.exp(rng.normal(0, 0.02, (2, 5))).tolist()
        found = contrast(a, b, paired=paired)
        assert found.low is not None
        assert found.high is not None
        held.append(found.low <= 1 <= found.high)
    assert 0.935 <= np.mean(held) <= 0.965


# -------------------------------------------------------------------------------------- whatever the values are


def logs(found: Contrast) -> tuple[float, float, float, float]:
    assert found.ratio is not None
    assert found.low is not None
    assert found.high is not None
    assert found.p is not None
    return math.log(found.ratio), math.log(found.low), math.log(found.high), found.p


@settings(max_examples=150, deadline=None)
@given(pairs=PAIRS, paired=st.booleans())
def test_to_swap_the_sides_inverts_the_ratio_and_turns_the_interval_round(
    pairs: list[tuple[float, float]], paired: bool
) -> None:
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    ratio, low, high, p = logs(contrast(a, b, paired=paired))
    swapped = contrast(b, a, paired=paired)
    assert logs(swapped) == pytest.approx((-ratio, -high, -low, p), rel=1e-6, abs=1e-9)
    assert (swapped.detectable or 0.0) == pytest.approx(contrast(a, b, paired=paired).detectable or 0.0, rel=1e-6)


@settings(max_examples=150, deadline=None)
@given(pairs=PAIRS, paired=st.booleans(), factor=st.floats(1e-6, 1e6))
def test_another_unit_changes_nothing(pairs: list[tuple[float, float]], paired: bool, factor: float) -> None:
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    before = contrast(a, b, paired=paired)
    # rounding alone can make a spread of values that had none
    assume(before.detectable is not None and before.detectable > 1e-6)
    after = contrast([factor * x for x in a], [factor * x for x in b], paired=paired)
    assert logs(after) == pytest.approx(logs(before), rel=1e-6, abs=1e-8)
    assert after.detectable == pytest.approx(before.detectable, rel=1e-5)


@settings(max_examples=150, deadline=None)
@given(pairs=PAIRS, paired=st.booleans(), data=st.data())
def test_the_order_of_the_pairs_changes_nothing(
    pairs: list[tuple[float, float]], paired: bool, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(pairs))))
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    found = contrast([a[i] for i in order], [b[i] for i in order], paired=paired)
    assert logs(found) == pytest.approx(logs(contrast(a, b, paired=paired)), rel=1e-6, abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(
    a=st.lists(st.none() | st.floats(), max_size=8),
    b=st.lists(st.none() | st.floats(), max_size=8),
    paired=st.booleans(),
)
def test_nothing_that_a_run_can_give_raises_and_what_is_missing_has_a_reason(
    a: list[float | None], b: list[float | None], paired: bool
) -> None:
    if paired:
        a, b = a[: len(b)], b[: len(a)]
    found = contrast(a, b, paired=paired)
    assert (found.low is None) == (found.high is None) == (found.p is None) == (found.why_not is not None)
    for value in (found.ratio, found.low, found.high, found.p, found.detectable):
        assert value is None or math.isfinite(value)
    if found.low is not None:
        assert found.ratio is not None
        assert found.high is not None
        assert found.low <= found.ratio <= found.high
    said, why = word(found, found.p, "latency_p50_s")
    assert "nan" not in why
    assert found.low is not None or said == "inconclusive"


# --------------------------------------------------------------------------------------- values that carry little


def test_runs_without_a_value_take_their_pair_along_and_are_counted() -> None:
    found = contrast([*A, None, 10.0], [*B, 11.0, math.nan], paired=True)
    whole = contrast(A, B, paired=True)
    assert (found.ratio, found.p, found.n_a) == (whole.ratio, whole.p, 5)
    assert found.notes == ("2 of 7 pairs lack a value on one side at least",)
    groups = contrast([*A, None], [math.inf, *B, None], paired=False)
    assert groups.notes == ("1 of 6 runs of a have no value", "2 of 7 runs of b have no value")
    assert (groups.n_a, groups.n_b) == (5, 5)


def test_sides_of_unlike_number_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="5 and 4 values are no pairs"):
        contrast(A, B[:4], paired=True)


def test_a_value_of_zero_or_below_is_told_and_never_dropped() -> None:
    found = contrast(A, [*B[:4], -2.0], paired=True)
    assert (found.ratio, found.low, found.p, found.detectable) == (None, None, None, None)
    assert found.why_not == "the ratio is not defined: 1 of 5 values of b are 0 or below (such as -2)"
    assert "1 of 5 values of a" in str(contrast([*A[:4], 0.0], B, paired=False).why_not)
    assert word(found, None, "energy_net_j") == ("inconclusive", f"energy_net_j: {found.why_not}")


@pytest.mark.parametrize(("n_a", "n_b", "paired"), [(2, 2, True), (2, 5, False), (1, 1, True)])
def test_under_three_runs_there_is_a_ratio_and_no_interval(n_a: int, n_b: int, paired: bool) -> None:
    found = contrast(A[:n_a], B[:n_b], paired=paired)
    assert found.ratio is not None
    assert (found.low, found.high, found.p, found.detectable) == (None, None, None, None)
    assert "an interval needs 3" in str(found.why_not)
    assert word(found, None, "load_s")[0] == "inconclusive"


def test_values_too_far_apart_for_a_number_have_a_reason() -> None:
    ends = [1e-300, 1e300, 1.0]
    assert "too far apart" in str(contrast(ends, ends[::-1], paired=True).why_not)
    assert contrast([1e-300] * 3, [1e300] * 3, paired=True).ratio is None


def test_a_side_without_any_value_is_named() -> None:
    assert contrast([None], [1.0], paired=False).why_not == "no run of a has a value"
    assert contrast([], [], paired=True).why_not == "no pair has a value on both sides"


@pytest.mark.parametrize("paired", [True, False])
def test_values_that_do_not_vary_have_an_interval_of_no_width_and_say_so(paired: bool) -> None:
    same, other = (contrast([0.3] * 4, [b] * 4, paired=paired) for b in (0.3, 0.7))
    assert (same.low, same.high, same.p) == (1.0, 1.0, 1.0)
    assert (other.low, other.high, other.p) == (pytest.approx(7 / 3), pytest.approx(7 / 3), 0.0)
    assert same.detectable is None
    assert "at all: the interval has no width" in other.notes[0]
    assert word(same, 1.0, "peak_memory_bytes")[0] == "equivalent"
    assert word(other, 0.0, "peak_memory_bytes")[0] == "more"


def test_pairs_that_drift_together_do_not_vary() -> None:
    a = [10.0, 11.0, 12.0, 13.0]
    found = contrast(a, [1.1 * x for x in a], paired=True)
    assert (found.p, found.detectable) == (0.0, None)


def test_two_modes_are_flagged_where_they_reach_the_interval() -> None:
    rng = np.random.default_rng(4)
    a, steady = np.exp(rng.normal(0, 0.02, (2, 12)))
    modes = np.tile([1.0, 1.4], 6)
    assert contrast(a.tolist(), steady.tolist(), paired=True).notes == ()
    (of_pairs,) = contrast(a.tolist(), (steady * modes).tolist(), paired=True).notes
    assert of_pairs.startswith("the ratios of the pairs lie in two groups, 38.8%")
    (of_b,) = contrast(a.tolist(), (steady * modes).tolist(), paired=False).notes
    assert of_b.startswith("the values of b lie in two groups, 4")
    # the device was slower in every second block, for both alike: the pairs do not see it
    assert contrast((a * modes).tolist(), (steady * modes).tolist(), paired=True).notes == ()
    # both have two modes, each its own: the ratios have three
    own = contrast((a * modes).tolist(), (steady * np.repeat([1.0, 1.4], 6)).tolist(), paired=True).notes
    assert [note[:15] for note in own] == ["the values of a", "the values of b"]


# ---------------------------------------------------------------------------------------------- many cells, words


def test_p_is_adjusted_for_the_number_of_tests_and_what_has_none_is_none() -> None:
    # by hand: .01 × 3 ÷ 1, .04 × 3 ÷ 2, .5 × 3 ÷ 3
    assert adjusted([0.04, None, 0.01, 0.5]) == [pytest.approx(0.06), None, pytest.approx(0.03), pytest.approx(0.5)]
    assert adjusted([]) == []
    assert adjusted([None, None]) == [None, None]
    with pytest.raises(ValueError):
        adjusted([1.5])


def test_of_the_differences_that_are_named_at_most_one_in_twenty_is_none() -> None:
    rng = np.random.default_rng(8)
    false = named = 0
    for _ in range(40):
        truly = rng.random(60) < 0.3
        shift = np.where(truly, 0.05, 0.0)
        p = [
            contrast(np.exp(rng.normal(0, 0.02, 8)).tolist(), np.exp(rng.normal(by, 0.02, 8)).tolist(), paired=True).p
            for by in shift
        ]
        said = np.array([value is not None and value <= 0.05 for value in adjusted(p)])
        named += int(said.sum())
        false += int((said & ~truly).sum())
    assert named > 400
    assert false / named <= 0.05


@pytest.mark.parametrize(
    ("metric", "what"),
    [
        ("latency_p50_s", "time"),
        ("latency_p99_9_s", "time"),
        ("load_cold_s", "time"),
        ("ttft_text_s", "time"),
        ("itl_p50_s", "time"),
        ("decode_tok_per_s", "rate"),
        ("inferences_per_s", "rate"),
        ("read_bytes_per_s.t4", "rate"),
        ("energy_j", "amount"),
        ("edp_js", "amount"),
        ("peak_memory_bytes", "amount"),
        ("power_mean_w.VDD_IN", "amount"),
        ("clock_hz.cpu0", "amount"),
        ("temperature_max_c", "amount"),
        ("sustained_ratio", "amount"),
        ("time_to_10pct_drop_s", "amount"),
        ("latency_outliers", "amount"),
    ],
)
def test_a_metric_is_a_rate_a_time_or_an_amount_by_its_name(metric: str, what: str) -> None:
    assert sense(metric) == what


@pytest.mark.parametrize(
    ("metric", "ratio", "said"),
    [
        ("latency_p50_s", 1.2, "slower"),
        ("latency_p50_s", 0.8, "faster"),
        ("decode_tok_per_s", 1.2, "faster"),
        ("decode_tok_per_s", 0.8, "slower"),
        ("energy_j", 1.2, "more"),
        ("energy_j", 0.8, "less"),
    ],
)
def test_the_word_is_of_b_and_by_what_the_metric_is(metric: str, ratio: float, said: str) -> None:
    assert word(between(ratio, ratio * 0.95, ratio * 1.05), 0.01, metric)[0] == said


def test_a_difference_needs_four_runs_an_adjusted_p_and_to_leave_what_counts_as_none() -> None:
    clear = between(1.2, 1.1, 1.3)
    assert word(clear, 0.05, "load_s")[0] == "slower"
    assert word(clear, 0.0501, "load_s")[0] == "inconclusive"
    assert word(between(1.2, 1.1, 1.3, n=4), 0.01, "load_s")[0] == "slower"
    assert word(between(1.2, 1.1, 1.3, n=3), 0.0001, "load_s")[0] == "inconclusive"
    assert "under 4" in word(between(1.2, 1.1, 1.3, n=3), 0.0001, "load_s")[1]
    small = between(1.02, 1.01, 1.029)
    assert word(small, 1e-9, "load_s")[0] == "equivalent"
    assert word(small, 1e-9, "load_s", delta=0.02)[0] == "slower"


def test_a_difference_that_may_be_too_small_to_count_is_not_named_and_the_sentence_says_what_is_known() -> None:
    near = between(1.025, 1.004, 1.046)
    said, why = word(near, 0.02, "load_s")
    assert said == "inconclusive"
    assert "b differs, but that it does by more than the ±3.0% that count as none is not shown" in why
    assert "no certain difference" not in why
    assert word(between(1 / 1.025, 1 / 1.046, 1 / 1.004), 0.02, "load_s")[0] == "inconclusive"
    assert word(between(1.0299, 1.004, 1.056), 0.02, "load_s")[0] == "inconclusive"
    assert word(between(1.0301, 1.004, 1.056), 0.02, "load_s")[0] == "slower"
    assert word(near, 0.02, "load_s", delta=0.02)[0] == "slower"
    assert "no certain difference" in word(near, 0.2, "load_s")[1]


def words_of(change: float, n: int, cases: int, seed: int) -> Counter[str]:
    """The verdicts on pairs of `n` runs with 2 % noise, one metric looked at."""
    rng = np.random.default_rng([seed, n])
    a = np.exp(rng.normal(0, 0.02, (cases, n)))
    b = np.exp(rng.normal(math.log1p(change), 0.02, (cases, n)))
    found = [contrast(x.tolist(), y.tolist(), paired=True) for x, y in zip(a, b, strict=True)]
    return Counter(word(one, one.p, "latency_p50_s")[0] for one in found)


def test_equal_sides_are_seldom_named_different_and_large_changes_still_are() -> None:
    """Without the rule that the ratio itself has to lie outside ±δ, .04 of five equal pairs are, and .035 of ten."""
    equal = {n: words_of(0.0, n, 4000, 5) for n in (5, 10)}
    assert (equal[5]["slower"] + equal[5]["faster"]) / 4000 < 0.017
    assert (equal[10]["slower"] + equal[10]["faster"]) / 4000 < 0.004
    assert words_of(0.05, 5, 2000, 6)["slower"] / 2000 == pytest.approx(0.80, abs=0.03)
    assert words_of(0.08, 5, 2000, 7)["slower"] / 2000 > 0.98


@pytest.mark.parametrize("n", [5, 10, 20])
def test_the_change_that_is_told_is_the_one_that_gets_a_name_and_not_only_the_one_that_the_test_finds(n: int) -> None:
    error = 0.02 * math.sqrt(2 / n)
    found = float(nctdtrinc(n - 1, 0.2, stdtrit(n - 1, 0.975))) * error
    change = math.expm1(max(found, math.log1p(0.03) + 0.8416 * error))
    words = words_of(change, n, 2500, 8)
    assert words["slower"] / 2500 == pytest.approx(0.79, abs=0.045)
    about = Contrast(1.0, 0.9, 1.1, 0.5, n, n, paired=True, detectable=math.expm1(found), error=error)
    assert nameable(about) == pytest.approx(change, rel=1e-4)
    assert nameable(about, delta=1e-9) == pytest.approx(about.detectable)


def test_equivalence_is_symmetric_in_logs() -> None:
    assert word(between(1.0, 1 / 1.0299, 1.0299), 0.9, "load_s")[0] == "equivalent"
    assert word(between(1.0, 1 / 1.0301, 1.0), 0.9, "load_s")[0] == "inconclusive"
    assert word(between(1.0, 1.0, 1.0301), 0.9, "load_s")[0] == "inconclusive"


def test_the_sentence_has_the_figures_and_what_could_have_been_found() -> None:
    said, why = word(contrast(A, B, paired=True), 0.00001, "latency_p50_s")
    assert said == "slower"
    assert why == (
        "latency_p50_s of b is 1.107 × that of a (1.088 to 1.127, 5 pairs, adjusted p below 0.0001); "
        "a change of 3.5% is found in 80% of cases"
    )
    wild = contrast([1.0, 9.0, 3.0, 5.0], [2.0, 7.0, 1.0, 5.0], paired=False)
    assert "4 and 4 runs" in word(wild, 0.5, "energy_j")[1]
    assert "a change by a factor of 8.7 is found" in word(wild, 0.5, "energy_j")[1]
