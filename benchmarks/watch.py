"""How often the watch is wrong, and what it notices (``make bench-watch``).

False alarms: nights drawn from the population of their own reference, all quantities independent, which is the hardest
case. Degenerate: nights of drafts that are none, and quiet nights, beside validation drafts of which 60 % are alike.
Noticed: a reference of a demo root's training films, measured with its champion, beside the root's fresh films
and the same films with a share of them turned into negatives, brightened, or called lateral.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from crrg.config.base import Settings
from crrg.config.running import CHAMPION_MODEL
from crrg.config.watch import DriftFinding, WatchSettings
from crrg.data.dataset.pairs import read_pairs, resolve_dataset
from crrg.domain.study import Film, Split
from crrg.monitoring import drift
from crrg.monitoring.degenerate import Habits, find_faults, read_habits
from crrg.monitoring.quantities import draft_values, film_values, look_at
from crrg.monitoring.reference import Reference
from crrg.operations.drafter import bundle_pipeline
from crrg.operations.summaries import table
from crrg.operations.training.watch_reference import draft_look, measure_population
from crrg.registry.aliases import resolve_bundle
from crrg.storage import Storage
from tests.support.made_population import NORMAL, drafts_of, films_of, reference_of, texts_of

SIZES = (25, 100, 400, 2000)
NUM_DRAFTS = (5, 7, 10, 20, 30, 42, 60, 100, 200, 300)
SHARE_NORMAL = 0.6
SHARES = (0.05, 0.1, 0.2, 0.3, 1.0)
Change = Callable[[Film], Film]
Drafts = tuple[list[str], list[tuple[int, ...]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--references", type=int, default=20)
    parser.add_argument("--nights", type=int, default=100, help="Nights per reference and size.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", default="", help="A demo root with a champion; without it only false alarms.")
    options = parser.parse_args()
    print(
        table(("patients of the night", "warning at", "nights", "with a flag", "share"), list(_false_alarms(options)))
    )
    print()
    print(table(("drafts of the night", *map(str, NUM_DRAFTS)), list(_degenerate(options))))
    if options.root:
        print()
        storage = Storage(options.root)
        print(table(("night", "share of films", "flags"), list(_noticed(storage))))


def _false_alarms(options: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    rng = np.random.default_rng(options.seed)
    limit = drift.chance_limit
    tallied = cache(lambda counts, numbers, level: limit(np.array(counts), numbers, level))
    drift.chance_limit = lambda counts, numbers, level: tallied(tuple(np.asarray(counts).tolist()), numbers, level)
    for warn_psi in (0.1, 0.001):
        for size in SIZES:
            settings, num_flagged = WatchSettings(warn_psi=warn_psi), 0
            numbers = (size, size, size - size // 5)
            for _ in range(options.references):
                reference = reference_of(rng, 1500, 300)
                for _ in range(options.nights):
                    drafts, texts = drafts_of(rng, size)
                    found = drift.compare(reference, films_of(rng, size), drafts, texts, numbers, settings)
                    num_flagged += any(each.level != "ok" for each in found)
                tallied.cache_clear()
            num_nights = options.references * options.nights
            yield size, warn_psi, num_nights, num_flagged, f"{num_flagged / num_nights:.2%}"


def _degenerate(options: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    rng = np.random.default_rng(options.seed)
    drafts = read_habits(*texts_of(rng, 2000, SHARE_NORMAL))
    reports = Habits(num=2000, mean_words=drafts.mean_words)
    kinds: dict[str, Callable[[int], Drafts]] = {
        "one text for all, one set of labels": lambda num: ([NORMAL] * num, [(0,)] * num),
        "one text for all, labels as usual": lambda num: ([NORMAL] * num, texts_of(rng, num, SHARE_NORMAL)[1]),
        "all empty": lambda num: ([""] * num, texts_of(rng, num, SHARE_NORMAL)[1]),
        "all in loops": lambda num: ([f"{'lung ' * 9}{place}" for place in range(num)], [(0,)] * num),
        **{f"{share:.0%} normal": partial(texts_of, rng, share_normal=share) for share in (SHARE_NORMAL, 0.8, 0.95)},
    }
    for kind, make in kinds.items():
        refused = (
            sum(bool(find_faults(read_habits(*make(num)), reports, drafts)) for _ in range(options.nights))
            for num in NUM_DRAFTS
        )
        yield kind, *(f"{count / options.nights:.0%}" for count in refused)


def _noticed(storage: Storage) -> Iterator[tuple[object, ...]]:
    dataset = resolve_dataset(storage, "demo")
    fresh = resolve_dataset(storage, "demo-fresh")
    pipeline = bundle_pipeline(
        storage, resolve_bundle(CHAMPION_MODEL, storage, Settings(root=storage.root)).ref, "auto"
    )
    reference = measure_population(dataset, storage, pipeline)
    pairs = [pair for pair in read_pairs(storage, fresh, Split.TEST) if pair.film is not None]
    films = [pair.film for pair in pairs if pair.film is not None]
    num_patients = len({pair.patient_id for pair in pairs})
    drafts = [draft_look(draft) for draft in pipeline.draft(films)]
    found = drift.compare(
        reference, film_values([look_at(film) for film in films], [film.view_position.value for film in films]),
        draft_values(drafts), [draft.text for draft in drafts], (num_patients, num_patients, 0), WatchSettings(),
    )  # fmt: skip
    yield "as drawn", "-", _flags(found)
    changes: dict[str, Change] = {"negatives": _negative, "30 grey levels brighter": _brighter}
    for name, change in changes.items():
        for share in SHARES:
            yield (
                name,
                f"{share:.0%}",
                _flags(_films_alone(reference, _some(films, share, change), films, num_patients)),
            )
    for share in SHARES[:-1]:
        views = ["LATERAL"] * round(share * len(films))
        kept = films[len(views) :]
        found = _films_alone(reference, kept, kept, num_patients, views)
        yield "laterals", f"{share:.0%}", _flags(found)


def _films_alone(
    reference: Reference, films: Sequence[Film], frontal: Sequence[Film], num_patients: int, others: Sequence[str] = ()
) -> tuple[DriftFinding, ...]:
    views = [*(film.view_position.value for film in frontal), *others]
    values = film_values([look_at(film) for film in films], views)
    return drift.compare(reference, values, {}, [], (num_patients, 0, 0), WatchSettings())


def _some(films: Sequence[Film], share: float, change: Change) -> list[Film]:
    num_changed = round(share * len(films))
    return [change(film) for film in films[:num_changed]] + list(films[num_changed:])


def _negative(film: Film) -> Film:
    return _with_pixels(film, 255 - film.pixels)


def _brighter(film: Film) -> Film:
    return _with_pixels(film, np.minimum(film.pixels.astype(np.int16) + 30, 255).astype(np.uint8))


def _with_pixels(film: Film, pixels: NDArray[np.uint8]) -> Film:
    return Film(
        pixels, film.original_width, film.original_height, film.view_position, None, film.polarity_inverted, b""
    )


def _flags(findings: Sequence[DriftFinding]) -> str:
    return ", ".join(f"{each.quantity} {each.psi:.2f}" for each in findings if each.level != "ok") or "none"


if __name__ == "__main__":
    main()
