"""The tables of `benchmarks table`, as Markdown; figures are ratios where the machine would decide them else."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.table_cells import (
    NAMES,
    NOT_MEASURED,
    Result,
    engine_of,
    markdown,
    percent,
    rows_of,
    setting_of,
    times,
    why,
)
from benchmarks.table_overview import overview
from maskact_ros.tools.bench.pipeline_stages import BUSY, MODEL

_CARDS = [(backbone, size) for backbone in ("vits16", "vitb16", "vitl16") for size in (224, 480)]


def tables(result: Result, card: Result) -> dict[str, str]:
    """Each by its name, of a run, and of a run on a machine with a card, which may be the same."""
    return {
        "machine": machine(result),
        "overview": overview(result),
        "model": model(result),
        "dropped": dropped(result),
        "card": on_a_card(card),
        "pipeline": pipeline(result),
        "train": train(result),
        "convert": convert(result),
        "hardware": hardware(result),
    }


def summary(result: Result) -> str:
    """What `python -m benchmarks all` prints without --json."""
    return "\n\n".join([machine(result), overview(result), model(result), hardware(result)])


def machine(result: Result) -> str:
    """One sentence."""
    of = result["machine"]
    kind = "virtual cores" if of["virtual"] else "cores"
    quick = "; a quick run, whose figures are rough" if result["quick"] else ""
    return (
        f"{of['cpu']}, {of['cores']} {kind} ({', '.join(of['flags'])}), graphics card: {of['gpu']}; Linux "
        f"{of['kernel']}, Python {of['python']}, torch {of['torch']}, onnxruntime {of['onnxruntime']}{quick}."
    )


def model(result: Result) -> str:
    """Each engine's parts as shares of a matrix product's rate, and its step beside the baseline's."""
    rows = [row for row in rows_of(result) if row.background is None and row.device == "cpu"]
    if not rows:
        return why(result, "model")
    lines = []
    for step in (row for row in rows if row.part == "step"):
        parts = {
            row.part: row for row in rows if setting_of(row) == setting_of(step) and engine_of(row) == engine_of(step)
        }
        agree = parts["mask_head"].label_agreement
        lines.append(
            (
                f"{NAMES.get(step.backbone, step.backbone)}, {step.image_size}",
                f"{step.backend}, {step.precision}",
                *(percent(parts[part], "share_of_gemm", "") for part in ("encoder", "mask_head", "act", "model")),
                percent(parts["rest"], "share_of_step", ""),
                times(step, ""),
                "" if agree is None else f"{agree:.1%}",
            )
        )
    head = ("policy", "run by", "encoder", "mask head", "ACT", "all three", "rest, of the step", "step, × baseline")
    return "\n".join([markdown((*head, "labels as torch's"), lines), *_bullets(_left_out(result))])


def dropped(result: Result) -> str:
    """What leaving isolated patches out saves."""
    rows = [row for row in rows_of(result) if row.background is not None]
    if not rows:
        return why(result, "model")
    lines = [
        (
            f"{NAMES.get(row.backbone, row.backbone)}, {row.image_size}",
            f"{row.backend}, {row.precision}",
            f"{row.background:.0%}",
            f"{row.over_all_patches:.2f}",
            percent(row, "share_of_gemm", ""),
        )
        for row in rows
    ]
    return markdown(("policy", "run by", "background", "ACT's time, of that with all patches", "of GEMM"), lines)


def on_a_card(result: Result) -> str:
    """All that was measured on a machine with a graphics card, or that nothing was."""
    if all(row.device == "cpu" for row in rows_of(result)):
        return steps_on_a_card(result)
    return "\n\n".join([machine(result), steps_on_a_card(result), pipeline(result), f"Training: {train(result)}"])


def steps_on_a_card(result: Result) -> str:
    """Latency and share of the matrix product on a graphics card, for each size, measured or not."""
    rows = [row for row in rows_of(result) if row.device != "cpu" and row.background is None]
    lines: list[tuple[str, ...]] = []
    for setting in _CARDS:
        named = f"{NAMES[setting[0]]}, {setting[1]}"
        steps = [row for row in rows if setting_of(row) == setting and row.part == "step"]
        for step in steps:
            (three,) = (
                row
                for row in rows
                if setting_of(row) == setting and engine_of(row) == engine_of(step) and row.part == "model"
            )
            lines.append(
                (
                    named,
                    f"{step.backend}, {step.precision}",
                    f"{step.median_ms:.2f} / {step.p99_ms:.2f}",
                    f"{three.median_ms:.2f}",
                    percent(three, "share_of_gemm", ""),
                    times(step, ""),
                )
            )
        if not steps:
            lines.append((named, NOT_MEASURED, "", "", "", ""))
    head = ("policy", "run by", "step, ms, p50 / p99", "model, ms", "of GEMM", "step, × baseline")
    return markdown(head, lines)


