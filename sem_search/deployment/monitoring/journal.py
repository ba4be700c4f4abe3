"""The journal: one row for each answer, in SQLite or PostgreSQL; the picture itself is not stored.

A server or `predict` writes it, `sem-search monitor` reads it. An answer is never refused because its row could not be
written: that is a warning in the log, and a number.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from sqlalchemy import JSON, Engine, Index, create_engine, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from sem_search.databases import choose_arguments
from sem_search.deployment.registry.versions import split_model_uri
from sem_search.errors import SettingsError, StoreError, get_first_line
from sem_search.micrographs.catalogue import compute_noise, compute_pixels_sha256
from sem_search.micrographs.reading.micrograph import Micrograph
from sem_search.places import find_sqlite_file, make_sqlite_url
from sem_search.secrets import mask_secrets, mask_url

_logger = logging.getLogger(__name__)


class _Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    """Of records that are rows of a table."""


class JournalRow(_Base):
    """One answer; the names are those of an answer, see `docs/serving.md`."""

    __tablename__ = "sem_search_answers"
    __table_args__ = (Index("sem_search_answers_of_version", "model_name", "model_version", "answered_at"),)

    id: Mapped[int] = mapped_column(init=False, primary_key=True)
    answered_at: Mapped[datetime]
    """In UTC, without a time zone, as databases of both kinds store it."""
    image_sha256: Mapped[str]
    """Of the pixels: the same picture in another file has the same."""
    label: Mapped[str]
    """The most probable class; of an image that is not known, the nearest."""
    probability: Mapped[float]
    prediction_set: Mapped[list[str]] = mapped_column(JSON)
    is_known: Mapped[bool | None]
    novelty: Mapped[float | None]
    pixel_size_nm: Mapped[float | None]
    pixel_size: Mapped[str | None]
    mean_grey: Mapped[float]
    contrast: Mapped[float]
    """Standard deviation of the grey levels."""
    noise: Mapped[float]
    """These three as in `micrographs.catalogue`."""
    is_training_image: Mapped[bool | None]
    model_name: Mapped[str | None]
    model_version: Mapped[str | None]
    duration_ms: Mapped[float]
    """What the answer took; of a request with several images, its part."""


ANSWERS = JournalRow.metadata.tables[JournalRow.__tablename__]
NAMES = tuple(field.name for field in fields(JournalRow) if field.init)


def describe_answer(
    answer: Mapping[str, Any], *, micrograph: Micrograph, duration_ms: float, answered_at: datetime | None = None
) -> JournalRow:
    """Return the row of one answer.

    Args:
        answer: A record of `pyfunc.answers`, with a label.
        micrograph: What was answered for, as the classifier reads it.
        duration_ms: What the answer took.
        answered_at: With a time zone; by default now.
    """
    pixels = micrograph.original
    values: dict[str, Any] = {name: answer.get(name) for name in NAMES}
    values |= {
        "answered_at": _write_moment(answered_at or datetime.now(UTC)),
        "image_sha256": compute_pixels_sha256(pixels),
        "mean_grey": float(pixels.mean(dtype=np.float64)),
        "contrast": float(pixels.std(dtype=np.float64)),
        "noise": compute_noise(pixels),
        "prediction_set": list(answer["prediction_set"]),
        "duration_ms": duration_ms,
    }
    return JournalRow(**values)


def check_registered(model_uri: str) -> None:
    """Raise SettingsError unless this is a registered model: answers of others could never be found again."""
    if split_model_uri(model_uri) is None:
        raise SettingsError(
            f"model={model_uri} is not registered, but --journal needs a registered model, such as "
            "models:/NAME@champion: `monitor` finds answers by name and version."
        )


class AnswerJournal:
    """A table of answers; one thread writes it."""

    def __init__(self, engine: Engine) -> None:
        self.n_lost = 0
        """Answers that could not be written."""
        self._engine = engine

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
            raise SettingsError(
                f"journal={place}: there is no such file; `serve --journal` and `predict --journal` write one."
            )
        try:
            engine = create_engine(url, **choose_arguments(url))
            if is_new_allowed:
                ANSWERS.metadata.create_all(engine)
            has_table = inspect(engine).has_table(ANSWERS.name)
        except (SQLAlchemyError, ImportError, ValueError) as error:  # ValueError: a port that is no number
            said = mask_secrets(get_first_line(error))
            raise SettingsError(
                f"journal={mask_url(place)} cannot be opened ({said}): give a file in a folder that is there, or the "
                "URL of a database such as postgresql://user@host/name."
            ) from None
        if not has_table:
            raise SettingsError(
                f"journal={mask_url(place)} holds no answers: `serve --journal` and `predict --journal` write them."
            )
        return cls(engine)

    def write(self, rows: Sequence[JournalRow]) -> None:
        """Write the rows of one request, all or none; if that fails, a warning is logged, and they count as lost."""
        if not rows:
            return
        try:
            with self._engine.begin() as connection:
                connection.execute(ANSWERS.insert(), [{name: getattr(row, name) for name in NAMES} for row in rows])
        except SQLAlchemyError as error:
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
            query = query.where(ANSWERS.c.answered_at >= _write_moment(since))
        if until is not None:
            query = query.where(ANSWERS.c.answered_at < _write_moment(until))
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(query.order_by(ANSWERS.c.answered_at, ANSWERS.c.id)).all()
        except SQLAlchemyError as error:
            raise StoreError(f"The journal cannot be read ({mask_secrets(get_first_line(error))}).") from None
        return pd.DataFrame(rows, columns=[column.name for column in ANSWERS.columns])


def _write_moment(moment: datetime) -> datetime:
    """Return a moment with a time zone as the table holds it."""
    return moment.astimezone(UTC).replace(tzinfo=None)
