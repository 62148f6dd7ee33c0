"""The simulated robot: scene, physics, camera, shifts and a scripted expert; without ROS.

Importing it chooses an off-screen renderer for MuJoCo, if there is no display and the user has not chosen one.
"""

import os
from contextlib import suppress
from ctypes.util import find_library
from importlib import import_module

from maskact_ros.core.errors import MaskACTError

if "MUJOCO_GL" not in os.environ and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    # MuJoCo reads it on import, and the import fails if the library is missing.
    found = [name for name, library in (("osmesa", "OSMesa"), ("egl", "EGL")) if find_library(library)]
    os.environ["MUJOCO_GL"] = found[0] if found else "disable"

with suppress(ImportError):
    # OSMesa loads another version of zstd. If it came first, it would also compress this process's bags: the same
    # messages, but other bytes.
    import_module("backports.zstd")


class SimError(MaskACTError):
    """A simulation that is not possible as requested: the text names the request and what is allowed."""
