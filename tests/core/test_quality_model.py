import pytest
from pydantic import ValidationError

from helpers.quality import population, quality_model
from voxelry.core.quality_model import LabelPopulation, Population, QualityModel


def test_it_survives_json():
    model = quality_model(population(5))
    assert QualityModel.model_validate_json(model.model_dump_json()) == model


def test_weights_of_other_features_are_refused():
    regression = quality_model(population(5)).regression
    with pytest.raises(ValidationError, match="7 weights"):
        type(regression).model_validate(regression.model_dump() | {"weights": (0.1,) * 7, "features": ("volume",)})


def test_another_version_is_refused():
    known = Population(cases=1, labels={"liver": LabelPopulation(present=1)})
    with pytest.raises(ValidationError):
        QualityModel.model_validate({"version": 2, "population": known.model_dump()})
