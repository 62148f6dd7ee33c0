"""The stop ladder as a table: for each state and event the next state, and its reason.

In: a state and an event. Out: the next state, or None if the event changes nothing. `StopLadder` takes all its steps
from this table; `docs/safety.md` prints the same table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from maskact_ros.control.ladder import MOVING, FollowerSettings, FollowerState, Rung


class Event(StrEnum):
    """What happens to the follower, in the words of the table."""

    ENABLE = "`enable`"
    DISABLE = "`disable`"
    RESET = "`reset`"
    RUN_OVER = "the run time is over"
    FRESH = "there is a fresh chunk to follow"
    STALE = "the chunk is stale"
    ORPHANED = "the chunk is stale, and a peer is gone"
    NO_PLAN = "there is nothing to follow"
    RESTS = "the arm rests"
    WAITED = "no plan for too long"
    PEER_GONE = "the arm rests, and a peer is gone"
    NOT_FOLLOWING = "the arm does not follow"
    NOT_BELIEVED = "joint states are not believed for 1 s"
    CLAMPED = "the plan exceeds the limits"
    STALLED = "the command loop stood still"
    STALLED_LONG = "the command loop stood still for long"
    CLOCK_JUMPED = "the clock jumps"
    RELEASED = "the arm rests, and is released"


@dataclass(frozen=True)
class Transition:
    """A row of the table.

    The reason is a format string: `{why}` is the text that comes with the event, `{settings.…}` a setting in force.
    """

    states: tuple[Rung, ...]
    event: Event
    next: Rung
    reason: str
    parameters: tuple[str, ...] = ()  # the parameters that decide when the event happens
    silent: Rung | None = None  # the next state while no set points are sent, if it is a different one
    new_epoch: bool = False  # whether chunks that are in flight are discarded


R = Rung
_WHY = "{why}"
_WAITING = (R.ENGAGING, R.DECELERATING, R.HOLDING)  # enabled, and without a plan
ENABLED = (R.ENGAGING, *MOVING, R.DECELERATING, R.HOLDING)
_STOOD = "the command loop stood still"
_LOST = ("remaining_timeout_s", "joint_states_timeout_s")

TRANSITIONS = (
    # Requests
    Transition(
        (R.IDLE, R.DISABLED),
        Event.ENABLE,
        R.ENGAGING,
        "waiting for a chunk captured after enabling",
        new_epoch=True,
    ),
    Transition(ENABLED, Event.DISABLE, R.DISABLED, _WHY, silent=R.IDLE),
    Transition(
        ENABLED,
        Event.RUN_OVER,
        R.DISABLED,
        "the maximum run time of {settings.max_run_s:g} s is over",
        ("max_run_s",),
        silent=R.IDLE,
    ),
    Transition((R.DISABLED,), Event.RELEASED, R.IDLE, "{why}; released", ("release_on_disable",)),
    Transition((R.FAULT,), Event.RELEASED, R.FAULT, "{why}; released", ("release_on_disable",)),
    Transition(ENABLED, Event.RESET, R.ENGAGING, "reset; waiting for a chunk captured after it", new_epoch=True),
    Transition((R.IDLE,), Event.RESET, R.IDLE, _WHY, new_epoch=True),
    Transition((R.DISABLED,), Event.RESET, R.DISABLED, _WHY, new_epoch=True),
    Transition(
        (R.FAULT,),
        Event.RESET,
        R.DISABLED,
        "reset after a fault; enable it to go on",
        silent=R.IDLE,
        new_epoch=True,
    ),
    # A plan, and its end
    Transition(
        (R.ENGAGING, R.REMAINING, R.DECELERATING, R.HOLDING),
        Event.FRESH,
        R.FOLLOWING,
        "following the plan",
        ("engage_tolerance_s",),
    ),
    Transition(
        (R.ENGAGING, R.FOLLOWING, R.DECELERATING, R.HOLDING),
        Event.STALE,
        R.REMAINING,
        "no new chunk; following what remains of the last one",
        ("plan_timeout_s",),
    ),
    Transition(ENABLED, Event.ORPHANED, R.REMAINING, _WHY, ("plan_timeout_s",)),
    Transition(MOVING, Event.NO_PLAN, R.DECELERATING, _WHY, _LOST, new_epoch=True),
    Transition((R.DECELERATING,), Event.RESTS, R.HOLDING, _WHY),
    Transition(
        (R.HOLDING,),
        Event.WAITED,
        R.FAULT,
        "held for {settings.hold_timeout_s:g} s: {why}",
        ("hold_timeout_s",),
    ),
    Transition(
        (R.ENGAGING,),
        Event.WAITED,
        R.DISABLED,
        "did not engage within {settings.hold_timeout_s:g} s: {why}",
        ("hold_timeout_s",),
        silent=R.IDLE,
    ),
    Transition(_WAITING, Event.PEER_GONE, R.FAULT, _WHY, silent=R.IDLE),
    # What the checks find
    Transition((*ENABLED, R.DISABLED), Event.NOT_FOLLOWING, R.FAULT, _WHY, ("following_tolerance_s",)),
    Transition(ENABLED, Event.NOT_BELIEVED, R.FAULT, _WHY),
    Transition(
        MOVING,
        Event.CLAMPED,
        R.FAULT,
        "for {settings.clamp_timeout_s:g} s the plan has asked more of {why} than its limits allow",
        ("clamp_timeout_s",),
    ),
    Transition(MOVING, Event.STALLED, R.DECELERATING, f"{_STOOD}; waiting for a new chunk", new_epoch=True),
    Transition(
        (*_WAITING, R.DISABLED),
        Event.STALLED_LONG,
        R.IDLE,
        _STOOD + " for {why} s; enable it again",
        ("hold_timeout_s",),
    ),
    Transition(
        ENABLED, Event.CLOCK_JUMPED, R.ENGAGING, "the clock jumped {why}; waiting for a new chunk", new_epoch=True
    ),
)

_ROWS = {(state, row.event): row for row in TRANSITIONS for state in row.states}


def step(
    state: FollowerState, event: Event, *, sends: bool, settings: FollowerSettings, why: str = ""
) -> FollowerState | None:
    """The state after an event, or None if the event changes nothing; `sends`: whether set points are sent."""
    row = _ROWS.get((state.rung, event))
    if row is None:
        return None
    rung = row.next if sends or row.silent is None else row.silent
    return FollowerState(rung, state.epoch + row.new_epoch, row.reason.format(why=why, settings=settings))


def as_markdown() -> str:
    """The table for the documentation; "enabled" stands for all enabled states."""
    lines = ["| state | event | next state | reason | parameters |", "|---|---|---|---|---|"]
    for row in TRANSITIONS:
        enabled = set(ENABLED) <= set(row.states)
        named = [f"`{state}`" for state in row.states if not (enabled and state in ENABLED)]
        states = ", ".join(["enabled", *named] if enabled else named)
        silent = "" if row.silent is None else f"; `{row.silent}` if nothing is sent"
        reason = re.sub(r"\{settings\.(\w+):g\}", r"`\1`", row.reason).replace("{why}", "…")
        parameters = ", ".join(f"`{name}`" for name in row.parameters)
        lines.append(f"| {states} | {row.event} | `{row.next}`{silent} | {reason} | {parameters} |")
    return "\n".join(lines)
