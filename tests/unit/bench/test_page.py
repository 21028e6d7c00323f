import pytest

from bench import page
from bench.page import Line

MACHINE = {
    "processor": "A processor",
    "cores": 2,
    "memory_gb": 23.5,
    "kernel": "6.1",
    "gridhub": "abc1234",
    "versions": {"jupyterhub": "6.1.1"},
}
START = {
    "ours": [{"qsub": 0.2, "job": 0.3, "ready": 1.0, "page": 1.2, "cell": 2.0}] * 2,
    "stock": [{"ready": 3.0, "page": 3.0, "cell": 4.0}, {"ready": 4.0, "page": 5.0, "cell": 6.0}],
    "bare": [{"page": 1.5, "cell": 2.0}] * 2,
}


def hub(cpu, memory, taken_up):
    watched = {
        number: {"cpu_per_minute": cpu * sessions, "memory_mb": memory}
        for number, sessions in (("empty", 0), ("few", 24), ("many", 200))
    }
    page = {"median_ms": 12.0, "worst_ms": 40.0}
    return watched | {
        "starts": {"people": 176, "within": 10.0, "last": 31.0, "failed": ["one"]},
        "sessions": 199,
        "pages": page,
        "pages_qmaster_frozen": page,
        "restarts": [{"answers": 4.0, "taken_up": taken_up}],
    }


LOADS = {"first": {"bytes": 1e6, "requests": 80, "seconds": 2.0}} | {
    "second": {"bytes": 1e5, "requests": 30, "seconds": 1.0}
}
EVERYTHING = {
    "start": {"runs": START},
    "class": {
        "people": 24,
        "runs": {
            side: [{"last": last, "cpu_per_start": 1.5, "hub_cpu_per_start": 0.5}]
            for side, last in (("ours", 10.0), ("stock", 40.0))
        },
    },
    "weight": {"line": "a line", "runs": {"ours": [LOADS], "stock": [LOADS]}},
    "many": {"few": 24, "many": 200, "watched_seconds": 120.0}
    | {"ours": hub(0.01, 200, 3.0), "stock": hub(0.3, 300, 60.0)},
    "proxy": {
        "requests": 2000,
        "messages": 1000,
        "runs": {path: [{"requests": 800.0, "echo_ms": 0.4}] for path in ("ours", "chp", "server")},
    },
    "form": {"sessions": 1000, "jobs": 10000, "people": 50}
    | {"runs": [{"form_ms": [10.0, 20.0, 110.0] * 40}]},
    "attacked": {"runs": {"a flood": [{"without": 2.0, "attacked": 3.0}]}},
}


def result(found):
    return {
        "part": "start",
        "date": "2026-12-01 12:00",
        "runs": 2,
        "load_before": 0.1,
        "machine": MACHINE,
        "found": found,
    }


@pytest.fixture
def written(tmp_path):
    def write(**found):
        page.write({name: result(each) for name, each in found.items()}, tmp_path / "page.md")
        return (tmp_path / "page.md").read_text(encoding="utf-8")

    return write


def test_a_goal_is_reached_at_its_value_and_not_above():
    assert Line("Page", "1 s", "2 s", 0.5, 0.5).text().endswith("| 0.50 | ≤ 0.5 | yes |")
    assert Line("Page", "2 s", "2 s", 1.0, 0.5).text().endswith("| 1.00 | ≤ 0.5 | **no** |")


def test_a_figure_without_a_goal_is_only_told():
    assert Line("Memory", "1 GB", "2 GB", 0.5, None).text() == (
        "| Memory | 1 GB | 2 GB | 0.50 |  |  |"
    )


def test_the_page_compares_medians_in_the_table(written):
    text = written(start={"runs": START})
    row = "| 1.20 s (1.20 to 1.20) | stock: 4.00 s (3.00 to 5.00) | 0.30 | ≤ 0.4 | yes |"
    assert f"| Click to page {row}" in text


def test_the_page_names_machine_versions_and_file_of_each_part(written):
    text = written(start={"runs": START})
    for said in ("2 cores (A processor)", "23.5 GB", "abc1234", "jupyterhub 6.1.1", "start.json"):
        assert said in text


def test_the_page_shows_every_plot_that_is_drawn(written, tmp_path):
    text = written(**EVERYTHING)
    shown = {part.partition(")")[0] for part in text.split("](images/")[1:]}
    assert shown == {file.name for file in (tmp_path / "images").iterdir()}


def test_the_page_has_a_section_for_each_part(written):
    text = written(**EVERYTHING)
    assert len(page.PARTS) == len(EVERYTHING)
    # And one about the size of a hub.
    assert text.count("\n## ") == len(EVERYTHING) + 1


def test_the_hub_is_compared_at_the_same_number_of_sessions(written):
    text = written(**EVERYTHING)
    assert "| Hub's CPU a minute, 200 sessions | 2.00 s" in text
    assert "60.00 s (60.00 to 60.00) | 0.03 | ≤ 0.1 | yes |" in text


def test_failed_starts_are_told(written):
    assert "1 failed" in " ".join(written(**EVERYTHING).split())


def test_the_size_of_a_hub_follows_from_the_difference_between_few_and_many():
    sized = page.sizing({name: result(found) for name, found in EVERYTHING.items()})
    # 2 s a minute for 200 sessions and 0.01 s for each further one, up to 15 s.
    assert sized["people"] == pytest.approx(1500)
    assert sized["restart"] == pytest.approx(15.0)
    assert sized["hub_start"] == 0.5


def test_without_a_result_the_page_says_so(written):
    assert "Nothing has been measured yet." in written()


def test_a_part_that_was_not_measured_is_left_out(written):
    assert "class" not in written(start={"runs": START}).lower()
