"""One step of training: forward, backward, average over the devices, clip, update."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, amp, nn, ops
from mindspore import dtype as mstype

from src.common.errors import InputError
from src.training.optimizer import LOSS, create_optimizer

if TYPE_CHECKING:
    from src.common.device import Process

# Of a dynamic loss scale: where it starts, and the steps without overflow after which it doubles.
FIRST_SCALE, SCALE_WINDOW = 2.0 ** 16, 2000


class WithLoss(nn.Cell):
    """A network and its loss, as one cell from a batch to a scalar.

    Args:
        network (Cell): called with the first columns of a batch; returns a Tensor or a tuple of them.
        loss (Cell): called with what the network returns and the other columns. Its parameters, if any, get names that
            begin with 'loss.', so that a checkpoint tells them from the network's.
        inputs (int): how many columns are the network's.

    Inputs: the columns of a batch. Outputs: scalar loss.
    """

    def __init__(self, network, loss, inputs=1):
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss = loss
        self.inputs = inputs
        for parameter in loss.get_parameters():
            if not parameter.name.startswith(LOSS):
                parameter.name = LOSS + parameter.name

    def construct(self, *columns):
        outputs = self.network(*columns[:self.inputs])
        if not isinstance(outputs, tuple):
            outputs = (outputs,)
        return self.loss(*outputs, *columns[self.inputs:])


def _sum(values):
    # By rows first: a sum over a whole matrix runs on one thread on a CPU, five times slower.
    if values.ndim > 1:
        values = ops.ReduceSum()(values.reshape(values.shape[0], -1), 1)
    return ops.ReduceSum()(values)


class Average(nn.Cell):
    """Gradients averaged over the processes: one AllReduce of one flat vector for each dtype.

    Args:
        parameters (ParameterTuple): in the order of the gradients.
        size (int): number of processes.

    Inputs and outputs: gradients, a tuple in that order.
    """

    def __init__(self, parameters, size):
        super().__init__(auto_prefix=False)
        groups = {}
        for number, parameter in enumerate(parameters):
            groups.setdefault(parameter.dtype, []).append(number)
        self.groups = tuple(tuple(numbers) for numbers in groups.values())
        # Where the gradient of each parameter lies: (group, place within the group).
        places = {number: (i, j) for i, numbers in enumerate(self.groups) for j, number in enumerate(numbers)}
        self.places = tuple(places[number] for number in range(len(parameters)))
        self.shapes = tuple(parameter.shape for parameter in parameters)
        self.lengths = tuple([parameters[number].size for number in numbers] for numbers in self.groups)
        self.share = 1 / size
        self.all_reduce = ops.AllReduce()

    def construct(self, gradients):
        averages = ()
        for i in range(len(self.groups)):
            vectors = ()
            for number in self.groups[i]:
                vectors += (gradients[number].reshape(-1),)
            averages += (ops.split(self.all_reduce(ops.concat(vectors)) * self.share, self.lengths[i]),)
        found = ()
        for i in range(len(self.places)):
            group, place = self.places[i]
            found += (averages[group][place].reshape(self.shapes[i]),)
        return found


class Update(nn.Cell):
    """What follows the gradients: average over the devices, check, clip, update.

    Where a gradient or the loss is not finite on any device, no device updates anything: neither weights nor moments
    nor global_step, so that the schedule goes on where it was.

    Args:
        optimizer (nn.Optimizer or WithOwnUpdates): of unscaled gradients.
        loss_scale (float or 'dynamic'): what the loss was multiplied by, so that small gradients survive float16.
            Dynamic: halved whenever a gradient overflows, which skips the step, and doubled after SCALE_WINDOW steps
            without; the state is in the parameters loss_scale, loss_scale_counter and skipped_steps.
        clip_norm (float): bound on the global norm of the gradients, 0 for none.
        process (Process): its target and how many there are.

    Inputs:
        stop, int32 scalar; loss, scalar, scaled; gradients, a tuple in the order of optimizer.parameters, scaled.

    Outputs:
        loss, float32 scalar, unscaled, of this device; finite, bool scalar, the same on all devices: False says that
        the training cannot go on (with a dynamic scale only once it is down to 1); stop, int32 scalar: the largest of
        all devices.
    """

    def __init__(self, optimizer, loss_scale, clip_norm, process):
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
        # Saturating devices know better than the numbers whether something has overflown.
        self.ask_device = process.target != 'CPU'
        if self.distributed:
            self.average = Average(optimizer.parameters, process.size)
            self.all_gather = ops.AllGather()

    def scale(self):
        """What the loss is multiplied by."""
        return self.loss_scale if self.dynamic else self.fixed_scale

    def construct(self, stop, loss, gradients):
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
                unscaled = ()
                for gradient in gradients:
                    unscaled += (gradient * factor,)
                gradients = unscaled
            loss = ops.depend(loss, self.optimizer(gradients))
        return loss, go_on, stop


class TrainStep(nn.Cell):
    """A step of gradient descent, as one graph.

    Args:
        network (WithLoss): batch columns -> scalar loss.
        update (Update): what follows the gradients.

    Inputs: stop, int32 scalar; the columns of a batch. Outputs: those of Update; the loss is that before the update.
    """

    def __init__(self, network, update):
        super().__init__(auto_prefix=False)
        self.network = network
        self.update = update
        self.value_and_grad = ops.value_and_grad(self._scaled_loss, None, update.optimizer.parameters)

    def _scaled_loss(self, *columns):
        return self.network(*columns) * self.update.scale()

    def construct(self, stop, *columns):
        loss, gradients = self.value_and_grad(*columns)
        return self.update(stop, loss, gradients)


class _LossGradient(nn.Cell):
    """The loss of a whole batch's outputs, and its gradients to the outputs and to the loss's own parameters.

    Inputs: the network's outputs, then the loss's columns.
    Outputs: scaled loss; tuple of gradients to the outputs; tuple of gradients to `weights`.
    """

    def __init__(self, loss, update, weights, outputs):
        super().__init__(auto_prefix=False)
        self.loss = loss
        self.update = update
        self.has_weights = bool(weights)
        self.value_and_grad = ops.value_and_grad(self._scaled_loss, tuple(range(outputs)), weights or None)

    def _scaled_loss(self, *columns):
        return self.loss(*columns) * self.update.scale()

    def construct(self, *columns):
        loss, gradients = self.value_and_grad(*columns)
        to_outputs, to_weights = gradients if self.has_weights else (gradients, ())
        # Of a single output MindSpore returns the gradient itself.
        return loss, to_outputs if isinstance(to_outputs, tuple) else (to_outputs,), to_weights


class _ChunkGradient(nn.Cell):
    """Adds one chunk's share of the gradients.

    Inputs: the network's columns, gradients to its outputs, gradients so far. Outputs: tuple of gradients to `weights`.
    """

    def __init__(self, network, weights, inputs, outputs):
        super().__init__(auto_prefix=False)
        self.network = network
        self.inputs = inputs
        self.given = inputs + outputs
        self.grad = ops.grad(self._product, None, weights)

    def _product(self, *columns):
        outputs = self.network(*columns[:self.inputs])
        if not isinstance(outputs, tuple):
            outputs = (outputs,)
        total = 0.0
        for i in range(self.given - self.inputs):
            gradient = ops.cast(columns[self.inputs + i], mstype.float32)
            total += ops.ReduceSum()(ops.cast(outputs[i], mstype.float32) * gradient)
        return total

    def construct(self, *columns):
        added = ()
        gradients = self.grad(*columns[:self.given])
        for i in range(len(gradients)):
            added += (columns[self.given + i] + gradients[i],)
        return added


class _Apply(nn.Cell):
    """Update as a graph of its own. Inputs: stop, scaled loss, the gradients one by one."""

    def __init__(self, update):
        super().__init__(auto_prefix=False)
        self.update = update

    def construct(self, stop, loss, *gradients):
        return self.update(stop, loss, gradients)


class ReplayStep(nn.Cell):
    """A step of gradient descent with the memory of a chunk of the batch, and the gradient of the whole.

    The network is run on all chunks without gradients; the loss is differentiated to its outputs; the network is run
    again, chunk by chunk, each with its share of that gradient (Gao et al., arXiv 2101.06983). Losses that compare
    all rows of a batch thus see them all. Four small graphs, called from Python.

    A BatchNorm that trains normalises every chunk by the chunk's own mean and variance, so that the gradient is the
    whole batch's only where it is frozen or there is none; its running statistics count each chunk once. Anything
    random in the network would be drawn twice.

    Args:
        together (WithLoss): all the network's columns and outputs have one row an image.
        update (Update): what follows the gradients.
        chunk_size (int): rows that are run at once.

    Inputs and outputs: those of TrainStep.
    """

    def __init__(self, together, update, chunk_size):
        super().__init__(auto_prefix=False)
        self.network, self.loss, self.inputs = together.network, together.loss, together.inputs
        self.chunk_size = chunk_size
        self.apply_update = _Apply(update)
        self.update = update
        parameters = update.optimizer.parameters
        self.names = [parameter.name for parameter in parameters]
        self.of_loss = ParameterTuple([p for p in parameters if p.name.startswith(LOSS)])
        self.of_network = ParameterTuple([p for p in parameters if not p.name.startswith(LOSS)])
        self.statistics = [p for p in together.network.get_parameters()
                           if p.name.endswith(('moving_mean', 'moving_variance'))]
        self.loss_gradient = None
        self.chunk_gradient = None

    def _embed(self, chunks):
        before = [p.asnumpy().copy() for p in self.statistics]
        outputs = [self.network(*chunk) for chunk in chunks]
        for parameter, value in zip(self.statistics, before):
            ops.assign(parameter, Tensor(value))
        return [output if isinstance(output, tuple) else (output,) for output in outputs]

    def __call__(self, stop, *columns):
        inputs, others = columns[:self.inputs], columns[self.inputs:]
        starts = range(0, len(inputs[0]), self.chunk_size)
        chunks = [tuple(column[at:at + self.chunk_size] for column in inputs) for at in starts]
        outputs = [ops.concat(parts) for parts in zip(*self._embed(chunks))]
        if self.loss_gradient is None:
            self.loss_gradient = _LossGradient(self.loss, self.update, self.of_loss, len(outputs))
            self.chunk_gradient = _ChunkGradient(self.network, self.of_network, self.inputs, len(outputs))
        loss, to_outputs, of_loss = self.loss_gradient(*outputs, *others)
        of_network = [ops.zeros_like(parameter) for parameter in self.of_network]
        for at, chunk in zip(starts, chunks):
            share = [gradient[at:at + self.chunk_size] for gradient in to_outputs]
            of_network = self.chunk_gradient(*chunk, *share, *of_network)
        gradients = dict(zip([p.name for p in self.of_network] + [p.name for p in self.of_loss],
                             [*of_network, *of_loss]))
        return self.apply_update(stop, loss, *(gradients[name] for name in self.names))


def create_step(network: nn.Cell, loss: nn.Cell, network_columns: int, recipe: Mapping[str, Any], lr: np.ndarray,
                process: Process) -> nn.Cell:
    """The training step of a recipe.

    Args:
        network, loss: to train; the loss's parameters get names that begin with 'loss.'.
        network_columns: how many columns of a batch are the network's; the others are the loss's.
        recipe: loss_scale, a float or 'dynamic', which every recipe is on a device that computes in float16 (Ascend);
            clip_norm; chunk_size, 0 for the whole batch at once; what create_optimizer reads.
        lr: float array, the learning rate of every step.
        process: its target, and how many processes there are.

    Returns:
        Cell: (stop, *columns) -> (loss, finite, stop), see Update. Its parameters are all that a resumed training
            needs.

    Raises:
        InputError: see create_optimizer; a negative chunk_size.
        ValueError: two parameters have one name.
    """
    chunk = recipe['chunk_size']
    if chunk < 0:
        raise InputError(f'chunk_size={chunk}: rows of a batch that are run at once, 0 for all')
    together = WithLoss(network, loss, network_columns)
    optimizer = create_optimizer(recipe, network, loss, lr)
    loss_scale = 'dynamic' if process.target == 'Ascend' else recipe['loss_scale']
    update = Update(optimizer, loss_scale, recipe['clip_norm'], process)
    step = ReplayStep(together, update, chunk) if chunk else TrainStep(together, update)
    names = [parameter.name for parameter in step.get_parameters()]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f'two parameters of the training are called {min(twice)}')
    return step
