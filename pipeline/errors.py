"""What can go wrong, named after what the reader of the message would do about it."""

from __future__ import annotations

from typing import Literal, TypeAlias

FailureKind: TypeAlias = Literal[
    "corrupt",
    "unsupported",
    "limit",
    "incomplete",
    "dependency",
    "io",
    "crashed",
    "timeout",
    "changed",
]


class FilterbankError(Exception):
    """Anything filterbank says to a person; the text is the whole message."""


class ConfigError(FilterbankError):
    """Fix the config file. Holds every problem found, one line each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class PlanError(FilterbankError):
    """Ask for something else: the config is valid but this job cannot be done."""


class InputError(FilterbankError):
    """Point at other inputs: nothing matched, or a root is missing."""


class ReadError(FilterbankError):
    """This one image cannot be used; it becomes a failed row of this kind."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind

    def __reduce__(self) -> tuple[type[ReadError], tuple[FailureKind, str]]:
        return type(self), (self.kind, str(self))


class ReaderCrashed(FilterbankError):
    """No process can be started or kept alive, whatever it reads: look at this machine's memory."""


class TooManyFailed(FilterbankError):
    """The error budget `run.max_failed` is used up; look at the first failures."""


class WriteError(FilterbankError):
    """The output could not be written: look at this disk or these permissions."""


class Locked(FilterbankError):
    """Another run holds the output folder."""


class MissingDependency(FilterbankError):
    """Install the named extra."""


class DeviceError(FilterbankError):
    """The device that was asked for is not there, or was lost."""
