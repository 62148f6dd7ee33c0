"""The entrances that a fuzzer tries: a small sound input of each, how it is damaged, and what reads it."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import yaml

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import read_bytes, shared
from maskact_ros.core.robot import RobotSpec
from support import foreign, fuzz_bags
from support.mutations import EXTREMES, WORDS, damaged_bytes, damaged_folder, damaged_tree, odd_value, replaced_file

TINY = Path(__file__).parent / "tiny"


@dataclass(frozen=True)
class Entrance:
    """`write` makes a sound input in a folder, `damage` changes it, `enter` reads it and may write into a second."""

    write: Callable[[Path], object]
    damage: Callable[[Path, Random], None]
    enter: Callable[[Path, Path], object]


def tried(*readers: Callable[[], object]) -> None:
    """Each of several readers, whatever the others say; the last refusal, if any, is passed on."""
    refused = None
    for read in readers:
        try:
            read()
        except MaskACTError as error:
            refused = error
    if refused is not None:
        raise refused


def damaged_document(path: Path, rng: Random) -> None:
    """A JSON or YAML file, as the name says."""
    if rng.random() < 0.1:
        replaced_file(path, rng)
        return
    if rng.random() < 0.3:
        path.write_bytes(damaged_bytes(path.read_bytes(), rng))
        return
    is_json = path.suffix == ".json"
    values = json.loads(path.read_text()) if is_json else yaml.safe_load(path.read_text())
    values = damaged_tree(values, rng)
    if is_json:
        path.write_text(json.dumps(values))
    elif rng.random() < 0.5:
        path.write_text(_hostile_yaml(values, rng))
    else:
        path.write_text(json.dumps(values, ensure_ascii=True))  # which is YAML, too


def _hostile_yaml(values: Any, rng: Random) -> str:
    """With merges of merges, tags, or numbers in other bases before what was there."""
    keys = [f"k{i}" for i in range(rng.choice((3, 15, 60)))]
    times = rng.choice((1, 2, 9, 40))
    what = rng.randrange(4)
    if what == 0:
        lines = [f"{keys[0]}: &{keys[0]} {{a: 1, b: 2}}"]
        lines += [f"{k}: &{k} {{<<: [{', '.join(['*' + b] * times)}]}}" for b, k in itertools.pairwise(keys)]
    elif what == 1:
        lines = [f"{keys[0]}: &{keys[0]} [1, 2]"]
        lines += [f"{k}: &{k} [{', '.join(['*' + b] * times)}]" for b, k in itertools.pairwise(keys)]
    elif what == 2:
        tags = ("!!int", "!!float", "!!binary", "!!timestamp", "!!set", "!!omap", "!!python/object:os.system")
        tag = rng.choice(tags)
        lines = [f"x: {tag} {rng.choice(('', '1:1:1', '0x_', 'x' * 1000, '[a, b]'))}"]
    else:
        lines = ["x: " + rng.choice(("1:", "0b1", "9", "- ", "[", "{", "? ", "&a ")) * rng.choice((10, 1000, 100_000))]
    rest = values.items() if isinstance(values, dict) else [("values", values)]
    return "\n".join([*lines, *(f"{json.dumps(str(key))}: {json.dumps(value)}" for key, value in rest)])


# --- masks and pictures


def _write_pngs(folder: Path) -> None:
    content = cv2.imencode(".png", foreign.mask(3))[1].tobytes()
    (folder / "mask.png").write_bytes(content)


def _damage_png(folder: Path, rng: Random) -> None:
    path = folder / "mask.png"
    content = path.read_bytes()
    if rng.random() < 0.5:
        path.write_bytes(damaged_bytes(content, rng))
        return
    # A header of any size, type and depth whose checksum is right, before data that may be of one size or another.
    sides = [rng.choice((1, 48, 64, 8000, 60_000, 2**31 - 1, rng.randrange(1, 5000))) for _ in range(2)]
    kind = bytes([rng.choice((1, 8, 8, 8, 16)), rng.choice((0, 0, 2, 3, 4, 6)), 0, 0, rng.choice((0, 1))])
    header = b"IHDR" + struct.pack(">II", *sides) + kind
    pixels = zlib.compress(bytes(rng.choice((100, 10_000, 4_000_000))))
    parts = [header, b"IDAT" + pixels]
    if rng.random() < 0.3:
        parts.insert(1, rng.choice((b"zTXt", b"iCCP", b"iTXt")) + b"x\0\0" + zlib.compress(bytes(30_000_000)))
    chunks = [struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in (*parts, b"IEND")]
    path.write_bytes(content[:8] + b"".join(chunks))


def _enter_png(folder: Path, _: Path) -> None:
    from maskact_ros.core.images import rgb_from_file
    from maskact_ros.data.datasets.pictures import labels_of, picture_of

    path = folder / "mask.png"
    content = read_bytes(path)
    tried(lambda: labels_of(content, "mask"), lambda: picture_of(content, "picture"), lambda: rgb_from_file(path))


# --- documents


def _write_yaml(folder: Path) -> None:
    for name in ("robot.yaml", "contract.yaml", "maskact.yaml"):
        (folder / name).write_bytes(shared(f"config/{name}").read_bytes())
    (folder / "augmentation.yaml").write_text("preset: standard\nnoise: 0.1\n")


def _damage_any(folder: Path, rng: Random) -> None:
    damaged_document(rng.choice(sorted(folder.iterdir())), rng)


def _enter_yaml(folder: Path, _: Path) -> None:
    from maskact_ros.data.bags.contract import Contract
    from maskact_ros.training.run.augment import augmentation_from

    tried(
        lambda: Contract.from_yaml(folder / "contract.yaml"),
        lambda: RobotSpec.from_yaml(folder / "robot.yaml"),
        lambda: augmentation_from(str(folder / "augmentation.yaml")),
    )


def _write_json(folder: Path) -> None:
    from maskact_ros.core.checkpoint import CheckpointInfo
    from maskact_ros.training.run.augment import PRESETS
    from maskact_ros.training.run.settings import TrainSettings

    info = CheckpointInfo.read(TINY / "checkpoint")
    policy = json.loads((TINY / "checkpoint" / "config.json").read_text())
    settings = TrainSettings(
        datasets=(Path("/data"),), config=Path("/policy.json"), out=Path("/out"), augment=PRESETS["full"], steps=9
    ).to_dict()
    run = {"settings": settings, "policy": policy, "backbone": dict(info.backbone), "fingerprints": ["a"]}
    (folder / "run.json").write_text(json.dumps(run | {"statistics": info.statistics.to_dict()}))
    (folder / "policy.json").write_bytes((TINY / "policy.json").read_bytes())
    evaluation = {"checkpoint": "a", "weights_hash": "b", "backend": "torch", "precision": "fp32", "through_ros": False}
    evaluation |= {
        "shift": "none",
        "temporal_ensemble_coeff": None,
        "n_action_steps": 8,
        "latency_s": 0.1,
        "time_limit_s": 20.0,
    }
    evaluation |= {"episodes": 3, "successes": 2, "success_rate": 0.6667, "ci95": [0.2, 0.9], "median_seconds": 5.5}
    evaluation |= {"mask_iou": {"robot": 0.9, "mean": 0.9}, "seeds": [0, 1, 2], "solved": [0, 2]}
    (folder / "evaluation.json").write_text(json.dumps(evaluation))


def _enter_json(folder: Path, out: Path) -> None:
    from maskact_ros.policy.commands import read_policy
    from maskact_ros.training.evaluation.report import read_evaluation
    from maskact_ros.training.evaluation.report_tables import draw, markdown
    from maskact_ros.training.run.run_folder import RunFolder

    def evaluation() -> None:
        found = [read_evaluation(folder / "evaluation.json")]
        markdown(found)
        draw(found, out / "success.png")

    run = RunFolder(folder)
    tried(run.settings, lambda: run.spec(["a"]), lambda: read_policy(folder / "policy.json"), evaluation)


# --- URDF


def _write_urdf(folder: Path) -> None:
    (folder / "arm.urdf").write_bytes(shared("config/sim_arm.urdf").read_bytes())


def _damage_urdf(folder: Path, rng: Random) -> None:
    path = folder / "arm.urdf"
    text = path.read_text()
    what = rng.randrange(5)
    if what == 0:
        path.write_bytes(damaged_bytes(path.read_bytes(), rng))
        return
    if what == 1:
        times = rng.choice((10, 1000, 300_000))
        text = text.replace("</robot>", "<a>" * times + "</a>" * (times - rng.randrange(2)) + "</robot>")
    elif what == 2:
        entities = "".join(f"<!ENTITY e{i} '{f'&e{i - 1};' * 10 if i else 'x' * 100}'>" for i in range(9))
        text = f"<!DOCTYPE robot [{entities}]>" + text.replace('velocity="', 'velocity="&e8;', 1)
    else:
        parts = text.split('"')
        for _ in range(rng.choice((1, 3))):
            parts[2 * rng.randrange(len(parts) // 2) + 1] = str(odd_value(rng)).replace('"', "'").replace("<", "&lt;")
        text = '"'.join(parts)
    path.write_text(text, errors="replace")


def _enter_urdf(folder: Path, _: Path) -> None:
    from maskact_ros.core.urdf_limits import limits_from_urdf

    text = read_bytes(folder / "arm.urdf").decode("utf-8", errors="surrogateescape")
    limits_from_urdf(text, RobotSpec.from_yaml(shared("config/robot.yaml")))


# --- datasets


class FoundError(MaskACTError):
    """`maskact validate` had something to say."""


def _write_dataset(folder: Path) -> None:
    from support import written

    written.write(folder / "video")
    written.write(folder / "png", pictures="png")


def _damage_dataset(folder: Path, rng: Random) -> None:
    left_out, damaged = rng.sample(sorted(folder.iterdir()), 2)
    shutil.rmtree(left_out)
    damaged_folder(damaged, rng, by_kind=_damage_file)


def _damage_file(path: Path, rng: Random) -> bool:
    if path.suffix in (".json", ".yaml"):
        damaged_document(path, rng)
    elif path.suffix == ".parquet":
        _damage_table(path, rng)
    else:
        return False
    return True


def _damage_table(path: Path, rng: Random) -> None:
    """A sound parquet file of a table with a column that is not what it should be."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    name = rng.choice(table.schema.names)
    at, column = table.schema.get_field_index(name), table.column(name)
    what = rng.randrange(7)
    rows = table.num_rows
    if what == 0:
        changed = table.drop_columns([name])
    elif what == 1:
        changed = table.rename_columns([str(rng.choice(WORDS))[:2000] if n == name else n for n in table.schema.names])
    elif what == 2:
        odd = [rng.choice((None, math.nan, 1e300, -1.0)) for _ in range(rows)]
        changed = table.set_column(at, name, pa.array(odd, pa.float64()))
    elif what == 3:
        changed = table.set_column(at, name, pa.array([rng.choice((0, 2**62, -5)) for _ in range(rows)], pa.int64()))
    elif what == 4:
        changed = table.set_column(at, name, pa.array(["x$" * 50] * rows))
    elif what == 5:
        lists = pa.array([[1.0] * rng.choice((0, 2, 2, 3)) for _ in range(rows)], pa.list_(pa.float32()))
        changed = table.set_column(at, name, lists)
    else:
        # Many more rows than the file has bytes, as they are all the same.
        repeated = pa.chunked_array([pa.repeat(column[0], rng.choice((5000, 3_000_000)))]) if rows else column
        changed = pa.table({name: repeated})
    pq.write_table(changed, path)


