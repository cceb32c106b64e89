"""Charts as small SVG for the report: text stays text, and lines take the page's colours, so they suit light and dark.

Nothing here computes: values and intervals come as they are in results.json.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, ACCENT = "#010203", "#040506"  # stand-ins that the page's colours replace
_LINES = ("-", "--", ":", "-.")  # of several series
LABEL = 24  # letters of a point's label
KIMG = "thousands of images"
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
}


def plane(points: Sequence[Mapping[str, Any]], x: str, y: str, *, top: float | None = 1.0) -> str:
    """Two results against each other, with their intervals as a cross: `points` map ids to results.

    `top` is the largest y, where there is one; x is a share. Several points are joined, and the first and the last
    carry their "label", one above the other where they lie together.
    """
    highest = max([1.0, *(point[y]["high"] for point in points)]) if top is None else top
    labels = _labels(points, x, y, highest)
    figure, axes = _square()
    if len(points) > 1:
        axes.plot([p[x]["value"] for p in points], [p[y]["value"] for p in points], color=ACCENT, linewidth=0.8)
    for point in points:
        a, b = point[x], point[y]
        axes.errorbar(
            a["value"],
            b["value"],
            xerr=[[max(a["value"] - a["low"], 0)], [max(a["high"] - a["value"], 0)]],
            yerr=[[max(b["value"] - b["low"], 0)], [max(b["high"] - b["value"], 0)]],
            fmt="o",
            color=ACCENT,
            markersize=6,
            elinewidth=1,
        )
    for place, label in labels.items():
        _name(axes, label, (points[place][x]["value"], points[place][y]["value"]), highest)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03 * highest, 1.03 * highest))
    axes.set(xlabel=points[0][x]["name"], ylabel=points[0][y]["name"])
    axes.grid(alpha=0.15, color=INK)
    return _svg(figure, f"{x}-{y}", f"{points[0][y]['name']} against {points[0][x]['name']}")


def _name(axes: "Axes", text: str, at: tuple[float, float], highest: float, **options: Any) -> None:
    # A label beside a point of a plane, on the side where there is room.
    right, up = at[0] < 0.5, at[1] < 0.8 * highest
    options |= {"xytext": (6 if right else -6, 5 if up else -5), "textcoords": "offset points", "color": INK}
    options |= {"ha": "left" if right else "right", "va": "bottom" if up else "top"}
    axes.annotate(text, at, **options).set_in_layout(False)


def _labels(points: Sequence[Mapping[str, Any]], x: str, y: str, highest: float) -> dict[int, str]:
    # The labels of a plane's points, by their places; two would be written over each other where points are close.
    if len(points) < 2:
        return {}
    first, last = points[0], points[-1]
    texts = [each if len(each) <= LABEL else f"{each[: LABEL - 1]}…" for each in (first["label"], last["label"])]
    close = (
        abs(first[x]["value"] - last[x]["value"]) < 0.3 and abs(first[y]["value"] - last[y]["value"]) < 0.1 * highest
    )
    if close:
        return {len(points) - 1: "\n".join(texts)}
    return {0: texts[0], len(points) - 1: texts[1]}


def curve(x: Sequence[float], results: Sequence[Mapping[str, Any]], best: int | None, axis: str = KIMG) -> str:
    """One metric over the course of training, or whatever the `axis` is called, with its 95 % band; the `best` is
    marked, where it is one of these.
    """
    figure, axes = _figure(3.4, 2.2)
    values = [r["value"] for r in results]
    axes.fill_between(x, [r["low"] for r in results], [r["high"] for r in results], color=ACCENT, alpha=0.2, lw=0)
    axes.plot(x, values, "o-", color=ACCENT, markersize=4, linewidth=1.5)
    if best is not None:
        axes.plot([x[best]], [values[best]], "o", markersize=10, markerfacecolor="none", markeredgecolor=INK)
    axes.set(xlabel=axis, ylabel=results[0]["name"])
    axes.grid(alpha=0.15, color=INK)
    return _svg(figure, f"curve-{results[0]['id']}", f"{results[0]['name']} over {axis}")


def groups(metric: Mapping[str, Any]) -> str:
    """A metric of several groups: a dot for each training, and beside them the mean with its interval."""
    figure, axes = _figure(3.4, 2.4)
    for place, group in enumerate(metric["groups"]):
        values, mean = group["values"], group["value"]
        axes.plot([place - 0.12] * len(values), values, "o", color=INK, alpha=0.5, markersize=4)
        axes.errorbar(
            place + 0.12,
            mean,
            yerr=[[max(mean - group["low"], 0)], [max(group["high"] - mean, 0)]],
            fmt="o" if group["training"] else "x",
            color=ACCENT,
            markersize=6,
            elinewidth=1.5,
        )
    names = [group["name"] for group in metric["groups"]]
    axes.set_xticks(range(len(names)), [name if len(name) <= LABEL else f"{name[: LABEL - 1]}…" for name in names])
    axes.set(xlim=(-0.6, len(names) - 0.4), ylabel=metric["name"])
    axes.grid(alpha=0.15, color=INK, axis="y")
    return _svg(figure, f"groups-{metric['id']}", f"{metric['name']} of each group")


def swept_curve(psi: Sequence[float], series: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One metric over psi, with its 95 % band: a line for each of the `series`, by its label."""
    figure, axes = _figure(3.4, 2.2)
    for number, (label, results) in enumerate(series.items()):
        style: Any = {"color": ACCENT if number == 0 else INK, "linestyle": _LINES[number % len(_LINES)]}
        low, high = [r["low"] for r in results], [r["high"] for r in results]
        axes.fill_between(psi, low, high, color=style["color"], alpha=0.2, lw=0)
        axes.plot(psi, [r["value"] for r in results], marker="o", markersize=4, linewidth=1.5, label=label, **style)
    some = next(iter(series.values()))[0]
    axes.set(xlabel="psi", ylabel=some["name"])
    axes.grid(alpha=0.15, color=INK)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return _svg(figure, f"psi-{some['id']}", f"{some['name']} over psi")


