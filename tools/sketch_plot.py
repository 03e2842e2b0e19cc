"""`python -m tools.sketch_plot`: docs/sketch.svg, the sketch's measured error beside its bound.

Durations of four kinds are drawn, each percentile is read from the sketch and from the sorted durations, and the
relative difference of the two is plotted. The draws have a fixed seed, so the picture is the same each time.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from app.domain.sketch import RELATIVE_ERROR, LatencySketch, bin_of

TARGET = Path(__file__).parents[1] / "docs" / "sketch.svg"
DURATIONS = 100_000
PERCENTILES = [n / 2 for n in range(1, 200)]
KINDS: dict[str, tuple[str, Callable[[random.Random], float]]] = {
    "lognormal": ("#3366cc", lambda r: r.lognormvariate(3, 1)),
    "uniform": ("#dc7a00", lambda r: r.uniform(1, 500)),
    "Pareto": ("#2a9d4a", lambda r: r.paretovariate(1.1)),
    "two peaks": ("#a03bbb", lambda r: r.gauss(20, 2) if r.random() < 0.8 else r.gauss(400, 30)),
}
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 360, 70, 40, 20, 50
HIGHEST = 1.25 * RELATIVE_ERROR


def errors() -> Iterator[tuple[str, list[float]]]:
    """Each kind with the relative error of its percentiles, 0 … 1."""
    for kind, (_, draw) in KINDS.items():
        dice = random.Random(kind)
        durations = sorted(max(draw(dice), 0.001) for _ in range(DURATIONS))
        sketch = LatencySketch(list(Counter(map(bin_of, durations)).items()))
        estimates = sketch.quantiles([percentile / 100 for percentile in PERCENTILES])
        found = []
        for percentile, estimate in zip(PERCENTILES, estimates):
            true = percentile_cont(durations, percentile / 100)
            assert estimate is not None
            found.append(abs(estimate - true) / true)
        yield kind, found


def percentile_cont(durations: list[float], fraction: float) -> float:
    """As PostgreSQL's: between the two closest ranks."""
    share, below = math.modf(fraction * (len(durations) - 1))
    low, high = durations[int(below)], durations[min(int(below) + 1, len(durations) - 1)]
    return low + (high - low) * share


def picture(measured: dict[str, list[float]]) -> str:
    """An SVG of the errors over the percentiles, and of the bound."""
    bound = y(RELATIVE_ERROR)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/><g font-size="12">',
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bound}" y2="{bound}" stroke="#cc2222" stroke-dasharray="6 4"/>',
        f'<text x="{WIDTH - RIGHT}" y="{bound - 6}" text-anchor="end" fill="#cc2222">bound {RELATIVE_ERROR:.0%}</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 10}">percentile</text>',
        f'<text x="10" y="20">relative error of {DURATIONS:,} durations</text>',
    ]
    for percentile in (0, 25, 50, 75, 100):
        parts.append(f'<text x="{x(percentile)}" y="{HEIGHT - 30}" text-anchor="middle">{percentile}</text>')
    for error in (0.0, RELATIVE_ERROR / 2, RELATIVE_ERROR):
        parts.append(f'<text x="{LEFT - 8}" y="{y(error) + 4}" text-anchor="end">{error:.1%}</text>')
    for place, (kind, found) in enumerate(measured.items()):
        color, _ = KINDS[kind]
        points = " ".join(f"{x(percentile)},{y(error)}" for percentile, error in zip(PERCENTILES, found))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1"/>')
        parts.append(f'<text x="{LEFT + 260 + 110 * place}" y="20" fill="{color}">{kind}</text>')
    return "\n".join([*parts, "</g></svg>", ""])


def x(percentile: float) -> float:
    return round(LEFT + percentile / 100 * (WIDTH - LEFT - RIGHT), 1)


def y(error: float) -> float:
    return round(HEIGHT - BOTTOM - error / HIGHEST * (HEIGHT - TOP - BOTTOM), 1)


def main() -> None:
    measured = dict(errors())
    TARGET.write_text(picture(measured))
    for kind, found in measured.items():
        print(f"{kind}: at most {max(found):.4%}, on average {sum(found) / len(found):.4%}")


if __name__ == "__main__":
    main()
