import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from voxelry.errors import UsageError
from voxelry.inference.slice_writer import restore_logits


@st.composite
def restored(draw):
    dimensions = draw(st.sampled_from([2, 3]))
    shape = tuple(draw(st.integers(1, 12)) for _ in range(dimensions))
    return draw(st.integers(1, 7)), shape, tuple(draw(st.integers(1, 20)) for _ in shape)


@given(case=restored(), smooth=st.booleans())
@settings(max_examples=80)
def test_labels_are_those_of_full_interpolation(case, smooth):
    classes, shape, target = case
    logits = np.random.default_rng(0).normal(size=(classes, *shape)).astype(np.float32)
    if smooth:
        logits[0] += 2
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    values = interpolate(torch.from_numpy(logits)[None], size=target, mode=mode, align_corners=False)[0]
    labels = restore_logits(logits, target)
    assert labels.dtype == np.uint8
    top = values.topk(min(2, classes), 0).values
    clear = ((top[0] - top[-1]) > 1e-5).numpy() if classes > 1 else np.ones(target, bool)
    assert np.array_equal(labels[clear], values.argmax(0).numpy()[clear])
    assert clear.mean() > 0.98 or clear.size < 200


def test_chunks_and_half_floats_give_the_same():
    logits = np.random.default_rng(1).normal(size=(300, 7, 5, 6)).astype(np.float16)
    whole = restore_logits(logits, (12, 9, 8))
    assert whole.dtype == np.uint16
    chunks = (logits[:, first : first + 3] for first in range(0, 7, 3))
    assert np.array_equal(restore_logits(chunks, (12, 9, 8), size=logits.shape), whole)


def test_shapes_that_do_not_fit_are_refused():
    logits = np.zeros((2, 4, 4, 4), np.float32)
    with pytest.raises(UsageError, match="cannot become"):
        restore_logits(logits, (4, 4))
    with pytest.raises(UsageError, match="does not fit logits"):
        restore_logits([logits], (4, 4, 4), size=(3, 4, 4, 4))
    with pytest.raises(UsageError, match="4 slices of 5"):
        restore_logits([logits], (4, 4, 4), size=(2, 5, 4, 4))
