from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from crrg.config.watch import WatchSettings
from crrg.monitoring import drift
from crrg.monitoring.drift import chance_limit, compare, psi
from crrg.monitoring.quantities import ALIKE, Values
from crrg.monitoring.reference import Reference
from tests.support.made_population import drafts_of, films_of, reference_of


def findings_of(reference: Reference, films: Values, drafts: tuple[Values, list[str]], **settings):
    patients = (len(films["film/view"]), len(drafts[1]))
    return {
        each.quantity: each for each in compare(reference, films, *drafts, patients, WatchSettings(**settings))
    }  # fmt: skip


def test_index_by_hand():
    shares = (0.6, 0.4), (0.3, 0.7)
    expected = (0.3 - 0.6) * np.log(0.3 / 0.6) + (0.7 - 0.4) * np.log(0.7 / 0.4)
    assert psi(np.array(shares[0]) * 1e9, np.array(shares[1]) * 1e9) == pytest.approx(expected, rel=1e-6)
    assert psi(np.array([5, 5]), np.array([50, 50])) == pytest.approx(0, abs=1e-12)


def test_limit_of_chance_falls_with_the_size_and_holds_its_probability():
    counts = np.array([60, 60, 60, 60])
    small, large = (chance_limit(counts, (240, size), 0.01) for size in (20, 2000))
    assert small > 3 * large
    rng = np.random.default_rng(5)
    drawn = psi(*(rng.multinomial(size, counts / counts.sum(), 20_000) for size in (240, 20)))
    assert 0.002 < (drawn > small).mean() < 0.01


@pytest.mark.parametrize("num_night", [25, 300])
def test_a_night_of_the_training_population_raises_a_flag_in_at_most_one_of_a_hundred(monkeypatch, num_night):
    # the index alone never decides here: every flag that is raised is one that chance got past its limit
    tallied = cache(lambda counts, numbers, level: chance_limit(np.array(counts), numbers, level))
    monkeypatch.setattr(drift, "chance_limit", lambda counts, *rest: tallied(tuple(counts.tolist()), *rest))
    repeated = cache(lambda _reference, numbers, level, limit=drift._repeats_limit: limit(known[-1], numbers, level))
    monkeypatch.setattr(drift, "_repeats_limit", lambda reference, *rest: repeated(reference.repeats, *rest))
    rng, known, num_flagged = np.random.default_rng(num_night), [], 0
    for _ in range(2):
        known.append(reference_of(rng, 1000, 250))
        for _ in range(100):
            found = findings_of(known[-1], films_of(rng, num_night), drafts_of(rng, num_night), warn_psi=0.001)
            num_flagged += any(each.level != "ok" for each in found.values())
    assert num_flagged <= 6, "2 of 200 are allowed on average; 7 would come in one of two hundred runs of this test"


def test_every_quantity_that_changes_is_named_and_no_other():
    rng = np.random.default_rng(3)
    reference = reference_of(rng, 1000, 400)
    films, (drafts, texts) = films_of(rng, 300), drafts_of(rng, 300)
    films["film/likeness"] = -films["film/likeness"]
    films["film/view"][:90] = 2
    drafts["draft/label/Edema"][:] = 1
    texts[:200] = ["all clear"] * 200
    found = findings_of(reference, films, (drafts, texts))
    assert {name for name, each in found.items() if each.level != "ok"} == {
        "film/likeness", "film/view", "draft/label/Edema", ALIKE
    }  # fmt: skip
    assert found["film/likeness"].level == "stop"
    assert found["film/likeness"].ks == pytest.approx(1, abs=0.15)
    assert found["film/likeness"].reference == pytest.approx(0.5, abs=0.02)
    assert found["film/likeness"].night == pytest.approx(-0.5, abs=0.02)
    assert found[ALIKE].night > 0.6 > found[ALIKE].reference


def test_thresholds_are_the_form_s():
    rng = np.random.default_rng(4)
    reference = reference_of(rng, 1000, 400)
    films = films_of(rng, 400)
    films["film/exposure"] += 0.05
    found = findings_of(reference, films, drafts_of(rng, 400))["film/exposure"]
    assert (found.level, found.psi > 0.1) == ("warn" if found.psi < 0.25 else "stop", True)
    assert findings_of(reference, films, drafts_of(rng, 400), warn_psi=4, stop_psi=4)["film/exposure"].level == "ok"
    assert findings_of(reference, films, drafts_of(rng, 400), stop_psi=0.11)["film/exposure"].level == "stop"
    with pytest.raises(ValueError, match="stop_psi"):
        WatchSettings(warn_psi=0.3, stop_psi=0.2)


def test_fewer_equal_texts_than_expected_are_no_finding():
    rng = np.random.default_rng(6)
    reference = reference_of(rng, 1000, 400)
    drafts, texts = drafts_of(rng, 300)
    different = [f"text number {number}" for number in range(len(texts))]
    assert findings_of(reference, films_of(rng, 300), (drafts, different))[ALIKE].level == "ok"
