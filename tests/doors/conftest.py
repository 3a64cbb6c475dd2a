"""Generated data for the doors, made once."""
import pytest

from src.samples.dem_sample import make_dem_sample
from src.samples.image_sample import make_products


@pytest.fixture(scope='session')
def dem_data(tmp_path_factory):
    """A folder with AwA_data and CUB_data."""
    folder = tmp_path_factory.mktemp('dem')
    make_dem_sample(folder)
    return folder


@pytest.fixture(scope='session')
def products(tmp_path_factory):
    """A folder of few products in the layout of Stanford Online Products."""
    folder = tmp_path_factory.mktemp('products')
    make_products(folder)
    return folder
