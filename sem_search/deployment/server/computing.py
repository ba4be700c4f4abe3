"""The one thread that computes: it takes what is waiting and answers the images of several requests together.

A network is quickest with full batches, and two that compute at once only share the cores. Requests that ask for plain
answers of one model share a batch; a request for heat maps, and one of many images, is answered alone.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from sem_search.deployment.classifier.classifier import Deadline, ImageAnswer, MicrographClassifier
from sem_search.errors import RefusedRequestError
from sem_search.micrographs.reading.grey import FloatImage

SHARED_IMAGES = 16
"""Images of several requests that are computed together: more would make the first wait for the last."""

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


class ComputeThread:
    """Answers questions, in order.

    Args:
        on_batch: Told the number of requests and of images of each batch.
    """

    def __init__(self, *, on_batch: Callable[[int, int], None] = lambda n_requests, n_images: None) -> None:
        self._on_batch = on_batch
        self._waiting: deque[Question] = deque()
        self._has_changed = threading.Condition()
        threading.Thread(target=self._run, name="computing", daemon=True).start()

    def ask(self, question: Question) -> "Future[Answers]":
        """Return what will hold one answer for each image; an exception of the classifier comes out of it, too."""
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
        late = [one for one in questions if one.deadline.left_s == 0]
        for one in late:
            one.answers.set_exception(RefusedRequestError(BUSY, status=503))
        if batch := [one for one in questions if one not in late]:
            self._on_batch(len(batch), sum(len(one.images) for one in batch))
            _answer_together(batch)

    def _take(self) -> list[Question]:
        """Return the first question that waits, and those behind it that share a batch with it."""
        with self._has_changed:
            taken = [self._waiting.popleft()]
            n_images = len(taken[0].images)
            for one in [] if taken[0].is_explained else list(self._waiting):
                is_alike = one.classifier is taken[0].classifier and not one.is_explained
                if is_alike and n_images + len(one.images) <= SHARED_IMAGES:
                    self._waiting.remove(one)
                    taken.append(one)
                    n_images += len(one.images)
        return taken


def _answer_together(questions: Sequence[Question]) -> None:
    """Answer several questions; if that fails, each alone, so that only the one at fault fails."""
    first, latest = questions[0], max((one.deadline for one in questions), key=lambda deadline: deadline.ends_s)
    try:
        if first.is_explained:
            answers = [first.classifier.explain(image, deadline=latest) for image in first.images]
        else:
            images = [image for one in questions for image in one.images]
            answers = list(first.classifier.classify(images, deadline=latest))
    except Exception as error:  # noqa: BLE001 - it belongs to the caller who asked
        if len(questions) == 1:
            first.answers.set_exception(error)
            return
        for one in questions:
            _answer_together([one])
        return
    for one in questions:
        one.answers.set_result(tuple(answers[: len(one.images)]))
        del answers[: len(one.images)]
