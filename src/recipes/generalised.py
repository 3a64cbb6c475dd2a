"""Recipes of the benchmark 'the good, the bad and the ugly' (GBU), by (dataset, class semantics, name).

From each list of `candidates` the change that does best on the benchmark's val classes is kept, if it is better than no
change. `kernel_candidates` are chosen in the same way before any training, by kernel ridge regression alone
(src.systems.generalised). The recipe `chosen` was chosen only on the val classes of CUB.
"""
from typing import Any, Dict, Tuple

from src.recipes.dem import DEM, RANKED_CUB, TWO_LAYERS

RANKED = {**DEM, **RANKED_CUB, 'total_iter_num': 210, 'network_options': TWO_LAYERS}

RECIPES: Dict[Tuple[str, str, str], Dict[str, Any]] = {
    ('GBU', 'att', 'chosen'): dict(
        RANKED, network='ensemble', network_options={'hidden_dim': 700, 'members': 3, 'sigmas': [0.01, 0.001]},
        feature_scaling='root_principal', lr_max=1e-3,
        kernel_options={'shrinkage': 1.0, 'width': 0.3, 'ridge': 0.1, 'share': 0.5},
        kernel_candidates=[
            [{'feature_scaling': 'principal'}], [{'semantics_scaling': 'centred'}], [{'kernel_options.shrinkage': None}],
            [{'kernel_options.width': 0.0}, {'kernel_options.width': 0.1}, {'kernel_options.width': 1.0}],
            [{'kernel_options.ridge': 0.03}, {'kernel_options.ridge': 0.3}, {'kernel_options.ridge': 1.0}]],
        candidates=[[{'dropout': None}], [{'feature_scaling': 'principal'}, {'feature_scaling': 'root_principal'}],
                    [{'semantics_scaling': 'centred'}, {'semantics_scaling': 'root_centred'}]]),
    ('GBU', 'att', 'ranked'): RANKED,
    # Skorokhodov and Elhoseiny, arXiv 2006.11328.
    ('GBU', 'att', 'normalised'): dict(
        RANKED, network='class_normalised', network_options={'hidden_dim': 1024},
        loss_options={'scale': 25.0},
        feature_scaling='none', semantics_scaling='unit', dropout=None, batch_size=256, lr_mode='steps', lr_max=5e-4,
        epsilon_hat=False, weight_decay=1e-4, total_iter_num=0, epoch_size=50, lr_epochs=[25]),
    ('GBU', 'att', 'published'): dict(DEM, network_options={'sigmas': [0.0008, 0.0012]}, metric='euclidean', lr_max=1e-5,
                                      batch_size=100),
}
