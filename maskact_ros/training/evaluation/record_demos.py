"""`maskact record-demos`: the scripted expert solves the simulated task; each episode becomes a bag, named by its seed.

In: seeds, and the scene's shift. Out: bags with the topics of `sim_robot` and the commands, with the same types, rates,
frames and fields. A bag is complete or absent; existing bags are kept.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

import cv2

from maskact_ros.core.documents import DocumentError, read_yaml
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.folders import FolderError, alone, reach_the_disk
from maskact_ros.core.outputs import Kind, check_folder, refuse_link
from maskact_ros.core.parallel import HERE, Workers, in_parallel
from maskact_ros.core.paths import shared
from maskact_ros.core.progress import Progress
from maskact_ros.core.robot import RobotSpec
from maskact_ros.core.work import Tick
from maskact_ros.data.bags.bag_writer import BagWriter
from maskact_ros.sim.demonstrate import Moment, demonstrate
from maskact_ros.sim.expert import Expert
from maskact_ros.sim.look import NO_SHIFT, parse_shifts
from maskact_ros.sim.renderer import Renderer
from maskact_ros.sim.world import World
from maskact_ros.training.evaluation.sim_messages import Images, SimMessages

FIRST_SEED = 100_000  # far from the seeds that policies are evaluated on, which begin at 0
LAST_SEED = 2**31 - 1  # as of sim_robot
_MOST = 10**6  # episodes
_ROBOT_NOTE = "maskact_robot"
_EARLIER = {"maskact_begin": "usual"}  # the value in older bags, which do not have it
Begin = Literal["usual", "mishap"]
BEGINS: tuple[Begin, ...] = get_args(Begin)
# In the working folder: what a kill left there of this release, or of an earlier one.
_LEFT = re.compile(r"lock|[0-9a-f]{32}|seen-by-workers-[0-9a-f]{32}|episode_\d+(\.damaged)?")
BEGIN_NS = 1_000_000_000  # stamp of an episode's begin, on the simulation's clock


@dataclass(frozen=True, kw_only=True)
class DemoRequest:
    """What to record."""

    out: Path
    episodes: int  # number of episodes to try, with the seeds `seed`, `seed` + 1, …
    seed: int = FIRST_SEED
    shift: str = NO_SHIFT
    begin: Begin = "usual"
    images: Images = "jpeg"
    robot_file: Path | None = None

    def __post_init__(self) -> None:
        last = LAST_SEED - self.episodes + 1
        if not 1 <= self.episodes <= _MOST:
            raise MaskACTError(f"--episodes is {self.episodes}; allowed: 1 to {_MOST}")
        if not 0 <= self.seed <= last:
            raise MaskACTError(f"--seed is {self.seed}; allowed: 0 to {last} with {self.episodes} episodes")
        parse_shifts(self.shift)

    @property
    def robot(self) -> RobotSpec:
        """The simulated robot; raises MaskACTError."""
        return RobotSpec.from_yaml(self.robot_file or shared("config/robot.yaml"))

    def notes(self, robot: RobotSpec) -> dict[str, str]:
        """A bag's metadata: how it was recorded."""
        digest = hashlib.sha256(json.dumps(robot.to_dict(), sort_keys=True).encode()).hexdigest()
        asked = {"maskact_shift": self.shift, "maskact_begin": self.begin, "maskact_images": self.images}
        return asked | {_ROBOT_NOTE: digest[:16]}

    def bag(self, seed: int) -> Path:
        """The folder of an episode's bag."""
        return self.out / f"episode_{seed:06d}"


@dataclass(frozen=True)
class Recorded:
    """The result of a seed's episode."""

    seed: int
    solved: bool
    seconds: float  # of simulated time
    bytes: int = 0  # on disk


@dataclass(frozen=True)
class DemoSummary:
    """The result of a request; the figures are of this run, without bags that existed before."""

    kept: int
    failed: tuple[int, ...]  # seeds
    already_there: int
    seconds: float  # of demonstration
    wall_s: float
    bytes: int

    @property
    def times_real_time(self) -> float:
        """Seconds of demonstration per second of real time."""
        return self.seconds / self.wall_s

    @property
    def text(self) -> str:
        """Two lines for the user."""
        seeds = f" (seeds {', '.join(map(str, self.failed))})" if self.failed else ""
        return (
            f"{self.kept} episodes recorded, {len(self.failed)} not solved and not kept{seeds}, "
            f"{self.already_there} were there\n{self.seconds:.0f} s of demonstration in {self.wall_s:.0f} s "
            f"({self.times_real_time:.1f} times real time), {self.bytes / 1e6:.0f} MB"
        )


def record_demos(request: DemoRequest, workers: Workers = HERE) -> DemoSummary:
    """Record the missing episodes; raises MaskACTError."""
    robot = request.robot
    with alone(_partial(request), f"{request.out}: another record-demos to it is running"):
        _check_partial(_partial(request))
        try:
            return _record_missing(request, robot, workers)
        finally:
            shutil.rmtree(_partial(request), ignore_errors=True)


def _record_missing(request: DemoRequest, robot: RobotSpec, workers: Workers) -> DemoSummary:
    notes = request.notes(robot)
    seeds = range(request.seed, request.seed + request.episodes)
    missing = [seed for seed in seeds if not _is_there(request.bag(seed), notes)]
    began_s = time.monotonic()
    done: list[Recorded] = []
    recording = in_parallel(
        partial(_record, request, robot),
        missing,
        workers=workers,
        name="the episode of seed {}".format,
        into=_partial(request),
    )
    with (
        Progress("episodes", request.episodes, done=request.episodes - len(missing)) as progress,
        closing(recording),  # so that no process outlives an interruption
    ):
        for recorded in recording:
            done.append(recorded)
            seconds = sum(each.seconds for each in done if each.solved)
            failed = sum(not each.solved for each in done)
            pace = seconds / (time.monotonic() - began_s)
            progress.advance(1, f"{pace:.1f} times real time, {failed} not solved")
    solved = [each for each in sorted(done, key=lambda each: each.seed) if each.solved]
    return DemoSummary(
        kept=len(solved),
        failed=tuple(sorted(each.seed for each in done if not each.solved)),
        already_there=request.episodes - len(missing),
        seconds=sum(each.seconds for each in solved),
        wall_s=time.monotonic() - began_s,
        bytes=sum(each.bytes for each in solved),
    )