def _enter_dataset(folder: Path, out: Path) -> None:
    from maskact_ros.data.datasets.dataset import Dataset
    from maskact_ros.data.importers import import_lerobot
    from maskact_ros.data.importers.source import ImportOptions
    from maskact_ros.data.inspection.inspection import inspect
    from maskact_ros.data.inspection.validate import run

    robot = RobotSpec.from_dict(foreign.ROBOT)

    def imported(dataset: Path) -> None:
        source = import_lerobot.read(dataset, robot, ImportOptions(mask_classes=foreign.CLASSES))
        for number in range(len(source.episodes)):
            for _ in source.rows(number):
                pass

    def frames(dataset: Path) -> None:
        opened = Dataset.open(dataset)
        _ = opened.statistics
        for episode in opened.episodes:
            for _ in opened.frames(episode.index):
                pass

    def validated(dataset: Path) -> None:
        if run(dataset):
            raise FoundError("with findings")

    for dataset in sorted(folder.iterdir()):
        tried(
            lambda dataset=dataset: validated(dataset),
            lambda dataset=dataset: frames(dataset),
            lambda dataset=dataset: imported(dataset),
            lambda dataset=dataset: inspect(dataset, out / "page.html", episodes=1),
        )


# --- HDF5


def _write_hdf5(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "demos.hdf5", "w") as file:
        for name, rows in (("demo_2", range(5)), ("demo_10", range(5, 12))):
            demo = file.create_group(f"data/{name}")
            demo.create_dataset("images", data=np.stack([foreign.picture(row) for row in rows]), compression="gzip")
            demo["masks"] = np.stack([foreign.mask(row) for row in rows])
            demo["joints"] = foreign.rows()["observation.state"][rows.start : rows.stop]


