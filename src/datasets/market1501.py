"""Market1501 (Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015)."""
import re

from src.datasets.reid import ReidFolders


class Market1501(ReidFolders):
    """Market1501 as published: 6 cameras; junk detections (person -1) are left out.

                identities  images  cameras
        train          751   12936        6
        query          750    3368        6
        gallery        751   15913        6     the background, person 0, counts as one identity

    Example of a file: bounding_box_train/0002_c1s1_000451_03.jpg.
    """

    folders = ('market1501', 'Market1501', 'Market-1501-v15.09.15')
    file_name = re.compile(r'(-?\d{1,9})_c(\d{1,9})(?!\d)', re.ASCII)
    file_example = '0002_c1s1_000451_03.jpg'
    expected = {'train': (751, 12936, 6), 'query': (750, 3368, 6), 'gallery': (751, 15913, 6)}
