"""`maskact inspect`: a page to look at a dataset, in one file that needs no network.

In: a dataset of ours. Out: HTML with what is in it, how it was made and, of some episodes, overlays, traces and ages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.outputs import MARK, check_file, output_path, replaced_file
from maskact_ros.core.progress import Progress
from maskact_ros.core.statistics import SMALLEST_SCALE
from maskact_ros.data.datasets.dataset import Dataset, EpisodeInfo, Report, read_report
from maskact_ros.data.datasets.lerobot_layout import DatasetError
from maskact_ros.data.inspection.inspection_figures import Film, film, lengths_figure, swatch, traces_figure
from maskact_ros.data.inspection.stream_latency import in_words
from maskact_ros.data.inspection.validate import summary

_PAGE = "a page"
_MOST_EPISODES = 100  # beyond, no browser shows the page with pleasure

_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1b1f24, #e6e9ec); --dim: light-dark(#667, #9aa3ad);
  --line: light-dark(#dde1e6, #333a42); --card: light-dark(#fff, #1c2127); --warn: light-dark(#a33c00, #ff9d5c) }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: light-dark(#f4f6f8, #12161b);
  max-width: 1180px; margin: 0 auto; padding: 1.5rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 0 0 .6rem }
p { margin: .3rem 0; color: var(--dim) }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.2rem;
  margin: 1rem 0 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--line); white-space: nowrap }
th { color: var(--dim); font-weight: 500 } th:first-child, td:first-child { text-align: left }
.figures { display: flex; flex-wrap: wrap; gap: .4rem 2rem; margin: 1rem 0 0 }
.figures b { display: block; font-size: 1.5rem; font-weight: 600 } .figures span { color: var(--dim) }
.episode { display: grid; grid-template-columns: minmax(260px, 4fr) minmax(320px, 6fr); gap: 1rem; align-items: start }
@media (max-width: 800px) { .episode { grid-template-columns: minmax(0, 1fr) } }
.view { width: 100%; border-radius: 6px; display: block } input[type=range] { width: 100% }
.strip { display: grid; grid-template-columns: repeat(4, 1fr); gap: 4px }
.strip img { width: 100%; border-radius: 3px; display: block; cursor: pointer; outline-offset: -2px }
.strip img.shown { outline: 3px solid #e69f00 }
.trace { width: 100%; background: #fff; border-radius: 6px } .warn { color: var(--warn); font-weight: 600 }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .3em;
  border: 1px solid var(--dim) }
"""

# The strip's pictures are the film: shown one after the other until the pointer or the slider takes over.
_SCRIPT = """
for (const episode of document.querySelectorAll('.episode')) {
  const view = episode.querySelector('.view'), slider = episode.querySelector('input');
  const strip = [...episode.querySelectorAll('.strip img')];
  const show = i => { view.src = strip[i].src; slider.value = i;
    strip.forEach((image, n) => image.classList.toggle('shown', n === i)) };
  let playing = !matchMedia('(prefers-reduced-motion: reduce)').matches, at = 0;
  const hold = i => { playing = false; show(at = i) };
  strip.forEach((image, i) => image.onclick = () => hold(i));
  slider.oninput = () => hold(+slider.value);
  view.onclick = () => playing = !playing;
  setInterval(() => { if (playing) show(at = (at + 1) % strip.length) }, 350);
  show(0);
}
"""


def inspect(folder: Path, html: Path, *, episodes: int) -> None:
    """Write the page; raises MaskACTError when the dataset is not sound enough to be shown."""
    if not 1 <= episodes <= _MOST_EPISODES:
        raise DatasetError(f"--episodes is {episodes}; allowed: 1 to {_MOST_EPISODES}")
    path = output_path(html)
    check_file(path, _PAGE)  # before the work
    dataset = Dataset.open(folder)
    report = read_report(dataset.folder)
    shown = np.unique(np.linspace(0, len(dataset.episodes) - 1, episodes).round().astype(int))
    sections = []
    with Progress("episodes", len(shown)) as progress:
        for index in shown.tolist():
            episode = dataset.episodes[index]
            sections.append(_episode(dataset, episode, film(dataset, episode), report.of(index)))
            progress.advance(1)
    text = _page(dataset, report, sections)
    with replaced_file(path, _PAGE) as partial:
        partial.write_text(text, encoding="utf-8")
    print(f"{html}: {len(shown)} of {len(dataset.episodes)} episodes, {len(text.encode()) / 1e6:.1f} MB")


def _page(dataset: Dataset, report: Report, sections: Sequence[str]) -> str:
    title = escape(dataset.folder.name)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="generator" content="{MARK}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{_STYLE}</style>