def _damage_hdf5(folder: Path, rng: Random) -> None:
    path = folder / "demos.hdf5"
    if rng.random() < 0.4:
        path.write_bytes(damaged_bytes(path.read_bytes(), rng))
        return
    import h5py

    with h5py.File(path, "a") as file:
        name = rng.choice(("data", "data/demo_2", *(f"data/demo_2/{n}" for n in ("images", "masks", "joints"))))
        del file[name]
        rows, many = 5, rng.choice((5, 10**6, 10**12))
        makers: list[Callable[[], object]] = [
            lambda: file.__setitem__(name, h5py.SoftLink("/nowhere")),
            lambda: file.__setitem__(name, h5py.SoftLink(f"/{name}")),
            lambda: file.__setitem__(name, h5py.SoftLink("/data")),
            lambda: file.__setitem__(name, h5py.ExternalLink("/etc/passwd", "/x")),
            lambda: file.create_group(name),
            lambda: file.__setitem__(name, "a text"),
            lambda: file.__setitem__(name, h5py.Empty("f4")),
            lambda: file.__setitem__(name, np.full((rows, 2), np.nan)),
            lambda: file.create_dataset(name, (rows, 2), np.dtype([("a", "i4"), ("b", "f8")])),
            lambda: file.create_dataset(name, (rows, 2), h5py.string_dtype()),
            lambda: file.create_dataset(name, (rows, 2), h5py.vlen_dtype(np.float32)),
            lambda: file.create_dataset(name, (rows, 2), np.complex128),
            lambda: file.create_dataset(name, (many, 2), "f8", chunks=(5, 2)),
            lambda: file.create_dataset(name, (many, 48, 64, 3), "u1", chunks=(1, 48, 64, 3), compression="gzip"),
            lambda: file.create_dataset(name, (rows, 60_000, 60_000, 3), "u1", chunks=(1, 64, 64, 3)),
            lambda: file.create_dataset(name, (rows, 48, 64), "u1", chunks=(5, 48, 64), fletcher32=True),
            lambda: file.create_dataset(name, (0, 48, 64, 3), "u1"),
        ]
        rng.choice(makers)()


