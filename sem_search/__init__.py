"""sem_search finds the transfer-learning settings that recognise materials in SEM micrographs.

Give it a folder of micrographs, one sub-folder per material:

    import sem_search as ss

    catalogue = ss.read_catalogue("micrographs")         # .table: one row for each image
    ss.inspect(catalogue)                                # findings, shown in a notebook
    study = ss.search("micrographs", backbone="vgg16")   # .trials, .best, .predictions, .figures, .report
    model = ss.load_model(study.model_uri)               # .predict(paths): a table

Importing this package loads no heavy library; each function loads what it needs when it is first called. All errors
that a user can cause or mend are `SemSearchError`; `sem_search.errors` lists them.
The way of the data, and with it the order of the rooms:

    micrographs -> transfer -> evaluation -> tracking -> audits -> deployment -> search -> cli
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sem_search.audits.learning_curve_answer import LearningCurveAudit
    from sem_search.audits.lot_judgement import LotJudgementAudit
    from sem_search.audits.lot_reference import LotReference
    from sem_search.audits.lots import LotsAudit
    from sem_search.audits.study_audit import StudyAudit
    from sem_search.audits.study_comparison import StudyComparison
    from sem_search.deployment.batch.model import Model
    from sem_search.errors import SemSearchError
    from sem_search.micrographs.catalogue import Catalogue
    from sem_search.micrographs.inspection.inspect import Inspection
    from sem_search.search.api import (
        audit,
        compare,
        inspect,
        learning_curve,
        load_model,
        load_study,
        lots,
        lots_reference,
        read_catalogue,
        search,
    )
    from sem_search.search.results.study_result import Study

__version__ = "0.1.0"

__all__ = [
    "Catalogue",
    "Inspection",
    "LearningCurveAudit",
    "LotJudgementAudit",
    "LotReference",
    "LotsAudit",
    "Model",
    "SemSearchError",
    "Study",
    "StudyAudit",
    "StudyComparison",
    "audit",
    "compare",
    "inspect",
    "learning_curve",
    "load_model",
    "load_study",
    "lots",
    "lots_reference",
    "read_catalogue",
    "search",
]

if not TYPE_CHECKING:
    _MODULES = {
        "Catalogue": "sem_search.micrographs.catalogue",
        "Inspection": "sem_search.micrographs.inspection.inspect",
        "LearningCurveAudit": "sem_search.audits.learning_curve_answer",
        "LotJudgementAudit": "sem_search.audits.lot_judgement",
        "LotReference": "sem_search.audits.lot_reference",
        "LotsAudit": "sem_search.audits.lots",
        "Model": "sem_search.deployment.batch.model",
        "SemSearchError": "sem_search.errors",
        "Study": "sem_search.search.results.study_result",
        "StudyAudit": "sem_search.audits.study_audit",
        "StudyComparison": "sem_search.audits.study_comparison",
    }
    """Where the types lie; the functions lie in `sem_search.search.api`."""

    def __getattr__(name):
        """Return a public name, loaded when it is first asked for (PEP 562)."""
        from importlib import import_module

        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "search":
            return import_module("sem_search.search")  # the package, which can be called: see there
        return getattr(import_module(_MODULES.get(name, "sem_search.search.api")), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
