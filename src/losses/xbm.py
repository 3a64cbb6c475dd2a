"""Cross-batch memory: a contrastive loss against the embeddings of past steps."""
import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer
from mindspore.communication import get_rank

from src.common.errors import InputError
from src.losses.loss import Loss
from src.losses.pairs import normalize


class CrossBatchMemoryLoss(Loss):
    """Contrastive loss of the batch against a first-in first-out memory of embeddings and labels.

    loss = mean_i sum_j [y_j = y_i] (1 - s_ij) + [y_j != y_i] relu(s_ij - margin),  s the cosine,
    over the rows j of the memory, which include the rows of this step, but without row i itself. Remembered rows have no
    gradient, even those of this step: a pair within the batch moves both its images, each as the other's anchor.

    During the first warm_up steps embeddings change too fast to be remembered: the memory holds the current step alone.
    With several processes each stores the batches of all, so that all memories are equal, and the mean of the losses and
    gradients is that of one process with the whole batch.

    Source: Wang et al., "Cross-Batch Memory for Embedding Learning" (CVPR 2020, arXiv 1912.06798) with
    its contrastive loss. Its published code counts the pairs within the batch twice.

    Args:
        embedding_size (int): D.
        memory_size (int): M, rows. With more than the number of training images, an image meets its own past.
        margin (float): cosine above which negatives are pushed away.
        warm_up (int): steps.
        device_num (int): W, processes that train together; with more than 1, mindspore.communication is initialised.

    Inputs:
        embeddings (N, D) float, cast to float32; labels (N,) int, not negative.

    Outputs:
        scalar float32; 0 with zero gradient when there is neither a positive nor a negative above the margin. Rows that
        are not finite are not remembered.

    Raises:
        ValueError: the batches of all processes do not fit into the memory; check_batch finds this before training.

    Parameters, not trained, but saved with the training state: memory (M, D), memory_labels (M,) int32, -1 where
    empty, position () int32 of the next row, steps () int32 done. Calling the loss changes them.
    Batch: P classes x K images, in any order. Memory: M * (D + a few N) floats.
    """

    needs = ('embedding_size', 'device_num')

    def __init__(self, embedding_size: int, memory_size: int = 8192, margin: float = 0.5, warm_up: int = 1000,
                 device_num: int = 1) -> None:
        super().__init__()
        self.memory = Parameter(initializer('zeros', (memory_size, embedding_size), ms.float32), name='memory',
                                requires_grad=False)
        self.memory_labels = Parameter(Tensor([-1] * memory_size, ms.int32), name='memory_labels', requires_grad=False)
        self.position = Parameter(Tensor(0, ms.int32), name='position', requires_grad=False)
        self.steps = Parameter(Tensor(0, ms.int32), name='steps', requires_grad=False)
        self.memory_size = memory_size
        self.margin = margin
        self.warm_up = warm_up
        self.device_num = device_num
        self.rank = get_rank() if device_num > 1 else 0
        self.gather_all = ops.AllGather() if device_num > 1 else nn.Identity()

    def check_batch(self, rows: int) -> None:
        everywhere = rows * self.device_num
        if everywhere > self.memory_size:
            raise InputError(f'loss_options.memory_size={self.memory_size}: the memory must hold the {everywhere} rows of a '
                             'step; raise it, or lower --batch_size')

    def construct(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        rows = embeddings.shape[0]
        everywhere = rows * self.device_num
        if everywhere > self.memory_size:
            raise ValueError(f'xbm loss: a step has {everywhere} rows, the memory {self.memory_size}')
        unit = normalize(ops.cast(embeddings, ms.float32))
        labels = ops.cast(labels, ms.int32)

        new = ops.stop_gradient(unit)
        finite = ops.isfinite(new.sum(axis=1))
        new = self.gather_all(ops.where(finite.reshape(-1, 1), new, 0.0))
        new_labels = self.gather_all(ops.where(finite, labels, -1))
        slots = (self.position + ops.arange(everywhere)) % self.memory_size
        # Copies, which the gradient may read after the parameters have changed.
        memory = ops.stop_gradient(ops.tensor_scatter_update(self.memory, slots.reshape(-1, 1), new))
        memory_labels = ops.tensor_scatter_update(self.memory_labels, slots.reshape(-1, 1), new_labels)

        cosines = ops.matmul(unit, memory.T)
        own = slots[self.rank * rows:(self.rank + 1) * rows]
        others = ops.not_equal(own.reshape(-1, 1), ops.arange(self.memory_size).reshape(1, -1))
        same = ops.equal(labels.reshape(-1, 1), memory_labels.reshape(1, -1))
        counted = ops.logical_and(others, (memory_labels >= 0).reshape(1, -1))
        losses = ops.where(same, 1.0 - cosines, ops.relu(cosines - self.margin))
        loss = ops.where(counted, losses, 0.0).sum(axis=1).mean()

        position = (self.position + everywhere) % self.memory_size
        loss = ops.depend(loss, ops.assign(self.memory, memory))
        remembered = ops.where(self.steps >= self.warm_up, memory_labels, -1)
        loss = ops.depend(loss, ops.assign(self.memory_labels, remembered))
        loss = ops.depend(loss, ops.assign(self.position, position))
        return ops.depend(loss, ops.assign(self.steps, self.steps + 1))
