"""Pareto frontier of quality and latency: what each millisecond buys, and which rankers nothing else beats at their speed.

Rankers of one size are equally fast, so their points stand above each other. Colours and shapes tell them apart, and only
those on the frontier are named beside their points: more names can't be placed without covering points.
"""

from collections.abc import Sequence
from itertools import pairwise, product
from math import dist, hypot, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankdistil.files import written
from rankdistil.metrics.fitted import LEAST
from rankdistil.metrics.ranking import MAIN
from rankdistil.report.comparison import Row
from rankdistil.report.results import TIME

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

# Okabe & Ito 2008 without yellow, which white swallows; then some of Paul Tol's "muted", safe for the colour-blind.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#000000", "#882255", "#999933", "#332288", "#888888", "#DDCC77"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">")
GREY = "#666666"
AROUND = ((1, 0), (-1, 0), (0.9, 0.9), (-0.9, 0.9), (0.9, -0.9), (-0.9, -0.9))  # a name's place, in distances from its point
DISTANCES = (9, 13, 18)  # points (1/72 inch)


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Find the points that no other point beats.

    Args:
        points: cost (lower is better) and quality (higher is better).

    Returns:
        Places in ``points`` of those for which no other is at least as good on both sides and better on one, by rising cost.
        Of equal points all are returned.
    """
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1]))
    best: list[int] = []
    for place in order:
        if not best or points[place][1] > points[best[-1]][1] or points[place] == points[best[-1]]:
            best.append(place)
    return best


def draw_frontier(rows: Sequence[Row], first_stage: Row | None, folder: Path, passages: float = 100) -> list[Path]:
    """Draw quality over inference time into ``frontier.png`` and ``frontier.svg``.

    Args:
        rows: of the comparison; those that weren't timed, or on a busy machine, are left out.
        first_stage: drawn as a horizontal line, for re-ranking costs what it adds to the first stage.
        folder: where the files go.
        passages: per query, as timed; for the axis.

    Returns:
        The files; none, and nothing is written, if no row was timed.
    """
    from matplotlib.figure import Figure  # not pyplot: no global figures, no choice of a window system

    timed = [row for row in rows if TIME in row.speed]
    if not timed:
        return []
    procedures, sizes = ({procedure_and_size(row)[part]: None for row in timed} for part in (0, 1))
    figure = Figure(figsize=(9, max(6.4, 0.23 * (len(procedures) + len(sizes) + 4))), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    points = [(row.speed[TIME], row.measures[MAIN]) for row in timed]
    _frame(axes, [cost for cost, _ in points], passages)
    _draw_points(figure, axes, timed, list(procedures), list(sizes))
    if leaked := [f"{row.name} ({row.leak.queries} of {row.leak.of})" for row in timed if row.shown != row.name]:
        axes.set_title(f"trained on test queries: {', '.join(leaked)}", color="#b00020", fontsize=8, wrap=True)
    best = pareto(points)
    steps = [points[place] for place in best] + [(axes.get_xlim()[1], points[best[-1]][1])]
    axes.step(*zip(*steps, strict=True), where="post", color=GREY, linewidth=1, zorder=1)
    level = None if first_stage is None else first_stage.measures[MAIN]
    if level is not None:
        axes.axhline(level, color=GREY, linestyle="--", linewidth=1, zorder=1)
    labels = _Labels(figure, axes)
    for (left, low), (right, high) in pairwise(steps):
        labels.avoid((left, low), (right, low))
        labels.avoid((right, low), (right, high))
    for row, (cost, quality) in zip(timed, points, strict=True):
        spread = row.spread.get(MAIN, 0.0)
        labels.avoid((cost, quality - spread), (cost, quality + spread), margin=5)
    if first_stage is not None:
        left, right = axes.get_xlim()
        labels.avoid((left, level), (right, level))
        along = [(left * (right / left) ** (step / 12), level) for step in range(13)]
        labels.place(first_stage.name, along, GREY)
    for place in reversed(best):  # the best ranker is named first, then faster ones where there is room
        labels.place(timed[place].shown, [points[place]], "black", points)
    return [_save(figure, folder / f"frontier.{kind}") for kind in ("png", "svg")]


def _chart(lines: int, **axes: Any) -> tuple["Figure", "Axes"]:
    """Make a figure with room for the names of so many lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, max(6.4, 0.23 * (lines + 4))), dpi=150, layout="constrained")
    return figure, figure.add_subplot(**axes)


