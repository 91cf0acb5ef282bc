import pytest

from voxelry.base.schema import parse
from voxelry.datasets.card import Card
from voxelry.errors import ManifestError

PLAIN = {"name": "set", "modality": "CT", "labels": [{"value": 1, "name": "liver"}, {"value": 3, "name": "spleen"}], "ignore": 2}


def test_the_table_holds_labels_and_ignore_value():
    card = parse(Card, PLAIN, "set.yaml", ManifestError)
    assert card.table.names == ("liver", "spleen")
    assert card.table.ignore == 2
    assert card.channels == ("image",)


def test_the_reference_channel_is_one_of_the_channels():
    assert parse(Card, PLAIN, "set.yaml", ManifestError).reference is None
    card = parse(Card, PLAIN | {"channels": ["CT", "PET"], "reference_channel": "PET"}, "set.yaml", ManifestError)
    assert card.reference == 1


def test_rows_of_labels_are_read_with_their_options():
    rows = [{"name": "row", "labels": ["spleen", "liver"], "optional": ["liver"]}]
    assert parse(Card, PLAIN | {"sequences": rows}, "set.yaml", ManifestError).sequences[0].labels == ("spleen", "liver")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["liver", "splen"]], "'splen' of sequence 'row 0' is not among the labels. Did you mean 'spleen'"),
        ([["liver", "spleen"], ["liver", "kidney"]], "label 'liver' is in sequences 'row 0' and 'row 1'"),
        ([["liver", "lesion"]], "the labels of sequence 'row 0' lie on several layers"),
        ([["liver", "liver"]], "liver occurs twice in sequence 'row 0'"),
    ],
)
def test_a_wrong_row_of_labels_is_told(rows, message):
    more = [*PLAIN["labels"], {"value": 4, "name": "kidney"}, {"value": 1, "name": "lesion", "layer": 1}]
    sequences = [{"name": f"row {number}", "labels": labels} for number, labels in enumerate(rows)]
    with pytest.raises(ManifestError) as caught:
        parse(Card, PLAIN | {"labels": more, "sequences": sequences}, "set.yaml", ManifestError)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"license": "CC0"}, "unknown key 'license'. Did you mean 'licence'"),
        ({"modality": "magnetic"}, "key 'modality' is 'magnetic'"),
        ({"dimensions": 4}, "key 'dimensions' is 4"),
        ({"name": "a/b"}, "key 'name' is 'a/b': it cannot be a file name"),
        ({"labels": []}, "labels"),
        ({"labels": [{"value": 1, "name": "a"}, {"value": 1, "name": "b"}]}, "value 1 on layer 0 occurs twice"),
        ({"labels": [{"value": 1, "name": "a", "mirror": "b"}]}, "'a' names 'b' as its mirror"),
        ({"ignore": 3}, "value 3 is both a label and the ignore value"),
        (
            {"channels": ["T1", "T2"], "reference_channel": "T3"},
            r"reference_channel 'T3' is not among the channels\. Known: T1, T2",
        ),
        ({"labels": [{"value": 1, "name": "a", "colour": [1, 2, 3]}]}, "unknown key 'labels.0.colour'. Did you mean 'color'"),
    ],
)
def test_a_wrong_card_names_key_and_value(change, message):
    with pytest.raises(ManifestError, match=message) as raised:
        parse(Card, PLAIN | change, "set.yaml", ManifestError)
    assert str(raised.value).startswith("set.yaml: ")
