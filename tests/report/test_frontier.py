"""The frontier: which points nothing beats, and a picture whose names never cover anything."""

import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from rankdistil.metrics.fitted import Bin, Calibration, Platt
from rankdistil.report.comparison import Row
from rankdistil.report.frontier import draw_depths, draw_frontier, draw_reliability, pareto
from rankdistil.report.verdict import Depth, Depths


def row(name: str, quality: float, latency: float | None, spread: float | None = None) -> Row:
    speed, size = {} if latency is None else {"latency_ms_p50": latency}, name.partition(" ")[2]
    return Row(name, 1, {"nDCG@10": quality}, {"nDCG@10": spread} if spread else {}, None, None, None, None, speed, size=size)


BM25 = row("BM25", 0.558, None)
QUALITIES = [0.12, 0.19, 0.33, 0.41, 0.551, 0.556, 0.562, 0.575, 0.58]
ROWS = [BM25, row("teacher minilm", 0.6, 1714)]
ROWS += [row(f"way_{n} 6l", quality, 580 + 3 * n, 0.005) for n, quality in enumerate(QUALITIES)]
ROWS += [row(f"way_{n} 3l", quality - 0.03, 400 - 2 * n, 0.01) for n, quality in enumerate(QUALITIES)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


@pytest.fixture(scope="module")
def drawn(folder: Path) -> Figure:
    figures = []
    save = Figure.savefig
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, *args, **kwargs: (figures.append(self), save(self, *args, **kwargs)))
        assert draw_frontier(ROWS, BM25, folder) == [folder / "frontier.png", folder / "frontier.svg"]
    return figures[0]


def test_a_point_that_is_slower_and_worse_is_not_on_the_frontier() -> None:
    assert pareto([(3.0, 0.6), (2.0, 0.4), (1.0, 0.5)]) == [2, 0]


def test_of_equally_fast_points_the_best_is_kept_and_of_equally_good_ones_the_fastest() -> None:
    assert pareto([(1.0, 0.4), (1.0, 0.5)]) == [1]
    assert pareto([(2.0, 0.5), (1.0, 0.5)]) == [1]


def test_equal_points_are_kept_together_and_no_point_has_no_frontier() -> None:
    assert pareto([(1.0, 0.5), (1.0, 0.5)]) == [0, 1]
    assert pareto([]) == []


def test_the_frontier_is_what_the_definition_says_of_every_pair() -> None:
    points = [(float(7 * n % 11), float(5 * n % 13)) for n in range(40)]
    beaten = {a for a in points for b in points if a != b and b[0] <= a[0] and b[1] >= a[1]}
    assert sorted(points[place] for place in pareto(points)) == sorted(point for point in points if point not in beaten)


@pytest.mark.usefixtures("drawn")
def test_both_pictures_are_written_and_nothing_else(folder: Path) -> None:
    picture, drawing = sorted(folder.iterdir())
    assert imread(picture).shape[:2] == (960, 1350)
    assert ElementTree.parse(drawing).getroot().tag.endswith("svg")


BUSY = row("alone", 0.5, None)._replace(speed={"parameters": 22_000_000})


@pytest.mark.parametrize("untimed", [BM25, BUSY], ids=["no time", "the times of a busy machine"])
def test_without_a_timed_row_nothing_is_written(tmp_path: Path, untimed: Row) -> None:
    assert draw_frontier([untimed], BM25, tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_one_point_without_a_first_stage_can_be_drawn(tmp_path: Path) -> None:
    assert len(draw_frontier([row("alone", 0.5, 3.3)], None, tmp_path)) == 2


def test_only_the_first_stage_and_points_of_the_frontier_are_named(drawn: Figure) -> None:
    names = {text.get_text() for text in drawn.axes[0].texts}
    assert {"BM25", "teacher minilm", "way_8 6l", "way_8 3l"} <= names
    assert names <= {"BM25", "teacher minilm", "way_8 3l", *(f"way_{n} 6l" for n in range(9))}


def test_no_name_covers_another_name_or_a_point_or_leaves_the_axes(drawn: Figure) -> None:
    (axes,) = drawn.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    points = axes.transData.transform([(row.speed["latency_ms_p50"], row.measures["nDCG@10"]) for row in ROWS if row.speed])
    assert not any(box.contains(*point) for box in boxes for point in points)
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)


