"""`Features`: what perception hands to planning of one image; between the nodes it is one message."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Features:
    """What the encoder saw in one image; labels and confidence are None when the policy has no masks."""

    stamp_ns: int  # capture time of the image
    weights_hash: str  # of the policy that computed them, and that alone may plan from them
    features: NDArray[np.float16]  # (N, D)
    patch_labels: NDArray[np.int8] | None  # (N,)
    patch_confidence: NDArray[np.float16] | None  # (N,)
    content_stamp_ns: int  # since when the camera has sent this very picture; its own stamp, if it sent another before
