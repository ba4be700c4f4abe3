"""Which micrographs show the same place of the specimen: copies, overlapping fields, one field at two magnifications.

Such images must never be divided between training and test, and no file name shows which they are. Candidates come
first: pairs whose points agree (`candidates`), at the magnifications that the pixel sizes in the metadata give, also if
one is turned by quarters or mirrored; and pairs near to each other on the stage, where the instrument wrote that. Up to
FEW_IMAGES images, all pairs are candidates. Each candidate is registered (`registration`), which alone decides. Why,
and what was measured: docs/decisions/034-candidates.md, 010-same-places.md and 022-overlaps.md.

Missed, because they look like chance: lattices, stripes, and about half of the overlaps between fields where
a few particles lie on bare ground.

What is found is kept in the cache folder (`store`): of ten images added to ten thousand, ten are read and registered.
Cost: docs/performance.md.
"""

import dataclasses
import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from sem_search.errors import DataError
from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.overlaps.candidates import find_candidates
from sem_search.micrographs.overlaps.levels import Level, guess_scales, plan_levels
from sem_search.micrographs.overlaps.points import POINT, Points, find_points
from sem_search.micrographs.overlaps.registration import (
    Registration,
    Scene,
    Shape,
    build_plane,
    build_scene,
    register,
    turn_scene,
)
from sem_search.micrographs.overlaps.store import OverlapStore
from sem_search.micrographs.overlaps.turns import ANGLES, UPRIGHT
from sem_search.micrographs.threads import map_in_threads
from sem_search.progress import ProgressMeter

PairKind = Literal["identical_file", "identical_pixels", "overlapping"]

FEW_IMAGES = 100
"""Up to so many, all pairs are registered: 4,950 take 8 s of one processor."""
MAX_STAGE_PARTNERS = 4
SAME_ROTATION_DEG = 1.0
MAX_SCENES, MAX_PLANES = 128, 192
"""About 1 MB each. A few images are read once; of many, those of candidates are read again."""
WRITTEN_AT_ONCE = 100
JOINED_AT_ONCE = 500  # pictures whose points lie in one array


@dataclass(frozen=True, kw_only=True)
class SimilarPair:
    """Two images that show, in part or whole, the same place."""

    first: str
    second: str
    """Image ids, in the catalogue's order."""
    kind: PairKind
    overlap: float
    """Share of the smaller field's area that both show, in (0, 1]."""
    shift_px: tuple[int, int] | None
    """Row and column, in pixels of the first, where the upper left corner of the second, turned, lies."""
    correlation: float
    """Normalised correlation over the overlap, local brightness and contrast taken out, in [-1, 1]."""
    scale: float = 1.0
    """Size on the specimen of the second's pixels, in pixels of the first: 10 where the first is magnified 10 times."""
    is_mirrored: bool = False
    """Whether the second must be mirrored, left to right, to lie as the first."""
    turn_deg: int = 0
    """How far it must then be turned counter-clockwise: 0, 90, 180 or 270."""


@dataclass(frozen=True, kw_only=True, order=True)
class _Attempt:
    """One way in which the second of two different pictures may lie on the first; positions name them."""

    first: int
    second: int
    turn: int
    scale: float

    def name(self, records: Sequence[ImageRecord]) -> str:
        """Return the name of its result in the store."""
        ends = records[self.first].pixels_sha256, records[self.second].pixels_sha256
        return f"registration of {' and '.join(ends)}, turn {self.turn}, scale {self.scale!r}"


