"""The registry: which version of a model is champion, why, since when, and whether all is still what was written.

MLflow has versions, aliases and tags (`versions`). It keeps no history of aliases (its issue 2169), and lets any
version take the champion's place. So every move is written down here, in a chain of hashes (`history`, `moves`); a
newcomer must beat the champion image by image (`gate`); history, files and data are checked by hash (`verification`).

Programs call the functions below; `sem-search registry` shows people what they return (`views`).
"""

from sem_search.deployment.registry.contents import export_version, fetch_model
from sem_search.deployment.registry.default_model import choose_model_name, complete_model_uri
from sem_search.deployment.registry.gate import GateRule, compare_versions
from sem_search.deployment.registry.moves import (
    RegisteredVersion,
    find_registered,
    promote_version,
    register_winner,
    roll_back,
)
from sem_search.deployment.registry.verification import verify_version
from sem_search.deployment.registry.versions import (
    TAG_AT_CHANCE,
    TAG_HEADLINE,
    TAG_PIXEL_SIZE,
    read_headline,
    resolve_model_uri,
    write_verdict,
)
from sem_search.deployment.registry.views import list_models, list_moves, list_versions, show_version

__all__ = [
    "TAG_AT_CHANCE",
    "TAG_HEADLINE",
    "TAG_PIXEL_SIZE",
    "GateRule",
    "RegisteredVersion",
    "choose_model_name",
    "compare_versions",
    "complete_model_uri",
    "export_version",
    "fetch_model",
    "find_registered",
    "list_models",
    "list_moves",
    "list_versions",
    "promote_version",
    "read_headline",
    "register_winner",
    "resolve_model_uri",
    "roll_back",
    "show_version",
    "verify_version",
    "write_verdict",
]
