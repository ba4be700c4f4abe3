"""A finished study of the tiny network, made once: three materials, three folds, and two sessions that divide them."""

import dataclasses
from pathlib import Path

import pytest

from sem_search.audits.heat_maps.morphology import MorphologyAudit, audit_morphology
from sem_search.audits.heat_maps.other_network import explain_study
from sem_search.audits.retraining import build_trainer, list_splits, retrain_winner
from sem_search.audits.subject import AuditSubject
from sem_search.records import Cell, StudyOutcome, TrialOutcome
from sem_search.search.prepare.data import prepare_data
from sem_search.search.prepare.features import compute_views
from sem_search.search.prepare.network import prepare_network
from sem_search.settings import AS_THE_PAPER, build_settings
from sem_search.transfer.heads.training import TrainingSettings

CELL = Cell(learning_rate=0.1, batch_size=8)

MAP_TOLERANCE = 1e-6
"""Of heat maps in [0, 1] that were computed in batches of other shapes: the same numbers to a few units of float32
(seen: 3e-8). Bits are equal for the same shapes on the same machine alone."""


def keep_quiet(_: str) -> None:
    """Nobody waits."""


@pytest.fixture(scope="session")
def show():
    return keep_quiet


@pytest.fixture(scope="session")
def subject(tiny_folder: Path, cache: Path) -> AuditSubject:
    settings = build_settings(
        {
            "data": str(tiny_folder),
            "backbone": "tiny",
            "weights": "random",
            "tile_px": "48",
            "folds": "3",
            "precision": "float32",
            "epochs": "6",
            **AS_THE_PAPER,
            "learning_rates": "1e-1",
            "batch_sizes": "8",
            "threads": "1",
        }
    )
    data = prepare_data(settings)
    network = prepare_network(settings)
    untrained = AuditSubject(
        outcome=StudyOutcome(
            name="a study",
            backbone="tiny",
            select_on="validation",
            tiles=data.tiles,
            trials=(TrialOutcome(number=0, cell=CELL, state="complete", folds=()),),
            winner_number=0,
        ),
        folds=data.folds,
        catalogue=data.catalogue,
        grid=data.grid,
        backbone=network.backbone,
        cut=network.cut,
        views=compute_views(settings, data=data, network=network),
        training=TrainingSettings(epochs=6, patience=5),
        hidden_units=32,
        dropout=0.2,
        seed=0,
    )
    folds = retrain_winner(untrained, splits=list_splits(untrained), name="winner", show=keep_quiet)
    winner = dataclasses.replace(untrained.winner, folds=folds)
    return dataclasses.replace(untrained, outcome=dataclasses.replace(untrained.outcome, trials=(winner,)))


@pytest.fixture(scope="session")
def take_in_sessions():
    """Gives each image the session that a function of its place and label says."""

    def take(subject: AuditSubject, describe) -> AuditSubject:
        records = tuple(
            dataclasses.replace(record, session=describe(place, record.label))
            for place, record in enumerate(subject.catalogue.records)
        )
        return dataclasses.replace(subject, catalogue=dataclasses.replace(subject.catalogue, records=records))

    return take


@pytest.fixture(scope="session")
def head_weights(subject: AuditSubject):
    """The heads that `subject`'s winner was answered by, trained once more: the same numbers."""
    trainer = build_trainer(subject)
    return {split.number: trainer.train_fold(split, cell=CELL).head_weights for split in list_splits(subject)}


@pytest.fixture(scope="session")
def morphology(subject: AuditSubject, head_weights) -> MorphologyAudit:
    """What the network of `subject` looks at, and whether itself, as another study's, looks there, too."""
    other = explain_study(subject, head_weights=head_weights)
    return audit_morphology(
        subject, head_weights=head_weights, searched_weights=head_weights, show=keep_quiet, other=other
    )
