"""Keeps the traffic of each demonstration or test on this machine, in a ROS domain of its own."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.outputs import OutputError, open_own

_DOMAINS = range(40, 100)  # their ports are below the range of Linux's ephemeral ports


class IsolatedDomain:
    """A free ROS domain, held until `close` or the end of the process; discovery is limited to this machine.

    Raises:
        MaskACTError: all domains for this purpose are in use.
    """

    def __init__(self) -> None:
        self._lock: IO[bytes] | None = None
        for domain in _DOMAINS:
            # The temporary folder is everybody's: a link, or another user's file, is a domain that is not free.
            try:
                own = open_own(Path(tempfile.gettempdir()) / f"maskact_ros_domain_{domain}_{os.getuid()}.lock")
            except OutputError:
                continue
            lock = os.fdopen(own, "rb")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                continue
            self._lock, self.id = lock, domain
            break
        else:
            raise MaskACTError(f"the ROS domains {_DOMAINS.start} to {_DOMAINS.stop - 1} are all in use")

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that every process in the domain needs."""
        return {"ROS_DOMAIN_ID": str(self.id), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}

    def close(self) -> None:
        """Release the domain."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
