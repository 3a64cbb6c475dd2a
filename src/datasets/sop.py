"""Stanford Online Products: the lists of the published experiments, and reading them."""
import os

from src.datasets.image_list import ImageList, read_image_list
from src.errors import InputError
from src.files import replacing

# How many first lines of the full list make each smaller one (README of the published implementation).
SUBSET_ROWS = {'train': {'full': None, 'half': 29437, 'tiny': 1012},
               'test': {'full': None, 'half': 30003, 'tiny': 1048}}


def list_name(split, subset):
    """The file name of a prepared list: train.txt, train_half.txt, test_tiny.txt ..."""
    return f'{split}.txt' if subset == 'full' else f'{split}_{subset}.txt'


def make_lists(root):
    """Write {train,test}{,_half,_tiny}.txt (`path class_id` a line) beside Ebay_train.txt and Ebay_test.txt.

    Byte for byte what the documented sed, awk and head commands write. Returns {file name: (rows, classes)}.
    Raises InputError when an Ebay file is absent or malformed, or the folder cannot be written.
    """
    counts = {}
    for split, subsets in SUBSET_ROWS.items():
        source = os.path.join(root, f'Ebay_{split}.txt')
        images = read_image_list(source)
        folder = os.path.abspath(root)
        paths = [os.path.relpath(path, folder) for path in images.paths]
        for subset, rows in subsets.items():
            name = list_name(split, subset)
            lines = [f'{path} {label}\n' for path, label in zip(paths[:rows], images.labels[:rows])]
            with replacing(os.path.join(root, name)) as part:
                part.write_bytes(''.join(lines).encode())
            counts[name] = (len(lines), len(set(images.labels[:rows].tolist())))
    return counts


def load_sop(root, split='train', subset='full'):
    """Read a split ('train', 'test') and subset ('full', 'half', 'tiny') as an ImageList.

    The prepared list is taken where it exists, else the first rows of the Ebay file. Raises InputError when
    neither exists or the one taken is malformed.
    """
    prepared = os.path.join(root, list_name(split, subset))
    if os.path.isfile(prepared):
        return read_image_list(prepared)
    source = os.path.join(root, f'Ebay_{split}.txt')
    if not os.path.isfile(source):
        raise InputError(f'{root}: holds neither {list_name(split, subset)} nor Ebay_{split}.txt; '
                         '--dataset_path must be the Stanford_Online_Products folder')
    images = read_image_list(source)
    rows = SUBSET_ROWS[split][subset]
    return ImageList(images.paths[:rows], images.labels[:rows])


def has_lists(root):
    """Whether a folder holds Ebay files or prepared lists of Stanford Online Products."""
    return any(os.path.isfile(os.path.join(root, name)) for split in SUBSET_ROWS
               for name in [f'Ebay_{split}.txt', *(list_name(split, subset) for subset in SUBSET_ROWS[split])])
