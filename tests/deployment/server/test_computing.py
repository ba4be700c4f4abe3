"""The thread that computes: who shares a batch, who does not, and whose failure is whose."""

import gc
import time
import weakref
from collections.abc import Sequence

import numpy as np
import pytest

from sem_search.deployment.classifier import classifier as classifier_module
from sem_search.deployment.classifier.classifier import NO_DEADLINE, Deadline, ImageAnswer
from sem_search.deployment.server import computing as computing_module
from sem_search.deployment.server.computing import BUSY, SHARED_TILES, ComputeThread, Question
from sem_search.errors import RefusedRequestError
from sem_search.micrographs.reading.grey import FloatImage
from tests.deployment.server.serving import LIMIT_S, StoneClassifier, build_answer


def make_images(*greys: float, side_px: int = 8) -> list[FloatImage]:
    return [np.full((side_px, side_px), grey, dtype=np.float32) for grey in greys]


def build_question(
    classifier: StoneClassifier,
    *greys: float,
    is_explained: bool = False,
    deadline: Deadline = NO_DEADLINE,
    side_px: int = 8,
) -> Question:
    images = make_images(*greys, side_px=side_px)
    return Question(classifier=classifier, images=images, is_explained=is_explained, deadline=deadline)  # type: ignore[arg-type]


class Queue:
    """Questions that wait behind one that is being computed, until they are let go together."""

    def __init__(self, classifier: StoneClassifier) -> None:
        self.batches: list[tuple[int, int]] = []
        self.thread = ComputeThread(on_batch=lambda n_requests, n_images: self.batches.append((n_requests, n_images)))
        self.classifier = classifier
        classifier.gate.clear()
        self._first = self.thread.ask(build_question(classifier, 0.0))
        while not classifier.batches:
            time.sleep(0.005)

    def ask(self, *questions: Question) -> list[Sequence[ImageAnswer] | BaseException]:
        """Return what became of each question."""
        futures = [self.thread.ask(question) for question in questions]
        self.classifier.gate.set()
        return [future.exception(timeout=LIMIT_S) or future.result() for future in futures]


def read_starch(answers: Sequence[ImageAnswer] | BaseException) -> list[float]:
    assert isinstance(answers, tuple)
    return [round(float(answer.probabilities[1]), 3) for answer in answers]


def test_plain_questions_share_a_batch_and_each_gets_its_own_answers() -> None:
    stone = StoneClassifier()
    queue = Queue(stone)
    answers = queue.ask(build_question(stone, 0.1, 0.2), build_question(stone, 0.3), build_question(stone, 0.4, 0.5))
    assert [read_starch(some) for some in answers] == [[0.1, 0.2], [0.3], [0.4, 0.5]]
    assert queue.batches == [(1, 1), (3, 5)]


def test_heat_maps_other_models_and_many_images_do_not() -> None:
    stone, other = StoneClassifier(), StoneClassifier()
    many = [0.5] * SHARED_TILES
    queue = Queue(stone)
    answers = queue.ask(
        build_question(stone, 0.1),
        build_question(stone, 0.2, 0.3, is_explained=True),
        build_question(other, 0.4),
        build_question(stone, *many),
        build_question(stone, 0.6),
    )
    assert [read_starch(some) for some in answers] == [[0.1], [0.2, 0.3], [0.4], many, [0.6]]
    assert queue.batches == [(1, 1), (2, 2), (1, 2), (1, 1), (1, SHARED_TILES)]
    assert other.batches == [1]


class PickyClassifier(StoneClassifier):
    """Fails on bright images."""

    def classify(self, images: Sequence[FloatImage], *, deadline: Deadline = NO_DEADLINE) -> tuple[ImageAnswer, ...]:
        super().classify(images, deadline=deadline)
        if max(float(image.mean()) for image in images) > 0.8:
            raise KeyError("too bright")
        return tuple(build_answer(image) for image in images)


def test_only_the_question_at_fault_fails() -> None:
    picky = PickyClassifier()
    first, second, third = Queue(picky).ask(
        build_question(picky, 0.1), build_question(picky, 0.9), build_question(picky, 0.3)
    )
    assert (read_starch(first), read_starch(third)) == ([0.1], [0.3])
    assert isinstance(second, KeyError)


def test_who_waited_too_long_is_sent_away_and_who_left_is_left_out() -> None:
    stone = StoneClassifier()
    queue = Queue(stone)
    left = build_question(stone, 0.5)
    left.answers.cancel()
    late, in_time, _ = queue.ask(
        build_question(stone, 0.1, deadline=Deadline.start(0.0)), build_question(stone, 0.2), build_question(stone, 0.7)
    )
    assert isinstance(late, RefusedRequestError)
    assert late.status == 503
    assert read_starch(in_time) == [0.2]
    assert queue.thread.ask(left).cancelled()
    assert queue.batches == [(1, 1), (2, 2)]


