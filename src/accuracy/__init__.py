"""Accuracy of embeddings: plain arrays in, numbers out. Knows nothing of networks and training."""
from src.accuracy.hubness import hubness
from src.accuracy.knn import accuracy, knn_classify, per_class_accuracy
from src.accuracy.paired import PairedDifference, paired_difference
from src.accuracy.recall import nearest_neighbours, recall_at_k
from src.accuracy.reid import make_centroids, ranked_list, reid_metrics
from src.accuracy.reranking import Rerank
from src.accuracy.thresholds import OpenSet, Threshold, find_threshold

__all__ = ['OpenSet', 'PairedDifference', 'Rerank', 'Threshold', 'accuracy', 'find_threshold', 'hubness', 'knn_classify',
           'make_centroids', 'nearest_neighbours', 'paired_difference', 'per_class_accuracy', 'ranked_list', 'recall_at_k',
           'reid_metrics']
