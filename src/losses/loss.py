"""The interface of losses, for the data, the sampler and the optimizer."""
from typing import Dict, List, Optional, Tuple

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops


class Loss(nn.Cell):
    """Base type of all losses. A subtype's docstring states formula, source and corner cases.

    Called with embeddings (N, D) float, cast to float32, and labels (N,) int, 0 or larger; returns a scalar float32. A subtype
    with other inputs lists them. The value depends on the batch and the parameters alone, so that a batch may be embedded in
    chunks. The kind of a loss is declared in the table LOSSES of src.losses.

    Class attributes:
        batch (str): kind of batches that it is made for. 'shuffle': any rows; 'triplet': rows (anchor, positive, negative);
            'groups': P classes x K neighbouring rows; 'pairs': as 'groups' with K = 2; 'identities': P identities x K
            consecutive rows; 'images': features, each with the semantics of its class; 'prototypes': features and
            labels, with the semantics of all classes.
        needs (tuple of str): constructor options that follow from the data and the recipe: num_classes, embedding_size,
            num_instances (K). Options without a default are among them.
        uses_neck (bool): it is called with (features, neck, labels), which a head with a neck returns in training.
        takes_mask (bool): its last argument is mask (N,) or None; rows with 0, repeated images, do not count. Other losses
            must not be given batches with a mask.
        takes_references (bool): its last arguments are references and reference_labels, see PairLoss.

    Labels of a loss with parameters for each class lie in 0..C-1. It does not check them: a graph cannot, and after an
    exception within a gradient MindSpore computes wrong ones. The doors number the labels themselves.
    """

    batch = 'groups'
    needs: Tuple[str, ...] = ()
    uses_neck: bool = False
    takes_mask: bool = False
    takes_references: bool = False

    def own_updates(self) -> List[Tuple[Parameter, float]]:
        """Parameters that the optimizer leaves out, each with its step size: parameter -= step size * gradient.

        Plain SGD on the unscaled gradient of the loss, without momentum, weight decay or schedule.
        """
        return []

    def lr_factors(self) -> Dict[str, float]:
        """Factors on the learning rate by parameter name within the loss. Parameters not named have factor 1."""
        return {}


class PairLoss(Loss):
    """Base type of losses that compare each row of a batch, the anchor, with other rows: those of the batch, and references.

    References are rows that are not anchors themselves, such as embeddings of past steps (src.losses.references). Where
    a docstring speaks of the rows of the batch, they are among them unless it says otherwise. A subtype has `compare`.

    Inputs:
        embeddings (N, D) float, cast to float32; labels (N,) int; references (R, D) float32 and reference_labels (R,) int, or
        None: references with a label below 0 do not count.

    Outputs:
        scalar float32.
    """

    takes_references = True

    def construct(self, embeddings: Tensor, labels: Tensor, references: Optional[Tensor] = None,
                  reference_labels: Optional[Tensor] = None) -> Tensor:
        anchors = embeddings.shape[0]
        rows = ops.cast(embeddings, ms.float32)
        if references is not None:
            rows = ops.concat((rows, references))
            labels = ops.concat((labels, ops.cast(reference_labels, labels.dtype)))
        return self.compare(rows, labels, anchors)

    def compare(self, rows: Tensor, labels: Tensor, anchors: int) -> Tensor:
        """Loss of the first `anchors` rows among all rows.

        Args:
            rows: (M, D) float32. labels: (M,) int; a row with a label below 0 is neither a positive nor a negative.
        """
        raise NotImplementedError
