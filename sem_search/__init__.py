"""sem_search finds the transfer-learning settings that recognise materials in SEM micrographs.

Give it a folder of micrographs, one sub-folder per material:

    import sem_search as ss

    catalogue = ss.read_catalogue("micrographs")         # .table: one row for each image
    ss.inspect(catalogue)                                # findings, shown in a notebook
    study = ss.search("micrographs", backbone="vgg16")   # .trials, .best, .predictions, .figures, .report
    model = ss.load_model(study.model_uri)               # .predict(paths): a table

Importing this package loads no heavy library; the first of its functions that is used loads them, within seconds.
The way of the data, and with it the order of the rooms:

    micrographs -> transfer -> evaluation -> tracking -> audits -> deployment -> search -> cli
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sem_search.search.api import (
        audit,
        compare,
        inspect,
        load_model,
        load_study,
        lots,
        read_catalogue,
        search,
    )

__version__ = "0.1.0"

__all__ = ["audit", "compare", "inspect", "load_model", "load_study", "lots", "read_catalogue", "search"]


def __getattr__(name: str) -> Any:
    """Return a public function, loaded when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "search":
        return import_module("sem_search.search")  # the package, which can be called: see there
    start = import_module("sem_search.transfer.runtime")
    start.quieten_start()
    start.load_tensorflow()
    return getattr(import_module("sem_search.search.api"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
