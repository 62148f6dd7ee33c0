"""The subcommands of `maskact` that train and measure policies."""

from __future__ import annotations

import argparse
from pathlib import Path

from maskact_ros.core.parallel import add_workers, workers_of


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommands; their modules are loaded when they run."""
    demos = commands.add_parser(
        "record-demos",
        help="let the scripted expert solve the simulated task, one bag for each episode",
        description="The scripted expert solves the simulated task; small random pushes make it show recoveries, too. "
        "Each episode becomes a rosbag2 folder (mcap), OUT/episode_SEED. Episodes that were not solved are not kept. "
        "The same command again continues where it was stopped.",
    )
    demos.set_defaults(run=_record_demos)
    demos.add_argument("--episodes", type=int, required=True, metavar="N", help="how many to try, a seed each")
    demos.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the bags")
    demos.add_argument(
        "--seed", type=int, default=100_000, help="of the first episode; default: 100000, as evaluations begin at 0"
    )
    demos.add_argument(
        "--shift",
        default="none",
        help="change the scene: background, light, object, distractors, camera, joined with +; default: none",
    )
    demos.add_argument(
        "--begin",
        choices=("usual", "mishap"),
        default="usual",
        help="usual: from home, or with the open hand anywhere; mishap: with the hand closed on nothing, and the cube "
        "perhaps in an unusual place, so that a policy learns to try again; default: usual",
    )
    demos.add_argument(
        "--images",
        choices=("jpeg", "raw"),
        default="jpeg",
        help="jpeg (quality 95, 2 MB a second, on image_raw/compressed) or raw (27 MB a second, on image_raw); "
        "default: jpeg",
    )
    add_workers(demos, "episodes")
    demos.add_argument("--robot", type=Path, metavar="FILE", help="the simulated arm's description; default: our own")

    train = commands.add_parser(
        "train",
        help="train a policy on datasets",
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""Train one stage of a policy. First the masks, then all of it:

  maskact train --dataset D --stage stage1 --config policy.json --out RUN1
  maskact train --dataset D --stage stage2 --config policy.json --out RUN2 --init RUN1/checkpoint

RUN/checkpoint is the latest policy, for the nodes; RUN/best is the policy of the lowest held-out loss. RUN/curves.png,
RUN/log.jsonl and RUN/tensorboard have the losses. Ctrl-C saves and ends. After that, or after a crash,

  maskact train --resume --out RUN

continues the run exactly. On several GPUs: accelerate launch --multi_gpu -m maskact_ros.cli train ...""",
    )
    train.set_defaults(run=_train)
    train.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    train.add_argument("--resume", action="store_true", help="continue the run in RUN, with its own settings")
    train.add_argument("--dataset", type=Path, nargs="+", dest="datasets", metavar="D", help="datasets of one robot")
    train.add_argument("--stage", help="stage1: encoder and mask head; stage2: everything")
    train.add_argument("--config", type=Path, metavar="FILE", help="MaskACT JSON, such as config/demo_policy.json")
    train.add_argument(
        "--init", type=Path, metavar="CHECKPOINT", help="initial weights; of a stage 1 checkpoint, the perception's"
    )
    train.add_argument("--steps", type=int, metavar="N", help="default: 20000")
    train.add_argument("--batch-size", type=int, metavar="B", help="pictures a step, of all GPUs; default: 32")
    train.add_argument("--seed", type=int, metavar="S", help="of weights, order, held-out episodes …; default: 0")
    train.add_argument("--threads", type=int, metavar="T", help="of torch on the CPU; default: torch's choice")
    train.add_argument(
        "--augment",
        metavar="PRESET",
        help="none, colour, standard (colour and space), full (also class by class), or a YAML file with a preset and "
        "the values that differ from it; default: standard",
    )
    train.add_argument("--ema", type=float, metavar="DECAY", help="average the weights, such as 0.999; default: 0, off")
    train.add_argument("--val-episodes", type=float, metavar="F", help="share that is held out; default: 0.1")
    train.add_argument("--eval-every", type=int, metavar="N", help="steps until held-out loss and save; default: 500")
    train.add_argument("--warmup", type=int, metavar="N", help="steps until the full learning rates; default: 200")
    train.add_argument("--clip-norm", type=float, metavar="X", help="largest norm of the gradient; default: 10")
    train.add_argument("--device", help="auto, cpu or cuda; default: auto")
    train.add_argument(
        "--precision", help="fp32, bf16 (mixed), or auto: bf16 on CUDA where it can, else fp32; default: auto"
    )
    train.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile for the transformers' layers; takes a while first",
    )
    train.add_argument("--cache", type=Path, metavar="DIR", help="of decoded frames and features; default: .cache in D")
    train.add_argument(
        "--cache-features",
        metavar="WHEN",
        help="auto, always or never: compute a frozen backbone's features once and keep them on the disk, which needs "
        "pictures without augmentation; default: auto, if that is possible, saves time, and fits on the disk",
    )

    _add_report(commands)


