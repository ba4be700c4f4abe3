"""What is in a data set and what is wrong with it, before a network learns from it.

Kinds of findings (`Finding.kind`), in the order in which they are looked for:

    unusable_file, reading, nested_classes
                                         files left out; what reading had to say; other folders may be the classes
    class_too_small, unequal_classes     too few separate fields for the folds; very unequal classes
    identical_files, identical_pixels, same_field, overlapping_fields, zoomed_field, label_conflict, groups_joined,
    same_moment                          images that show the same place, also under two labels, or in two groups
    data_bar                             the instrument's bar left on
    confounded_*, single_session, telling_*
                                         how an image was taken gives its class away
    name_contradicts_*                   date, detector or voltage in the name against the metadata
    mixed_*                              how images were taken differs within a class
    almost_constant, clipped_white, clipped_black, hollow_bits, few_tiles
                                         single images to look at
    no_pixel_size, no_session, no_detector
                                         what the files do not contain

Findings of one kind are joined: how many there are, a few examples, what to do; each is in `Finding.details`.

The JSON, whose names and meanings stay: `schema` (1); `data` (the folder's name); `digest` of the catalogue;
`n_images`; `n_fields`, groups after images of the same place are joined, as far as `overlaps` lets them; `classes`, a
list of `name`, `n_images`, `n_fields`, `sessions`, `pixel_sizes`, `bit_depths`, `image_sizes`, `detectors` (each list
value -> number of images); `pairs`, a list of `SimilarPair` by its fields; `confounds`, a list of `attribute`,
`n_images`, `n_right`, `n_right_by_chance`, `p_value`, `given_away`, `is_warning`, `table` (class -> value -> number of
images); `findings`, a list of `Finding` by its fields but for `advice`, which `message` holds, errors first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.inspection import report as inspection_report
from sem_search.micrographs.inspection.checks import (
    DEFAULT_GRID,
    find_missing_metadata,
    find_pixel_faults,
    find_reading_troubles,
    find_small_classes,
)
from sem_search.micrographs.inspection.confounds import Confound, compute_confounds, find_confounds, find_mixtures
from sem_search.micrographs.inspection.data_bars import choose_bar_images, find_data_bars
from sem_search.micrographs.inspection.file_names import find_name_contradictions
from sem_search.micrographs.inspection.finding import SEVERITIES, Finding, join_findings
from sem_search.micrographs.inspection.overlap_findings import (
    find_joined_groups,
    find_same_moments,
    find_similar_images,
)
from sem_search.micrographs.inspection.pixel_sizes import advise_on_pixel_size
from sem_search.micrographs.inspection.survey import Survey, build_thumbnail, survey_pixels
from sem_search.micrographs.overlaps.similarity import SimilarPair, find_copies, find_similar_pairs, group_similar
from sem_search.micrographs.threads import map_in_threads
from sem_search.micrographs.tiles import TileGrid
from sem_search.words import count

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Finding", "Inspection", "Overlaps", "inspect_catalogue"]

Overlaps = Literal["group", "report", "ignore"]
"""What is done about images that show the same place: kept in one group, only reported, or not looked for.

Copies are kept in one group always: equal pixels are no matter of opinion.
"""


@dataclass(frozen=True, kw_only=True, repr=False)
class Inspection:
    """A catalogue and what was found in it."""

    catalogue: Catalogue
    """As it was given: images of the same place are not yet in one group."""
    pairs: tuple[SimilarPair, ...]
    findings: tuple[Finding, ...]
    """Errors first, then warnings, then notes; of one severity in the order of the module's list."""
    overlaps: Overlaps = "group"
    confounds: tuple[Confound, ...] = ()
    """How well each attribute that differs predicts the class, the best first."""
    thumbnails: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """A small JPEG of each image that the page shows, by image id."""

    @property
    def joining(self) -> tuple[SimilarPair, ...]:
        """The pairs whose images a search keeps in one group."""
        return choose_joining(self.pairs, overlaps=self.overlaps)

    @property
    def grouped(self) -> Catalogue:
        """The catalogue with images of the same place in one group, as far as `overlaps` lets them."""
        return group_similar(self.catalogue, self.joining)

    @property
    def table(self) -> "pd.DataFrame":
        """One row for each finding."""
        import pandas as pd

        rows = [(found.severity, found.kind, found.message) for found in self.findings]
        return pd.DataFrame(rows, columns=["severity", "kind", "message"])

    def __repr__(self) -> str:
        return f"<Inspection of {count(len(self.catalogue.records), 'image')}: {count(len(self.findings), 'finding')}>"

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_json(self) -> str:
        """Return all but the thumbnails as JSON; the module's docstring gives its form."""
        return inspection_report.render_json(self)

    def to_text(self) -> str:
        """Return a report for the terminal, at most 100 columns wide."""
        return inspection_report.render_text(self)

    def to_html(self, *, next_command: str | None = None) -> str:
        """Return a report as one HTML file that loads nothing and runs nothing, with thumbnails.

        Args:
            next_command: The search of these data, to be typed next.
        """
        return inspection_report.render_html(self, next_command=next_command)


