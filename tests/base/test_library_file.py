import errno

import pytest

from helpers.full_disk import largest_file
from voxelry.base.files import atomic_path
from voxelry.base.library_file import library_file


def test_a_library_never_sees_a_failed_write(tmp_path):
    with largest_file(5), pytest.raises(OSError) as caught:  # noqa: SIM117
        with atomic_path(tmp_path / "x") as temporary, library_file(temporary) as file:
            assert [file.write(b"1234"), file.write(b"5678"), file.write(b"9"), file.tell()] == [4, 4, 1, 9]
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "x"))
    assert not list(tmp_path.iterdir())


def test_what_a_library_writes_is_in_the_file(tmp_path):
    with library_file(tmp_path / "x") as file:
        file.write(memoryview(b"abcd"))
        file.write(bytearray(b"ef"))
    assert (tmp_path / "x").read_bytes() == b"abcdef"