def _look(number: int) -> tuple[str, str]:
    """Return colour and marker of a line; the markers change when the colours are used up."""
    return COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]


def draw_depths(rows: Sequence[Row], first_stage: Row, folder: Path) -> list[Path]:
    """Draw quality over the number of candidates into ``depth.png`` and ``depth.svg``, a ring from which on no gain is found.

    Args:
        rows: of the comparison; those without depths are left out.
        first_stage: drawn as a horizontal line.
        folder: where the files go.

    Returns:
        The files; none, and nothing is written, if no row has depths.
    """
    known = [row for row in rows if row.depth is not None]
    if not known:
        return []
    figure, axes = _chart(len(known))
    ticks = [point.candidates for point in known[0].depth.points]
    _axes(axes, (0.9, ticks[-1] * 1.1), ticks)
    axes.set_xlabel("candidates re-ranked of each query (log scale)")
    axes.axhline(first_stage.measures[MAIN], color=GREY, linestyle="--", linewidth=1, label=first_stage.name)
    for number, row in enumerate(known):
        colour, marker = _look(number)
        values, worth = [point.value for point in row.depth.points], row.depth.worth
        name = f"{row.shown} ({worth.candidates})"
        axes.plot(ticks, values, color=colour, marker=marker, markersize=4, linewidth=1.2, label=name)
        axes.plot(worth.candidates, worth.value, "o", color=colour, fillstyle="none", markersize=11)
    figure.legend(
        title="ring, (n): no gain found from n on",
        title_fontsize=8,
        alignment="left",
        loc="outside right upper",
        frameon=False,
        fontsize=8,
    )
    return [_save(figure, folder / f"depth.{kind}") for kind in ("png", "svg")]


