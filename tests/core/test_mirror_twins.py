from voxelry.core.labels import Code, Label, LabelTable
from voxelry.core.mirror_twins import has_side, without_twin


def test_labels_without_a_twin():
    labels = (
        Label(value=1, name="left kidney", mirror="right kidney"),
        Label(value=2, name="right kidney", mirror="left kidney"),
        Label(value=3, name="left ventricle", mirror="left ventricle"),
        Label(value=4, name="liver"),
        Label(value=5, name="lung", modifier=Code(value="7771000", meaning="Left")),
        Label(value=6, name="femur R"),
        Label(value=7, name="tooth 36"),
    )
    assert LabelTable(labels=labels).mirror_classes() == (0, 2, 1, 3, 4, 5, 6, 7)
    assert without_twin(labels) == ["lung", "femur R", "tooth 36"]
    assert [has_side(label) for label in labels] == [True, True, False, False, True, True, True]