def swept_plane(series: Mapping[str, Sequence[Mapping[str, Any]]], x: str, y: str) -> str:
    """Two results against each other, a line over psi for each of the `series`, by its label.

    Each point is {"label": ..., "front": whether on the Pareto front, x: result, y: result}; those on the front are
    filled, and labelled, the first and the last of many that lie together.
    """
    figure, axes = _square()
    labels: dict[tuple[float, float], list[str]] = {}
    for number, (label, points) in enumerate(series.items()):
        style: Any = {"color": ACCENT if number == 0 else INK, "linestyle": _LINES[number % len(_LINES)]}
        axes.plot([p[x]["value"] for p in points], [p[y]["value"] for p in points], linewidth=1, label=label, **style)
        for point in points:
            a, b = point[x], point[y]
            spans = [[[r["value"] - r["low"]], [r["high"] - r["value"]]] for r in (a, b)]
            axes.errorbar(
                a["value"],
                b["value"],
                xerr=spans[0],
                yerr=spans[1],
                fmt="o",
                color=style["color"],
                markerfacecolor=style["color"] if point["front"] else "none",
                markersize=6,
                elinewidth=0.6,
            )
            if point["front"]:
                labels.setdefault((round(a["value"], 2), round(b["value"], 2)), []).append(point["label"])
    for at, texts in labels.items():
        several = list(dict.fromkeys(texts))
        text = ", ".join(several)
        _name(axes, text if len(text) <= LABEL else f"{several[0]} … {several[-1]}", at, 1.0, fontsize=8)
    some = next(iter(series.values()))[0]
    axes.set(xlabel=some[x]["name"], ylabel=some[y]["name"], xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.grid(alpha=0.15, color=INK)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return _svg(figure, f"psi-{x}-{y}", f"{some[y]['name']} against {some[x]['name']}")


def reliability(rows: Sequence[Mapping[str, Any]]) -> str:
    """How often a classifier is right against how sure it says it is; the diagonal is where both are equal.

    Each row has confidence, accuracy and images, and the area of its dot follows from its images.
    """
    figure, axes = _square()
    most = max(row["images"] for row in rows)
    axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, linewidth=0.8, linestyle="--")
    confidence, accuracy = ([row[name] for row in rows] for name in ("confidence", "accuracy"))
    axes.plot(confidence, accuracy, color=ACCENT, linewidth=1)
    axes.scatter(confidence, accuracy, s=[8 + 90 * row["images"] / most for row in rows], color=ACCENT)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="confidence", ylabel="accuracy")
    axes.grid(alpha=0.15, color=INK)
    return _svg(figure, "reliability", "Accuracy against confidence")


def heat(value: float, values: Sequence[float]) -> float:
    """Where a value lies among all, from 0 (the least) to 1 (the most), on a scale of their ranks' middle."""
    finite = [v for v in values if math.isfinite(v)]
    low, high = min(finite), max(finite)
    return 0.5 if high == low else (value - low) / (high - low)


def _square() -> "tuple[Figure, Axes]":
    # Shares along both sides: their short numbers are known to fit, and finding out would take longer than drawing.
    figure, axes = _figure(3.4, 3.2, layout=None)
    figure.subplots_adjust(left=0.15, right=0.985, bottom=0.145, top=0.985)
    return figure, axes


def _figure(
    width: float, height: float, layout: "Literal['constrained'] | None" = "constrained"
) -> "tuple[Figure, Axes]":
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout=layout, facecolor="none")
        axes = figure.add_subplot(facecolor="none")
    return figure, axes


def _svg(figure: "Figure", salt: str, title: str) -> str:
    # -> an <svg> element that fills its place; `salt` keeps its inner names apart from those of other charts
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor").replace(ACCENT, "var(--accent)")
    return text.replace("<svg", f'<svg role="img" aria-label="{title}" class="chart"', 1)
