"""Runs the tests with ROS in stages: `python test/in_stages.py FOLDER… [--ignore FILE]…`.

Each file in a process of its own: a crash in a DDS that is taken apart costs a file, not the run. Two files at a time,
as they mostly wait; then the tests that measure rates or delays (marked `alone`), which have the machine to themselves;
then once more, whole and alone, the files in which something failed. These tests listen to real processes in real
time, and a message can be missed because a neighbour, or another guest of the host, had the core. What fails twice
fails; what failed once stays in the output.
"""

import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

NO_TESTS = 5  # pytest's exit code
STAGES = (("not alone", 2), ("alone", 1))  # the mark, and how many files at a time


def pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def files_with(mark: str, arguments: list[str]) -> list[str]:
    """The files with such tests, those with most of them first."""
    listing = pytest("--collect-only", "-q", "-m", mark, *arguments)
    counts = {file: int(count) for file, count in re.findall(r"^(\S+\.py): (\d+)$", listing.stdout, re.MULTILINE)}
    if listing.returncode != (0 if counts else NO_TESTS):
        sys.exit(f"{listing.stdout}\nthe tests cannot be collected")
    return sorted(counts, key=counts.__getitem__, reverse=True)


def passes(file: str, *options: str) -> bool:
    """Run it, and show what came of it once it has ended."""
    ended = pytest(file, *options)
    code = ended.returncode
    how = "" if code >= 0 else f"pytest was ended by {signal.Signals(-code).name}\n"
    print(f"-- {file}\n{ended.stdout}{how}", end="", flush=True)
    return code == 0


def main(arguments: list[str]) -> int:
    ran = False
    again: list[str] = []
    for mark, at_a_time in STAGES:
        files = files_with(mark, arguments)
        ran |= bool(files)
        print(f"\n== {len(files)} files with tests that are {mark}, {at_a_time} at a time", flush=True)
        with ThreadPoolExecutor(at_a_time) as pool:
            try:
                passed = list(pool.map(passes, files, repeat("-m"), repeat(mark)))
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)
                raise
        again += [file for file, good in zip(files, passed, strict=True) if not good]
    if not ran:
        sys.exit("there are no tests")
    again = list(dict.fromkeys(again))
    if again:
        print(f"\n== Once more, alone: {', '.join(again)}", flush=True)
    failed = [file for file in again if not passes(file)]
    print(f"\n{'failed: ' + ', '.join(failed) if failed else 'all passed'}", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
