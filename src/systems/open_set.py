"""Similarity threshold of a network: chosen on one half of the test classes, reported on the other half."""
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional

import numpy as np
from numpy.typing import NDArray

from src.accuracy import OpenSet
from src.checkpoints.checkpoint import find_checkpoint
from src.checkpoints.exported import add_threshold, network_identity
from src.common.errors import InputError
from src.common.records import as_table
from src.datasets.splits import held_out
from src.page import Page
from src.pictures import threshold_picture
from src.retrieval.embedding import EmbeddingOptions, embedding_identity
from src.retrieval.thresholds import KeptThreshold, threshold_path, write_threshold
from src.systems.images import ImageSystem


@contextmanager
def keeping(figures: Dict[str, Any], page: Optional[Page] = None, path: str = '') -> Iterator[None]:
    """Write the page after the block. If the block raises InputError, eval.py still writes the results measured so far.

    Args:
        figures: these results. page: the page for `path`, or None.
    """
    try:
        yield
    except InputError as error:
        error.figures = figures
        raise
    finally:
        if page:
            page.write(path)


def find_threshold(system: ImageSystem, checkpoint: str, embeddings: NDArray[Any], labels: NDArray[Any],
                   cameras: Optional[NDArray[Any]] = None, page: Optional[Page] = None) -> Dict[str, Any]:
    """Find the similarity threshold for the recipe's false_match_rate, print its error rates, and save it.

    The threshold is written beside the checkpoint and into the cards of exported models of the same weights in that folder;
    the picture is drawn if the recipe names one. The reported half of the classes was not used for the choice.

    Args:
        system: its recipe says false_match_rate, seed, picture and how images are embedded.
        checkpoint: a checkpoint, or a training's folder.
        embeddings, labels, cameras: (N, D), (N,), (N,) or None, of test classes; see src.accuracy.OpenSet.
        page: receives the distributions and the detection curve.

    Returns:
        {'identification': {...}, 'threshold': {...}} for result.json.

    Raises:
        InputError: too few images or classes for the rate; a file cannot be written.
    """
    recipe = system.recipe
    rate = recipe.false_match_rate
    if len(np.unique(labels)) < 4:
        raise InputError(f'--false_match_rate={rate:g}: needs two halves of at least two classes each; the test images are '
                         f'of {len(np.unique(labels))}')

    def some(rows: Any) -> OpenSet:
        return OpenSet(embeddings[rows], labels[rows], None if cameras is None else cameras[rows])

    identified, similarity = some(slice(None)).identification_rate(rate)
    print(f'open-set identification rate = {identified:.5f} where {rate:g} are false matches (similarity {similarity:.4f})')
    other = held_out(labels, 0.5, recipe.seed)
    try:
        chosen = some(~other).threshold(rate)
    except InputError as error:
        raise InputError(f'--{error} (the threshold is chosen on half of the test classes)') from error
    report = some(other)
    measured, found, lost = report.at(chosen.similarity)
    path, network = str(find_checkpoint(checkpoint)), network_identity(system.network)
    kept = KeptThreshold(
        model=embedding_identity(network, EmbeddingOptions.of_recipe(recipe)), seed=recipe.seed, **chosen._asdict(),
        reported=dict(queries=len(report.labels), classes=report.classes, measured=measured, found=found, lost=lost))
    write_threshold(path, kept)
    cards = add_threshold(find_checkpoint(checkpoint).parent, network, as_table(kept))
    print(f'threshold {chosen.similarity:.4f} for {rate:g} false matches in galleries of up to {chosen.searched} images\n'
          f'chosen on {chosen.queries} images of {chosen.classes} classes: false matches {chosen.measured:.4f} (at most '
          f'{chosen.bound:.4f} with {100 * chosen.confidence:g} % confidence), found {chosen.found:.4f}, lost '
          f'{chosen.lost:.4f}\nmeasured on {len(report.labels)} images of {report.classes} other classes: false matches '
          f'{measured:.4f}, found {found:.4f}, lost {lost:.4f}')
    print('kept: ' + ', '.join([threshold_path(path), *(f'{one}.json' for one in cards)]))
    if recipe.picture:
        threshold_picture(report, chosen.similarity, rate, recipe.picture)
        print(f'distributions and detection curve: {recipe.picture}')
    if page:
        page.add_threshold(report, chosen.similarity, rate)
    return {'identification': {'rate': identified, 'false_match_rate': rate, 'similarity': similarity},
            'threshold': as_table(kept)}
