"""The simulated robot: scene, physics, camera, shifts and a scripted expert; no ROS in here.

Importing it picks an off-screen renderer for MuJoCo where there is no display and the user has not chosen one.
"""

import os
from contextlib import suppress
from ctypes.util import find_library
from importlib import import_module

from maskact_ros.core.errors import MaskACTError

if "MUJOCO_GL" not in os.environ and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    # MuJoCo reads it when it is imported, and fails then and there if the library is missing.
    found = [name for name, library in (("osmesa", "OSMesa"), ("egl", "EGL")) if find_library(library)]
    os.environ["MUJOCO_GL"] = found[0] if found else "disable"

with suppress(ImportError):
    # OSMesa brings a zstd of another version. Loaded first, it would also compress the bags of this process: the same
    # messages, in other bytes.
    import_module("backports.zstd")


class SimError(MaskACTError):
    """A simulation that cannot be had as asked: the text names what was asked and what is possible."""
