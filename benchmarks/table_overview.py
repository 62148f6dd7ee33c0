"""The table of the whole: a line for each thing that has an aim or a baseline."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.model_rows import Row
from benchmarks.table_cells import MAIN, NAMES, Result, markdown, percent, rows_of, setting_of, times, why


def overview(result: Result) -> str:
    """What was measured beside what we want."""
    lines = [*_of_the_model(result), *_of_the_rest(result)]
    return markdown(("what", "measured", "aim"), lines)


def _of_the_model(result: Result) -> Iterable[tuple[str, str, str]]:
    rows = rows_of(result)
    name = f"{NAMES[MAIN[0]]} at {MAIN[1]}"

    def of(part: str, backend: str, precision: str = "fp32") -> Row | None:
        return next((row for row in _main(rows) if _key(row) == (part, backend, precision)), None)

    ours, theirs = of("model", "torch"), of("model", "baseline")
    product = "of what a matrix product reaches"
    otherwise = why(result, "model")
    yield f"encoder, mask head and ACT, fp32, {product} ({name})", percent(ours, "share_of_gemm", otherwise), "≥ 70 %"
    yield f"the same, the baseline, {product}", percent(theirs, "share_of_gemm", otherwise), ""
    yield "the rest of the step", percent(of("rest", "torch"), "share_of_step", otherwise), "≤ 5 % of the step"
    yield (
        "the label mask, a piece of ACT",
        percent(of("label_mask", "torch"), "share_of_step", otherwise),
        "within those 5 %",
    )
    yield "the step, fp32, times as fast as the baseline", times(of("step", "torch"), otherwise), ""
    others = [row for row in _main(rows) if row.part == "step" and row.backend in ("torch", "onnxruntime")]
    fastest = min(others, key=lambda row: row.median_ms, default=None)
    named = "" if fastest is None else f" ({fastest.backend}, {fastest.precision})"
    yield f"the fastest step{named}, times as fast as the baseline", times(fastest, otherwise), ""
    for row in rows:
        if (setting_of(row), row.device, row.backend, row.precision) != (MAIN, "cpu", "torch", "fp32"):
            continue
        if row.background is None or row.over_all_patches is None:
            continue
        yield (
            f"ACT without isolated patches, {row.background:.0%} background",
            f"{row.over_all_patches:.2f} of its time",
            "",
        )


def _of_the_rest(result: Result) -> Iterable[tuple[str, str, str]]:
    pipeline = result.get("pipeline")
    if isinstance(pipeline, dict):
        overhead = pipeline["overhead_ms"]
        yield "image to command, the model's time taken out, p95", f"{overhead['p95']:.1f} ms", "≤ 8 ms"
        for backbone, gain in pipeline["profile_gain"].items():
            yield f"the same without the shared-memory profile ({backbone})", f"{gain:.1f} × as long", ""
    else:
        yield "image to command, the model's time taken out", why(result, "pipeline"), "≤ 8 ms"
    yield from _training(result)
    converted = result.get("convert")
    if isinstance(converted, dict):
        (row,) = (row for row in converted["rows"] if row["part"] == "convert")
        shown = "" if row["speedup_over_baseline"] is None else f"{row['speedup_over_baseline']:.1f} × the script, "
        yield "a bag to a dataset", f"{shown}{row['times_real_time']:.0f} × real time", ""
    else:
        yield "a bag to a dataset", why(result, "convert"), ""
    control = result.get("control")
    if isinstance(control, dict):
        aims = control["aims"]
        met = sum(aim["met"] for aim in aims)
        yield "the command loop under load", f"{met} of {len(aims)} aims met", "all"
    else:
        yield "the command loop under load", why(result, "control"), ""
    motion = result.get("motion")
    if isinstance(motion, dict):
        yield "jerk of chunks that replace each other", f"{motion['jerk_of_replace_over_maskact']:.0f} × ours", "≥ 5 ×"
    else:
        yield "jerk of chunks that replace each other", why(result, "motion"), "≥ 5 ×"


def _training(result: Result) -> Iterable[tuple[str, str, str]]:
    """The fastest way that the trainer takes with a frozen backbone, and with LoRA."""
    measured = result.get("train")
    for kind, prefix, aim in (("a frozen backbone", "frozen", "≥ 2 ×"), ("LoRA", "lora", "≥ 1.6 ×")):
        what, fastest = f"training with {kind}, times as fast as the baseline", None
        if isinstance(measured, dict):
            ours = [
                row for row in measured["rows"] if row["backend"] != "baseline" and row["variant"].startswith(prefix)
            ]
            fastest = max(ours, key=lambda row: row["speedup_over_baseline"] or 0.0, default=None)
        if fastest is None or fastest["speedup_over_baseline"] is None:
            yield what, why(result, "train"), aim
        else:
            named = f" ({fastest['variant']}, {fastest['precision']})"
            yield f"{what}{named}", f"{fastest['speedup_over_baseline']:.2f} ×", aim


def _main(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if setting_of(row) == MAIN and row.background is None and row.device == "cpu"]


def _key(row: Row) -> tuple[str, str, str]:
    return row.part, row.backend, row.precision
