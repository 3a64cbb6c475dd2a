"""One step of training: forward, backward, average over the processes, clip, update."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mindspore import Parameter, ParameterTuple, Tensor, amp, nn, ops
from mindspore import dtype as mstype
from numpy.typing import NDArray

from src.training.optimizer import LOSS, create_optimizer
from src.training.precision import level_for

if TYPE_CHECKING:
    from src.common.device import Process

# First value of a dynamic loss scale, and steps without overflow after which it doubles.
FIRST_SCALE, SCALE_WINDOW = 2.0 ** 16, 2000


class WithLoss(nn.Cell):
    """A network and its loss as one cell.

    Args:
        network: called with the first columns of a batch; returns a Tensor or a tuple of them.
        loss: called with the network's outputs and the other columns. The names of its parameters are made to begin with
            'loss.', which tells them from the network's in a checkpoint.
        inputs: number of columns that the network takes.

    Inputs: the columns of a batch. Outputs: scalar loss.
    """

    def __init__(self, network: nn.Cell, loss: nn.Cell, inputs: int = 1) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss = loss
        self.inputs = inputs
        for parameter in loss.get_parameters():
            if not parameter.name.startswith(LOSS):
                parameter.name = LOSS + parameter.name

    def construct(self, *columns: Tensor) -> Tensor:
        return self.loss(*_tuple(self.network(*columns[:self.inputs])), *columns[self.inputs:])


def _tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Outputs of a network or gradient as a tuple, also if it is a single Tensor."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _sum(values: Tensor) -> Tensor:
    # By rows first: on a CPU a sum over a whole matrix runs on one thread, five times slower.
    if values.ndim > 1:
        values = ops.ReduceSum()(values.reshape(values.shape[0], -1), 1)
    return ops.ReduceSum()(values)


class Average(nn.Cell):
    """Average gradients over the processes by one AllReduce of one flat vector for each dtype.

    Args:
        parameters: in the order of the gradients.
        size: number of processes.

    Inputs and outputs: gradients, a tuple in the order of the parameters.
    """

    def __init__(self, parameters: ParameterTuple, size: int) -> None:
        super().__init__(auto_prefix=False)
        groups: dict[Any, list[int]] = {}
        for number, parameter in enumerate(parameters):
            groups.setdefault(parameter.dtype, []).append(number)
        self.groups = tuple(tuple(numbers) for numbers in groups.values())
        # Position of each parameter's gradient once the gradients are grouped by dtype.
        order = [number for numbers in self.groups for number in numbers]
        self.places = tuple(order.index(number) for number in range(len(parameters)))
        self.shapes = tuple(parameter.shape for parameter in parameters)
        self.lengths = tuple([parameters[number].size for number in numbers] for numbers in self.groups)
        self.share = 1 / size
        self.all_reduce = ops.AllReduce()

    def construct(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        averages: tuple[Tensor, ...] = ()
        for i in range(len(self.groups)):
            vectors: tuple[Tensor, ...] = ()
            for number in self.groups[i]:
                vectors += (gradients[number].reshape(-1),)
            averages += ops.split(self.all_reduce(ops.concat(vectors)) * self.share, self.lengths[i])
        found: tuple[Tensor, ...] = ()
        for i in range(len(self.places)):
            found += (averages[self.places[i]].reshape(self.shapes[i]),)
        return found


class Update(nn.Cell):
    """Average gradients over the processes, check that they are finite, clip them, update the weights.

    If a gradient or the loss is not finite in any process, no process updates weights, moments or global_step, so that the
    schedule continues from the same step.

    Args:
        optimizer (nn.Optimizer or WithOwnUpdates): takes unscaled gradients.
        loss_scale: factor of the loss, so that small gradients survive float16. 'dynamic': halved when a gradient
            overflows, which skips the step, and doubled after SCALE_WINDOW steps without overflow; its state is the
            parameters loss_scale, loss_scale_counter and skipped_steps.
        clip_norm: bound on the global norm of the gradients, 0 for none.
        process: device target and number of processes.

    Inputs:
        stop, int32 scalar; loss, scalar, scaled; gradients, a tuple in the order of optimizer.parameters, scaled.

    Outputs:
        loss, float32 scalar, unscaled, of this process; finite, bool scalar, the same in all processes: if False the
        training must end (with a dynamic scale only once it has fallen to 1); stop, int32 scalar: the largest of all
        processes.
    """

    def __init__(self, optimizer: nn.Cell, loss_scale: float | str, clip_norm: float, process: Process) -> None:
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.clip_norm = float(clip_norm)
        self.dynamic = loss_scale == 'dynamic'
        self.fixed_scale = 1.0 if self.dynamic else float(loss_scale)
        if self.dynamic:
            self.scaler = amp.DynamicLossScaler(FIRST_SCALE, 2, SCALE_WINDOW)
            self.loss_scale, self.counter = self.scaler.scale_value, self.scaler.counter
            self.loss_scale.name, self.counter.name = 'loss_scale', 'loss_scale_counter'
            self.skipped = Parameter(Tensor(0, mstype.int32), name='skipped_steps')
        self.distributed = process.size > 1
        # On a device that saturates, the numbers themselves do not show an overflow.
        self.ask_device = process.target != 'CPU'
        if self.distributed:
            self.average = Average(optimizer.parameters, process.size)
            self.all_gather = ops.AllGather()

    def scale(self) -> Parameter | float:
        """Current factor of the loss."""
        return self.loss_scale if self.dynamic else self.fixed_scale

    def construct(self, stop: Tensor, loss: Tensor, gradients: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        if self.distributed:
            gradients = self.average(gradients)
        scale = self.scale()
        loss = ops.cast(loss, mstype.float32) / scale
        factor = 1.0 / scale
        total = ops.cast(loss, mstype.float32)
        if self.clip_norm > 0:
            squares = 0.0
            for gradient in gradients:
                gradient = ops.cast(gradient, mstype.float32)
                squares = squares + _sum(gradient * gradient)
            norm = ops.sqrt(squares) * factor
            total = total + norm
            factor = factor * ops.minimum(self.clip_norm / ops.maximum(norm, 1e-30), 1.0)
        elif not self.ask_device:
            for gradient in gradients:
                # Not `+=`, which would change the loss in place.
                total = total + _sum(ops.cast(gradient, mstype.float32)) * factor
        finite = ops.isfinite(total)
        if self.ask_device:
            finite = ops.logical_and(finite, amp.all_finite(gradients))
        if self.distributed:
            flags = ops.stack((stop, 1 - ops.cast(finite, mstype.int32)))
            flags = self.all_gather(flags.reshape(1, 2))
            flags = flags.max(axis=0)
            stop = flags[0]
            finite = flags[1] == 0
        if self.dynamic:
            go_on = ops.logical_or(finite, scale > 1)
            ops.assign_add(self.skipped, 1 - ops.cast(finite, mstype.int32))
            loss = ops.depend(loss, self.scaler.adjust(finite))
        else:
            go_on = finite
        if finite:
            if self.dynamic or self.clip_norm > 0 or self.fixed_scale != 1:
                unscaled: tuple[Tensor, ...] = ()
                for gradient in gradients:
                    unscaled += (gradient * factor,)
                gradients = unscaled
            loss = ops.depend(loss, self.optimizer(gradients))
        return loss, go_on, stop


class TrainStep(nn.Cell):
    """A step of gradient descent as one graph.

    Args:
        network: batch columns -> scalar loss.
        update: follows the gradients.

    Inputs: stop, int32 scalar; the columns of a batch. Outputs: as Update, with the loss before the update.
    """

    def __init__(self, network: WithLoss, update: Update) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.update = update
        self.value_and_grad = ops.value_and_grad(self._scaled_loss, None, update.optimizer.parameters)

    def _scaled_loss(self, *columns: Tensor) -> Tensor:
        return self.network(*columns) * self.update.scale()

    def construct(self, stop: Tensor, *columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        loss, gradients = self.value_and_grad(*columns)
        return self.update(stop, loss, gradients)


class _LossGradient(nn.Cell):
    """Loss of a whole batch, and its gradients to the network's outputs and to the loss's own parameters.

    Inputs: the network's outputs, then the loss's columns.
    Outputs: scaled loss; tuple of gradients to the outputs; tuple of gradients to `weights`.
    """

    def __init__(self, loss: nn.Cell, update: Update, weights: ParameterTuple, outputs: int) -> None:
        super().__init__(auto_prefix=False)
        self.loss = loss
        self.update = update
        self.has_weights = bool(weights)
        self.value_and_grad = ops.value_and_grad(self._scaled_loss, tuple(range(outputs)), weights or None)

    def _scaled_loss(self, *columns: Tensor) -> Tensor:
        return self.loss(*columns) * self.update.scale()

    def construct(self, *columns: Tensor) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        loss, gradients = self.value_and_grad(*columns)
        to_outputs, to_weights = gradients if self.has_weights else (gradients, ())
        return loss, _tuple(to_outputs), to_weights


class _ChunkGradient(nn.Cell):
    """Add one chunk's share to the gradients.

    Inputs: the network's columns, gradients to its outputs, gradients so far. Outputs: tuple of gradients to `weights`.
    """

    def __init__(self, network: nn.Cell, weights: ParameterTuple, inputs: int, outputs: int) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.inputs = inputs
        self.given = inputs + outputs
        self.grad = ops.grad(self._product, None, weights)

    def _product(self, *columns: Tensor) -> Tensor:
        outputs = _tuple(self.network(*columns[:self.inputs]))
        total = 0.0
        for i in range(self.given - self.inputs):
            gradient = ops.cast(columns[self.inputs + i], mstype.float32)
            total += ops.ReduceSum()(ops.cast(outputs[i], mstype.float32) * gradient)
        return total

    def construct(self, *columns: Tensor) -> tuple[Tensor, ...]:
        added: tuple[Tensor, ...] = ()
        gradients = self.grad(*columns[:self.given])
        for i in range(len(gradients)):
            added += (columns[self.given + i] + gradients[i],)
        return added


class _Apply(nn.Cell):
    """Update as a graph of its own. Inputs: stop, scaled loss, the gradients one by one."""

    def __init__(self, update: Update) -> None:
        super().__init__(auto_prefix=False)
        self.update = update

    def construct(self, stop: Tensor, loss: Tensor, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.update(stop, loss, gradients)


class ReplayStep(nn.Cell):
    """A step of gradient descent with the gradient of the whole batch and the memory of a chunk.

    The network runs on all chunks without gradients; the loss is differentiated with respect to the outputs; the network
    runs again, chunk by chunk, each with its share of that gradient (Gao et al., arXiv 2101.06983). A loss that compares
    all rows of a batch thus sees them all. Four small graphs, called from Python.

    A BatchNorm that trains normalises every chunk by the chunk's own mean and variance. The gradient is therefore the whole
    batch's only if BatchNorm is frozen or absent. Its running statistics count each chunk once. Random numbers in the
    network would be drawn twice.

    Args:
        together: all the network's columns and outputs have one row per image.
        update: follows the gradients.
        chunk_size: rows that run at once.

    Inputs and outputs: as TrainStep.
    """

    def __init__(self, together: WithLoss, update: Update, chunk_size: int) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.loss, self.inputs = together.network, together.loss, together.inputs
        self.chunk_size = chunk_size
        self.apply_update = _Apply(update)
        self.update = update
        parameters = update.optimizer.parameters
        self.is_of_loss = [parameter.name.startswith(LOSS) for parameter in parameters]
        self.of_network, self.of_loss = (ParameterTuple([p for p, one in zip(parameters, self.is_of_loss) if one == kind])
                                         for kind in (False, True))
        self.statistics = [p for p in together.network.get_parameters()
                           if p.name.endswith(('moving_mean', 'moving_variance'))]
        self.loss_gradient: _LossGradient | None = None
        self.chunk_gradient: _ChunkGradient | None = None

    def _embed(self, chunks: Sequence[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
        before = [p.asnumpy().copy() for p in self.statistics]
        outputs = [_tuple(self.network(*chunk)) for chunk in chunks]
        for parameter, value in zip(self.statistics, before):
            ops.assign(parameter, Tensor(value))
        return outputs

    def __call__(self, stop: Tensor, *columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inputs, others = columns[:self.inputs], columns[self.inputs:]
        starts = range(0, len(inputs[0]), self.chunk_size)
        chunks = [tuple(column[at:at + self.chunk_size] for column in inputs) for at in starts]
        outputs = [ops.concat(parts) for parts in zip(*self._embed(chunks))]
        if self.loss_gradient is None or self.chunk_gradient is None:
            self.loss_gradient = _LossGradient(self.loss, self.update, self.of_loss, len(outputs))
            self.chunk_gradient = _ChunkGradient(self.network, self.of_network, self.inputs, len(outputs))
        loss, to_outputs, of_loss = self.loss_gradient(*outputs, *others)
        of_network = [ops.zeros_like(parameter) for parameter in self.of_network]
        for at, chunk in zip(starts, chunks):
            share = [gradient[at:at + self.chunk_size] for gradient in to_outputs]
            of_network = self.chunk_gradient(*chunk, *share, *of_network)
        both = iter(of_network), iter(of_loss)
        return self.apply_update(stop, loss, *(next(both[is_loss]) for is_loss in self.is_of_loss))


def create_step(network: nn.Cell, loss: nn.Cell, network_columns: int, recipe: Mapping[str, Any], lr: NDArray[Any],
                process: Process) -> nn.Cell:
    """Create the training step of a recipe.

    Args:
        network, loss: to train; the names of the loss's parameters are made to begin with 'loss.'.
        network_columns: number of columns of a batch that the network takes; the others are the loss's.
        recipe: amp_level, 'auto' if there is none; loss_scale, a float or 'dynamic' (always dynamic if amp_level stands for
            another level than O0); clip_norm; chunk_size, 0 for the whole batch at once; and the entries of create_optimizer.
        lr: (steps,) float array, the learning rate of every step.
        process: device target and number of processes.

    Returns:
        Cell: (stop, *columns) -> (loss, finite, stop), see Update. Its parameters are the whole state of a training.

    Raises:
        InputError: see create_optimizer.
        ValueError: two parameters have one name.
    """
    together = WithLoss(network, loss, network_columns)
    optimizer = create_optimizer(recipe, network, loss, lr)
    level = level_for(recipe.get('amp_level', 'auto'), process.target)
    loss_scale = recipe['loss_scale'] if level == 'O0' else 'dynamic'
    update = Update(optimizer, loss_scale, recipe['clip_norm'], process)
    chunk = recipe['chunk_size']
    step = ReplayStep(together, update, chunk) if chunk else TrainStep(together, update)
    names = [parameter.name for parameter in step.get_parameters()]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f'two parameters of the training are called {min(twice)}')
    return step
