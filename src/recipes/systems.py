"""The systems: facts that flags, recipes and errors need, without importing the systems."""
from typing import Dict, NamedTuple, Tuple

from src.common.registry import check_choice
from src.datasets import REID_DATASETS


class SystemRow(NamedTuple):
    """One system.

    target: its type, 'module.Name' below src.systems. title: its name in help and errors. datasets: the datasets that choose
    it; a dataset without recipes takes those of the first dataset that has some. recipes: the module of its recipes in
    src.recipes. choice: the flag that chooses among them, 'loss_name' or 'train_mode'; default: the value of that flag.
    images: whether its network takes images, rather than arrays. transfers: whether a checkpoint trained on one of its datasets
    may be measured on another.
    """
    target: str
    title: str
    datasets: Tuple[str, ...]
    recipes: str
    choice: str
    default: str
    images: bool
    transfers: bool = False


SYSTEMS: Dict[str, SystemRow] = {
    'zero_shot': SystemRow('zero_shot.ZeroShot', 'zero-shot learning', ('AwA', 'CUB'), 'dem', 'train_mode', 'att', False),
    'generalised': SystemRow('generalised.Generalised', 'generalised zero-shot learning', ('GBU',), 'generalised',
                             'train_mode', 'att', False),
    'metric_learning': SystemRow('metric_learning.MetricLearning', 'metric learning', ('SOP',), 'metric_learning',
                                 'loss_name', 'softmax', True),
    'reid': SystemRow('reid.Reid', 're-identification', tuple(REID_DATASETS), 'reid', 'loss_name', 'ctl', True, transfers=True),
}
DATASETS = tuple(name for row in SYSTEMS.values() for name in row.datasets)


def system_of(dataset: str) -> str:
    """Name of the system that a dataset chooses. Raises InputError: no such dataset."""
    check_choice(DATASETS, dataset, '--dataset')
    return next(name for name, row in SYSTEMS.items() if dataset in row.datasets)
