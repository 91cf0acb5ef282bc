import numpy as np

from helpers.augmentation import changed, grey
from voxelry.augmentation.bias_field import BiasField, BiasFieldParams


def test_bias_field_as_monai():
    """MONAI's own field of the same coefficients, of an image whose air is 0."""
    from monai.transforms import RandBiasField

    field = RandBiasField(degree=3, coeff_range=(-0.4, 0.4))
    drawn = np.random.default_rng(1).uniform(-0.4, 0.4, 20)
    wanted = np.exp(field._generate_random_field((14, 15, 17), 3, drawn))
    full = np.zeros((4, 4, 4))  # MONAI fills the coefficients whose degrees sum up to at most 3 in this order
    full.reshape(-1)[[16 * i + 4 * j + k for i in range(4) for j in range(4 - i) for k in range(4 - i - j)]] = drawn
    image = grey() - grey().min()
    made = changed(image, BiasField(), BiasFieldParams((4, 4, 4), tuple(full.ravel().tolist())))
    assert np.allclose(made, image * wanted, atol=1e-4)
