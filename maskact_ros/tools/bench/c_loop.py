"""The best that a machine can do: a loop in C that only sleeps until absolute deadlines, compiled at run time."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from maskact_ros.core.errors import MaskACTError

# Arguments: file to write, rate in Hz, priority under SCHED_FIFO or 0. Ends at SIGTERM. Like `WakeRecord` it writes
# pairs of int64; like `RateLoop` it skips the deadlines that have passed.
SOURCE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

static volatile sig_atomic_t stop;

static void on_signal(int number) { (void)number; stop = 1; }

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    const int64_t period = (int64_t)(1e9 / atof(argv[2]) + 0.5);
    const struct sched_param priority = {.sched_priority = atoi(argv[3])};
    const size_t most = 1 << 20;
    int64_t *pairs = calloc(2 * most, sizeof *pairs);
    size_t calls = 0;
    struct sigaction action = {.sa_handler = on_signal};
    if (pairs == NULL) return 3;
    sigaction(SIGTERM, &action, NULL);
    prctl(PR_SET_TIMERSLACK, 1);
    mlockall(MCL_CURRENT | MCL_FUTURE);
    if (priority.sched_priority && sched_setscheduler(0, SCHED_FIFO, &priority)) { perror("SCHED_FIFO"); return 4; }
    int64_t deadline = now_ns() + period;
    while (!stop) {
        struct timespec at = {deadline / 1000000000, deadline % 1000000000};
        if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL)) continue;
        if (calls < most) {
            pairs[2 * calls] = deadline;
            pairs[2 * calls + 1] = now_ns();
            calls++;
        }
        deadline += period;
        const int64_t behind = now_ns() - deadline;
        if (behind >= 0) deadline += (behind / period + 1) * period;
    }
    FILE *file = fopen(argv[1], "wb");
    if (file == NULL || fwrite(pairs, 2 * sizeof *pairs, calls, file) != calls || fclose(file)) return 5;
    return 0;
}
"""


def compile_loop(folder: Path) -> Path:
    """Compile the program into `folder`.

    Raises:
        MaskACTError: there is no C compiler, or it fails.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise MaskACTError("there is no C compiler (cc or gcc) on this machine")
    source, program = folder / "c_loop.c", folder / "c_loop"
    source.write_text(SOURCE, encoding="utf-8")
    done = subprocess.run(
        [compiler, "-O2", "-o", str(program), str(source)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MaskACTError(f"{compiler} cannot compile the loop in C: {done.stderr.strip()[-300:]}")
    return program
