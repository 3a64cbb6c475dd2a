"""Files of thresholds: the similarity from which two images count as showing the same.

A threshold is stored in `train.threshold.json` beside `train.ckpt`, and in the card of an exported model. It names the
embeddings that it was found for.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional

from src.common.errors import InputError
from src.common.records import as_table, read_json, read_record, write_json
from src.retrieval.gallery import ways

ADVICE = 'find the threshold with eval.py --false_match_rate=0.01'


@dataclass(frozen=True)
class KeptThreshold:
    """A threshold as stored in a file; None: unknown.

    similarity: cosine; a query whose nearest neighbour is below it is `unknown`.
    model: identity of the embeddings it was found for.
    reported: figures on held-out classes, on which it was not chosen.
    The other attributes are those of src.accuracy.thresholds.Threshold.

    Raises:
        ValueError: the similarity is not between -1 and 1.
    """
    similarity: float
    model: str
    searched: Optional[int] = None
    seed: Optional[int] = None
    false_match_rate: Optional[float] = None
    confidence: Optional[float] = None
    measured: Optional[float] = None
    bound: Optional[float] = None
    false_matches: Optional[int] = None
    queries: Optional[int] = None
    classes: Optional[int] = None
    effective: Optional[float] = None
    found: Optional[float] = None
    lost: Optional[float] = None
    reported: Optional[Dict[str, Any]] = None

    def __post_init__(self) -> None:
        # Just above 1 if images of two classes are equal.
        if not -1 <= self.similarity <= 1 + 1e-6:
            raise ValueError('similarity is not between -1 and 1')

    def check(self, path: str, model: str) -> None:
        """Raise InputError, which names `path`, if this threshold was found for other embeddings.

        model: identity of the embeddings it will be applied to; the identity of a network stands for any of its embeddings.
        """
        if model not in (self.model, self.model.partition('+')[0]):
            raise InputError(f'{path}: is the threshold of another network or other preprocessing '
                             f'({ways(self.model, model)}); find one for this network with eval.py and the same flags')


def threshold_path(checkpoint: str) -> str:
    """The path of a checkpoint's threshold: train.threshold.json beside train.ckpt."""
    return str(Path(checkpoint).with_suffix('.threshold.json'))


def write_threshold(checkpoint: str, threshold: KeptThreshold) -> None:
    """Write a threshold beside the checkpoint it was found for. Raises InputError if the file cannot be written."""
    write_json(threshold_path(checkpoint), as_table(threshold))


def read_threshold(path: str) -> KeptThreshold:
    """Read a threshold from its own file or from the card of an exported model.

    Raises:
        InputError: the file has none, or is damaged.
    """
    values = read_json(path, ADVICE)
    if isinstance(values, dict) and 'checksum' in values:  # a card
        values = values.get('threshold') or {}
    return parse_threshold(values, path)


def parse_threshold(values: Any, path: str) -> KeptThreshold:
    """A threshold from the values in a file or gallery. Raises InputError, which names `path`, if they are none."""
    return read_record(KeptThreshold, values, path, ADVICE)