@pytest.mark.parametrize("is_explained", [False, True])
def test_a_deadline_holds_while_it_is_computed(is_explained: bool) -> None:
    slow = StoneClassifier(delay_s=0.1)
    question = build_question(slow, 0.1, is_explained=is_explained, deadline=Deadline.start(0.05))
    with pytest.raises(RefusedRequestError, match="longer --timeout"):
        ComputeThread().ask(question).result(timeout=LIMIT_S)


def test_an_idle_thread_keeps_neither_the_model_nor_the_picture() -> None:
    thread, stone = ComputeThread(), StoneClassifier()
    question = build_question(stone, 0.1)
    kept = [weakref.ref(stone), weakref.ref(question.images[0])]
    thread.ask(question).result(timeout=LIMIT_S)
    del stone, question
    begun_s = time.monotonic()
    while any(one() is not None for one in kept) and time.monotonic() - begun_s < LIMIT_S / 10:
        time.sleep(0.01)
        gc.collect()
    assert [one() for one in kept] == [None, None]


def test_one_large_image_is_computed_alone() -> None:
    stone = StoneClassifier()
    queue = Queue(stone)
    large = build_question(stone, 0.2, side_px=8 * 18)
    assert large.n_tiles == 18 * 18 > SHARED_TILES
    queue.ask(build_question(stone, 0.1), large, build_question(stone, 0.3))
    assert queue.batches == [(1, 1), (2, 2), (1, 1)]


class TimedClassifier(StoneClassifier):
    """Takes a time for each tile, on a clock of its own, and looks at the deadline after each image."""

    def __init__(self, clock: "Clock", *, pace_s: float) -> None:
        super().__init__()
        self.clock, self.pace_s = clock, pace_s

    def classify(self, images: Sequence[FloatImage], *, deadline: Deadline = NO_DEADLINE) -> tuple[ImageAnswer, ...]:
        self.batches.append(len(images))
        assert self.gate.wait(LIMIT_S)
        for image in images:
            self.clock.now_s += self.pace_s * image.size / 64
            deadline.check()
        return tuple(build_answer(image) for image in images)


class Clock:
    """A clock that stands still while nothing is computed."""

    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (computing_module, classifier_module):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_small_question_does_not_pay_for_a_large_one_in_its_batch(clock: Clock) -> None:
    timed = TimedClassifier(clock, pace_s=1.0)
    small, large, patient = Queue(StoneClassifier()).ask(
        build_question(timed, 0.1, deadline=Deadline.start(5.0)),
        build_question(timed, *[0.2] * 10, deadline=Deadline.start(100.0)),
        build_question(timed, 0.3, deadline=Deadline.start(100.0)),
    )
    assert isinstance(small, RefusedRequestError)
    assert (small.status, str(small)) == (503, BUSY)
    assert (read_starch(large), read_starch(patient)) == ([0.2] * 10, [0.3])


def test_questions_share_a_batch_only_where_all_are_in_time(clock: Clock) -> None:
    timed = TimedClassifier(clock, pace_s=1.0)
    queue = Queue(timed)
    queue.ask()
    queue.classifier.gate.clear()
    busy = queue.thread.ask(build_question(timed, 0.0))
    while len(timed.batches) < 2:
        time.sleep(0.005)
    small, large = queue.ask(
        build_question(timed, 0.1, deadline=Deadline.start(5.0)),
        build_question(timed, *[0.2] * 10, deadline=Deadline.start(100.0)),
    )
    assert busy.done()
    assert (read_starch(small), read_starch(large)) == ([0.1], [0.2] * 10)
    assert queue.batches == [(1, 1), (1, 1), (1, 1), (1, 10)]


def test_what_cannot_be_done_in_its_time_is_refused_and_not_begun(clock: Clock) -> None:
    timed = TimedClassifier(clock, pace_s=1.0)
    thread = ComputeThread()
    thread.ask(build_question(timed, 0.1)).result(timeout=LIMIT_S)
    question = build_question(timed, *[0.2] * 10, deadline=Deadline.start(9.0))
    with pytest.raises(RefusedRequestError, match="take longer than the 9 s") as caught:
        thread.ask(question).result(timeout=LIMIT_S)
    assert caught.value.status == 400
    in_time = build_question(timed, *[0.2] * 10, deadline=Deadline.start(11.0))
    assert len(thread.ask(in_time).result(timeout=LIMIT_S)) == 10
    assert timed.batches == [1, 10]
