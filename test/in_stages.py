"""Runs the tests with ROS in stages: `python test/in_stages.py FOLDER… [pytest's options]`.

Two files at a time, as they mostly wait; then the tests that measure rates or delays (marked `alone`), which have the
machine to themselves; then once more, from their beginning and alone, the files in which a test failed. These tests
listen to real processes in real time, and a message can be missed because a neighbour, or another guest of the host,
had the core. What fails twice fails; what failed once stays in the output.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

STAGES = (
    ["-m", "not alone", "-n", "2", "--max-worker-restart", "0", "--dist", "loadfile", "--no-loadscope-reorder"],
    ["-m", "alone"],
)
ALL_PASSED, SOME_FAILED = 0, 1  # pytest's exit codes; any other one says that it could not do its work


def pytest(cache: Path, arguments: list[str]) -> int:
    """Run it; `cache` learns which tests failed."""
    command = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}", *arguments]
    return subprocess.run(command, check=False).returncode


def files_with_failures(cache: Path) -> set[str]:
    failed = cache / "v" / "cache" / "lastfailed"
    tests = json.loads(failed.read_text(encoding="utf-8")) if failed.exists() else {}
    return {test.partition("::")[0] for test in tests}


def main(arguments: list[str]) -> int:
    again: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        for number, stage in enumerate(STAGES):
            cache = Path(folder, str(number))
            code = pytest(cache, [*stage, *arguments])
            if code not in (ALL_PASSED, SOME_FAILED):
                return code
            failed = files_with_failures(cache)
            if bool(failed) != (code == SOME_FAILED):
                return SOME_FAILED
            again |= failed
        if not again:
            return ALL_PASSED
        print(f"\nOnce more, alone: {', '.join(sorted(again))}", flush=True)
        return pytest(Path(folder, "again"), sorted(again))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
