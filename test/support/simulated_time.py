"""A simulated clock as a node receives it: coarse ticks, at any pace, late, and in bursts."""

import numpy as np

MS = 1_000_000
S = 1000 * MS


class Simulation:
    """A /clock whose ticks come `rate_hz` times a second, or each so long of its own time, at paces that change.

    In: the paces, in turn, each for `change_s`. Ticks arrive late, as on a busy machine, but in their order. One in
    ten is held back for up to `bursts` seconds more, and those behind it come together with it.
    """

    def __init__(self, random, *, rate_hz, paces, change_s=1e9, seconds=8.0, own_time=False, bursts=0.0):
        at_ns = np.arange(0.0, seconds * S, MS / 2)
        pace = np.array(paces)[(at_ns // (change_s * S)).astype(int) % len(paces)]
        self._at_ns, self._true_ns = at_ns, 50 * S + np.concatenate([[0.0], np.cumsum(pace[:-1]) * MS / 2])
        self.seconds, self.tick_ns = seconds, S / rate_hz * (1.0 if own_time else max(paces))
        if own_time:
            ticks_ns = np.arange(50 * S, self._true_ns[-1], self.tick_ns)
            sent_ns = np.interp(ticks_ns, self._true_ns, at_ns)
        else:
            sent_ns = np.arange(0.0, seconds * S, S / rate_hz)
            ticks_ns = self.true(sent_ns)
        self.late_ns = np.minimum(random.exponential(1 * MS, len(sent_ns)), 8 * MS)
        self.late_ns += np.where(random.random(len(sent_ns)) < 0.1, random.uniform(0, bursts * S, len(sent_ns)), 0.0)
        self._ticks_ns, self._arrived_ns = ticks_ns.astype(np.int64), np.maximum.accumulate(sent_ns + self.late_ns)

    def true(self, at_ns):
        """The simulation's time, as nobody outside of it knows it."""
        return np.interp(at_ns, self._at_ns, self._true_ns)

    def reading(self, at_ns):
        return int(self._ticks_ns[max(0, np.searchsorted(self._arrived_ns, at_ns, side="right") - 1)])


def loop_of(simulation, random, rate_hz):
    """A command loop's periods: when each begins, and when the clock is read, which is late by up to a period."""
    for due_ns in range(2 * MS, round(simulation.seconds * S) - 20 * MS, round(S / rate_hz)):
        yield due_ns, due_ns + int(min(random.exponential(1 * MS), 0.9 * S / rate_hz))