def test_a_name_starts_nearer_to_its_own_point_than_to_any_other(drawn: Figure) -> None:
    to_pixels = drawn.axes[0].transData.transform
    points = {row.name: to_pixels((row.speed["latency_ms_p50"], row.measures["nDCG@10"])) for row in ROWS if row.speed}
    named = [text for text in drawn.axes[0].texts if text.get_text() in points]
    assert len(named) > 3
    for text in named:
        start = points[text.get_text()] + [offset * drawn.dpi / 72 for offset in text.xyann]
        assert min(points, key=lambda name: math.dist(start, points[name])) == text.get_text()


def test_legends_hold_each_procedure_and_each_size_once(drawn: Figure) -> None:
    procedures, sizes = ([text.get_text() for text in legend.get_texts()] for legend in drawn.legends)
    assert procedures == ["teacher", *(f"way_{n}" for n in range(9))]
    assert sizes == ["minilm", "6l", "3l"]


def test_a_run_s_name_is_no_size_and_tells_its_points_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (figures.append(self), path.touch()))
    rows = [row(name, 0.5, 3.0)._replace(size=size) for name, size in (("a 6l", "6l"), ("a 6l 4l", "6l"), ("my run.txt", ""))]
    draw_frontier(rows, None, tmp_path)
    procedures, sizes = ([text.get_text() for text in legend.get_texts()] for legend in figures[0].legends)
    assert (procedures, sizes) == (["a", "a 4l", "my run.txt"], ["6l"])


def test_depths_are_drawn_for_the_rows_that_have_some_and_nothing_is_written_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert draw_depths(ROWS, BM25, tmp_path) == []
    points = [Depth(candidates, 0.5 + candidates / 1000, None, None) for candidates in (1, 2, 5, 10, 20, 50, 100)]
    rows = [BUSY._replace(name=f"row {n}", depth=Depths(points, 20, None)) for n in range(14)]
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: (figures.append(self), save(self, *args, **kwargs)))
    files = draw_depths([*ROWS, *rows], BM25, tmp_path)
    (legend,) = figures[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["BM25", *(f"row {n} (20)" for n in range(14))]
    assert files == [tmp_path / "depth.png", tmp_path / "depth.svg"] == sorted(tmp_path.iterdir())
    assert imread(files[0]).shape[:2] == (960, 1350)


def test_reliability_is_drawn_for_the_rows_that_have_a_probability_and_hollow_where_pairs_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert draw_reliability(ROWS, tmp_path) == []
    held = Calibration(Platt(1.0, 0.0), 0.1, 0.2, [Bin(0.05, 0.1, 50), Bin(0.6, 0.4, 5)], None, None, 0.9)
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: (figures.append(self), save(self, *args, **kwargs)))
    files = draw_reliability([*ROWS, *(BUSY._replace(name=f"row {n}", calibration=held) for n in range(14))], tmp_path)
    assert files == [tmp_path / "reliability.png", tmp_path / "reliability.svg"] == sorted(tmp_path.iterdir())
    hollow = [line for line in figures[0].axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [list(zip(*line.get_data(), strict=True)) for line in hollow] == [[(0.6, 0.4)]] * 14
    assert imread(files[0]).shape[:2] == (960, 1350)


def test_the_axis_is_logarithmic_with_plain_numbers_and_faster_to_the_left(drawn: Figure) -> None:
    axis = drawn.axes[0].xaxis
    low, high = drawn.axes[0].get_xlim()
    assert axis.get_scale() == "log"
    shown = [
        label.get_text() for label, place in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True) if low < place < high
    ]
    assert shown == ["300", "400", "500", "700", "1000", "1500", "2000"]


def test_drawing_needs_no_pyplot_and_importing_no_matplotlib(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom rankdistil.report.comparison import Row\n"
        "from rankdistil.report.frontier import draw_frontier\nprint('matplotlib' in sys.modules)\n"
        "row = Row('a 2l', 1, {'nDCG@10': 0.5}, {}, None, None, None, None, {'latency_ms_p50': 3.0})\n"
        "draw_frontier([row], None, Path(sys.argv[1]))\n"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    assert done.stdout == "False\nTrue False\n"
