"""The search: prepares the data, runs Optuna's trials and registers the winner.

The package is called like the public function `sem_search.search`, and Python binds a package to its name as soon as it
is imported. So the package can be called as that function.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sem_search.search import api

if TYPE_CHECKING:
    from sem_search.search.results.study_result import Study


class _SearchPackage(ModuleType):
    """This package, which can be called as `sem_search.search`."""

    def __call__(self, data: api.Place = "demo", **settings: Any) -> "Study":
        return api.search(data, **settings)

    __call__.__doc__ = api.search.__doc__


sys.modules[__name__].__class__ = _SearchPackage
