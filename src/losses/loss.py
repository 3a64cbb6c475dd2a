"""What a loss tells those who train with it."""
from typing import Dict, List, Tuple

from mindspore import Parameter, nn


class Loss(nn.Cell):
    """Base class of all losses; a subclass's docstring states formula, source and corner cases.

    Called with embeddings (N, D) float, cast to float32, and labels (N,) int -> scalar float32; the subclasses say
    where they take more. Nothing but batch and parameters enters the value, so that a batch may be embedded in chunks.

    Class attributes:
        kind (str): 'element' holds parameters of each class, labels are 0..C-1; 'pair' compares the rows of a batch;
            'semantic' compares mapped class semantics with features (DEM).
        batch (str): what a batch must hold. 'shuffle' any rows; 'triplet' rows (anchor, positive, negative); 'groups' P
            classes x K neighbouring rows; 'pairs' the same with K = 2; 'identities' P identities x K consecutive rows,
            with an optional mask (N,) of the images that count, the last argument; 'images' features, each with the
            semantics of its class; 'prototypes' features and labels, with the semantics of all classes.
        needs (tuple of str): options of the constructor that the data and the recipe say: num_classes, embedding_size,
            num_instances (K), device_num (processes that train together).
        uses_neck (bool): called with (features, neck, labels): what a head with a neck returns in training.
    """

    kind = 'pair'
    batch = 'groups'
    needs: Tuple[str, ...] = ()
    uses_neck = False

    def own_updates(self) -> List[Tuple[Parameter, float]]:
        """Parameters with a step size each: plain SGD on the unscaled gradient of the loss, and nothing else.

        No momentum, weight decay, schedule or factor: parameter -= step size * gradient.
        """
        return []

    def check_batch(self, rows: int) -> None:
        """Raise InputError where a batch of so many rows on each device is not for this loss."""

    def lr_factors(self) -> Dict[str, float]:
        """Names of parameters, as the loss itself calls them, with factors on the learning rate; others have 1."""
        return {}
