"""Damaged files of every kind are refused in a sentence or taken: no traceback, no kill, bounded memory and time.

`FUZZ_SEED=… FUZZ_SECONDS=…` choose other inputs, and how long each entrance is tried.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.fuzz_child import LONGEST_S
from support.fuzz_entrances import ENTRANCES

SEED = os.environ.get("FUZZ_SEED", "14")
SECONDS = float(os.environ.get("FUZZ_SECONDS", "40"))
MOST_MIB = 1024
TREE = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.extended, pytest.mark.timeout(SECONDS + 120)]


@pytest.mark.parametrize("name", ENTRANCES)
def test_damaged_files_are_taken_or_refused_within_bounds(name, tmp_path):
    child = subprocess.run(
        [sys.executable, "-m", "support.fuzz_child", name, str(tmp_path), SEED, str(SECONDS)],
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONPATH": f"{TREE}:{TREE / 'test'}", "OMP_NUM_THREADS": "1"},
    )
    lines = [json.loads(line) for line in child.stdout.splitlines() if line.startswith('{"n"')]
    assert lines, child.stderr
    assert lines[0]["outcome"] == "taken", lines[0]["outcome"]
    ended = [line for line in lines[1:] if line["outcome"] != "begun"]
    assert child.returncode == 0, f"input {lines[-1]['n']} ended the process:\n{child.stderr[-3000:]}"
    escaped = [line for line in ended if line["outcome"] not in ("taken", "refused")]
    assert not escaped, f"{len(escaped)} of {len(ended)} inputs, such as {escaped[0]['n']}:\n{escaped[0]['outcome']}"
    largest, longest = max(ended, key=lambda line: line["mib"]), max(ended, key=lambda line: line["seconds"])
    assert largest["mib"] < MOST_MIB, f"input {largest['n']} took {largest['mib']} MiB"
    assert longest["seconds"] < LONGEST_S, f"input {longest['n']} took {longest['seconds']} s"
    assert sum(line["outcome"] == "refused" for line in ended) > len(ended) / 10, "the damage is felt"
    print(f"{name}: {len(ended)} inputs, at most {largest['mib']} MiB and {longest['seconds']} s")