def find_similar_pairs(catalogue: Catalogue, *, progress: bool = False) -> tuple[SimilarPair, ...]:
    """Return the pairs of images that show the same place, in the catalogue's order.

    Of copies, the first stands for all (`find_copies`).

    Args:
        catalogue: The images; their files are read again, but for what the cache folder knows of them.
        progress: Show bars.

    Raises:
        UnreadableImageError: A file cannot be read any more.
        DataError: A file's pixels are not those that were catalogued.
    """
    with OverlapStore() as store:
        name = f"pairs of {_compute_digest(catalogue.records)}"
        known = store.read([name]).get(name)
        if known is None:
            found = _Search(catalogue, store=store, progress=progress).find_pairs()
            known = json.dumps([dataclasses.asdict(pair) for pair in found]).encode()
            store.write({name: known})
    pairs = [SimilarPair(**{**values, "shift_px": tuple(values["shift_px"])}) for values in json.loads(known)]
    return tuple(sorted((*pairs, *find_copies(catalogue)), key=lambda pair: (pair.first, pair.second)))


def find_copies(catalogue: Catalogue) -> tuple[SimilarPair, ...]:
    """Return each image whose pixels an earlier one has too, paired with the first that has them, in their order.

    Nothing is read: their hashes are equal. All pairs of 2,000 black frames would be two million.
    """
    pairs = [_describe_copy(first, copy) for first, *copies in _list_same(catalogue) for copy in copies]
    return tuple(sorted(pairs, key=lambda pair: (pair.first, pair.second)))


def group_similar(catalogue: Catalogue, pairs: Sequence[SimilarPair]) -> Catalogue:
    """Return the catalogue with images that show the same place in one group.

    Groups that the catalogue already has are never divided: they are joined, whole, where a pair connects them, and
    what connects A with B and B with C connects A with C. A joined group takes the name that sorts first.

    Args:
        catalogue: The images.
        pairs: Pairs among them.

    Raises:
        DataError: A pair names an image that is not in the catalogue.
    """
    group_of_image = {record.image_id: record.group for record in catalogue.records}
    names = sorted(set(group_of_image.values()))
    ids = sorted({image_id for pair in pairs for image_id in (pair.first, pair.second)} - set(group_of_image))
    if ids:
        raise DataError(f"similar images are given for {len(ids)} images that are not in the catalogue: {ids[0]}")
    index = {name: i for i, name in enumerate(names)}
    ends = [(index[group_of_image[pair.first]], index[group_of_image[pair.second]]) for pair in pairs]
    rows, columns = np.array(ends, dtype=np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(ends)), (rows, columns)), shape=(len(names), len(names)))
    _, component = connected_components(links, directed=False)
    joined: dict[int, str] = {}
    for name, number in zip(names, component, strict=True):
        joined.setdefault(int(number), name)
    return catalogue.with_groups(
        {image_id: joined[int(component[index[group]])] for image_id, group in group_of_image.items()}
    )


