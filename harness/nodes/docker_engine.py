"""Whether a Docker engine answers on this host: what container nodes need. The one place that imports docker."""

from __future__ import annotations

from dataclasses import dataclass

import docker
from docker.errors import DockerException


@dataclass(frozen=True)
class DockerEngine:
    """What answered. ``bridges_filtered``: bridged packets pass iptables, whose policy silently drops them."""

    version: str
    bridges_filtered: bool


def find_engine(timeout_s: float = 2.0) -> DockerEngine | None:
    """The engine at DOCKER_HOST or the default socket; None when none answers within the deadline."""
    try:
        client = docker.from_env(timeout=timeout_s)
    except DockerException:
        return None
    try:
        info = client.info()
    except DockerException:
        return None
    finally:
        client.close()
    return DockerEngine(version=str(info["ServerVersion"]), bridges_filtered=bool(info.get("BridgeNfIptables")))
