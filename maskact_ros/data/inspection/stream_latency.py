"""How late the streams of a dataset's bags were, as its report tells; nothing for a dataset that knows no bags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from maskact_ros.data.datasets.dataset import Report
from maskact_ros.data.inspection.findings import Remark


def check_latency(report: Report) -> Iterator[Remark]:
    """The latency of each stream, over all bags, and each bag whose clocks differ."""
    worst: dict[str, dict[str, float]] = {}
    for bag in report.values["bags"]:
        for topic, figures in bag.get("latency", {}).items():
            known = worst.setdefault(topic, dict(figures))
            for name, value in figures.items():
                known[name] = max(known.get(name, value), value, key=abs)
    for topic, figures in worst.items():
        yield Remark(f"latency of {topic}, from stamp to receipt, at most: {in_words(figures)}")
    for bag in report.values["bags"]:
        if "clocks_apart" in bag:
            yield Remark(f"{Path(bag.get('path', '')).name}: {bag['clocks_apart']}")


def in_words(figures: Mapping[str, float]) -> str:
    """A stream's figures in words."""
    parts = [f"{name} {figures[f'{name}_ms']:.1f} ms" for name in ("p50", "p95") if f"{name}_ms" in figures]
    if abs(drift := figures.get("drift_ms_per_s", 0.0)) >= 0.01:
        parts.append(f"drift {drift:.2f} ms/s")
    return ", ".join(parts)
