"""Something that is away is waited for: done again and again, with growing pauses, and said once."""

import time
from collections.abc import Callable
from typing import TypeVar

from sem_search.errors import StoreError

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
"""Between two attempts; each pause is twice the one before."""

Result = TypeVar("Result")


def repeat_while_away(
    act: Callable[[], Result],
    *,
    name: str,
    is_away: Callable[[Exception], bool],
    wait_s: float,
    warn: Callable[[str], None],
    advice: str,
) -> Result:
    """Do something that may safely be done twice, again and again while what it asks is away.

    Args:
        act: What to do; done anew from its beginning after an outage.
        name: Of what is asked, as the beginning of a sentence.
        is_away: Tells an outage from a refusal, by the error.
        wait_s: For how long, in seconds.
        warn: Called once when it is away, and once when it is back.
        advice: What to do if it stays away.

    Raises:
        StoreError: It stayed away. Errors that are no outage are passed on unchanged.
    """
    ends_at, pause_s = time.monotonic() + wait_s, FIRST_PAUSE_S
    while True:
        try:
            result = act()
        except Exception as error:
            if not is_away(error):
                raise
        else:
            if pause_s != FIRST_PAUSE_S:
                warn(f"{name} answers again.")
            return result
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            said = f"has not answered for {wait_s:g} s" if wait_s else "does not answer"
            raise StoreError(f"{name} {said}. {advice}")  # a driver's own message may hold the password
        if pause_s == FIRST_PAUSE_S:
            warn(f"{name} does not answer; waiting for it, at most {wait_s:g} s.")
        time.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
