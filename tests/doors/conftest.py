"""Generated data for the doors, made once."""
import pytest

from src.samples.image_sample import make_products


@pytest.fixture(scope='session')
def products(tmp_path_factory):
    """A folder of few products in the layout of Stanford Online Products."""
    folder = tmp_path_factory.mktemp('products')
    make_products(folder, classes=24, images_per_class=8, size=48)
    return folder