<h1>{title}</h1><p>{escape(summary(dataset))}</p>
{_figures(dataset)}
<section><h2>Joints</h2>{_joints(dataset)}</section>
<section><h2>Episodes</h2><img class="trace" alt="length of every episode" src="{lengths_figure(dataset)}"></section>
{_bags(report)}
{"".join(sections)}
<script>{_SCRIPT}</script></html>
"""


def _figures(dataset: Dataset) -> str:
    lengths_s = np.array([episode.length for episode in dataset.episodes]) / dataset.fps
    figures = {
        "episodes": str(len(lengths_s)),
        "rows": f"{len(dataset.states):,}",
        "recorded": _duration(float(lengths_s.sum())),
        "shortest, median, longest": " / ".join(f"{s:.1f}" for s in np.quantile(lengths_s, [0, 0.5, 1])) + " s",
        "rows per second": f"{dataset.fps:g}",
    }
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in figures.items())
    return f'<div class="figures">{cells}</div>'


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.1f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _joints(dataset: Dataset) -> str:
    rows = []
    for j, joint in enumerate(dataset.robot.joints):
        state, action = dataset.states[:, j], dataset.actions[:, j]
        beyond = _share_beyond(np.stack([state, action]), joint.lower, joint.upper)
        moves = np.abs(np.diff(state))
        rows.append(
            [
                escape(joint.name),
                f"{joint.lower:g} to {joint.upper:g}",
                f"{state.min():.3f} to {state.max():.3f}"
                + (' <span class="warn">never moves</span>' if np.ptp(state) <= SMALLEST_SCALE else ""),
                f"{action.min():.3f} to {action.max():.3f}",
                f"{np.abs(action - state).mean():.4f}",
                f"{np.quantile(moves, 0.99) * dataset.fps:.3f}" if len(moves) else "",
                f'<span class="warn">{beyond:.1%}</span>' if beyond else "none",
            ]
        )
    heads = ["joint", "limits", "state", "action", "mean |action - state|", "speed, p99 (per s)", "beyond limits"]
    return _table(heads, rows)


def _share_beyond(values: NDArray[np.float32], lower: float, upper: float) -> float:
    return float(((values < lower - 1e-6) | (values > upper + 1e-6)).mean())


def _bags(report: Report) -> str:
    """What conversion says of each bag; nothing for a dataset that was imported."""
    bags = report.values["bags"]
    if not bags:
        return ""
    rows = []
    for bag in bags:
        gaps = bag.get("gaps", [])
        longest = max((gap.get("seconds", 0.0) for gap in gaps), default=0.0)
        reasons = sorted({str(gap.get("reason", "")) for gap in gaps})
        lost = [f"{times} dropped: {reason}" for reason, times in bag.get("dropped", {}).items()]
        lost += [f"{times} ignored: {reason}" for reason, times in bag.get("ignored", {}).items()]
        lost += [str(loss) for loss in [*bag.get("losses", []), *bag.get("notes", [])]]
        late = "<br>".join(escape(f"{topic}: {in_words(figures)}") for topic, figures in bag.get("latency", {}).items())
        if "clocks_apart" in bag:
            late += f'<br><span class="warn">{escape(bag["clocks_apart"])}</span>'
        rows.append(
            [
                escape(Path(str(bag.get("path", ""))).name),
                f"{bag.get('recorded_s', 0):.1f}",
                f"{len(gaps)}" if not gaps else f'<span class="warn">{len(gaps)}</span>',
                f"{longest:.2f}" if gaps else "",
                late,
                escape("; ".join([*reasons, *lost])),
            ]
        )
    heads = ["bag", "seconds", "gaps", "longest (s)", "latency, from stamp to receipt", "remarks"]
    return f"<section><h2>Bags</h2>{_table(heads, rows)}</section>"


def _episode(dataset: Dataset, episode: EpisodeInfo, shown: Film, told: Mapping[str, Any]) -> str:
    pictures = "".join(
        f'<img src="{source}" alt="{second:.1f} s" title="{second:.1f} s">' for second, source in shown.pictures
    )
    source = f"from {escape(episode.source)}" if episode.source else ""
    ended = f", ended by: {escape(str(told['ended_by']))}" if "ended_by" in told else ""
    return f"""<section><h2>Episode {episode.index}</h2>
<p>{episode.length} rows, {episode.length / dataset.fps:.1f} s {source}{ended}</p>
<div class="episode"><div><img class="view" alt="overlay" src="{shown.pictures[0][1]}">
<input type="range" min="0" max="{len(shown.pictures) - 1}" value="0" aria-label="picture">
<div class="strip">{pictures}</div>{_shares(dataset, shown)}{_ages(dataset, episode, told)}</div>
<div><img class="trace" alt="state and action of each joint" src="{traces_figure(dataset, episode, shown)}"></div>
</div></section>
"""


def _shares(dataset: Dataset, shown: Film) -> str:
    if dataset.mask_classes is None or shown.shares is None:
        return ""
    rows = [
        [
            f'<span class="swatch" style="background:{swatch(label, len(dataset.mask_classes))}"></span>{escape(name)}',
            *(f"{share:.2%}" for share in np.quantile(shown.shares[:, label], [0, 0.5, 1])),
            f"{(shown.shares[:, label] > 0).mean():.0%}",
        ]
        for label, name in enumerate(dataset.mask_classes)
    ]
    return _table(["class", "least", "median", "most", "in pictures"], rows)


def _ages(dataset: Dataset, episode: EpisodeInfo, told: Mapping[str, Any]) -> str:
    """How old each stream was at its picture, and how far the pictures are apart."""
    rows = []
    for stream, ages in told.get("age_ms", {}).items():
        rows.append(
            [
                f"age of {escape(str(stream))}",
                *(f"{ages.get(name, float('nan')):.1f}" for name in ("p50", "p95", "max")),
            ]
        )
    steps_ms = np.diff(dataset.stamps_ns[episode.start : episode.start + episode.length]) / 1e6
    if len(steps_ms):
        rows.append(["picture to picture", *(f"{ms:.1f}" for ms in np.quantile(steps_ms, [0.5, 0.95, 1]))])
    return _table(["ms", "p50", "p95", "max"], rows)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; the cells are HTML."""

    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(cells, "td") for cells in rows)
    return f'<div class="scroll"><table>{line(heads, "th")}{body}</table></div>'