def pipeline(result: Result) -> str:
    """The time from image to command, less the model's, and its stages."""
    measured = result.get("pipeline")
    if not isinstance(measured, dict):
        return why(result, "pipeline")
    lines = []
    for row in measured["rows"]:
        profile = "with" if row["profile"] else "without"
        whole, computing = (
            " / ".join(f"{row[of][p]:.1f}" for p in ("p50", "p95", "p99")) for of in ("overhead_ms", "model_ms")
        )
        stages = ", ".join(
            f"{name} {taken['p50']:.1f}" for name, taken in row["stages_ms"].items() if name not in (*MODEL, *BUSY)
        )
        lines.append((f"{row['backbone']}, {row['image_size']}", profile, str(row["images"]), computing, whole, stages))
    three = "ms, p50 / p95 / p99"
    head = ("policy", "shared-memory profile", "images", f"model, {three}", f"overhead, {three}", "its stages, ms, p50")
    return markdown(head, lines)


def train(result: Result) -> str:
    """Steps of training beside the baseline's."""
    measured = result.get("train")
    if not isinstance(measured, dict):
        return why(result, "train")
    lines = [
        (
            row["variant"].replace("_", " "),
            f"{row['backend']}, {row['precision']}",
            "" if row["share_of_gemm"] is None else f"{row['share_of_gemm']:.1%}".replace("%", " %"),
            f"{row['samples_per_s']:.1f}",
            "" if row["speedup_over_baseline"] is None else f"{row['speedup_over_baseline']:.2f} ×",
        )
        for row in measured["rows"]
    ]
    text = markdown(("", "by", "of GEMM", "samples/s", "× baseline"), lines)
    if measured["rows"]:
        first = measured["rows"][0]
        named = f"{first['backbone']} at {first['image_size']}, batches of {first['batch_size']}"
        text = f"{first['stage']}, {named}, {measured['hardware']['device']}:\n\n{text}"
    return "\n".join([text, *_bullets(measured["left_out"])])


def convert(result: Result) -> str:
    """A conversion beside a script's, and beside what bounds it."""
    converted = result.get("convert")
    if not isinstance(converted, dict):
        return why(result, "convert")
    lines = [
        (
            row["part"],
            f"{row['times_real_time']:.1f}",
            f"{row['share_of_limit']:.0%}",
            "" if row["speedup_over_baseline"] is None else f"{row['speedup_over_baseline']:.2f}",
        )
        for row in converted["rows"]
    ]
    head = ("", f"× real time ({converted['rows'][0]['images']})", "reading and encoding, of its time", "× script")
    return markdown(head, lines)


def hardware(result: Result) -> str:
    """The limits."""
    limits = result["hardware"]
    if not isinstance(limits, dict):
        return str(limits)
    reached: dict[str, float | None] = limits["gemm_gflops"]
    single = reached["fp32"]
    lines = [
        (precision, NOT_MEASURED, "computed by way of another precision")
        if gflops is None
        else (precision, f"{gflops / single:.2f}" if single else "", f"{gflops:.0f} GFLOP/s")
        for precision, gflops in reached.items()
    ]
    lines.append(("memory", "", f"{limits['memory_gb_s']:.1f} GB/s, copied {limits['memory_copy_gb_s']:.1f}"))
    return markdown((f"{limits['device']}, {limits['threads']} threads", "of fp32", "a matrix product reaches"), lines)


def _left_out(result: Result) -> list[str]:
    of = result["model"]
    left = of["left_out"] if isinstance(of, dict) else []
    return [f"{it['backend']} {it['precision']}, {it['backbone']} at {it['image_size']}: {it['reason']}" for it in left]


def _bullets(reasons: Iterable[str]) -> list[str]:
    lines = [f"- {NOT_MEASURED}: {reason}" for reason in reasons]
    return ["", *lines] if lines else []
