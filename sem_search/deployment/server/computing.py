"""The one thread that computes: it takes what is waiting and answers the images of several requests together.

A network is quickest with full batches, and two that compute at once only share the cores. Requests that ask for plain
answers of one model share a batch; a request for heat maps, and one of many tiles, is answered alone. What cannot be
done in its time is not begun: it would only keep the others waiting.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property
from weakref import WeakKeyDictionary

from sem_search.deployment.classifier.classifier import Deadline, ImageAnswer, MicrographClassifier
from sem_search.errors import RefusedRequestError
from sem_search.micrographs.reading.grey import FloatImage

SHARED_TILES = 320
"""Tiles of several requests that are computed together, as of 16 micrographs of 1280 x 960 px: more would make the
first wait for the last."""

BUSY = "Too many requests are under way: try again soon."

Answers = tuple[ImageAnswer, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """The images of one request."""

    classifier: MicrographClassifier
    images: Sequence[FloatImage]
    is_explained: bool
    """Whether heat maps are asked for."""
    deadline: Deadline
    answers: "Future[Answers]" = field(default_factory=Future)

    @cached_property
    def n_tiles(self) -> int:
        """Of all images together: what is computed."""
        grid = self.classifier.description.grid
        counts = [math.prod(grid.count(*image.shape)) for image in self.images]
        return sum(counts if grid.per_image is None else [min(count, grid.per_image) for count in counts])


class ComputeThread:
    """Answers questions, in order.

    Args:
        on_batch: Told the number of requests and of images of each batch.
    """

    def __init__(self, *, on_batch: Callable[[int, int], None] = lambda n_requests, n_images: None) -> None:
        self._on_batch = on_batch
        self._waiting: deque[Question] = deque()
        self._has_changed = threading.Condition()
        self._paces: WeakKeyDictionary[MicrographClassifier, float] = WeakKeyDictionary()
        """Seconds for each tile, by model: the least that was measured, so that nothing is refused that may be done."""
        threading.Thread(target=self._run, name="computing", daemon=True).start()

    def ask(self, question: Question) -> "Future[Answers]":
        """Return what will hold one answer for each image; an exception of the classifier comes out of it, too."""
        if self._estimate_s([question]) > question.deadline.limit_s:
            try:
                replace(question.deadline, ends_s=0.0).check()
            except RefusedRequestError as error:
                question.answers.set_exception(error)
            return question.answers
        with self._has_changed:
            self._waiting.append(question)
            self._has_changed.notify()
        return question.answers

    def _run(self) -> None:
        while True:
            with self._has_changed:
                self._has_changed.wait_for(lambda: self._waiting)
            self._answer_next()

    def _answer_next(self) -> None:
        """Answer what is first; no name outlives this call, so that an idle thread keeps no picture and no model."""
        questions = [one for one in self._take() if one.answers.set_running_or_notify_cancel()]
        late = [one for one in questions if not self._is_in_time([one])]
        for one in late:
            one.answers.set_exception(RefusedRequestError(BUSY, status=503))
        if batch := [one for one in questions if one not in late]:
            self._on_batch(len(batch), sum(len(one.images) for one in batch))
            self._answer_together(batch)

    def _take(self) -> list[Question]:
        """Return the first question that waits, and those behind it that share a batch with it."""
        with self._has_changed:
            taken = [self._waiting.popleft()]
            for one in [] if taken[0].is_explained else list(self._waiting):
                is_alike = one.classifier is taken[0].classifier and not one.is_explained
                is_small = one.n_tiles + sum(other.n_tiles for other in taken) <= SHARED_TILES
                if is_alike and is_small and self._is_in_time([*taken, one]):
                    self._waiting.remove(one)
                    taken.append(one)
        return taken

    def _estimate_s(self, questions: Sequence[Question]) -> float:
        """Return the least time that questions to one model take together; 0 where none was answered yet."""
        return self._paces.get(questions[0].classifier, 0.0) * sum(one.n_tiles for one in questions)

    def _is_in_time(self, questions: Sequence[Question]) -> bool:
        """Return whether questions can be answered together before the first of their deadlines."""
        return self._estimate_s(questions) < min(one.deadline.left_s for one in questions)

    def _answer_together(self, questions: Sequence[Question]) -> None:
        """Answer several questions; if that fails, each alone, so that only the one at fault fails."""
        try:
            answers = self._compute(questions)
        except Exception as error:  # noqa: BLE001 - it belongs to the caller who asked
            if len(questions) == 1:
                questions[0].answers.set_exception(error)
                return
            for one in questions:
                if self._is_in_time([one]):
                    self._answer_together([one])
                else:  # the others had the time
                    one.answers.set_exception(RefusedRequestError(BUSY, status=503))
            return
        for one in questions:
            one.answers.set_result(tuple(answers[: len(one.images)]))
            del answers[: len(one.images)]

    def _compute(self, questions: Sequence[Question]) -> list[ImageAnswer]:
        """Return the answers to all images of several questions, and note how long a tile took."""
        first, earliest = questions[0], min((one.deadline for one in questions), key=lambda deadline: deadline.ends_s)
        begun_s = time.monotonic()
        if first.is_explained:
            answers = [first.classifier.explain(image, deadline=earliest) for image in first.images]
        else:
            images = [image for one in questions for image in one.images]
            answers = list(first.classifier.classify(images, deadline=earliest))
        pace_s = (time.monotonic() - begun_s) / sum(one.n_tiles for one in questions)
        self._paces[first.classifier] = min(pace_s, self._paces.get(first.classifier, pace_s))
        return answers
