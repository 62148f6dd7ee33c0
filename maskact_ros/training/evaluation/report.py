"""`maskact report`: tables that compare policies. Evaluations are stored, so that only missing ones are run.

In: checkpoints by name. Out: one JSON file for each policy and scene, a picture, and Markdown, which is printed and
written between the marks of a document.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.documents import read_json
from maskact_ros.core.outputs import check_file, output_path, replaced_file
from maskact_ros.core.parallel import HERE, Workers
from maskact_ros.core.paths import read_bytes, resolve_path
from maskact_ros.policy.engine import Engine
from maskact_ros.policy.errors import PolicyError
from maskact_ros.sim.look import NO_SHIFT, SHIFTS
from maskact_ros.training.evaluation.measured import measure
from maskact_ros.training.evaluation.report_tables import draw, markdown
from maskact_ros.training.evaluation.success_rate import BACKENDS, Evaluation, EvaluationError, Setup

SCENES = (NO_SHIFT, *SHIFTS)
COEFFICIENTS = (0.01, 0.1)  # of temporal ensembling, besides off
USUAL = ("torch", "fp32")  # backend and precision
BEGIN, END = "<!-- report -->", "<!-- /report -->"
PICTURE = "success.png"
_ASKED = (  # fields in which a stored evaluation must equal the requested one, besides the seeds
    *("weights_hash", "backend", "precision", "through_ros", "shift"),
    *("temporal_ensemble_coeff", "n_action_steps", "latency_s", "time_limit_s"),
)

Measure = Callable[[Setup, Sequence[int]], Evaluation]


@dataclass(frozen=True)
class Cell:
    """One policy in one scene; its name is its file's name."""

    policy: str
    setup: Setup

    @property
    def name(self) -> str:
        """Such as `maskact-light`, `maskact-none-ensemble-0.01` or `maskact-none-onnxruntime-int8`."""
        coeff, engine = self.setup.temporal_ensemble_coeff, (self.setup.backend, self.setup.precision)
        ensemble = "" if coeff is None else f"-ensemble-{coeff:g}"
        return f"{self.policy}-{self.setup.shift}{ensemble}" + ("" if engine == USUAL else "-{}-{}".format(*engine))


def named(words: Sequence[str]) -> dict[str, Path]:
    """Folders by name, from words such as `maskact=DIR`; raises EvaluationError."""
    folders: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not equals or not folder or not re.fullmatch(r"\w+", name) or name in folders:
            raise EvaluationError(f"--checkpoints has {word!r}; allowed: NAME=DIR, NAME of letters, digits and _, once")
        folders[name] = resolve_path(folder)
    return folders


def engines(backends: Sequence[str], precisions: Sequence[str]) -> list[tuple[str, str]]:
    """Each backend with each of its precisions; raises MaskACTError if one is unknown or none is left."""
    combinations = []
    for backend in backends:
        if backend not in BACKENDS:
            raise EvaluationError(f"the backend is {backend!r}; allowed: {', '.join(BACKENDS)}")
        found = [(backend, precision) for precision in precisions if _exists(backend, precision)]
        if not found:
            Engine(backend=backend, precision=precisions[0], device="cpu")  # it raises the error with the reason
        combinations += found
    return combinations


def report(
    checkpoints: Mapping[str, Path],
    out: Path,
    *,
    episodes: int,
    seed: int,
    workers: Workers = HERE,
    document: Path | None,
    run_by: Sequence[tuple[str, str]] = (USUAL,),
) -> tuple[str, bool]:
    """The Markdown, and whether it is complete. Picture and document are written only if it is (no Ctrl-C).

    Raises:
        MaskACTError: a checkpoint, a stored evaluation or the document is invalid.
    """
    if document is not None:
        _around(document)  # before hours of work
    out = output_path(out)
    if out.exists():
        check_file(out / PICTURE, "a picture")
    cells = cells_of(checkpoints, run_by)
    seeds = range(seed, seed + episodes)
    found = collect(cells, seeds, out, lambda setup, wanted: measure(setup, wanted, workers=workers))
    if not found:
        return "", False
    text = markdown(found)
    if len(found) < len(cells):  # the document and its picture stay as they are: older, but complete
        return text, False
    draw(found, out / PICTURE)
    if document is not None:
        picture = os.path.relpath(out / PICTURE, document.parent)
        before, after = _around(document)
        content = f"{before}{BEGIN}\n{text}\n![success in each scene]({picture})\n{END}{after}"
        with replaced_file(output_path(document), "a document", ours=True) as partial:  # all but the report stays
            partial.write_text(content, encoding="utf-8")
    return text, True


