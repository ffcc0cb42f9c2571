"""Rows found by id, held against a dictionary: ids of any width, there once, twice or not at all."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aifeedback_dpo.lookup import Lookup, absent, distinct, find, find_sorted
from aifeedback_dpo.records import packed_ids

names = st.text("abc-9é", min_size=1, max_size=5)
lists = st.lists(names, max_size=12)


def first_of(ids: list[str]) -> dict[str, int]:
    return {name: at for at, name in reversed(list(enumerate(ids)))}


@given(lists, lists)
def test_an_id_is_found_where_it_lies_first(known, wanted):
    there = first_of(known)
    packed = packed_ids(known)
    assert find(packed, wanted).tolist() == [there.get(name, -1) for name in wanted]
    assert find(packed, packed_ids(wanted)).tolist() == find(packed, wanted).tolist()
    assert absent(wanted, packed).tolist() == [name not in there for name in wanted]


@given(lists, st.integers(0, 3))
def test_a_stretch_of_a_column_is_found_as_a_whole_one(ids, skipped):
    column = pa.chunked_array([pa.array(ids, pa.string())[:skipped], pa.array(ids, pa.string())[skipped:]])
    assert find(packed_ids(ids), column.slice(skipped)).tolist() == find(packed_ids(ids), ids[skipped:]).tolist()


@given(lists)
def test_each_id_is_distinct_once_in_the_order_in_which_they_come(ids):
    assert [name.decode() for name in distinct(packed_ids(ids))] == list(dict.fromkeys(ids))


@given(lists, lists)
@example(["a", "b"] * 20, ["b"])  # so many that a sort takes other ways
def test_a_lookup_is_a_mapping_with_the_first_value(ids, wanted):
    there = first_of(ids)
    for values in (list(range(len(ids))), np.arange(len(ids)), pa.array(range(len(ids)), pa.int64())):
        lookup = Lookup(ids, values)
        assert list(lookup) == ids and len(lookup) == len(ids)
        for name in (*ids, *wanted):
            assert (name in lookup) == (name in there)
            assert lookup.get(name) == there.get(name)
            assert type(lookup.get(name)) in (int, type(None))


def test_an_id_that_is_not_there_is_a_key_error():
    for ids in ([], ["abc"]):
        for name in ("ab", "abcd", "zzz", ""):
            with pytest.raises(KeyError):
                Lookup(ids, [0] * len(ids))[name]


@given(st.sets(st.text("abcdef0123", min_size=1, max_size=6)), st.lists(st.text("abcdef0123", min_size=1, max_size=6)))
def test_among_sorted_ids_the_same_are_found(known, wanted):
    ids = packed_ids(sorted(known))
    assert find_sorted(ids, wanted).tolist() == find(ids, wanted).tolist()