def _is_there(bag: Path, wanted: Mapping[str, str]) -> bool:
    """Whether the bag exists and can be read; raises MaskACTError if it was recorded with other options."""
    notes = _notes_in(bag)
    if notes is None:
        check_folder(bag, _damaged(bag.name), overwrite=True)  # it is replaced
        return False
    for key, value in wanted.items():
        found = notes.get(key, _EARLIER.get(key))
        if key == _ROBOT_NOTE and found not in (None, value):  # older bags do not tell
            raise MaskACTError(f"{bag} was recorded with another --robot; give another --out")
        if key != _ROBOT_NOTE and found != value:
            option = key.removeprefix("maskact_")
            raise MaskACTError(f"{bag} was recorded with --{option} {found}, not {value}; give another --out")
    return True


def _notes_in(bag: Path) -> Mapping[str, Any] | None:
    """A bag's metadata about its recording; None if there is no bag, or a crash has damaged it."""
    refuse_link(bag)
    if not bag.exists():
        return None
    try:
        values = read_yaml(bag / "metadata.yaml")
    except DocumentError:
        return None
    if not all(file.stat().st_size for file in bag.iterdir()):
        return None
    about = values.get("rosbag2_bagfile_information") if isinstance(values, Mapping) else None
    notes = (about.get("custom_data") or {}) if isinstance(about, Mapping) else None
    return notes if isinstance(notes, Mapping) else None


def _record(request: DemoRequest, robot: RobotSpec, seed: int, tick: Tick) -> Recorded:
    return _recorder(request, robot).record(seed)


@lru_cache(maxsize=1)
def _recorder(request: DemoRequest, robot: RobotSpec) -> EpisodeRecorder:
    return EpisodeRecorder(request, robot)


class EpisodeRecorder:
    """Records episodes, one after the other, in this process."""

    def __init__(self, request: DemoRequest, robot: RobotSpec) -> None:
        cv2.setNumThreads(1)
        self._request = request
        self._robot = robot
        self._world = World(self._robot, shift=request.shift)
        self._expert = Expert(self._robot)
        self._renderer = Renderer(self._robot)
        self._messages = SimMessages(self._robot, request.images)

    def record(self, seed: int) -> Recorded:
        """Solve the episode of `seed`, and keep its bag if it was solved."""
        mishap = self._request.begin == "mishap"
        moments = list(
            demonstrate(self._world, self._expert, self._robot, seed=seed, mishap=mishap)
        )  # cheap beside pictures
        seconds = self._world.time_s
        if not self._world.episode.success:
            return Recorded(seed, solved=False, seconds=seconds)
        bag = self._request.bag(seed)
        # The file in a bag is named after its folder, so the folder around both has a temporary name. The name is
        # random, as another worker may record the same episode if this one was thought to be dead.
        around = _partial(self._request) / uuid.uuid4().hex
        notes = self._request.notes(self._robot) | {"maskact_seed": str(seed)}
        try:
            around.mkdir()
            unfinished = around / bag.name
            with BagWriter(unfinished, compress=True, notes=notes) as writer:
                self._messages.declare(writer)
                for moment in moments:
                    self._write(writer, moment)
            size = sum(file.stat().st_size for file in unfinished.iterdir())
            _keep(unfinished, bag)
        except OSError as error:
            raise FolderError(f"{bag}: cannot be written ({error.strerror})") from None
        finally:
            shutil.rmtree(around, ignore_errors=True)
        return Recorded(seed, solved=True, seconds=seconds, bytes=size)

    def _write(self, writer: BagWriter, moment: Moment) -> None:
        stamp_ns, messages = BEGIN_NS + moment.time_ns, self._messages
        if moment.joints is not None:
            messages.joint_state(writer, stamp_ns, moment.joints.positions, moment.joints.velocities)
        if moment.command is not None:
            messages.command(writer, stamp_ns, moment.command)
        if moment.snapshot is not None:
            messages.picture(writer, stamp_ns, self._renderer.rgb(moment.snapshot))
            messages.mask(writer, stamp_ns, self._renderer.labels(moment.snapshot))


def _damaged(name: str) -> Kind:
    """A bag of ours that a crash has damaged; its names are all that is left to tell it by."""
    files = rf"metadata\.yaml|{re.escape(name)}\.mcap"
    return Kind(name="a bag of record-demos", marker="metadata.yaml", read=lambda _: None, files=files)


def _keep(unfinished: Path, bag: Path) -> None:
    """Move a finished bag to its place, and a damaged one away; raises OSError."""
    reach_the_disk(unfinished)
    if bag.exists():
        bag.rename(unfinished.with_name(f"{bag.name}.damaged"))  # removed with its folder later
    unfinished.rename(bag)


def _check_partial(folder: Path) -> None:
    """Raise FolderError where there is more in the working folder, which goes in the end, than what a kill left."""
    if strange := [path for path in folder.iterdir() if not _LEFT.fullmatch(path.name)]:
        raise FolderError(f"{strange[0]}: is in the way, as {folder} is for unfinished bags; move it elsewhere")


def _partial(request: DemoRequest) -> Path:
    return request.out / ".partial"