def cells_of(checkpoints: Mapping[str, Path], run_by: Sequence[tuple[str, str]] = (USUAL,)) -> list[Cell]:
    """Every policy in every scene, without ensembling; then the first policy with ensembling, in the training scene.

    These use the first backend and precision of `run_by`. The others run every policy in the training scene only.
    """
    infos = {name: CheckpointInfo.read(folder) for name, folder in checkpoints.items()}

    def cell(name: str, shift: str, coeff: float | None, engine: tuple[str, str] = run_by[0]) -> Cell:
        backend, precision = engine
        runtime = {"temporal_ensemble_coeff": coeff}
        return Cell(name, Setup.of_policy(infos[name], runtime, shift=shift, backend=backend, precision=precision))

    usual = [cell(name, shift, None) for shift in SCENES for name in infos]
    ensembled = [cell(name, NO_SHIFT, coeff) for coeff in COEFFICIENTS for name in list(infos)[:1]]
    return usual + ensembled + [cell(name, NO_SHIFT, None, engine) for engine in run_by[1:] for name in infos]


def collect(cells: Sequence[Cell], seeds: Sequence[int], out: Path, measured: Measure) -> list[Evaluation]:
    """The evaluations of the cells: read from `out` if they are stored there, else run and stored.

    Their `checkpoint` is the policy's name. If one is interrupted, those so far are returned.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = []
    for cell in cells:
        path = output_path(out / f"{cell.name}.json")
        evaluation = read_evaluation(path) if path.exists() else None
        if evaluation is None or not _answers(evaluation, cell, seeds):
            evaluation = replace(measured(cell.setup, seeds), checkpoint=cell.policy)
            if evaluation.episodes < len(seeds):
                break
            with replaced_file(path, "an evaluation", ours=True) as partial:  # else it would not have been read
                partial.write_text(json.dumps(asdict(evaluation)) + "\n", encoding="utf-8")
        found.append(evaluation)
    return found


def read_evaluation(path: Path) -> Evaluation:
    """Read an evaluation, the output of `maskact evaluate --json`, from a file.

    Raises:
        MaskACTError: the file is no evaluation.
    """
    values: dict[str, Any] = {"precision": "fp32"} | read_json(path)  # which older ones, all of fp32, do not say
    names = {field.name for field in fields(Evaluation)}
    if names != set(values) or not all(_fits(name, values[name]) for name in names) or not _adds_up(values):
        raise EvaluationError(f"{path}: not an evaluation as this version prints it; remove it to run it again")
    lists = {name: tuple(values[name]) for name in ("ci95", "seeds", "solved")}
    return Evaluation(**values | lists)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _fits(name: str, value: Any) -> bool:
    """Whether a stored evaluation's entry is of its type."""
    if name in ("seeds", "solved"):
        return isinstance(value, list) and all(_is_count(seed) for seed in value)
    if name == "ci95":
        return isinstance(value, list) and len(value) == 2 and all(_is_number(end) and 0 <= end <= 1 for end in value)
    if name == "mask_iou":
        return value is None or (
            isinstance(value, dict) and "mean" in value and all(_is_number(iou) for iou in value.values())
        )
    if name in ("episodes", "successes", "n_action_steps"):
        return _is_count(value)
    if name == "through_ros":
        return isinstance(value, bool)
    if name in ("checkpoint", "weights_hash", "backend", "precision", "shift"):
        return isinstance(value, str)
    return _is_number(value) or (value is None and name != "time_limit_s")


def _adds_up(values: Mapping[str, Any]) -> bool:
    """Whether there are as many episodes and successes as seeds, and some."""
    seeds, solved = set(values["seeds"]), set(values["solved"])
    return 0 < len(seeds) == values["episodes"] and solved <= seeds and len(solved) == values["successes"]


def _exists(backend: str, precision: str) -> bool:
    try:
        Engine(backend=backend, precision=precision, device="cpu")
    except PolicyError:
        return False
    return True


def _answers(evaluation: Evaluation, cell: Cell, seeds: Sequence[int]) -> bool:
    """Whether a stored evaluation is the requested one."""
    asked = Evaluation.of(cell.setup, [])
    return evaluation.seeds == tuple(seeds) and all(getattr(evaluation, n) == getattr(asked, n) for n in _ASKED)


def _around(document: Path) -> tuple[str, str]:
    """The text before and after the report in a document."""
    try:
        text = read_bytes(document).decode("utf-8")
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{document}: is no text ({error})") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise EvaluationError(f"{document}: has no lines {BEGIN} and {END}, between which the report belongs")
    return before, after
