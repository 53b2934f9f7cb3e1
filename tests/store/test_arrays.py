"""Arrays come back bit by bit, or are refused."""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from store import DatabaseCorrupt, RunSpec, Store, UnstorableValue, begin_run, put_unit, read_array
from store.blobs import DTYPES, Blob, decode_blob, encode_blob

dtypes = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda name: st.sampled_from([np.dtype(name), np.dtype(name).newbyteorder(">")])
)
arrays = arrays_of.arrays(dtypes, arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))


@settings(max_examples=200, deadline=None)
@given(arrays, st.booleans())
def test_any_array_comes_back_bit_by_bit(array: Any, transposed: bool) -> None:
    given_array = array.T if transposed else array
    back = decode_blob(encode_blob(given_array, "x"), "here")
    native = given_array.astype(given_array.dtype.newbyteorder("="))
    assert back.dtype == native.dtype
    assert back.shape == native.shape
    assert back.tobytes() == native.tobytes()


def test_bytes_are_little_endian_in_c_order() -> None:
    blob = encode_blob(np.asfortranarray(np.array([[1, 2], [3, 4]], dtype=">u2")), "x")
    data = bytes([1, 0, 2, 0, 3, 0, 4, 0])
    assert blob == Blob("uint16", "[2,2]", data, zlib.crc32(b"uint16 [2,2]" + data))


def test_an_array_goes_through_the_database(store: Store, make_spec: Callable[..., RunSpec]) -> None:
    key = begin_run(store, make_spec(), {}).key
    array = np.array([[np.nan, -0.0], [np.inf, 1e-45]], dtype=np.float32)
    put_unit(store, key, 1, name="a", arrays={"x": array, "none": np.zeros((0, 3))}, seconds=0)
    assert read_array(store, key, 1, "x").tobytes() == array.tobytes()
    assert read_array(store, key, 1, "none").shape == (0, 3)
    with pytest.raises(ValueError, match="read-only"):
        read_array(store, key, 1, "x")[0] = 1


@pytest.mark.parametrize(
    "wrong",
    [
        np.array([object()]),
        np.array(["text"]),
        np.array([1j]),
        np.array([1], dtype="datetime64[s]"),
        np.zeros(1, dtype=[("a", "i4")]),
        [1, 2],
    ],
    ids=["objects", "text", "complex", "times", "records", "list"],
)
def test_anything_but_plain_numbers_is_refused(wrong: Any) -> None:
    with pytest.raises(UnstorableValue, match=r"'x'.*convert"):
        encode_blob(wrong, "x")


def test_an_array_beyond_the_limit_of_a_row_is_refused() -> None:
    with pytest.raises(UnstorableValue, match="split it"):
        encode_blob(np.broadcast_to(np.float64(0), (200_000, 1000)), "x")


@pytest.mark.parametrize(
    "blob",
    [
        Blob("float32", "[2]", b"1234567"),
        Blob("float32", "[-2]", b""),
        Blob("float32", "[2.0]", b"12345678"),
        Blob("float32", "two", b"12345678"),
        Blob("object", "[1]", b"12345678"),
        Blob("float32", '{"a": 1}', b""),
    ],
)
def test_a_blob_that_does_not_fit_its_shape_is_corrupt(blob: Blob) -> None:
    with pytest.raises(DatabaseCorrupt, match=r"here.*run it again"):
        decode_blob(blob, "here")
