"""The simulated camera: renders a snapshot of the world as an RGB picture, and as the true class of each pixel.

A renderer has its own model and its own graphics context, which belongs to one thread: create, use and close it in the
same thread. The world may step in another one.
"""

from __future__ import annotations

import os
import weakref
from types import TracebackType
from typing import Any

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.robot import RobotSpec
from maskact_ros.sim import SimError
from maskact_ros.sim.look import Look
from maskact_ros.sim.scene import CAMERA_FOVY_DEG, CLASS_NAMES, CLASS_ROOTS, build
from maskact_ros.sim.world import Snapshot

LENS_BLUR_PX = 0.6  # standard deviation; it also replaces anti-aliasing, which takes a hundred times as long
SENSOR_NOISE = 2.5  # standard deviation, in units of 1/255
_BANK_MARGIN = 64  # pixels by which the prepared noise is larger than the picture


class Renderer:
    """Renders snapshots as the robot's camera sees them.

    Raises:
        SimError: this machine cannot render off screen.
    """

    def __init__(self, robot: RobotSpec, *, noise: bool = True) -> None:
        camera = robot.only_camera
        height, width = camera.height, camera.width
        self._pristine, self._model = build(robot), build(robot)
        self._data = mujoco.MjData(self._model)
        self._look: Look | None = None
        self._class_of_geom = _class_of_geom(self._model)
        self._noise: NDArray[np.int8] | None = None
        if noise:
            rng = np.random.default_rng(0)  # one bank for all pictures; each picture's seed selects a part of it
            bank = rng.normal(0.0, SENSOR_NOISE, (height + _BANK_MARGIN, width + _BANK_MARGIN, 3))
            self._noise = np.rint(bank).astype(np.int8)
        self._view = mujoco.MjvCamera()
        self._view.type, self._view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, self._model.camera(camera.name).id
        self._scene = mujoco.MjvScene(self._model, maxgeom=200)
        self._area = mujoco.MjrRect(0, 0, width, height)
        self._gl, self._context = _graphics(self._model, width, height)
        # Freed at exit at the latest: later Python has already unloaded the graphics library.
        self._release = weakref.finalize(self, _free, self._gl, self._context)

    def rgb(self, snapshot: Snapshot) -> NDArray[np.uint8]:
        """The picture (H, W, 3); with noise, the same snapshot always gets the same noise."""
        self._arrange(snapshot)
        picture = self._draw()
        if self._noise is None:
            return picture
        height, width = picture.shape[:2]
        top, left = np.random.default_rng([snapshot.seed, snapshot.steps]).integers(0, _BANK_MARGIN, 2)
        noise = self._noise[top : top + height, left : left + width]
        cv2.GaussianBlur(picture, (3, 3), LENS_BLUR_PX, dst=picture)
        return cv2.add(picture, noise, dtype=cv2.CV_8U).astype(np.uint8, copy=False)

    def labels(self, snapshot: Snapshot) -> NDArray[np.uint8]:
        """The class id of each pixel (H, W): its index in `scene.CLASS_NAMES`."""
        self._arrange(snapshot)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            geom.segid = int(self._class_of_geom[geom.objid]) - 1  # MuJoCo paints it in the colour segid + 1
        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
        picture = self._draw()
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 0
        return np.ascontiguousarray(picture[:, :, 0])

    def close(self) -> None:
        """Release the graphics context; in the thread that made it."""
        self._release()

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _arrange(self, snapshot: Snapshot) -> None:
        if snapshot.look != self._look:
            snapshot.look.paint(self._model, self._pristine)
            self._look = snapshot.look
        self._data.qpos[:] = snapshot.positions
        self._data.mocap_pos[0] = snapshot.bin_position
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        mujoco.mjv_updateScene(
            self._model, self._data, mujoco.MjvOption(), None, self._view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )

    def _draw(self) -> NDArray[np.uint8]:
        """The present scene, rendered (H, W, 3)."""
        pixels = np.empty((self._area.height, self._area.width, 3), np.uint8)
        self._gl.make_current()
        mujoco.mjr_render(self._area, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, None, self._area, self._context)
        return cv2.flip(pixels, 0).astype(np.uint8, copy=False)  # OpenGL's rows begin at the bottom


def intrinsics(robot: RobotSpec) -> NDArray[np.float64]:
    """The camera's matrix (3, 3), as `camera_info` carries it: square pixels, principal point in the middle."""
    camera = robot.only_camera
    focal = camera.height / 2 / np.tan(np.radians(CAMERA_FOVY_DEG) / 2)
    return np.array([[focal, 0, camera.width / 2], [0, focal, camera.height / 2], [0, 0, 1]])


def _graphics(model: mujoco.MjModel, width: int, height: int) -> tuple[Any, Any]:
    """A graphics context of this thread, and MuJoCo's resources in it; raises SimError."""
    backend = os.environ.get("MUJOCO_GL", "")
    remedy = f"the simulated camera cannot draw with MUJOCO_GL={backend}; allowed: osmesa (apt install libosmesa6), egl"
    if backend == "disable":
        raise SimError(remedy)
    try:
        gl = mujoco.GLContext(width, height)
        gl.make_current()
        context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
    except (ImportError, RuntimeError, mujoco.FatalError) as error:
        raise SimError(f"{remedy}, or glfw where there is a display ({' '.join(str(error).split())})") from None
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
    return gl, context


def _free(gl: Any, context: Any) -> None:
    gl.make_current()  # else resources of another renderer of this thread, with the same ids, would be deleted
    context.free()
    gl.free()


def _class_of_geom(model: mujoco.MjModel) -> NDArray[np.uint8]:
    """The class id of each geom (G,), by the body tree that it belongs to."""
    roots = {model.body(body).id: CLASS_NAMES.index(name) for name, body in CLASS_ROOTS.items()}
    return np.array([roots.get(int(model.body_rootid[body]), 0) for body in model.geom_bodyid], np.uint8)