def inspect_catalogue(
    catalogue: Catalogue,
    *,
    n_folds: int = 5,
    grid: TileGrid = DEFAULT_GRID,
    overlaps: Overlaps = "group",
    pixel_size_nm: float | None = None,
    progress: bool = False,
) -> Inspection:
    """Return what is wrong with a catalogue, or worth knowing of it.

    Args:
        catalogue: The images; their files are read again.
        n_folds: Folds that the classes must be large enough for.
        grid: The tiles that will be cut from the images.
        overlaps: What a search does about images of the same place.
        pixel_size_nm: To which a search brings all images. They are inspected as their files have them: copies,
            overlaps and data bars are found best there.
        progress: Show bars.

    Raises:
        SettingsError: `n_folds` is below 3.
        UnreadableImageError: A file cannot be read any more.
    """
    edges_of, shown = choose_bar_images(catalogue), inspection_report.list_gallery(catalogue)
    survey = survey_pixels(catalogue, edges_of=edges_of, shown=shown, progress=progress)
    pairs = find_copies(catalogue) if overlaps == "ignore" else find_similar_pairs(catalogue, progress=progress)
    confounds = compute_confounds(catalogue)
    found = _iter_findings(
        catalogue,
        survey=survey,
        pairs=pairs,
        confounds=confounds,
        overlaps=overlaps,
        n_folds=n_folds,
        grid=grid,
        pixel_size_nm=pixel_size_nm,
    )
    findings = tuple(sorted(join_findings(found), key=lambda finding: SEVERITIES.index(finding.severity)))
    return Inspection(
        catalogue=catalogue,
        pairs=pairs,
        overlaps=overlaps,
        findings=findings,
        confounds=confounds,
        thumbnails=_add_thumbnails(survey.thumbnails, catalogue=catalogue, pairs=pairs, findings=findings),
    )


def _iter_findings(
    catalogue: Catalogue,
    *,
    survey: Survey,
    pairs: Sequence[SimilarPair],
    confounds: Sequence[Confound],
    overlaps: Overlaps,
    n_folds: int,
    grid: TileGrid,
    pixel_size_nm: float | None,
) -> Iterator[Finding]:
    """Yield the findings in the order of the module's list."""
    joining = choose_joining(pairs, overlaps=overlaps)
    yield from find_reading_troubles(catalogue)
    yield from find_small_classes(catalogue, joining, n_folds=n_folds)
    yield from find_similar_images(catalogue, pairs, is_grouped=overlaps == "group")
    yield from find_joined_groups(catalogue, joining)
    yield from find_same_moments(catalogue, pairs)
    yield from find_data_bars(catalogue, survey.edges)
    pixel_advice = advise_on_pixel_size(catalogue, grid=grid, pixel_size_nm=pixel_size_nm)
    yield from find_confounds(catalogue, confounds, pixel_advice=pixel_advice)
    yield from find_name_contradictions(catalogue)
    yield from find_mixtures(catalogue, is_brought_to_one=pixel_size_nm is not None)
    yield from find_pixel_faults(catalogue.at_pixel_size(pixel_size_nm), survey.facts, grid=grid)
    yield from find_missing_metadata(catalogue)


def _add_thumbnails(
    thumbnails: Mapping[str, bytes],
    *,
    catalogue: Catalogue,
    pairs: Sequence[SimilarPair],
    findings: Sequence[Finding],
) -> Mapping[str, bytes]:
    """Return the thumbnails with those of the images that findings show, which are read again."""
    wanted = set(inspection_report.list_suspects(pairs, findings=findings)) - set(thumbnails)
    missing = [record for record in catalogue.records if record.image_id in wanted]
    pictures = map_in_threads(
        lambda record: build_thumbnail(catalogue.read_image(record)), missing, label="Thumbnails", is_shown=False
    )
    return {**thumbnails, **{record.image_id: picture for record, picture in zip(missing, pictures, strict=True)}}


def choose_joining(pairs: Sequence[SimilarPair], *, overlaps: Overlaps) -> tuple[SimilarPair, ...]:
    """Return the pairs whose images a search keeps in one group."""
    return tuple(pair for pair in pairs if overlaps == "group" or pair.kind != "overlapping")
