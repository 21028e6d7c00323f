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


def test_every_image_of_the_page_is_drawn(written, tmp_path):
    text = written(start={"runs": START})
    images = [part.partition(")")[0] for part in text.split("](images/")[1:]]
    assert images == ["performance-start.svg", "performance-phases.svg"]
    assert all((tmp_path / "images" / name).read_text().startswith("<?xml") for name in images)


def test_a_part_that_was_not_measured_is_left_out(written):
    assert "class" not in written(start={"runs": START}).lower()
