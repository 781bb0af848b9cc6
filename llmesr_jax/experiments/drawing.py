"""Matplotlib's SVG, adapted to the reader's theme: colours become CSS variables, and text stays text."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT = 420, 300  # units of a panel; on a phone it is a little smaller, and its text still legible
SQUARE = 290, 300  # height and width of a panel of a map, of which four fit side by side
SLOTS = 9  # colours for systems; slot 0, grey, is the plain backbone's
POPULARITY = 5

# CSS variable -> (light, dark). Systems: colours that colour-blind readers can distinguish, which also differ in
# lightness (after Okabe and Ito).
THEME = {
    "ink": ("#1b1f24", "#e8eaed"),
    "soft": ("#5b6470", "#a2abb6"),
    "line": ("#d9dde2", "#343b45"),
    "s0": ("#7a828c", "#9aa3ae"),
    "s1": ("#0b63a5", "#62b4f2"),
    "s2": ("#d55e00", "#ff9950"),
    "s3": ("#00866a", "#3fd0a8"),
    "s4": ("#a8437c", "#ee92c3"),
    "s5": ("#8d7400", "#e2cf55"),
    "s6": ("#3fa0d8", "#b3e1fa"),
    "s7": ("#5a3d9a", "#b9a2f5"),
    "s8": ("#6b1420", "#e08a8a"),
    "p0": ("#b8bec6", "#6a727d"),
    "p1": ("#e5a52f", "#ffcf73"),
    "p2": ("#d4567a", "#f2849f"),
    "p3": ("#7d3fae", "#b487ec"),
    "p4": ("#23308f", "#7797ff"),
}
_MARKS = {name: f"#01{i:02x}fe" for i, name in enumerate(THEME)}  # placeholders of the variables, for Matplotlib


def color(name: str) -> str:
    """The colour to pass to Matplotlib for a variable of `THEME`."""
    return _MARKS[name]


class Entry(NamedTuple):
    """A line of a legend.

    Attributes:
      label: its text.
      color: name of a variable of `THEME`.
      hollow: whether its mark is not filled.
    """

    label: str
    color: str
    hollow: bool = False


class Panel(NamedTuple):
    """A picture.

    Attributes:
      name: of its file, without ending.
      svg: an <svg> element whose colours are CSS variables.
      alt: what it shows, in words.
      legend: for a separate file; a page shows it once, above all panels.
    """

    name: str
    svg: str
    alt: str
    legend: tuple[Entry, ...] = ()

    def standalone(self) -> str:
        """The text of an SVG file, with the legend below the picture, and with colours for light and dark."""
        style = (
            f"svg{{{variables(0)};background:#fff;font-family:system-ui,sans-serif}}svg *{{stroke-linejoin:round}}"
            f"@media (prefers-color-scheme:dark){{svg{{{variables(1)};background:#14171b}}}}"
        )
        svg = _with_legend(self.svg, self.legend) if self.legend else self.svg
        # Without a width, a page would show the picture as wide as the page.
        width = re.search(r'viewBox="0 0 ([\d.]+) ', svg)[1]
        head = f'<svg width="{width}pt" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        return svg.replace("<svg", head, 1).replace(">", f"><style>{style}</style>", 1) + "\n"


def _with_legend(svg: str, legend: Sequence[Entry]) -> str:
    """The picture with lines of marks and labels below it; widths are estimated, because the font is not known."""
    _, _, width, height = map(float, re.search(r'viewBox="([^"]*)"', svg)[1].split())
    x, y, parts = 12.0, height + 12.0, []
    for one in legend:
        wide = 26 + 6.6 * len(one.label)
        if x > 12 and x + wide > width:
            x, y = 12.0, y + 18
        fill = "none" if one.hollow else f"var(--{one.color})"
        parts.append(
            f'<circle cx="{x + 5:.1f}" cy="{y - 4:.1f}" r="4.2" style="fill:{fill};stroke:var(--{one.color});stroke-width:1.6"/>'
            f'<text x="{x + 14:.1f}" y="{y:.1f}" style="font-size:11.5px;fill:var(--ink)">{html.escape(one.label)}</text>'
        )
        x += wide
    view = f'viewBox="0 0 {width:g} {y + 8:g}"'
    return re.sub(r'viewBox="[^"]*"', view, svg, count=1).replace("</svg>", f"<g>{''.join(parts)}</g></svg>")


def variables(dark: int) -> str:
    """CSS declarations of the theme: 0 for light, 1 for dark."""
    return ";".join(f"--{name}:{both[dark]}" for name, both in THEME.items())


def plain_ticks(axis: Any, subs: Sequence[int] = (1, 2, 5)) -> None:
    """Ticks of a logarithmic axis as plain numbers, at these multiples of each power of ten."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=subs))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def installed() -> bool:
    """Whether Matplotlib can be imported."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def panel(
    name: str,
    alt: str,
    draw: Callable[[Any, dict[str, str]], None],
    height: int = HEIGHT,
    width: int = WIDTH,
    legend: Sequence[Entry] = (),
) -> Panel:
    """One set of axes as a panel: see `row`. `draw` gets the axes alone."""
    return row(name, alt, lambda axes, tips: draw(axes[0], tips), 1, height, width, legend)


def row(
    name: str,
    alt: str,
    draw: Callable[[Sequence[Any], dict[str, str]], None],
    count: int,
    height: int = HEIGHT,
    width: int = WIDTH,
    legend: Sequence[Entry] = (),
) -> Panel:
    """Several axes beside each other in one picture.

    Args:
      name: of the file; it is part of the picture's ids, so that they differ from those of other panels.
      alt: what the picture shows, in words.
      draw: gets the axes, and a dictionary for tooltips: {gid of an artist: text}.
      count: number of axes.
      height, width: of one set of axes, in units.
      legend: see `Panel`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    ink, soft, line = color("ink"), color("soft"), color("line")
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.family": "DejaVu Sans",  # measures only: the page has its own fonts
        "font.size": 11.5,
        "axes.edgecolor": line,
        "axes.labelcolor": soft,
        "axes.titlecolor": ink,
        "axes.titlesize": 12.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": line,
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        "legend.fontsize": 10,
        "text.color": ink,
        "xtick.color": line,
        "ytick.color": line,
        "xtick.labelcolor": soft,
        "ytick.labelcolor": soft,
        "lines.linewidth": 2.0,
        "axes.unicode_minus": False,
        "path.simplify": False,
    }
    tips: dict[str, str] = {}
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **style, "backend": "svg"}):
        figure = Figure(figsize=(count * width / 72, height / 72), layout="constrained")
        draw([figure.add_subplot(1, count, place + 1) for place in range(count)], tips)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return Panel(name, _themed(file.getvalue(), name, alt, tips), alt, tuple(legend))


def _themed(svg: str, name: str, alt: str, tips: Mapping[str, str]) -> str:
    """Matplotlib's SVG text with CSS variables as colours, unique ids and tooltips."""
    svg = svg[svg.index("<svg") :]
    view = re.search(r'viewBox="([^"]*)"', svg)[1]
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'<style type="text/css">.*?</style>', "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    for gid, words in tips.items():
        body = body.replace(f'<g id="{gid}">', f'<g id="{gid}"><title>{html.escape(words)}</title>', 1)
    body = re.sub(r'id="([^"]*)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(xlink:)?href="#([^"]*)"', rf'href="#{name}-\2"', body)
    body = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r"font: (?:(bold|\d{3}) )?([\d.]+px) [^;\"]*", _font, body)
    body = re.sub(r"; font-family: [^;\"]*", "", body)
    for variable, mark in _MARKS.items():
        body = body.replace(mark, f"var(--{variable})")
    body = re.sub(r"\s*\n\s*", "\n", body)
    return f'<svg viewBox="{view}" role="img" aria-label="{html.escape(alt)}">{body.strip()}'


def _font(match: re.Match) -> str:
    weight = f"; font-weight: {match[1]}" if match[1] else ""
    return f"font-size: {match[2]}{weight}"
