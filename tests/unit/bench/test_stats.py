import pytest

from bench.stats import column, percentile, ratio, spread, steps


def test_a_spread_has_the_median_and_the_extremes():
    found = spread([3.0, 1.0, 2.0, 10.0])
    assert (found.median, found.low, found.high, found.count) == (2.5, 1.0, 10.0, 4)
    assert found.text("s", 1) == "2.5 s (1.0 to 10.0)"


def test_a_ratio_is_that_of_the_medians_and_not_of_the_means():
    assert ratio([1.0, 1.0, 100.0], [2.0, 2.0, 2.0]) == 0.5


def test_a_percentile_is_among_the_values():
    assert percentile([float(value) for value in range(101)], 95) == pytest.approx(95)


def test_a_column_has_one_figure_of_each_run():
    assert column([{"page": 1.0, "cell": 2.0}, {"page": 3.0, "cell": 4.0}], "cell") == [2.0, 4.0]


PHASES = [("qsub", "qsub has answered"), ("job", "job runs"), ("page", "page")]


def test_a_phase_lasts_from_the_end_of_the_phase_before_it():
    rows = [{"qsub": 0.2, "job": 0.5, "page": 2.0}, {"qsub": 0.4, "job": 0.5, "page": 3.0}]
    assert steps(PHASES, rows) == pytest.approx([0.3, 0.2, 2.0])


def test_a_run_whose_log_lacks_a_moment_does_not_count_for_that_phase():
    rows = [{"qsub": 0.2, "page": 2.0}, {"qsub": 0.2, "job": 0.5, "page": 1.5}]
    assert steps(PHASES, rows) == pytest.approx([0.2, 0.3, 1.0])
