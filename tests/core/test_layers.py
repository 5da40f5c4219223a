from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core import layers
from nodeagent.core.layers import Layers

KEYS = st.integers(0, 8)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.integers()),
        st.tuples(st.just("put all"), KEYS, st.integers()),
        st.tuples(st.just("delete"), KEYS, st.just(0)),
        st.tuples(st.just("copy"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


def is_like(table: Layers[int, int], model: dict[int, int]) -> None:
    assert table == model
    assert (len(table), set(table), dict(table.items())) == (len(model), set(model), model)
    for key in range(9):
        assert (key in table, table.get(key), table.get(key, -1)) == (key in model, model.get(key), model.get(key, -1))


@given(st.dictionaries(KEYS, st.integers()), STEPS, st.integers(0, 4))
def test_copies_are_tables_of_their_own(begin: dict[int, int], steps: list[tuple[str, int, int]], large: int) -> None:
    """After every step, every copy is still what it was."""
    table, model = Layers(begin), dict(begin)
    earlier: list[tuple[Layers[int, int], dict[int, int]]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "most_above", lambda _below: large)
        for what, key, value in steps:
            if what == "put":
                table[key] = model[key] = value
            elif what == "put all":
                several = {key: value, key + 1: value, value % 9: key}
                table.put_all(several)
                model |= several
            elif what == "delete":
                assert table.pop(key, None) == model.pop(key, None)
            else:
                earlier.append((table, dict(model)))
                table = table.copy()
            for one, expected in (*earlier, (table, model)):
                is_like(one, expected)


def test_what_is_not_there_cannot_be_deleted_or_read() -> None:
    table = Layers({1: "a"}).copy()
    del table[1]
    for key in (1, 2):
        with pytest.raises(KeyError):
            table[key]
        with pytest.raises(KeyError):
            del table[key]


def test_a_copy_shares_all_but_what_was_written_lately() -> None:
    table = Layers(dict.fromkeys(range(10_000)))
    most = layers.most_above(10_000)
    for key in range(most):
        table[key] = None
        table = table.copy()
    assert len(table._above) == most
    table[20_000] = None
    copied = table.copy()
    assert len(copied._above) == 0, "more than that is put into one layer, so that look-ups stay short"
    assert len(table._above) == most + 1, "another thread may be reading the one before"
