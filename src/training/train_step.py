"""One step of training: forward, backward, average over the devices, clip, update."""
from mindspore import dtype as mstype
from mindspore import nn, ops


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
        loss.update_parameters_name('loss.')

    def construct(self, *columns):
        outputs = self.network(*columns[:self.inputs])
        if not isinstance(outputs, tuple):
            outputs = (outputs,)
        return self.loss(*outputs, *columns[self.inputs:])


class TrainStep(nn.Cell):
    """A step of gradient descent.

    Args:
        network (Cell): batch columns -> scalar loss.
        optimizer (nn.Optimizer or WithCenters): divides the gradients by its own loss scale.
        loss_scale (float): the loss is multiplied by it before differentiation, so that small gradients survive
            float16.
        clip_norm (float): bound on the global norm of the gradients, 0 for none.
        device_num (int): with more than one device, gradients are averaged over all of them.

    Inputs: the columns of a batch. Outputs: scalar loss of this device's batch, before the update.
    """

    def __init__(self, network, optimizer, loss_scale=1.0, clip_norm=0.0, device_num=1):
        super().__init__(auto_prefix=False)
        self.network = network
        self.optimizer = optimizer
        self.loss_scale = loss_scale
        self.clip_norm = clip_norm
        self.weights = optimizer.parameters
        self.value_and_grad = ops.value_and_grad(self._scaled_loss, None, self.weights)
        self.reducer = nn.DistributedGradReducer(self.weights, True, device_num) if device_num > 1 else ops.identity

    def _scaled_loss(self, *columns):
        return self.network(*columns) * self.loss_scale

    def construct(self, *columns):
        loss, gradients = self.value_and_grad(*columns)
        gradients = self.reducer(gradients)
        if self.clip_norm > 0:
            gradients = ops.clip_by_global_norm(gradients, self.clip_norm * self.loss_scale)
        loss = ops.depend(loss, self.optimizer(gradients))
        return loss.astype(mstype.float32) / self.loss_scale
