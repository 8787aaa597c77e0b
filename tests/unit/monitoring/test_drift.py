from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from crrg.config.watch import DriftFinding, WatchSettings
from crrg.monitoring import drift
from crrg.monitoring.drift import chance_limit, compare, predicted_limit, psi, sparse_psi
from crrg.monitoring.quantities import ALIKE, CHOICES, Values
from crrg.monitoring.reference import Histogram, Reference, histograms
from tests.support.made_population import drafts_of, films_of, reference_of


def findings_of(reference: Reference, films: Values, drafts: tuple[Values, list[str]], **settings):
    patients = (len(films["film/view"]), len(drafts[1]), len(films["device/manufacturer"]))
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


def test_of_a_choice_its_name_and_share_are_told_and_of_a_label_the_positive_one():
    rng = np.random.default_rng(3)
    films, drafts = films_of(rng, 40), drafts_of(rng, 40)
    name = "draft/label/Lung Opacity"
    films["film/view"], drafts[0][name] = np.array([0.0] * 30 + [1] * 10), np.array([1.0] * 10 + [0] * 30)
    reference = reference_of(rng, 1000, 400)
    known = {"film/view": Histogram(counts=(200, 300, 0, 0, 0), mean=0.6), name: Histogram(counts=(3, 2), mean=0.6)}
    found = findings_of(reference.model_copy(update={"histograms": {**reference.histograms, **known}}), films, drafts)
    view, label, number = found["film/view"], found[name], found["film/exposure"]
    assert (view.choice, view.reference, view.night, view.shown) == ("AP", 0.6, 0.25, ("AP 0.6", "AP 0.25"))
    assert (label.choice, label.reference, label.night) == ("positive", 0.4, 0.25)
    assert label.shown == ("positive 0.4", "positive 0.25"), "positive drafts fell, and so does what is told"
    assert (number.choice, number.shown[0]) == ("", f"{number.reference:.3g}")


def test_a_finding_of_before_choices_were_named_is_still_read():
    older = {"quantity": "film/view", "psi": 0.2, "ks": 0, "limit": 0, "level": "ok", "reference": 0.5, "night": 0.25}
    assert DriftFinding.model_validate(older).shown == ("0.5", "0.25")


def test_a_new_maker_is_named_and_an_unknown_one_is_compared_with_nothing():
    rng = np.random.default_rng(8)
    reference = reference_of(rng, 1000, 400)
    films, drafts = films_of(rng, 30), drafts_of(rng, 30)
    night = films["device/manufacturer"]
    assert (len(night), findings_of(reference, films, drafts)["device/manufacturer"].level) == (24, "ok")
    night[:10] = CHOICES["device/manufacturer"].index("swissray")
    found = findings_of(reference, films, drafts)["device/manufacturer"]
    assert (found.level, found.ks) == ("stop", 0)
    assert found.reference == pytest.approx(0.3, abs=0.05)
    assert found.night == pytest.approx((night == 0).mean(), abs=1e-4)
    # too few patients whose maker is known, none at all, and a reference of before makers were known
    films["device/manufacturer"] = night[:19]
    assert "device/manufacturer" not in findings_of(reference, films, drafts)
    films["device/manufacturer"] = night[:0]
    assert "device/manufacturer" not in findings_of(reference, films, drafts)
    older = reference.model_dump(mode="json")
    del older["num_device_patients"], older["histograms"]["device/manufacturer"]
    films["device/manufacturer"] = night
    found = findings_of(Reference.model_validate(older), films, drafts)
    assert "device/manufacturer" not in found
    assert "film/exposure" in found


def test_what_neither_side_has_counts_for_nothing_and_all_else_as_ever():
    counts = np.array([30.0, 8.0, 2.0]), np.array([[10.0, 6.0, 4.0], [18.0, 0.0, 2.0]])
    padded = [np.insert(each, 1, 0, axis=-1) for each in counts]
    assert sparse_psi(*padded) == pytest.approx(psi(*counts))
    assert sparse_psi(np.array([20.0, 0]), np.array([[7.0, 0], [6, 1]]))[0] == 0


def test_what_a_small_reference_lacks_by_chance_alone_is_no_finding():
    rng, population = np.random.default_rng(11), [0.97, 0.03, *[0] * 8]
    counts = np.array([100, *[0] * 9])
    nights = rng.multinomial(80, population, 4000)
    found = (sparse_psi(counts, nights) > predicted_limit(counts, 80, 0.01)).mean()
    # 3 % of films are of a maker that one of twenty references of this size lacks; a limit without that doubt flags it
    assert found <= 0.01 < (psi(counts, nights) > chance_limit(counts, (100, 80), 0.01)).mean()


def test_makers_that_neither_side_has_do_not_raise_the_index():
    rng = np.random.default_rng(9)
    films = films_of(rng, 1000)
    films["device/manufacturer"][:] = 13
    reference = reference_of(rng, 1000, 400).model_copy(update={"histograms": histograms(films, 1000)})
    night = films_of(rng, 25)
    night["device/manufacturer"][:] = 13
    found = findings_of(reference, night, drafts_of(rng, 25))["device/manufacturer"]
    assert (found.psi, found.reference, found.night, found.level) == (0, 1, 1, "ok")


def test_a_reference_that_is_older_than_a_name_of_the_list_is_compared():
    rng = np.random.default_rng(10)
    films, reference = films_of(rng, 40), reference_of(rng, 1000, 400)
    histogram = Histogram(counts=(700, 100), mean=0.875)
    older = reference.model_copy(update={"histograms": {"device/manufacturer": histogram}})
    films["device/manufacturer"][:] = [0] * 20 + [13] * 12
    found = findings_of(older, films, drafts_of(rng, 40))["device/manufacturer"]
    assert (found.level, found.reference, found.night) == ("stop", 0.875, 0.625)


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


def test_values_that_results_round_stay_on_their_side_of_an_edge():
    """A rising calibration curve gives many films one probability, which then is an edge of the histogram."""
    rng = np.random.default_rng(0)
    floor = 0.001326259946949602
    values = np.where(rng.random(340) < 0.5, floor, rng.random(340))
    known = histograms({"draft/probability/Edema": values}, 340)["draft/probability/Edema"]
    stored = values.astype(np.float32).astype(np.float64)
    assert float(np.float32(floor)) < floor == known.edges[0]
    assert known.count(stored).tolist() == list(known.counts)