def draw_reliability(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw the share of relevant pairs over their probability into ``reliability.png`` and ``reliability.svg``.

    Args:
        rows: of the comparison; those without a probability are left out.
        folder: where the files go.

    Returns:
        The files; none, and nothing is written, if no row has one.
    """
    known = [row for row in rows if row.calibration is not None]
    if not known:
        return []
    figure, axes = _chart(len(known), aspect="equal", xlim=(0, 1), ylim=(0, 1))
    axes.set_xlabel(f"probability, fitted on validation; hollow: of fewer than {LEAST} pairs")
    axes.set_ylabel("share of the test's pairs that is relevant")
    axes.plot((0, 1), (0, 1), color=GREY, linestyle="--", linewidth=1, label="as they should be")
    _plain_frame(axes)
    for number, row in enumerate(known):
        colour, marker = _look(number)
        predicted, relevant, pairs = zip(*row.calibration.bins, strict=True)
        look = {"color": colour, "marker": marker, "markersize": 5, "clip_on": False, "zorder": 3}
        axes.plot(predicted, relevant, linewidth=1.2, label=row.shown, **look)
        few = [place for place, number in enumerate(pairs) if number < LEAST]
        hollow = look | {"linestyle": "none", "markerfacecolor": "white"}
        axes.plot([predicted[at] for at in few], [relevant[at] for at in few], **hollow)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return [_save(figure, folder / f"reliability.{kind}") for kind in ("png", "svg")]


def procedure_and_size(row: Row) -> tuple[str, str]:
    """Procedure and size: ``lm_distill 6l`` -> ``lm_distill``, ``6l``; what follows the size is the procedure's."""
    before, _, after = row.name.partition(f" {row.size}") if row.size else (row.name, "", "")
    return before + after, row.size


def _frame(axes: "Axes", costs: Sequence[float], passages: float) -> None:
    low, high = min(costs) / 1.5, max(costs) * 1.5
    steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if high / low < 30 else (1.0, 2.0, 5.0) if high / low < 3000 else (1.0,)
    decades = range(int(log10(low)) - 1, int(log10(high)) + 2)
    _axes(axes, (low, high), [step * 10.0**power for power in decades for step in steps])
    axes.set_xlabel(f"ms per query of {passages:.0f} passages (log scale; faster to the left)")


def _axes(axes: "Axes", limits: tuple[float, float], ticks: Sequence[float]) -> None:
    """Set up quality over a logarithmic scale with plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel(MAIN)
    _plain_frame(axes)


def _plain_frame(axes: "Axes") -> None:
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_points(figure: "Figure", axes: "Axes", rows: Sequence[Row], procedures: list[str], sizes: list[str]) -> None:
    """Draw each row, and the legends: a procedure's colour (hollow once colours repeat), a size's shape."""
    from matplotlib.lines import Line2D

    looks = {name: {"color": COLOURS[number % len(COLOURS)]} for number, name in enumerate(procedures)}
    for name in procedures[len(COLOURS) :]:
        looks[name] |= {"markerfacecolor": "white"}
    shapes = {name: MARKERS[number % len(MARKERS)] for number, name in enumerate(sizes)}
    for row in rows:
        procedure, size = procedure_and_size(row)
        look = looks[procedure]
        edge = look["color"] if "markerfacecolor" in look else "white"
        look = look | {"marker": shapes[size], "markersize": 6, "markeredgecolor": edge, "markeredgewidth": 0.7}
        error = row.spread.get(MAIN)
        axes.errorbar(row.speed[TIME], row.measures[MAIN], error, capsize=2, elinewidth=1, **look)
    common = {"linestyle": "none", "markersize": 7}
    colours = [Line2D([], [], marker="o", label=name, **common, **look) for name, look in looks.items()]
    marks = [Line2D([], [], marker=mark, color=GREY, label=name, **common) for name, mark in shapes.items() if name]
    for title, handles, corner in (("procedure", colours, "upper"), ("size", marks, "lower")):
        if handles:
            loc = f"outside right {corner}"
            figure.legend(handles=handles, title=title, loc=loc, frameon=False, alignment="left", fontsize=8)


class _Labels:
    """Puts names beside what they name where they cover no point, no line and no other name; else leaves them out."""

    def __init__(self, figure: "Figure", axes: "Axes") -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # the layout decides where the axes are
        self._axes, self._renderer, self._pixels = axes, canvas.get_renderer(), figure.dpi / 72
        self._taken: list[Bbox] = []

    def avoid(self, start: tuple[float, float], end: tuple[float, float], margin: float = 1) -> None:
        """Keep a straight line free; the margin around it is in points (1/72 inch)."""
        from matplotlib.transforms import Bbox

        self._taken.append(Bbox(self._axes.transData.transform([start, end])).padded(margin * self._pixels))

    def place(
        self,
        name: str,
        anchors: Sequence[tuple[float, float]],
        colour: str,
        rivals: Sequence[tuple[float, float]] = (),
    ) -> None:
        """Write a name at the first free place around the first anchor that has one, never nearer to a rival."""
        to_pixels = self._axes.transData.transform
        for anchor, distance, (x, y) in product(anchors, DISTANCES, AROUND):
            right, up = x * distance * self._pixels, y * distance * self._pixels
            across, height = to_pixels(anchor)
            start = across + right, height + up
            if any(dist(start, to_pixels(rival)) < hypot(right, up) - 0.01 for rival in rivals):
                continue
            text = self._axes.annotate(
                name,
                anchor,
                (x * distance, y * distance),
                textcoords="offset points",
                ha="left" if x > 0 else "right",
                va="center",
                fontsize=8,
                color=colour,
            )
            box = text.get_window_extent(self._renderer).padded(2 * self._pixels)
            inside = self._axes.bbox.containsx(box.x0) and self._axes.bbox.containsx(box.x1)
            if inside and not any(box.overlaps(other) for other in self._taken):
                self._taken.append(box)
                return
            text.remove()


def _save(figure: "Figure", path: Path) -> Path:
    """Write in one step; what is written next of the figure has the same layout, which takes as long as drawing it."""
    with written(path) as place:
        figure.savefig(place, format=path.suffix[1:])
    figure.set_layout_engine("none")
    return path
