"""Parameters of camera_encoder and inference for running the policy: backend, precision, device and threads.

In: a node that has declared them. Out: the `Engine` to load the policy with. `threads_here` sets the default threads.
"""

from __future__ import annotations

import os

from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.params import NodeParameter
from maskact_ros.policy.engine import BACKENDS, MOST_THREADS, PRECISIONS, Engine

ENGINE_PARAMETERS = (
    NodeParameter(
        "backend",
        "auto",
        "Library that computes. auto takes the fastest that is available here. onnxruntime needs `maskact export`.",
        choices=BACKENDS,
    ),
    NodeParameter(
        "precision",
        "fp32",
        "Number format of weights and activations: bf16 with torch, fp16 on a GPU, int8 with onnxruntime.",
        choices=PRECISIONS,
    ),
    NodeParameter("device", "auto", "Device that computes: auto, cpu, cuda, or cuda:N for the GPU with number N."),
    NodeParameter(
        "num_threads",
        0,
        "Threads that compute on the CPU. 0 takes one for each core that the process may use.",
        0,
        MOST_THREADS,
    ),
)


def engine_of(node: ManagedNode) -> Engine:
    """The engine by the node's parameters; raises PolicyError for a value or a combination that does not exist."""
    backend, precision, device = (node.get(name) for name in ("backend", "precision", "device"))
    return Engine(
        backend=backend, precision=precision, device=device, threads=node.get("num_threads") or threads_here()
    )


def threads_here() -> int:
    """The number of cores that this process may use.

    Encoder and planner mostly take turns, as a plan begins with the features of an image. So each can use all cores.
    Where they overlap, each is a tenth slower than by the sharing itself. That needs waiting threads that sleep (see
    `let_waiting_threads_sleep`): with spinning threads both take several times as long.
    """
    return len(os.sched_getaffinity(0))


def let_waiting_threads_sleep() -> None:
    """Let OpenMP's threads sleep while they wait for work, unless the user's environment says otherwise.

    Call it before torch or onnxruntime is loaded: the library reads this setting once.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
