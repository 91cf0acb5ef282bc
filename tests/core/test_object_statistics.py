"""ObjectStatistics: its numbers in words."""

from voxelry.core.object_statistics import ObjectStatistics


def test_a_set_without_objects() -> None:
    empty = ObjectStatistics(total=0, per_case=(0, 0, 0))
    assert ObjectStatistics(total=1, per_case=(1, 1, 1), diameter=(2, 2, 2)).describe().startswith("1 object, 1 to 1 a case")
    assert empty.describe() == "no objects"
    assert empty.median_diameter is None
    assert empty.share_touching == 0


def test_objects_in_words() -> None:
    some = ObjectStatistics(total=8, per_case=(1, 2.5, 4), diameter=(1, 20, 31.26), unit="pixels", touching=2, in_parts=1)
    assert some.describe() == (
        "8 objects, 1 to 4 a case (median 2.5), median diameter 20 pixels (90 % lie between 1 and 31.3), "
        "2 touch another (25 %), 1 in several parts"
    )
    assert (some.median_diameter, some.share_touching) == (20, 0.25)