class _Search:
    """The search for overlapping images; of copies, the first stands for all."""

    def __init__(self, catalogue: Catalogue, *, store: OverlapStore, progress: bool) -> None:
        self._records = records = tuple(same[0] for same in _list_same(catalogue))
        self._store = store
        self._progress = progress

        @lru_cache(maxsize=MAX_SCENES)
        def get_scene(position: int, turn: int) -> Scene:
            if turn != UPRIGHT:
                return turn_scene(get_scene(position, UPRIGHT), turn)
            return build_scene(catalogue.read_image(records[position]))

        self._get_scene = get_scene
        self._get_plane = lru_cache(maxsize=MAX_PLANES)(build_plane)

    def find_pairs(self) -> list[SimilarPair]:
        """Return the overlapping pairs."""
        ways: dict[tuple[int, int], list[_Attempt]] = defaultdict(list)
        for attempt in self._list_attempts():
            ends = attempt.first, attempt.second
            ways[ends] += [attempt] if attempt not in ways[ends] else []
        found = self._register_first([ways[ends] for ends in sorted(ways)])
        return [
            _describe_overlap(
                attempt, registration, first=self._records[attempt.first], second=self._records[attempt.second]
            )
            for attempt, registration in found.items()
        ]

    def _register_first(self, tried: Sequence[Sequence[_Attempt]]) -> dict[_Attempt, Registration]:
        """Return the first attempt of each sequence that shows one place, and how the two then lie."""
        names = [attempt.name(self._records) for attempts in tried for attempt in attempts]
        known = {name: _decode(content) for name, content in self._store.read(names).items()}

        def register_first(
            attempts: Sequence[_Attempt],
        ) -> tuple[dict[_Attempt, Registration], dict[str, bytes]]:
            """Return the one that does, if any, and what was not known before."""
            new: dict[str, bytes] = {}
            for attempt in attempts:
                name = attempt.name(self._records)
                found = known[name] if name in known else self._register(attempt)
                if name not in known:
                    new[name] = json.dumps(found and dataclasses.asdict(found)).encode()
                if found is not None and found.is_match:
                    return {attempt: found}, new
            return {}, new

        results = map_in_threads(
            register_first, tried, label="Registering pairs", is_shown=self._progress and bool(tried), unit="pairs"
        )
        matches: dict[_Attempt, Registration] = {}
        with self._store.write_in_batches(WRITTEN_AT_ONCE) as keep:
            for found, new in results:
                matches |= found
                keep(new)
        return matches

    def _list_attempts(self) -> list[_Attempt]:
        """Return what is worth registering, the likeliest way of each pair first."""
        records, n_images = self._records, len(self._records)
        levels = plan_levels(records) if n_images > 1 else []
        points = self._get_points(levels)
        uses = Counter(use for level in levels for use in level.shapes.items())

        def take_points(use: tuple[int, Shape]) -> Points:
            """Return points, and forget them if no other level needs them: of 20,000 images they take 0.4 GB."""
            uses[use] -= 1
            return points[use] if uses[use] else points.pop(use)

        scored: list[tuple[int, _Attempt]] = []
        n_steps = sum(len(level.shapes) for level in levels)
        with ProgressMeter("Comparing images", total=n_steps, unit="images", is_shown=self._progress) as meter:
            for level in levels:
                at = list(level.shapes)
                shapes = list(level.shapes.values())
                found = find_candidates(map(take_points, level.shapes.items()), shapes, meter=meter)
                for candidate in found:
                    first, second = at[candidate.first], at[candidate.second]
                    scale = level.units[second] / level.units[first]
                    attempt = _Attempt(first=first, second=second, turn=candidate.turn, scale=scale)
                    scored.append((candidate.n_common, attempt))
        attempts = [attempt for _, attempt in sorted(scored, key=lambda one: (-one[0], one[1]))]
        near = combinations(range(n_images), 2) if n_images <= FEW_IMAGES else _find_stage_partners(records)
        for first, second in near:
            scales = guess_scales(records[first], records[second])
            attempts += [_Attempt(first=first, second=second, turn=UPRIGHT, scale=scale) for scale in scales]
        return attempts

    def _get_points(self, levels: Sequence[Level]) -> dict[tuple[int, Shape], Points]:
        """Return the points of all images at all levels, from the store where they are known."""
        names = {
            (position, shape): f"points of {self._records[position].pixels_sha256} at {shape[0]} x {shape[1]}"
            for level in levels
            for position, shape in level.shapes.items()
        }
        points: dict[tuple[int, Shape], Points] = {}
        keys = list(names)
        for start in range(0, len(keys), JOINED_AT_ONCE):
            some = {key: names[key] for key in keys[start : start + JOINED_AT_ONCE]}
            known = self._store.read(some.values())
            points |= _join({key: np.frombuffer(known[name], POINT) for key, name in some.items() if name in known})
        missing: dict[int, list[Shape]] = defaultdict(list)
        for position, shape in names.keys() - points.keys():
            missing[position].append(shape)

        def compute(position: int) -> dict[tuple[int, Shape], Points]:
            scene = self._get_scene(position, UPRIGHT)
            return {(position, shape): find_points(self._get_plane(scene, shape).values) for shape in missing[position]}

        computed = map_in_threads(
            compute, sorted(missing), label="Reducing images", is_shown=self._progress and bool(missing)
        )
        fresh: dict[tuple[int, Shape], Points] = {}
        with self._store.write_in_batches(WRITTEN_AT_ONCE) as keep:
            for new in computed:
                keep({names[key]: found.tobytes() for key, found in new.items()})
                fresh |= new
                if len(fresh) >= JOINED_AT_ONCE:
                    points |= _join(fresh)
                    fresh.clear()
        return points | _join(fresh)

    def _register(self, attempt: _Attempt) -> Registration | None:
        """Return where the two agree best in this way."""
        scenes = self._get_scene(attempt.first, UPRIGHT), self._get_scene(attempt.second, attempt.turn)
        return register(*scenes, scale=attempt.scale, get_plane=self._get_plane)


