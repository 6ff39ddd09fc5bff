"""Charts as SVG: axes, ticks and lines, coloured by the style sheet of the page."""

from html import escape
from math import ceil, floor, log10

import numpy as np

from refnet.pictures.charts import Chart

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 28


def svg(chart: Chart) -> str:
    """Return a chart as SVG; its lines have the CSS classes line0, line1, ..."""
    lines = [line for line in chart.lines if len(line.x)]
    if not lines:
        return f'<figure class="chart"><figcaption>{escape(chart.title)}</figcaption><p>No values yet.</p></figure>'
    x = np.concatenate([line.x for line in lines])
    y = np.concatenate([np.log10(line.y) if chart.log else line.y for line in lines])
    x_ticks = ticks(float(x.min()), float(x.max()), 5)
    y_ticks = (
        decades(float(y.min()), float(y.max())) if chart.log else ticks(min(0.0, float(y.min())), float(y.max()), 4)
    )
    x_low, x_high = float(x.min()), max(float(x.max()), float(x.min()) + 1)
    y_low, y_high = min(y_ticks[0], float(y.min())), max(y_ticks[-1], float(y.max()))
    y_high += (y_high == y_low) * 1.0

    def across(value: float) -> float:
        return LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    drawn = []
    for tick in y_ticks:
        shown = number(10**tick if chart.log else tick, percent=chart.percent)
        drawn.append(f'<path class="rule" d="M{LEFT} {up(tick):.1f}H{WIDTH - RIGHT}"/>')
        drawn.append(f'<text x="{LEFT - 7}" y="{up(tick) + 4:.1f}" text-anchor="end">{shown}</text>')
    drawn += [
        f'<text x="{across(tick):.1f}" y="{HEIGHT - 9}" text-anchor="middle">{number(tick)}</text>'
        for tick in x_ticks
        if x_low <= tick <= x_high and abs(tick - round(tick)) < 1e-9  # steps and epochs are whole
    ]
    for place, line in enumerate(lines):
        height = np.log10(line.y) if chart.log else line.y
        points = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in zip(line.x, height, strict=True))
        if len(line.x) == 1:
            a, b = points.split(",")
            drawn.append(f'<circle class="line{place}" cx="{a}" cy="{b}" r="3"/>')
        else:
            drawn.append(f'<polyline class="line{place}" points="{points}"/>')
    keys = "".join(f'<span class="key key{place}">{escape(line.label)}</span>' for place, line in enumerate(lines))
    described = f"{chart.title} over {chart.x_label}"
    return (
        f'<figure class="chart"><figcaption>{escape(chart.title)}{keys if len(lines) > 1 else ""}'
        f'<span class="over">over {escape(chart.x_label)}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(described)}">{"".join(drawn)}</svg>'
        "</figure>"
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round numbers that enclose a range."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / count
    scale = 10.0 ** floor(log10(rough))
    step = next((factor * scale for factor in (1, 2, 5) if factor * scale >= rough), 10 * scale)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [step * i for i in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return whole powers of ten, as logarithms, that enclose a range of logarithms."""
    first, last = floor(low), max(ceil(high), floor(low) + 1)
    stride = -(-(last - first) // 6)
    return [float(i) for i in range(first, last + stride, stride)]


def number(value: float, *, percent: bool = False) -> str:
    """Return the label of a tick, in as few characters as possible."""
    if percent:
        return f"{100 * value:.3g}%"
    if abs(value) >= 10000:
        return f"{value / 1e6:.3g}M" if abs(value) >= 1e6 else f"{value / 1e3:.3g}k"
    return f"{value:.4g}"
