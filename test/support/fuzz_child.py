"""One entrance, in a process of its own, and one damaged input after the other: what a fuzzer's test watches.

`python -m support.fuzz_child NAME FOLDER SEED SECONDS` prints a line of JSON for each input: its number, whether it was
taken or refused, seconds, and how far memory rose; or the traceback that escaped.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import shutil
import sys
import time
import traceback
from pathlib import Path
from random import Random

from maskact_ros.core.errors import MaskACTError
from support.fuzz_entrances import ENTRANCES, Entrance

LONGEST_S = 20
_ROOM = 6 * 2**30  # of addresses, beyond what the process has: no input may fill this machine


def main(name: str, folder: str, seed: str, seconds: str) -> None:
    entrance, place = ENTRANCES[name](), Path(folder)
    corpus = place / "sound"
    corpus.mkdir(parents=True)
    entrance.write(corpus)
    _say(n=-1, outcome=_outcome(entrance, corpus, place), seconds=0, mib=0)  # a sound one: it loads what is needed
    _limit_addresses()
    until = time.monotonic() + float(seconds)
    n = 0
    while time.monotonic() < until:
        given = place / "given"
        shutil.rmtree(given, ignore_errors=True)
        shutil.copytree(corpus, given, symlinks=True)
        entrance.damage(given, Random(f"{seed}/{n}"))
        _say(n=n, outcome="begun")
        faulthandler.dump_traceback_later(LONGEST_S, exit=True)
        _forget_peak()
        before_mib, began = _peak_mib(), time.monotonic()
        outcome = _outcome(entrance, given, place)
        took_s = time.monotonic() - began
        faulthandler.cancel_dump_traceback_later()
        _say(n=n, outcome=outcome, seconds=round(took_s, 2), mib=round(_peak_mib() - before_mib))
        n += 1


def _outcome(entrance: Entrance, given: Path, place: Path) -> str:
    shutil.rmtree(place / "out", ignore_errors=True)
    (place / "out").mkdir()
    try:
        entrance.enter(given, place / "out")
    except MaskACTError as error:
        text = str(error)
        is_sentence = len(text) < 5000 and all(line.isprintable() for line in text.splitlines())
        return "refused" if is_sentence else f"no sentence: {text[:300]!r}"
    except Exception:  # noqa: BLE001 - what is looked for
        return traceback.format_exc()
    return "taken"


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _forget_peak() -> None:
    """Of what came before, such as the damaging."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _limit_addresses() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * resource.getpagesize() + _ROOM
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _say(**line: object) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
