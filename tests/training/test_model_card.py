import numpy as np

from helpers.plans import SIDED, tiny_model, tiny_plan
from voxelry.core.model import CleanUp
from voxelry.datasets.card import Card
from voxelry.metrics.scores import Scores
from voxelry.training.model_card import write_model_card

CARD = Card(
    name="set",
    title="Kidneys of mice",
    modality="MR",
    licence="CC-BY-4.0",
    citation=("Doe 2020", "Roe 2021"),
    homepage="https://example.org",
    channels=("T1",),
    labels=SIDED.labels,
)


def scores_of(*dice):
    """Scores of one label in cases of a given Dice."""
    matrices = [[[0, 0], [200 - round(100 * value) - 100, round(100 * value)]] for value in dice]
    return Scores(tuple(f"c{n}" for n in range(len(dice))), ("spine",), np.array(matrices))


def test_a_card_says_what_a_user_must_know(tmp_path):
    model = tiny_model(tiny_plan(reasons=("because of | this",)))
    rules = (CleanUp(label="spine", keep_largest=True, min_mm3=10.0),)
    model = type(model)(model.plan, model.card.model_copy(update={"clean_up": rules, "training": {"steps": 7}}), model.weights)
    text = write_model_card(tmp_path, (model,), CARD, scores_of(1.0, 0.5)).read_text()
    for part in ("Intended use", "Data", "Labels", "Plan: 3d", "Training", "Scores", "Clean-up", "Limits"):
        assert f"\n## {part}\n" in text
    for told in ("# Kidneys of mice\n", "CC-BY-4.0", "- Doe 2020", "- Roe 2021", "https://example.org", "not a medical device"):
        assert told in text
    assert "| 3 | left kidney |  | right kidney | 10 |" in text
    assert "because of | this" in text
    assert "- spine: components below 10 mm^3 are removed, only the largest component is kept" in text


def test_spread_is_told_per_label(tmp_path):
    scores = scores_of(1.0, 0.6, 0.8)
    text = write_model_card(tmp_path, (tiny_model(tiny_plan()),), CARD, scores).read_text()
    values = scores.dice[:, 0]
    row = next(line for line in text.splitlines() if line.startswith("| spine | 3 |"))
    cells = [float(cell) for cell in row.strip("| ").split("|")[2:]]
    expected = [values.mean(), values.std(), np.median(values), np.percentile(values, 5), values.min()]
    np.testing.assert_allclose(cells, expected, atol=5e-5)
    assert f"Mean over labels: {scores.mean_dice:.4f}" in text


def test_distances_of_surfaces_stand_beside_where_they_were_measured(tmp_path):
    scores = scores_of(1.0, 0.6)
    measures = {"hd95": np.array([[2.0], [np.nan]]), "nsd": np.array([[1.0], [0.5]])}
    scores = Scores(scores.cases, scores.labels, scores.confusions, measures)
    text = write_model_card(tmp_path, (tiny_model(tiny_plan()),), CARD, scores).read_text()
    assert "| mean HD95, mm | mean NSD at 1 mm |" in text
    assert next(line for line in text.splitlines() if line.startswith("| spine | 2 |")).endswith("| 2 | 0.75 |")


def test_an_ensemble_and_a_set_without_held_out_cases(tmp_path):
    models = (tiny_model(tiny_plan()), tiny_model(tiny_plan(), seed=1), tiny_model(tiny_plan(configuration="3d_lowres")))
    text = write_model_card(tmp_path, models, CARD, None, "| a | b |").read_text()
    assert "An ensemble of 3 networks (3d and 3d_lowres)" in text
    assert "how good the model is has not been measured" in text
    assert text.count("\n## Plan: ") == 2
    assert "## Choice of configuration\n\n| a | b |" in text
    assert "## Clean-up" not in text
