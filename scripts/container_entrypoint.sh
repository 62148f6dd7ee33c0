#!/bin/bash
# Entry point of the image: source ROS and the workspace, then become the command, so that signals reach it.
# `docker exec` does not pass an entry point: docker exec NAME /entrypoint.sh maskact enable
set -e
source "/opt/ros/$ROS_DISTRO/setup.bash" --  # without it, setup.bash would read our arguments
source /opt/ws/install/local_setup.sh
exec "$@"