def _enter_hdf5(folder: Path, _: Path) -> None:
    from maskact_ros.data.importers import import_hdf5
    from maskact_ros.data.importers.source import ImportOptions

    options = ImportOptions(mask_classes=foreign.CLASSES)
    source = import_hdf5.read(folder / "demos.hdf5", RobotSpec.from_dict(foreign.ROBOT), options)
    for number in range(len(source.episodes)):
        for _, _ in zip(range(30), source.rows(number), strict=False):
            pass


# --- checkpoints


def _write_checkpoint(folder: Path) -> None:
    for path in (TINY / "checkpoint").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())


def _damage_checkpoint(folder: Path, rng: Random) -> None:
    path = folder / rng.choice(("config.json", "backbone.json", "stats.json", "model.safetensors", "manifest.json"))
    if path.name == "model.safetensors" and rng.random() < 0.6:
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.dumps(damaged_tree(json.loads(content[8 : 8 + length]), rng)).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    elif path.name == "backbone.json" and rng.random() < 0.5:
        sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_register_tokens")
        values = json.loads(path.read_text())
        values[rng.choice(sizes)] = rng.choice((*EXTREMES, 1_000_000, 8192, "8", 4.0))
        path.write_text(json.dumps(values))
    elif path.name == "model.safetensors":
        path.write_bytes(damaged_bytes(path.read_bytes(), rng))
    else:
        damaged_document(path, rng)
    manifest = folder / "manifest.json"
    if path != manifest and path.is_file() and path.stat().st_size < 2**30 and not path.is_symlink():
        values = json.loads(manifest.read_text())  # whoever changes a file can sign it, too
        content = path.read_bytes()
        values["files"][path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest.write_text(json.dumps(values))


def _enter_checkpoint(folder: Path, _: Path) -> None:
    from maskact_ros.core.checkpoint import CheckpointInfo
    from maskact_ros.policy.model.weights import load_checkpoint

    load_checkpoint(CheckpointInfo.read(folder))


ENTRANCES: dict[str, Callable[[], Entrance]] = {
    "mask PNG": lambda: Entrance(_write_pngs, _damage_png, _enter_png),
    "dataset": lambda: Entrance(_write_dataset, _damage_dataset, _enter_dataset),
    "HDF5": lambda: Entrance(_write_hdf5, _damage_hdf5, _enter_hdf5),
    "checkpoint": lambda: Entrance(_write_checkpoint, _damage_checkpoint, _enter_checkpoint),
    "YAML": lambda: Entrance(_write_yaml, _damage_any, _enter_yaml),
    "JSON": lambda: Entrance(_write_json, _damage_any, _enter_json),
    "URDF": lambda: Entrance(_write_urdf, _damage_urdf, _enter_urdf),
    "mcap": lambda: Entrance(fuzz_bags.writer("mcap"), fuzz_bags.damage, fuzz_bags.enter),
    "db3": lambda: Entrance(fuzz_bags.writer("sqlite3"), fuzz_bags.damage, fuzz_bags.enter),
}
