"""Every error that sem_search raises on purpose.

    SemSearchError
    ├── InputError                  what the user gave is wrong: one clear sentence, exit code 2
    │   ├── SettingsError           a setting is unknown, out of range, or contradicts another
    │   ├── DataError               the data cannot be used as they are
    │   │   ├── UnreadableImageError    one file is not a usable micrograph
    │   │   ├── UnreadableDataError     all such files of a folder or CSV, each with its reason
    │   │   ├── ImageTooSmallError      no tile fits into the micrograph
    │   │   ├── ClassTooSmallError      a class has too few groups for the folds asked for
    │   │   └── RefusedRequestError     a request that a server does not take, with its HTTP status
    │   ├── WeightsError            the weights asked for cannot be had, or do not fit the network
    │   ├── StudyMismatchError      a study of this name exists with other settings
    │   ├── ModelNotFoundError      no such registered model, version or alias
    │   ├── NotComparableError      two versions or studies were not measured alike
    │   └── NotPromotedError        a version may not become champion
    ├── LeakError                   a group stands in two splits: never trained on
    ├── StoreError                  something on disk is damaged, or could not be written
    │   └── ClusterError            the cluster went away; the same command again goes on
    ├── ReleasedTrialError          this trial ends without a result, and its rank is free again
    └── FailedTrialError            this trial failed; the study goes on with the next

`SemSearchWarning` is what a user is warned of: a Python warning, which the command line prints.

A message says what was wrong, what was found, and what to do. `InputError` ends the command with exit code 2 and
`StoreError` with exit code 1, both with the message alone; every other error with exit code 1 and its traceback.
"""

from collections.abc import Iterator, Mapping


class SemSearchError(Exception):
    """Base of all errors raised on purpose."""


class InputError(SemSearchError):
    """What the user gave is wrong; the message is the whole answer."""


class SettingsError(InputError):
    """A setting is unknown, out of range, or contradicts another; the message names it."""


class DataError(InputError):
    """The data cannot be used as they are."""


class UnreadableImageError(DataError):
    """One file is not a usable micrograph; the message names it and the reason."""


class UnreadableDataError(DataError):
    """Several files are not usable; the message lists each with its reason."""


class ImageTooSmallError(DataError):
    """No tile fits into the micrograph; the message gives both sizes."""


class ClassTooSmallError(DataError):
    """A class has too few groups for the folds asked for; the message names class, count and ways out.

    Args:
        message: One or more sentences.
        changes: Settings with which it would go on, as they are written; none where nothing but images helps.
    """

    def __init__(self, message: str, *, changes: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.changes = changes or {}


class RefusedRequestError(DataError):
    """A request that a server does not take; the message is sent to the caller.

    Args:
        message: One sentence.
        status: The HTTP status, 400 to 499.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class WeightsError(InputError):
    """The weights asked for cannot be had, or do not fit the network."""


class StudyMismatchError(InputError):
    """A study of this name exists with other settings; the message names each difference."""


class ModelNotFoundError(InputError):
    """No such registered model, version or alias; the message says what there is."""


class NotComparableError(InputError):
    """Two registered versions, or two studies, were not measured alike; the message names each difference."""


class NotPromotedError(InputError):
    """A version may not become champion; the message says why, and what can be done."""


class LeakError(SemSearchError):
    """A group stands in two splits."""


class StoreError(SemSearchError):
    """Something on disk is damaged, or could not be written."""


class ClusterError(StoreError):
    """The cluster went away or could not do its work; what is finished is kept."""


class ReleasedTrialError(SemSearchError):
    """This trial ends without a result, and another trial takes up its rank; no user ever sees it."""


class FailedTrialError(SemSearchError):
    """This trial failed for a reason of its own; the study goes on."""


class SemSearchWarning(UserWarning):
    """Something was skipped, replaced or fell back; the message says what follows."""


def get_first_line(error: BaseException | None) -> str:
    """Return the first line of a library's message, without the full stop; its name where it has no message."""
    lines = str(error or "").strip().splitlines()
    return lines[0][:300].rstrip(".") if lines else type(error).__name__


def iter_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it came from, each once."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
