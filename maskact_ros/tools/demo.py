"""`maskact demo`: runs episodes with the simulated robot, with a live status line; writes pictures at the end.

In: the number of episodes or seconds, the scene. Out: a summary, `overlay.mp4`, `overview.png` and `log.txt`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.outputs import MARK, check_file, output_path
from maskact_ros.core.paths import resolve_path
from maskact_ros.sim.look import NO_SHIFT, parse_shifts
from maskact_ros.sim.scene import CLASS_NAMES
from maskact_ros.tools.bringup import BringupArguments, demo_policy, processes
from maskact_ros.tools.demo_pictures import OVERVIEW, VIDEO, Film
from maskact_ros.tools.episode_runner import EpisodeRunner

_LOG = "log.txt"
EPISODE_LIMIT_S = 15.0  # after this an episode has failed; the expert always needs less


@dataclass(frozen=True, kw_only=True)
class DemoArguments:
    """The command's arguments."""

    policy_path: str = ""
    episodes: int = 3
    seconds: float | None = None  # ends the demonstration, even during an episode
    seed: int = 0
    shift: str = NO_SHIFT
    expert: bool = False
    headless: bool = False
    out: Path = Path("demo")


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Percentiles of a latency, in milliseconds; None if nothing was measured."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """The content of `--json`."""

    episodes: int
    successes: int
    image_rate_hz: float
    chunk_rate_hz: float
    command_rate_hz: float
    image_to_command_ms: Percentiles
    frames_dropped: int
    deadline_misses: int


def run_demo(arguments: DemoArguments) -> DemoResult:
    """Run the demonstration until its end or Ctrl-C, bring the arm to rest, and write the pictures.

    Raises:
        MaskACTError: an argument is wrong, a node does not start or ends by itself.
    """
    _check(arguments)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    policy = resolve_path(arguments.policy_path) if arguments.policy_path else demo_policy()
    described = processes(
        BringupArguments(
            policy_path=str(policy),
            sim=True,
            expert=arguments.expert,
            sim_parameters={"seed": arguments.seed, "shift": arguments.shift},
            # Between episodes the simulation moves the arm home; commands must not move it back.
            publisher_parameters={"release_on_disable": True},
        )
    )
    if arguments.expert:
        console.print("[bold]The scripted expert drives the arm[/]; the masks are the simulation's own.")
    out = output_path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    for name, what in ((VIDEO, "a film"), (OVERVIEW, "a picture"), (_LOG, "a log")):
        check_file(out / name, what)  # before episodes are played

    def say(name: str, line: str) -> None:
        log.write(f"{name}: {line}\n")
        if any(level in line for level in ("[WARN]", "[ERROR]", "[FATAL]")):
            console.print(f"{name}: {line}", markup=False)

    film = Film(out, CLASS_NAMES if arguments.expert else CheckpointInfo.read(policy).mask_classes)
    demo = _Demo(arguments, film, console)
    runner = EpisodeRunner(described, say, show=demo.show)
    with (out / _LOG).open("w", encoding="utf-8", buffering=1) as log, runner:
        log.write(f"log of maskact demo, {MARK}\n")
        console.print(
            f"To look in from another terminal: export ROS_DOMAIN_ID={runner.domain_id} "
            "ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST"
        )
        demo.run(runner)
    written = ", ".join(str(path) for path in film.finish()) or "no pictures, as nothing was seen yet"
    console.print(f"[bold]{demo.successes} of {demo.episodes} finished episodes solved.[/] Written: {written}")
    return demo.result()


def _check(arguments: DemoArguments) -> None:
    if arguments.episodes < 1:
        raise MaskACTError(f"--episodes is {arguments.episodes}; allowed: an integer >= 1")
    if arguments.seconds is not None and not 0 < arguments.seconds < 1e6:
        raise MaskACTError(f"--seconds is {arguments.seconds:g}; allowed: a number > 0")
    if not 0 <= arguments.seed < 2**31:
        raise MaskACTError(f"--seed is {arguments.seed}; allowed: an integer >= 0 and < 2^31")
    parse_shifts(arguments.shift)


class _Demo:
    """Episode after episode, with a status line."""

    def __init__(self, arguments: DemoArguments, film: Film, console: Console):
        self._arguments = arguments
        self._film = film
        self._console = console
        self._live: Live | None = None
        self.episodes = 0
        self.successes = 0

    def run(self, runner: EpisodeRunner) -> None:
        """Run until the requested episodes or seconds are over, or Ctrl-C; raises if a node ends."""
        self._observer = runner.observer
        if not self._arguments.headless and self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        try:
            runner.start()
            self._observer.film(self._film, true_masks=self._arguments.expert)
            until_s = time.monotonic() + (self._arguments.seconds or float("inf"))
            while not runner.stop.is_set() and self.episodes < self._arguments.episodes and time.monotonic() < until_s:
                self._episode(runner, until_s)
        finally:
            if self._live is not None:
                self._live.stop()

    def _episode(self, runner: EpisodeRunner, until_s: float) -> None:
        outcome = runner.episode(EPISODE_LIMIT_S, until_s)
        if outcome is None:  # an episode that the time limit or Ctrl-C ended does not count
            return
        self.episodes += 1
        self.successes += outcome.success
        how = f"solved in {outcome.seconds:.1f} s" if outcome.success else f"not solved in {EPISODE_LIMIT_S:g} s"
        self._console.print(f"episode {self.episodes} (seed {outcome.seed}): {how}")

    def show(self, doing: str) -> None:
        """Update the status line."""
        if self._live is not None:
            self._live.update(self._status(doing))

    def _status(self, doing: str) -> Text:
        """Two lines for 80 columns: the state, and the figures."""
        figure, state = self._observer.figure, self._observer.state
        rates = (
            f"images {figure('camera_encoder', 'features_hz'):.1f} Hz  "
            f"chunks {figure(self._planner, 'chunks_hz'):.1f} Hz  "
            f"commands {figure('action_publisher', 'commands_hz'):.1f} Hz"
        )
        latency = [figure("action_publisher", f"image_to_command_ms_{p}") for p in ("p50", "p95")]
        if not self._arguments.expert:  # the expert does not plan from images
            rates += "  image→command {:.0f}/{:.0f} ms".format(*latency)
        episodes = f"  episodes {self.episodes}/{self._arguments.episodes}, solved {self.successes}"
        return Text.assemble((doing or str(state.rung), "bold"), episodes, f"  {state.reason}\n", (rates, "cyan"))

    @property
    def _planner(self) -> str:
        return "expert" if self._arguments.expert else "inference"

    def result(self) -> DemoResult:
        """The figures of the whole run, from the last diagnostics of each node."""
        figure, rate = self._observer.figure, self._observer.mean_rate_hz
        # The expert plans from joint states and poses, so with it no command comes from an image.
        of_images = not self._arguments.expert and figure("action_publisher", "image_to_command_total") > 0
        latency = {
            p: figure("action_publisher", f"image_to_command_ms_{p}") if of_images else None
            for p in ("p50", "p95", "p99")
        }
        return DemoResult(
            episodes=self.episodes,
            successes=self.successes,
            image_rate_hz=rate("camera_encoder", "images"),
            chunk_rate_hz=rate(self._planner, "chunks"),
            command_rate_hz=rate("action_publisher", "commands"),
            image_to_command_ms=Percentiles(**latency),
            frames_dropped=int(figure("camera_encoder", "frames_dropped")),
            deadline_misses=int(figure("action_publisher", "deadline_misses")),
        )
