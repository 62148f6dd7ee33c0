# maskact_ros on ROS 2 Kilted, as a colcon workspace in /opt/ws.
#
# Nobody has built this file yet. The machine that it was written on builds no images, so it was checked by reading.
# Please report what fails.
#
#   docker build -t maskact_ros .
#   docker run --rm -it --network host --ipc host --user "$(id -u):$(id -g)" -v "$PWD:/data" maskact_ros \
#       maskact bringup --sim
#
# With `--network host` and `--ipc host`, DDS reaches nodes outside of the container. Shared memory also wants the same
# user on both sides. `--ulimit rtprio=99` permits real-time scheduling, and `--gpus all` gives the GPU.
FROM ros:kilted-ros-base

# What package.xml lists, from apt. rosdep would install the four skipped keys with pip; the venv below holds them.
# OSMesa draws the simulation without a display.
COPY package.xml /opt/ws/src/maskact_ros/package.xml
RUN export DEBIAN_FRONTEND=noninteractive \
    && echo 'APT::Install-Recommends "false";' > /etc/apt/apt.conf.d/90-no-recommends \
    && apt-get update \
    && apt-get install --yes --no-install-recommends libosmesa6 python3-venv \
    && rosdep install --from-paths /opt/ws/src --ignore-src --default-yes --dependency-types exec --skip-keys \
        "python3-mujoco-pip python3-pytorch-pip python3-rosbags-pip python3-transformers-pip" \
    && rm -rf /var/lib/apt/lists/*

# The rest, from setup.py. Only what pip reads is copied, so that a change of the code does not download torch again.
# The package itself is removed at the end: colcon installs it below.
# NumPy stays apt's, as apt's OpenCV and cv_bridge need NumPy 1. The extra `onnx` is left out: ml_dtypes needs NumPy 2.
# torch comes with CUDA. For another build: --build-arg PIP_EXTRA_INDEX_URL=<index from PyTorch's installation page>
ARG PIP_EXTRA_INDEX_URL=""
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /opt/ws/src/maskact_ros
COPY setup.py setup.cfg pyproject.toml ./
COPY requirements/python.txt requirements/
COPY resource resource
COPY scripts/maskact scripts/
COPY maskact_ros/__init__.py maskact_ros/
RUN python3 -m venv --system-site-packages /opt/venv \
    && pip install --no-cache-dir -c requirements/python.txt setuptools \
    && pip install --no-cache-dir -c requirements/python.txt --no-build-isolation '.[sim,train]' 'numpy<2' \
    && pip uninstall --yes maskact_ros \
    && rm -rf build ./*.egg-info

# colcon writes the Python that runs it into the executables: the venv's.
COPY . .
WORKDIR /opt/ws
RUN python /usr/bin/colcon build && rm -rf build log

# HOME holds ROS's logs. It is fixed, as `--user` may name a user that the image does not know.
COPY scripts/container_entrypoint.sh /entrypoint.sh
RUN useradd --create-home --home-dir /data maskact
USER maskact
ENV HOME=/data
WORKDIR /data

# At SIGINT, `ros2 launch` and `maskact bringup` wait until the arm rests.
STOPSIGNAL SIGINT
ENTRYPOINT ["/entrypoint.sh"]
CMD ["maskact", "--help"]
