from __future__ import annotations

import pytest

from crrg.data.map_ahead import DEPTH, map_ahead


def test_results_come_in_order_each_once():
    assert list(map_ahead(lambda value: value * 2, range(100))) == [value * 2 for value in range(100)]


@pytest.mark.parametrize("depth", [2, DEPTH])
def test_only_a_bounded_number_of_inputs_is_taken_ahead(depth):
    taken = []

    def values():
        for value in range(10 * DEPTH):
            taken.append(value)
            yield value

    results = map_ahead(lambda value: value, values(), depth)
    assert next(results) == 0
    assert len(taken) == depth
    results.close()
    assert len(taken) == depth


def test_nothing_in_nothing_out():
    assert list(map_ahead(lambda value: value, [])) == []


def test_an_error_of_the_work_reaches_the_caller():
    def work(value):
        return 1 // (3 - value)

    results = map_ahead(work, range(5))
    with pytest.raises(ZeroDivisionError):
        list(results)
