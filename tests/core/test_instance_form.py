"""InstanceForm: a form alone or with what becomes of parts, and what it refuses."""

import pytest

from voxelry.base.schema import parse
from voxelry.core.instance_form import InstanceForm
from voxelry.errors import ConfigError


def test_a_form_may_stand_alone() -> None:
    assert InstanceForm.model_validate("mask_ids") == InstanceForm(form="mask_ids", parts="keep")
    assert InstanceForm(form="id_map", parts="split").in_words == "ids in a file beside the mask, each part by itself"


@pytest.mark.parametrize("value", ["ids", {"form": "id_map", "parts": "drop"}, {"parts": "split"}, {"form": 3}])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="card"):
        parse(InstanceForm, value, "card.yaml")
