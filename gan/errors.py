"""Errors that Salon raises on purpose, each with the exit code of the command that meets it.

A message names a parameter of the library in backticks: "`seeds` must be numbers and ranges; got 'x' instead". The
command line prints the option that sets it in its place (see gan.cli.command).
"""


class SalonError(Exception):
    """Something went wrong that one line explains. Exit code 1: a fault of ours or of the machine."""

    exit_code = 1


class RequestError(SalonError, ValueError):
    """The request cannot be carried out as put: a missing file, a bad value, a mismatch. Exit code 2."""

    exit_code = 2


class BoundError(SalonError):
    """The work was done, and a bound that the user required was not met. Exit code 3."""

    exit_code = 3


class ImageError(SalonError):
    """One image cannot be read. `reason` is a short code for manifests and counts, such as "truncated"."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return ImageError, (self.reason, self.detail)  # it crosses process boundaries
