"""The journal: one row for each answer, in SQLite or PostgreSQL; the picture itself is not stored.

A server or `predict` writes it, `sem-search monitor` reads it. An answer is never refused because its row could not be
written: that is a warning in the log, and a number.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pandas as pd
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    inspect,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from sem_search.databases import choose_arguments
from sem_search.errors import SettingsError, StoreError, get_first_line
from sem_search.micrographs.catalogue import compute_pixels_sha256
from sem_search.micrographs.reading.micrograph import read_micrograph
from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.places import find_sqlite_file, make_sqlite_url
from sem_search.secrets import mask_secrets, mask_url

READING = ReadingOptions(max_megapixels=float("inf"))
"""What was answered for was small enough for the model."""

ANSWERS = Table(
    "sem_search_answers",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("answered_at", DateTime, nullable=False),
    Column("image_sha256", String(64), nullable=False),
    Column("label", String, nullable=False),
    Column("probability", Float, nullable=False),
    Column("prediction_set", JSON, nullable=False),
    Column("is_known", Boolean),
    Column("novelty", Float),
    Column("pixel_size_nm", Float),
    Column("pixel_size", String),
    Column("is_training_image", Boolean),
    Column("model_name", String),
    Column("model_version", String),
    Column("duration_ms", Float, nullable=False),
)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class JournalRow:
    """One answer; the names are those of an answer, see `docs/serving.md`."""

    answered_at: datetime
    """In UTC, without a time zone, as databases of both kinds store it."""
    image_sha256: str
    """Of the pixels: the same picture in another file has the same."""
    label: str
    """The most probable class; of an image that is not known, the nearest."""
    probability: float
    prediction_set: list[str]
    is_known: bool | None
    novelty: float | None
    pixel_size_nm: float | None
    pixel_size: str | None
    is_training_image: bool | None
    model_name: str | None
    model_version: str | None
    duration_ms: float


def describe_answer(
    answer: Mapping[str, Any], *, content: bytes, duration_ms: float, answered_at: datetime | None = None
) -> JournalRow:
    """Return the row of one answer.

    Args:
        answer: A record of `pyfunc.answers`, with a label.
        content: The file that was sent.
        duration_ms: What the answer took; of a request with several images, its part.
        answered_at: With a time zone; by default now.
    """
    moment = (answered_at or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None)
    values: dict[str, Any] = {field.name: answer.get(field.name) for field in fields(JournalRow)}
    values |= {
        "answered_at": moment,
        "image_sha256": compute_pixels_sha256(read_micrograph(content, reading=READING).pixels),
        "prediction_set": list(answer["prediction_set"]),
        "duration_ms": duration_ms,
    }
    return JournalRow(**values)


class AnswerJournal:
    """A table of answers; safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self.n_lost = 0
        """Answers that could not be written."""
        self._engine = engine
        self._lock = threading.Lock()

    @classmethod
    def open(cls, place: str, *, is_new_allowed: bool = True) -> Self:
        """Return the journal at a place; its table is made where there is none.

        Args:
            place: A file, for SQLite, or SQLAlchemy's URL of a database.
            is_new_allowed: False: a journal that is not there is an error.

        Raises:
            SettingsError: There is no database that can be opened, or no journal in it.
        """
        url = place if "://" in place else make_sqlite_url(Path(place).expanduser())
        file = find_sqlite_file(url)
        if not is_new_allowed and file is not None and not file.is_file():
            raise SettingsError(f"journal={place}: there is no such file; `predict --journal` writes one.")
        try:
            engine = create_engine(url, **choose_arguments(url))
            if is_new_allowed:
                ANSWERS.metadata.create_all(engine)
            has_table = inspect(engine).has_table(ANSWERS.name)
        except (SQLAlchemyError, ImportError) as error:
            said = mask_secrets(get_first_line(error))
            raise SettingsError(
                f"journal={mask_url(place)} cannot be opened ({said}): give a file in a folder that is there, or the "
                "URL of a database such as postgresql+psycopg://user@host/name."
            ) from None
        if not has_table:
            raise SettingsError(f"journal={mask_url(place)} holds no answers: `predict --journal` writes them.")
        return cls(engine)

    def write(self, rows: Sequence[JournalRow]) -> None:
        """Write the rows of one request, all or none; if that fails, a warning is logged, and they count as lost."""
        if not rows:
            return
        try:
            with self._engine.begin() as connection:
                connection.execute(ANSWERS.insert(), [asdict(row) for row in rows])
        except SQLAlchemyError as error:
            with self._lock:
                self.n_lost += len(rows)
                said = mask_secrets(get_first_line(error))
                _logger.warning("The journal was not written (%s); %d answers are not in it.", said, self.n_lost)

    def read(
        self, *, model_name: str, model_version: str, since: datetime | None = None, until: datetime | None = None
    ) -> pd.DataFrame:
        """Return the answers of one version in the order in which they were given, one row each.

        Args:
            model_name: As registered.
            model_version: Its number.
            since: From this moment on, with a time zone.
            until: Up to, not including, this moment.

        Raises:
            StoreError: The database does not answer.
        """
        query = select(ANSWERS).where(ANSWERS.c.model_name == model_name, ANSWERS.c.model_version == model_version)
        if since is not None:
            query = query.where(ANSWERS.c.answered_at >= since.astimezone(UTC).replace(tzinfo=None))
        if until is not None:
            query = query.where(ANSWERS.c.answered_at < until.astimezone(UTC).replace(tzinfo=None))
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(query.order_by(ANSWERS.c.answered_at, ANSWERS.c.id)).all()
        except SQLAlchemyError as error:
            raise StoreError(f"The journal cannot be read ({mask_secrets(get_first_line(error))}).") from None
        return pd.DataFrame(rows, columns=[column.name for column in ANSWERS.columns])
