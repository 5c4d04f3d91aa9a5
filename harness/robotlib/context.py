"""The session that the keyword libraries work on, and how the harness's errors look to Robot Framework.

SutError        Failure         the system under test did wrong: this test fails, the next one runs
FidelityError   InvalidTest     the WAN was not as specified: the test says nothing, its status is INVALID
InputError      Error           a suite is misused
LabError        FatalError      the lab is dead: no further test runs on it
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import ParamSpec, TypeVar

from robot.api import Error, Failure, FatalError
from robot.api.deco import keyword

from harness.errors import FidelityError, InputError, LabError, LonghaulError, SutError
from harness.run.session import Session

P = ParamSpec("P")
R = TypeVar("R")

INVALID_PREFIX = "INVALID: "


class SiteName(str):
    """A site in a keyword's arguments: its name, or ``first``, ``second``, ``last``, ``mobile``."""

    __slots__ = ()


class SessionContext:
    """What one run of suites shares: its session, and the error that broke the lab."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self.lab_error: LabError | None = None

    @property
    def session(self) -> Session:
        """Raises Robot's Error when the suites were not started by ``longhaul run``."""
        if self._session is None:
            raise Error("there is no lab: run the suites with 'longhaul run'")
        return self._session

    @property
    def active(self) -> bool:
        """Whether suites run on a session now."""
        return self._session is not None

    def begin(self, session: Session) -> None:
        """The session of the suites that run from now on."""
        self._session = session
        self.lab_error = None

    def end(self) -> None:
        """No suites run any more."""
        self._session = None


context = SessionContext()


def converted_site(word: str) -> SiteName:
    """Robot's converter for SiteName arguments; in a dry run, which has no lab, the word itself.

    ValueError is what Robot shows for a bad argument.
    """
    if not context.active:
        return SiteName(word)
    try:
        return SiteName(context.session.site(word))
    except InputError as error:
        raise ValueError(f"{error.message}; {error.hint}") from None


SITE_CONVERTER = {SiteName: converted_site}


def suite_keyword(method: Callable[P, R]) -> Callable[P, R]:
    """Mark a method as a keyword and translate the harness's errors into Robot's."""

    @wraps(method)
    def translated(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return method(*arguments, **named)
        except SutError as error:
            raise Failure(_text(error)) from error
        except FidelityError as error:
            raise Failure(INVALID_PREFIX + _text(error)) from error
        except InputError as error:
            raise Error(_text(error)) from error
        except LabError as error:
            context.lab_error = error
            raise FatalError(_text(error)) from error

    marked: Callable[P, R] = keyword(translated)
    return marked


def seconds(duration: timedelta) -> float:
    """A keyword's duration in seconds."""
    return duration.total_seconds()


def _text(error: LonghaulError) -> str:
    return error.message if error.hint is None else f"{error.message}\n{error.hint}"
