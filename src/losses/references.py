"""Pair loss that also compares a batch with the rows of all processes and of past steps."""
from typing import Optional, Tuple

import mindspore as ms
from mindspore import Parameter, Tensor, ops
from mindspore.common.initializer import initializer

from src.common.errors import InputError
from src.losses.loss import Loss
from src.losses.pairs import labels_of_real


class WithReferences(Loss):
    """A pair loss whose batch is that of all processes, with a first-in first-out memory of past rows as references.

    The batch of all processes: embeddings and labels are gathered without gradient, and this process's own rows are put back in
    their place. Each process computes the loss of the whole batch, multiplied by the number of processes for the gradient
    alone. The average of the gradients is then that of one process with the whole batch, whatever the loss.

    The memory: the loss compares the batch with the rows of past steps too, which have no gradient. Of its M rows, those
    of this step replace the oldest. During the first warm_up steps embeddings change too fast to be remembered, and no row
    is. The memory is the same in all processes.

    Source of the memory: Wang et al., "Cross-Batch Memory for Embedding Learning" (CVPR 2020, arXiv 1912.06798), for their
    contrastive loss.

    Args:
        loss: a pair loss; with a memory one that takes references.
        embedding_size: D.
        memory: M, rows, 0 for no memory. With more than the number of training images, an image meets its own past.
        warm_up: steps.
        rank, size: rank of this process, and number of processes that train together; if more than 1,
            mindspore.communication is initialised.

    Inputs:
        embeddings (N, D) float, cast to float32; labels (N,) int, 0 or larger; mask (N,) or None for a loss that takes one:
        rows with 0 are not remembered.

    Outputs:
        scalar float32, the same in all processes. Rows that are not finite are not remembered.

    Raises:
        InputError: a memory for a loss that takes no references.
        ValueError: the batches of all processes do not fit into the memory.

    Parameters, not trained, but saved with the training state: memory (M, D) float32, memory_labels (M,) int32, -1 where
    empty, position () int32 of the next row, steps () int32 done. Calling the loss changes them.
    """

    def __init__(self, loss: Loss, embedding_size: int, memory: int = 0, warm_up: int = 0, rank: int = 0, size: int = 1
                 ) -> None:
        super().__init__(auto_prefix=False)
        if memory and not loss.takes_references:
            raise InputError(f'memory={memory}: {type(loss).__name__} compares only certain rows of a batch with each other; '
                             'remove it, or choose another loss')
        self.loss = loss
        self.batch, self.takes_mask = loss.batch, loss.takes_mask
        self.rows, self.warm_up, self.rank, self.size = memory, warm_up, rank, size
        if memory:
            self.memory = Parameter(initializer('zeros', (memory, embedding_size), ms.float32), name='memory',
                                    requires_grad=False)
            self.memory_labels = Parameter(Tensor([-1] * memory, ms.int32), name='memory_labels', requires_grad=False)
            self.position = Parameter(Tensor(0, ms.int32), name='position', requires_grad=False)
            self.steps = Parameter(Tensor(0, ms.int32), name='steps', requires_grad=False)
        if size > 1:
            self.all_gather = ops.AllGather()

    def construct(self, embeddings: Tensor, labels: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        rows, labels = ops.cast(embeddings, ms.float32), ops.cast(labels, ms.int32)
        if self.size > 1:
            rows, labels, mask = self._of_all(rows, labels, mask)
        masks = (mask,) if self.takes_mask else ()
        loss = self._with_memory(rows, labels, masks) if self.rows else self.loss(rows, labels, *masks)
        if self.size > 1:
            # The bracket is exactly 0; only its gradient counts.
            loss = loss + (self.size - 1) * (loss - ops.stop_gradient(loss))
        return loss

    def _of_all(self, rows: Tensor, labels: Tensor, mask: Optional[Tensor]) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
        """Batch of all processes, with a gradient in the rows of this process."""
        own = rows.shape[0]
        gathered = self.all_gather(ops.stop_gradient(rows))
        parts: Tuple[Tensor, ...] = (rows,)
        if self.rank > 0:
            parts = (gathered[:self.rank * own], *parts)
        if self.rank < self.size - 1:
            parts = (*parts, gathered[(self.rank + 1) * own:])
        if mask is not None:
            mask = self.all_gather(ops.cast(mask, ms.int32))
        return ops.concat(parts), self.all_gather(labels), mask

    def _with_memory(self, rows: Tensor, labels: Tensor, masks: Tuple[Optional[Tensor], ...]) -> Tensor:
        count = rows.shape[0]
        if count > self.rows:
            raise ValueError(f'a step has {count} rows, the memory {self.rows}')
        new = ops.stop_gradient(rows)
        kept = ops.isfinite(new.sum(axis=1))
        new = ops.where(kept.reshape(-1, 1), new, 0.0)
        for mask in masks:
            if mask is not None:
                kept = ops.logical_and(kept, ops.cast(mask, ms.bool_))
        slots = ((self.position + ops.arange(count)) % self.rows).reshape(-1, 1)
        # Copies, which the gradient may read after the parameters have changed. This step's rows are not yet references.
        memory = ops.stop_gradient(ops.tensor_scatter_update(self.memory, slots, new))
        past = ops.tensor_scatter_update(self.memory_labels, slots, ops.full_like(labels, -1))
        loss = self.loss(rows, labels, *masks, memory, past)

        remembered = ops.tensor_scatter_update(past, slots, labels_of_real(labels, kept))
        remembered = labels_of_real(remembered, self.steps >= self.warm_up)
        loss = ops.depend(loss, ops.assign(self.memory, memory))
        loss = ops.depend(loss, ops.assign(self.memory_labels, remembered))
        loss = ops.depend(loss, ops.assign(self.position, (self.position + count) % self.rows))
        return ops.depend(loss, ops.assign(self.steps, self.steps + 1))
