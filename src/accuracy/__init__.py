"""Measures: arrays in, numbers out, without networks or training.

A new measure of retrieval is a file with a function of a `Retrieval`, which returns its results by printed name,
and a line in MEASURES.
"""
from typing import Dict, Iterable

from src.accuracy.hubness import hubness
from src.accuracy.knn import accuracy, knn_classify, per_class_accuracy
from src.accuracy.recall import nearest_neighbours, recall_at_k
from src.accuracy.reid import Images, make_centroids, nearest_of_others, reid_figures, reid_metrics
from src.accuracy.reranking import Rerank
from src.accuracy.retrieval import Retrieval
from src.accuracy.thresholds import OpenSet
from src.common.registry import loader

__all__ = ['MEASURES', 'Images', 'OpenSet', 'Rerank', 'Retrieval', 'accuracy', 'hubness', 'knn_classify', 'make_centroids',
           'measure', 'nearest_neighbours', 'nearest_of_others', 'per_class_accuracy', 'recall_at_k', 'reid_figures',
           'reid_metrics']

# Measures of retrieval: name -> function of a Retrieval.
MEASURES: Dict[str, str] = {
    'recall': 'recall.recall',
    'r_precision': 'r_precision.r_precision',
    'map_at_r': 'map_at_r.map_at_r',
}
_measure = loader('src.accuracy', MEASURES, 'measures')


def measure(names: Iterable[str], retrieval: Retrieval) -> Dict[str, float]:
    """Results of several measures in their order, e.g. {'Recall@1': 0.7, 'MAP@R': 0.4}; InputError for an unknown name."""
    return {figure: value for name in names for figure, value in _measure(name)(retrieval).items()}
