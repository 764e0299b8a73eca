"Properties of planes and pictures that no single example shows."
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hpa_lib.data.images import COLOURS, composite, read_plane, resize_plane, split_ref, to_uint8
from hpa_lib.data.samples import RGBY

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = st.text("abcXYZ019-._ ", min_size=1, max_size=8)


@FEW
@given(NAMES.filter(lambda o: o.strip(" .") == o and o), st.sampled_from(["R", "2", "ER"]))
def test_references(name, plane):
    path = f"folder#1/{name}.png"
    assert split_ref(path) == (path, None) and split_ref(f"{path}#{plane}") == (path, plane)


@FEW
@given(
    arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=8)),
    st.sampled_from(["16", "14", "12", "10", "8"]),
)
def test_depth_keeps_order_and_range(a, depth):
    a = a >> (16 - int(depth))
    b = to_uint8(a, depth)
    assert (b == np.floor(a / 2.0 ** (int(depth) - 8))).all()


@FEW
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)), st.integers(1, 20))
def test_resizing_stays_in_range(plane, size):
    small = resize_plane(plane, size)
    assert small.shape == (size, size) and plane.min() <= small.min() and small.max() <= plane.max()


@FEW
@given(arrays(np.uint8, st.tuples(st.just(4), st.integers(1, 5), st.integers(1, 5))))
def test_composite_adds_light(x):
    light = sum(p[..., None].astype(int) * COLOURS[c] for p, c in zip(x, RGBY))
    assert (composite(x) == light.clip(0, 255)).all()


@FEW
@given(st.binary(max_size=200))
def test_garbage_is_refused_by_name(tmp_path, junk):
    "No file content leads to anything but a plane or a named error"
    path = tmp_path / "junk.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + junk)
    with pytest.raises(ValueError, match="junk.png"):
        read_plane(path)
