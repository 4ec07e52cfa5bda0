"""Draws the plots of ``docs/performance.md`` as SVG.

One plot shows the ratio of each figure to its target, the other the CPU time by stage.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.report import ResultLine, number

_WIDTH, _LEFT, _RIGHT, _BAR, _STEP = 860, 240, 150, 14, 26
_TOP, _BOTTOM = 44, 16
_MET, _MISSED, _INK, _PALE = "#2f7d4f", "#b4552d", "#24292f", "#8c959f"
_LEAST, _MOST = 0.1, 10.0
_COLOURS = (
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5",
    "#9c6b4e", "#9498a0",
)  # fmt: skip


def _svg(height: float, title: str, parts: list[str]) -> str:
    size = f'width="{_WIDTH}" height="{height}"'
    begin = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {size} '
        f'role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" '
        f'font-size="12"><rect {size} fill="#ffffff"/>'
    )
    head = _text(16, 22, title, 'font-size="14" font-weight="600"')
    return "\n".join([begin, head, *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, more: str = "", ink: str = _INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{ink}" {more}>{escape(text)}</text>'


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{colour}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, more: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {more}/>'


def _x(share: float) -> float:
    """Return the x coordinate of a ratio to the target, on a logarithmic scale."""
    place = math.log10(min(_MOST, max(_LEAST, share)) / _LEAST) / math.log10(_MOST / _LEAST)
    return _LEFT + place * (_WIDTH - _LEFT - _RIGHT)


def ratios(lines: Sequence[ResultLine]) -> str:
    """Return a plot of the ratio of each row's value to its target."""
    height = _TOP + _STEP * len(lines) + _BOTTOM + 20
    foot = height - _BOTTOM - 14
    parts = []
    for mark in (0.1, 0.2, 0.5, 1, 2, 5, 10):
        ink = _INK if mark == 1 else "#d0d7de"
        parts.append(_line(_x(mark), _TOP - 8, _x(mark), foot, f'stroke="{ink}"'))
        parts.append(_text(_x(mark), foot + 14, f"{mark:g}", 'text-anchor="middle"', _PALE))
    for place, line in enumerate(lines):
        parts += _bar(line, _TOP + place * _STEP)
    return _svg(height, "Each figure against what it must reach: 1 is there", parts)


def _bar(line: ResultLine, top: int) -> list[str]:
    target = line.row.target
    end = _x(target.share(line.value))
    shares = sorted(_x(target.share(value)) for value in line.values)
    middle = top + _BAR / 2
    name = f"{line.benchmark}, {line.row.name}"
    value = f"{number(line.value)} ({target})"
    return [
        _text(_LEFT - 8, top + 11, name, 'text-anchor="end"'),
        _box(_LEFT, top, end - _LEFT, _BAR, _MET if line.met else _MISSED),
        _line(shares[0], middle, shares[-1], middle, f'stroke="{_INK}" stroke-width="2"'),
        _text(max(end, shares[-1]) + 6, top + 11, value, ink=_PALE),
    ]


@dataclass(frozen=True)
class StackedBar:
    """A bar that consists of parts.

    Attributes:
        name: title of the bar.
        parts: size of each part, by its name.
    """

    name: str
    parts: dict[str, float]


def stages(title: str, stacks: Sequence[StackedBar]) -> str:
    """Return a plot of CPU time per command by stage: stacked bars, each with a legend."""
    longest = max(sum(stack.parts.values()) for stack in stacks)
    scale = (_WIDTH - 16 - 16) / longest
    parts: list[str] = []
    top = _TOP
    for stack in stacks:
        parts.append(_text(16, top + 4, f"{stack.name}: {sum(stack.parts.values()):.0f} µs"))
        left = 16.0
        shown = _largest(stack.parts)
        for place, (name, size) in enumerate(shown.items()):
            colour = _COLOURS[place % len(_COLOURS)]
            parts.append(_box(left, top + 12, size * scale, 22, colour))
            left += size * scale
            x, y = 16 + place % 3 * 278, top + 52 + place // 3 * 18
            parts.append(_box(x, y - 9, 10, 10, colour))
            parts.append(_text(x + 16, y, f"{name}: {size:.0f}"))
        top += 52 + 18 * math.ceil(len(shown) / 3) + 24
    return _svg(top, title, parts)


def _largest(parts: dict[str, float]) -> dict[str, float]:
    """Return the largest parts, and the sum of the others as one part."""
    ordered = sorted(parts.items(), key=lambda item: -item[1])
    kept, rest = ordered[: len(_COLOURS) - 1], ordered[len(_COLOURS) - 1 :]
    return dict(kept) | ({"the rest": sum(size for _, size in rest)} if rest else {})
