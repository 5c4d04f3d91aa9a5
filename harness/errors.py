"""Every error that the harness raises on purpose, and the exit code that each becomes.

    LonghaulError
    ├── InputError            bad input; nothing was built or changed          exit 2
    │   └── DocumentError     every problem of a YAML file (harness.config.problems)
    ├── LabError              the lab broke or could not be built              exit 3
    │   ├── PrivilegeError    root or a capability is missing
    │   ├── CoreError         the WAN core could not be placed or booted
    │   ├── ShapingError      the kernel refused a setting, or read-back differs
    │   ├── NodeError         a node, its sshd or its namespace failed
    │   └── RemoteTimeout     a command on a node passed its deadline
    ├── FidelityError         the WAN is not as specified: the run is INVALID  exit 4
    └── SutError              the system under test did not do what it must    exit 1

Exit codes: 0 all passed, 1 a test failed, 2 bad input, 3 the lab broke, 4 INVALID, 130 interrupted.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process says to its caller."""

    PASSED = 0
    TEST_FAILED = 1
    BAD_INPUT = 2
    LAB_BROKE = 3
    INVALID = 4
    INTERRUPTED = 130


class LonghaulError(Exception):
    """Base of the tree. ``hint`` is one sentence that tells the user how to mend it."""

    exit_code = ExitCode.LAB_BROKE

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(LonghaulError):
    """The user's input is wrong. ``where`` is ``file:line:column`` when the input is a file."""

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message if where is None else f"{where}: {message}", hint=hint)
        self.where = where


class LabError(LonghaulError):
    """The lab broke. Never retried on the same lab: a broken lab stays broken."""


class PrivilegeError(LabError):
    """Root or a capability is missing."""


class CoreError(LabError):
    """The WAN core could not be placed, built or booted."""


class ShapingError(LabError):
    """The core's kernel refused a setting, or what was read back differs from what was set."""


class NodeError(LabError):
    """A node, its sshd or its namespace failed."""


class RemoteTimeout(LabError):
    """A command on a node did not end before its deadline."""


class FidelityError(LonghaulError):
    """The WAN that was measured is not the WAN that was asked for."""

    exit_code = ExitCode.INVALID


class SutError(LonghaulError):
    """The system under test failed: it did not start, stop or settle as it must."""

    exit_code = ExitCode.TEST_FAILED
