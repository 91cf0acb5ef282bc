"""A Rust panic becomes an error that can be caught; anything else passes as it is."""

import pytest

from voxelry.formats.dicom.pixels.panics import panics_as_errors


class PanicException(BaseException):
    pass


def test_a_panic_becomes_a_runtime_error():
    with pytest.raises(RuntimeError, match="out of bounds"), panics_as_errors():
        raise PanicException("index out of bounds")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError, SystemExit])
def test_anything_else_stays_what_it_is(kind):
    with pytest.raises(kind), panics_as_errors():
        raise kind