def _record_demos(a: argparse.Namespace) -> None:
    from maskact_ros.core.outputs import output_path
    from maskact_ros.training.evaluation.record_demos import DemoRequest, record_demos

    done = record_demos(
        DemoRequest(
            out=output_path(a.out),
            episodes=a.episodes,
            seed=a.seed,
            shift=a.shift,
            begin=a.begin,
            images=a.images,
            robot_file=a.robot,
        ),
        workers_of(a),
    )
    print(done.text)


def _train(a: argparse.Namespace) -> int:
    from maskact_ros.core.outputs import output_path
    from maskact_ros.core.paths import resolve_path
    from maskact_ros.training.errors import TrainingError
    from maskact_ros.training.run.augment import augmentation_from
    from maskact_ros.training.run.settings import TrainSettings
    from maskact_ros.training.run.train import resumed, train

    values = {name: value for name, value in vars(a).items() if name not in ("run", "command", "resume", "out")}
    out = output_path(a.out)
    if "resume" in a:
        if values:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(values))
            raise TrainingError(f"--resume goes on with the settings of {out}: leave out {names}")
        return train(resumed(out), resume=True)
    if missing := [name for name in ("datasets", "stage", "config") if name not in values]:
        names = ", ".join(f"--{name.removesuffix('s')}" for name in missing)
        raise TrainingError(f"{names} missing; a run needs --dataset, --stage, --config and --out")
    values["datasets"] = tuple(resolve_path(folder) for folder in values["datasets"])
    for name in {"config", "init"} & values.keys():
        values[name] = resolve_path(values[name])
    if "cache" in values:
        values["cache"] = output_path(values["cache"])
    if "augment" in values:
        values["augment"] = augmentation_from(values["augment"])
    return train(TrainSettings(out=out, **values))


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser(
        "report",
        help="compare policies in the simulated task, in the scene of training and under each shift",
        description="Evaluate each policy in the scene of training and under each shift, and the first one with "
        "temporal ensembling, too, over the same seeds; print the tables. Each evaluation is kept in OUT, so that the "
        "same command continues where it was stopped, and repeats evaluations of a changed checkpoint.",
    )
    report.set_defaults(run=_report)
    report.add_argument(
        "--checkpoints", nargs="+", required=True, metavar="NAME=DIR", help="such as maskact=A action_only=B"
    )
    report.add_argument("--episodes", type=int, default=100, help="for each policy and scene; default: 100")
    report.add_argument("--seed", type=int, default=0, metavar="FIRST", help="seed of the first; default: 0")
    report.add_argument(
        "--out", type=Path, default=Path("docs/results"), metavar="DIR", help="of evaluations; default: docs/results"
    )
    report.add_argument(
        "--document", type=Path, metavar="FILE", help="Markdown to put the tables into, such as docs/results.md"
    )
    report.add_argument(
        "--backend",
        nargs="+",
        default=["torch"],
        metavar="B",
        help="torch, onnxruntime or both, to run the policies with. The first, in the first precision, is measured in "
        "every scene, the others in the scene of training; default: torch",
    )
    report.add_argument(
        "--precision", nargs="+", default=["fp32"], metavar="P", help="fp32, bf16, fp16, int8; default: fp32"
    )
    add_workers(report, "episodes")


def _report(a: argparse.Namespace) -> int:
    from maskact_ros.core.outputs import output_path
    from maskact_ros.training.evaluation.report import engines, named, report
    from maskact_ros.training.evaluation.success_rate import check_counts

    check_counts(episodes=a.episodes, seed=a.seed)
    text, complete = report(
        named(a.checkpoints),
        output_path(a.out),
        episodes=a.episodes,
        seed=a.seed,
        workers=workers_of(a),
        document=output_path(a.document) if a.document else None,
        run_by=engines(a.backend, a.precision),
    )
    print(text, end="")
    return 0 if complete else 130
