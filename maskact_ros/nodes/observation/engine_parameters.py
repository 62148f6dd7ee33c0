"""What runs the policy, as parameters of camera_encoder and inference: backend, precision, device and threads.

In: a node that has declared them. Out: the `Engine` that it loads with. The rule for the threads is `threads_here`.
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
    """What the node's parameters ask for; raises PolicyError for a value or a combination that does not exist."""
    backend, precision, device = (node.get(name) for name in ("backend", "precision", "device"))
    return Engine(
        backend=backend, precision=precision, device=device, threads=node.get("num_threads") or threads_here()
    )


def threads_here() -> int:
    """The cores that this process may use.

    Encoder and planner mostly take turns, since a plan begins with the features of an image: then each has the machine
    to itself. Where they overlap, each slows down by a tenth more than by the sharing itself, provided that threads
    that wait for each other sleep; threads that spin would take several times as long. `let_waiting_threads_sleep`.
    """
    return len(os.sched_getaffinity(0))


def let_waiting_threads_sleep() -> None:
    """Have OpenMP's threads sleep while they wait for work, unless the user's environment says otherwise.

    Called before the library that computes is loaded, which reads this once.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
