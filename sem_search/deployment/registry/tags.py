"""The names under which the registry keeps what it knows: aliases, tags of a version, tags of a registered model.

MLflow checks 100,000 characters for a tag's value, but its databases keep 5,000 of a registered model's (SQLite alone
does not enforce it), and 5,000 of a version's description: both limits are held here, whatever the store.
"""

CHAMPION = "champion"
CHALLENGER = "challenger"

TAG_SOURCE_RUN = "sem_search.source_run_id"
TAG_SCORE = "sem_search.score"
TAG_DATA = "sem_search.data_sha256"
TAG_FOLDS = "sem_search.folds_sha256"
TAG_SELECT_ON = "sem_search.select_on"
TAG_VALIDATION = "sem_search.validation_f_measure"
TAG_TEST = "sem_search.test_f_measure"
TAG_STUDY = "sem_search.study"
TAG_FILES = "sem_search.files_sha256"
"""Hash of the list that names every file of the model with its hash."""
TAG_DECISION = "sem_search.decision"
TAG_PREVIOUS = "sem_search.previous_champion"

HISTORY_PREFIX = "sem_search.history."
"""Tags of the registered model, one per move; what follows is the entry's number and the start of its hash."""
TAG_SETTLED = "sem_search.history_settled"
"""Hash of the last entry whose move was carried out: an entry after it was interrupted."""

MODEL_TAG_LENGTH = 5000
DESCRIPTION_LENGTH = 5000
