"""DukeMTMC-reID (Ristani et al., ECCV Workshops 2016; Zheng et al., ICCV 2017)."""
import re

from src.datasets.reid import ReidFolders


class DukeMTMCreID(ReidFolders):
    """DukeMTMC-reID as published: 8 cameras, 408 persons of the gallery are distractors without a query.

                identities  images  cameras
        train          702   16522        8
        query          702    2228        8
        gallery       1110   17661        8

    Example of a file: bounding_box_train/0005_c2_f0046985.jpg.
    """

    folders = ('DukeMTMC-reID',)
    file_name = re.compile(r'(-?\d{1,9})_c(\d{1,9})(?!\d)', re.ASCII)
    file_example = '0005_c2_f0046985.jpg'
    expected = {'train': (702, 16522, 8), 'query': (702, 2228, 8), 'gallery': (1110, 17661, 8)}
