"""The registry: which version of a model is champion, why, since when, and whether all is still what was written.

A version carries what leads back from an answer to its data, weights, study and score (its tags), and what it needs to
explain and defend itself (its record, see `package.record`). The champion is what is served. A newcomer takes its
place only if it beats it image by image on the same data and folds (`gate`), or if somebody decides so and says why
(`moving`). MLflow keeps no history of aliases (its issue 2169), so every move is kept here, as entries that hash-chain
(`entries`, `history`, `journal`), and `verifying` checks them, the model's files and its data.

The functions below are the whole of it for programs; `sem-search registry` offers the same for people.
Source of the words: MLflow's registry; challengers and champions are its own suggestion for aliases.
"""

from sem_search.deployment.registry.comparing import GateRule, VersionComparison, compare_versions
from sem_search.deployment.registry.contents import fetch_model
from sem_search.deployment.registry.entries import HistoryEntry
from sem_search.deployment.registry.listing import ModelOverview, list_models, list_moves, list_versions
from sem_search.deployment.registry.moving import Move, promote_version, roll_back
from sem_search.deployment.registry.registering import RegisteredVersion, register_winner
from sem_search.deployment.registry.showing import VersionView, show_version
from sem_search.deployment.registry.verifying import Verification, verify_version
from sem_search.deployment.registry.versions import resolve_model_uri

__all__ = [
    "GateRule",
    "HistoryEntry",
    "ModelOverview",
    "Move",
    "RegisteredVersion",
    "Verification",
    "VersionComparison",
    "VersionView",
    "compare_versions",
    "fetch_model",
    "list_models",
    "list_moves",
    "list_versions",
    "promote_version",
    "register_winner",
    "resolve_model_uri",
    "roll_back",
    "show_version",
    "verify_version",
]
