"""The search: prepares the data, runs Optuna's trials and registers the winner.

The package is called like the public function `sem_search.search`, and Python binds a package to its name as soon as it
is imported. So the package can be called as that function.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sem_search.search.results.study_result import Study


class _SearchPackage(ModuleType):
    """This package, which can be called as `sem_search.search`."""

    def __call__(self, data: Any = "demo", **settings: Any) -> "Study":
        """Search; see `sem_search.search.api.search`."""
        from sem_search.transfer.runtime import load_tensorflow, quieten_start

        quieten_start()
        load_tensorflow()
        from sem_search.search import api

        return api.search(data, **settings)


sys.modules[__name__].__class__ = _SearchPackage
