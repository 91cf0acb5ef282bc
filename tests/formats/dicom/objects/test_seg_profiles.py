import pytest

from voxelry.errors import UsageError
from voxelry.formats.dicom.objects.seg_profiles import PROFILES, profile_of


def test_every_profile_is_explained_beside_its_name():
    from voxelry.formats.dicom.objects import seg_profiles as profiles

    for name in PROFILES:
        assert f"\n{name} " in profiles.__doc__


def test_an_unknown_profile_is_told_the_nearest():
    assert profile_of("ohif") is PROFILES["ohif"]
    with pytest.raises(UsageError, match=r"'ohiff'.*'ohif'"):
        profile_of("ohiff")
