import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ranker.lens import Lens


@settings(max_examples=20, deadline=None)
@given(count=st.integers(0, 40), dim=st.integers(1, 12), rank=st.integers(1, 16), seed=st.integers(0, 100))
def test_vectors_come_out_as_unit_vectors(count: int, dim: int, rank: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    lens = Lens(dim, rank)
    lens.fit(vectors)
    seen = lens(torch.from_numpy(np.concatenate([vectors, np.zeros((1, dim), np.float32)])))
    assert seen.shape == (count + 1, min(dim, rank))
    assert torch.isfinite(seen).all()
    assert not seen[-1].any()
    lengths = seen[:-1].norm(dim=-1)
    # A lone vector is its own mean: nothing is left of it but rounding.
    assert count < 3 or dim < 2 or torch.all((lengths - 1).abs() < 1e-3)


def test_a_shared_direction_is_taken_off() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((200, 16)) + 5).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (vectors @ vectors.T).mean() > 0.9
    lens = Lens(16, 8)
    lens.fit(vectors)
    seen = lens(torch.from_numpy(vectors))
    assert abs(float((seen @ seen.T).mean())) < 0.05


def test_rows_of_zeros_do_not_shape_the_lens() -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    holed = np.concatenate([vectors, np.zeros((20, 6), np.float32)])
    lenses = Lens(6, 4), Lens(6, 4)
    for lens, seen in zip(lenses, (vectors, holed), strict=True):
        lens.fit(seen)
    assert torch.equal(lenses[0].directions, lenses[1].directions)