def _join(points: Mapping[tuple[int, Shape], Points]) -> dict[tuple[int, Shape], Points]:
    """Return the same points, as parts of one array: of many small ones, the memory is not given back."""
    if not points:
        return {}
    ends = np.cumsum([len(some) for some in points.values()])[:-1]
    return dict(zip(points, np.split(np.concatenate(list(points.values())), ends), strict=True))


def _list_same(catalogue: Catalogue) -> list[list[ImageRecord]]:
    """Return the images that have the same pixels together, in the catalogue's order."""
    same: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in catalogue.records:
        same[record.pixels_sha256].append(record)
    return list(same.values())


def _compute_digest(records: Sequence[ImageRecord]) -> str:
    """Return a hash of all that the pairs depend on."""
    rows = [(record.image_id, record.pixels_sha256, record.pixel_size_nm, record.stage) for record in records]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _decode(content: bytes) -> Registration | None:
    """Return a registration as it was kept."""
    values = json.loads(content)
    return None if values is None else Registration(**values)


def _find_stage_partners(records: Sequence[ImageRecord]) -> set[tuple[int, int]]:
    """Return pairs whose fields may touch by their places on the stage, for each image the few nearest.

    They are only more candidates. Other places exclude nothing: a specimen that is taken out and put back, a stage that
    was zeroed anew or a shifted beam gives one place other coordinates.
    """
    places = {
        at: (record.stage, math.hypot(record.width_px, record.height_px) * record.pixel_size_nm / 2e6)
        for at, record in enumerate(records)
        if record.stage is not None and record.pixel_size_nm is not None
    }
    if len(places) < 2:
        return set()
    at = list(places)
    coordinates = np.array([stage[:2] for stage, _ in places.values()])
    n_nearest = min(MAX_STAGE_PARTNERS + 1, len(at))
    distances, neighbours = KDTree(coordinates).query(coordinates, k=n_nearest)
    return {
        (min(one, other), max(one, other))
        for one, row, others in zip(at, distances, neighbours, strict=True)
        for distance, other in zip(row, (at[neighbour] for neighbour in others), strict=True)
        if one != other
        and distance <= places[one][1] + places[other][1]
        and abs(math.remainder(places[one][0][2] - places[other][0][2], 360)) <= SAME_ROTATION_DEG
    }


def _describe_overlap(
    attempt: _Attempt, found: Registration, *, first: ImageRecord, second: ImageRecord
) -> SimilarPair:
    """Return the pair of two images that were registered."""
    is_mirrored, turn_deg = ANGLES[attempt.turn]
    return SimilarPair(
        first=first.image_id,
        second=second.image_id,
        kind="overlapping",
        overlap=found.overlap,
        shift_px=(round(found.row_px), round(found.column_px)),
        correlation=found.correlation,
        scale=attempt.scale,
        is_mirrored=is_mirrored,
        turn_deg=turn_deg,
    )


def _describe_copy(first: ImageRecord, second: ImageRecord) -> SimilarPair:
    """Return the pair of two images whose pixels are equal."""
    return SimilarPair(
        first=first.image_id,
        second=second.image_id,
        kind="identical_file" if first.sha256 == second.sha256 else "identical_pixels",
        overlap=1.0,
        shift_px=(0, 0),
        correlation=1.0,
    )
