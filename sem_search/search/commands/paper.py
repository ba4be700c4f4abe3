"""`mlflow run . -e paper` and `sem-search paper`: a study for each backbone, their comparison, and one page of all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sem_search.audits.study_comparison import StudyComparison, compare_studies, list_comparison
from sem_search.disk_errors import explain_disk_errors
from sem_search.errors import WeightsError
from sem_search.micrographs.csv_table import read_class_facts
from sem_search.places import PAPER
from sem_search.progress import Show, show_nothing
from sem_search.search.commands.command_line import write_paper_command
from sem_search.search.commands.compare import check_comparable, iter_differing_settings
from sem_search.search.commands.search import begin_search, finish_search
from sem_search.search.prepare.data import PreparedData
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.prepare.study_folder import write_report
from sem_search.search.results.conclusion import Conclusion, show_path, wrap
from sem_search.search.trials.study import load_study
from sem_search.settings import DEMO, SearchSettings
from sem_search.tracking.entries.types import Artifact, JsonArtifact
from sem_search.tracking.mlflow.links import format_links, link_run
from sem_search.tracking.mlflow.log import log_entries
from sem_search.tracking.mlflow.own_runs import log_to_own_run, spare_own_run
from sem_search.tracking.mlflow.runs import open_side_run
from sem_search.tracking.report.answer_page import build_answer_page
from sem_search.tracking.report.paper_page import PaperStudy, build_paper_answer
from sem_search.transfer.weights.choice import check_weights
from sem_search.words import name_some

KIND = "paper"
"""Of the page's run."""


@dataclass(frozen=True, kw_only=True)
class PaperResult:
    """What the command ends with."""

    conclusions: tuple[Conclusion, ...]
    """One for each backbone."""
    comparisons: tuple[StudyComparison, ...]
    """The first study against each other one."""
    page: Path
    links: Mapping[str, str]
    """Addresses of MLflow's pages by what they show."""

    def to_text(self) -> str:
        """Return the last lines that the command prints."""
        lines = []
        for one in self.conclusions:
            outcome, kept = one.outcome, ", which was finished" if one.was_finished else ""
            lines += wrap(f"{outcome.backbone}: {one.verdict.headline}.")
            lines += wrap(
                f"  Study {outcome.name}{kept}: {outcome.winner.cell.to_text()}, F-measure on test tiles "
                f"{one.test.f_measure:.3f}."
            )
        for compared in self.comparisons:
            answer = compared.to_answer()
            lines += ["", *wrap(f"{answer.verdict}. {answer.sentence}")]
        return "\n".join(["", *lines, "", f"Read the page:  {show_path(self.page)}", format_links(self.links)])


def run_paper(searches: Sequence[SearchSettings], *, show: Show = show_nothing) -> PaperResult:
    """Search every backbone, compare the winners, and write the page; the same searches again go on where they stand.

    Nothing is trained before the data and the weights of all searches are known to be good.

    Args:
        searches: One for each backbone, alike in data and folds; the first is compared with the others.
        show: Shows what is searched, on what data, with which weights.

    Raises:
        InputError: Data, weights or settings cannot be used; nothing was trained.
        StoreError: A database, the tracking server or the disk does not answer, or did not stay.
    """
    with explain_disk_errors():
        prepared = _begin_all(searches, show=show)
        facts = collect_class_facts(prepared[0].data, settings=searches[0])
        weights = [one.network.weights.used for one in prepared]
        with spare_own_run():
            # Each is let go when it is done: the features of two backbones need not fit into memory.
            conclusions = tuple(finish_search(prepared.pop(0)) for _ in searches)
        comparisons = tuple(_compare(searches, conclusions=conclusions))
        answer = build_paper_answer(
            [
                PaperStudy(outcome=one.outcome, weights_used=used, figures={entry.path: entry for entry in one.figures})
                for one, used in zip(conclusions, weights, strict=True)
            ],
            comparisons=[compared.to_answer() for compared in comparisons],
            facts=facts,
        )
        page = build_answer_page(answer, path=PAPER, command=write_paper_command(searches))
        file = write_report(page.text, settings=searches[0], name=conclusions[0].outcome.name, page=PAPER)
        numbers = JsonArtifact(path="paper.json", content=[list_comparison(compared) for compared in comparisons])
        run_id = _log([page, numbers], name=f"paper: {', '.join(one.backbone for one in searches)}")
    links = {"page": link_run(run_id, artifact=PAPER)} | {
        one.outcome.backbone: one.links["study"] for one in conclusions
    }
    return PaperResult(conclusions=conclusions, comparisons=comparisons, page=file, links=links)


def _begin_all(searches: Sequence[SearchSettings], *, show: Show) -> list[PreparedSearch]:
    """Return the searches, ready to train; `auto` may not have found better weights for one backbone than another."""
    for settings in searches:
        check_weights(settings.weights, backbone=settings.backbone)
    prepared = [begin_search(settings, show=show) for settings in searches]
    used = {one.settings.backbone: one.network.weights.used for one in prepared}
    if len(set(used.values())) > 1:
        found = ", ".join(f"{name} has {weights}" for name, weights in used.items())
        raise WeightsError(
            f"weights={prepared[0].settings.weights}: {found}. Weights, not backbones, would be compared: name weights "
            "that each of these backbones can have, or other backbones."
        )
    return prepared


def _compare(searches: Sequence[SearchSettings], *, conclusions: Sequence[Conclusion]) -> Iterator[StudyComparison]:
    """Yield the comparison of the first winner with each other one."""
    studies = [
        load_study(name=one.outcome.name, storage=settings.storage)
        for one, settings in zip(conclusions, searches, strict=True)
    ]
    for study, settings, conclusion in list(zip(studies, searches, conclusions, strict=True))[1:]:
        check_comparable(studies[0], study)
        differing = iter_differing_settings((studies[0], study), (searches[0], settings))
        yield compare_studies(conclusions[0].outcome, conclusion.outcome, settings=tuple(differing))


def collect_class_facts(data: PreparedData, *, settings: SearchSettings) -> dict[str, dict[str, str]]:
    """Return what Table 1 says of each class beside its numbers, by column: sizes, and what a CSV says besides."""
    path = Path(settings.data).expanduser()
    of_csv = read_class_facts(path) if settings.data != DEMO and path.is_file() else {}
    facts = {}
    for label in data.tiles.class_names:
        records = [record for record in data.catalogue.records if record.label == label]
        sizes_px = {f"{record.width_px} x {record.height_px}" for record in records}
        sizes_nm = {f"{record.pixel_size_nm:.4g}" for record in records if record.pixel_size_nm is not None}
        pixels = {"Size (px)": name_some(sizes_px), "Pixel size (nm)": name_some(sizes_nm or {"not stated"})}
        facts[label] = pixels | of_csv.get(label, {})
    return facts


def _log(entries: Sequence[Artifact], *, name: str) -> str:
    """Log the page to the run that `mlflow run` opened, else to one of its own, and return the run's id."""
    run_id = log_to_own_run(entries, kind=KIND, name=name)
    if run_id is None:
        with open_side_run(kind=KIND, name=name) as run_id:
            log_entries(entries, run_id=run_id)
    return run_id
