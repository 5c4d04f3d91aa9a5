"""Syncthing's configuration file: as the program made it, with the folder, the other sites, and the doors shut."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping

FOLDER_ID = "shared"
GUI_PORT = 8384
SYNC_PORT = 22000
_WATCH_DELAY_S = 1

_SHUT = {
    "globalAnnounceEnabled": "false",
    "localAnnounceEnabled": "false",
    "relaysEnabled": "false",
    "natEnabled": "false",
    "urAccepted": "-1",
    "autoUpgradeIntervalH": "0",
    "crashReportingEnabled": "false",
    "startBrowser": "false",
    "stunKeepaliveStartS": "0",
    "reconnectionIntervalS": "1",
    "setLowPriority": "false",
}
"""Also: it tries again at once, so that a cut link costs it no minute, and has the precedence that others have."""


def configured(text: str, *, own: str, devices: Mapping[str, tuple[str, str]], folder: str, address: str) -> str:
    """The configuration of the device ``own``. ``devices``: name and address of each, itself included, by identity;
    ``address``: where it listens.

    Of two devices only the earlier one calls. Both dial from the port on which they listen, so that calls that cross on
    a long path are one connection (RFC 9293, simultaneous open) of which both ends take the part of the caller: no TLS
    comes of it, and as they try again at the same times it may take minutes until they miss each other.
    """
    root = ET.fromstring(text)
    options = _only(root, "options")
    for name, value in _SHUT.items():
        _set(options, name, value)
    for listen in options.findall("listenAddress"):
        options.remove(listen)
    ET.SubElement(options, "listenAddress").text = f"tcp://{address}:{SYNC_PORT}"
    _set(_only(root, "gui"), "address", f"127.0.0.1:{GUI_PORT}")
    for device in root.findall("device"):
        root.remove(device)
    order = list(devices)
    for identity, (name, where) in devices.items():
        calls = order.index(own) < order.index(identity)
        device = ET.SubElement(root, "device", id=identity, name=name, compression="metadata")
        ET.SubElement(device, "address").text = f"tcp://{where}:{SYNC_PORT}" if calls else "dynamic"
    shared = ET.SubElement(
        root,
        "folder",
        id=FOLDER_ID,
        path=folder,
        type="sendreceive",
        rescanIntervalS="3600",
        fsWatcherEnabled="true",
        fsWatcherDelayS=str(_WATCH_DELAY_S),
    )
    for identity in devices:
        ET.SubElement(shared, "device", id=identity)
    # It would stop at a disk of the host that is 99% full.
    ET.SubElement(shared, "minDiskFree", unit="%").text = "0"
    return ET.tostring(root, encoding="unicode")


def api_key_of(text: str) -> str:
    """What its REST interface asks for."""
    return _only(_only(ET.fromstring(text), "gui"), "apikey").text or ""


def _only(parent: ET.Element, name: str) -> ET.Element:
    found = parent.find(name)
    if found is None:
        raise ValueError(f"Syncthing's configuration has no <{name}>")
    return found


def _set(parent: ET.Element, name: str, value: str) -> None:
    found = parent.find(name)
    if found is None:
        found = ET.SubElement(parent, name)
    found.text = value
