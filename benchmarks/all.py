"""`benchmarks all`: runs the benchmarks one after the other, each in a process of its own, and joins their JSON.

In: which benchmarks, and whether quickly. Out: `machine`, `hardware`, `rows` of the model, and the other results by
name. For a benchmark that could not be measured, its place has the reason.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.table_cells import NOT_MEASURED
from maskact_ros.tools.bench.options import add_output, check_output, listed, put_out

_INTERRUPTED = f"{NOT_MEASURED}: interrupted"
_LOOK_S = 0.1  # between two checks whether a benchmark has ended
_ENDING_S = 60.0  # time for an interrupted benchmark to stop its nodes and print its results


@dataclass(frozen=True, kw_only=True)
class Run:
    """One benchmark's options, for the figures of the documentation and for a quick look."""

    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()


RUNS: Mapping[str, Run] = {
    "hardware": Run(full=("--rounds", "20"), quick=("--rounds", "3")),
    "model": Run(quick=("--rounds", "3", "--image-size", "224", "--precisions", "fp32", "--background", "0.5")),
    "pipeline": Run(quick=("--seconds", "5")),
    "control": Run(full=("--seconds", "8", "--load", "cpu"), quick=("--seconds", "1", "--rates", "500")),
    "motion": Run(quick=("--repeat", "1", "--handovers", "20")),
    "train": Run(quick=("--steps", "3")),
    "convert": Run(quick=("--seconds", "4", "--rounds", "1")),
}


def add_command(benches: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    command = benches.add_parser(
        "all",
        help="all of them but soak, one after the other",
        description="Run " + ", ".join(RUNS) + ", one after the other, each in a process of its own, with "
        "their defaults or so. What cannot be measured here says why in its place, and the others go on. Ctrl-C prints "
        "what there is. It takes half an hour on two cores, and wants a machine that does nothing else; python -m "
        "benchmarks table makes the documentation's tables and plot of its JSON.",
    )
    command.set_defaults(run=_run)
    command.add_argument("--quick", action="store_true", help="a few minutes, for a first look; the figures are rough")
    command.add_argument("--only", metavar="NAME,…", help="leave the others out")
    add_output(command)


def _run(a: argparse.Namespace) -> int:
    check_output(a)
    names = listed("--only", a.only, tuple(RUNS)) if a.only else tuple(RUNS)
    results, complete = collect({name: RUNS[name].quick if a.quick else RUNS[name].full for name in names})
    put_out(a, combined(results, quick=a.quick, complete=complete), _print_summary)
    return 0 if complete else 130


def collect(runs: Mapping[str, Sequence[str]]) -> tuple[dict[str, Any], bool]:
    """Each benchmark's result, or the reason why there is none; and whether all ran (false after Ctrl-C)."""
    results: dict[str, Any] = {}
    with _ctrl_c() as stopping:
        for name, options in runs.items():
            print(f"python -m benchmarks {' '.join([name, *options])}", file=sys.stderr, flush=True)
            results[name] = _measured(name, options, stopping)
            if stopping.is_set():
                break
    return {name: results.get(name, _INTERRUPTED) for name in runs}, not stopping.is_set()


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; a second one acts as usual.

    There is no KeyboardInterrupt, because Python loses it in some of its own callbacks, such as in an import.
    """
    stopping = threading.Event()

    def stop(*_: object) -> None:
        stopping.set()
        signal.signal(signal.SIGINT, usual)

    usual = signal.signal(signal.SIGINT, stop)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGINT, usual)


def combined(results: Mapping[str, Any], *, quick: bool, complete: bool) -> dict[str, Any]:
    """One JSON object of all results: the machine's facts once, and the model's rows at the top level."""
    from maskact_ros.tools.bench.machine import Machine

    others = {
        name: {key: value for key, value in result.items() if key != "machine"} if _is_there(result) else result
        for name, result in results.items()
    }
    hardware = others.pop("hardware", f"{NOT_MEASURED}: left out")
    model = others.pop("model", f"{NOT_MEASURED}: left out")
    return {
        "machine": asdict(Machine.here()),
        "quick": quick,
        "complete": complete,
        "hardware": hardware["hardware"] if _is_there(hardware) else hardware,
        "rows": model.pop("rows") if _is_there(model) else [],
        "model": model,
        **others,
    }


def _measured(name: str, options: Sequence[str], stopping: threading.Event) -> Any:
    """A benchmark's result, or the reason why it has none."""
    from maskact_ros.tools.bench.children import end_with_parent

    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", name, "--json", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches it once, from here
        preexec_fn=end_with_parent,
    )
    said: deque[str] = deque(maxlen=1)  # of what it says on stderr, which goes on to ours, the last line
    printed: list[str] = []
    listeners = [
        threading.Thread(target=_pass_on, args=(process.stderr, said)),
        threading.Thread(target=printed.extend, args=(process.stdout,)),
    ]
    for listener in listeners:
        listener.start()
    while process.poll() is None and not stopping.wait(_LOOK_S):
        pass
    if stopping.is_set():
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=_ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for listener in listeners:
        listener.join()
    try:
        return json.loads("".join(printed))
    except json.JSONDecodeError:
        why = said[0].removeprefix("benchmarks: ") if said else f"it ended with {process.returncode}"
    return _INTERRUPTED if stopping.is_set() else f"{NOT_MEASURED}: {why}"


def _pass_on(lines: Iterable[str], last: deque[str]) -> None:
    for line in lines:
        sys.stderr.write(line)
        sys.stderr.flush()
        if line.strip():
            last.append(line.strip())


def _is_there(result: Any) -> bool:
    return isinstance(result, dict)


def _print_summary(result: Mapping[str, Any]) -> None:
    from benchmarks.table_text import summary

    print(summary(result))
