"""The interface of losses: what the data, the sampler and the optimizer must know of each."""
from typing import Dict, List, Tuple

from mindspore import Parameter, nn


class Loss(nn.Cell):
    """Base type of all losses. A subtype's docstring states formula, source and corner cases.

    Called with embeddings (N, D) float, cast to float32, and labels (N,) int; returns a scalar float32. A subtype
    with other inputs lists them. The value depends on the batch and the parameters alone, so that a batch may be embedded in
    chunks. The kind of a loss is declared in the table LOSSES of src.losses.

    Class attributes:
        batch (str): the batches it is made for. 'shuffle': any rows; 'triplet': rows (anchor, positive, negative);
            'groups': P classes x K neighbouring rows; 'pairs': the same with K = 2; 'identities': P identities x K
            consecutive rows; 'images': features, each with the semantics of its class; 'prototypes': features and
            labels, with the semantics of all classes.
        needs (tuple of str): constructor options that follow from the data and the recipe: num_classes, embedding_size,
            num_instances (K), device_num (processes that train together). Options without a default are among them.
        uses_neck (bool): it is called with (features, neck, labels), which a head with a neck returns in training.
        takes_mask (bool): its last argument is mask (N,) or None; rows with 0, repeated images, do not count. Other losses
            must not be given batches with a mask.
    """

    batch = 'groups'
    needs: Tuple[str, ...] = ()
    uses_neck: bool = False
    takes_mask: bool = False

    def own_updates(self) -> List[Tuple[Parameter, float]]:
        """Parameters that the optimizer leaves out, each with its step size: parameter -= step size * gradient.

        Plain SGD on the unscaled gradient of the loss, without momentum, weight decay or schedule.
        """
        return []

    def check_batch(self, rows: int) -> None:
        """Raise InputError if the loss cannot take batches of this many rows per device."""

    def lr_factors(self) -> Dict[str, float]:
        """Factors on the learning rate by parameter name within the loss. Parameters not named have factor 1."""
        return {}
