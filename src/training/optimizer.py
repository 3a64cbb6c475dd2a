"""Optimizers by the name a recipe gives."""
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore import dtype as mstype


class Adam(nn.Optimizer):
    """Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1) for dense gradients, with L2 weight decay.

    nn.Adam gives the same numbers, but creates an operator for sparse gradients that MindSpore 2.8 deprecates and
    warns of at every start. The parameters of its state have nn.Adam's names.

    Args:
        params (list of Parameter): what it updates.
        learning_rate (float or float32 array of one value a step).
        beta1, beta2, eps (float): as in the paper.
        weight_decay (float): L2, added to the gradient.
        loss_scale (float): the gradients are divided by it.

    Inputs: gradients, a tuple in the order of params.
    """

    def __init__(self, params, learning_rate, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, loss_scale=1.0):
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        self.beta1, self.beta2, self.eps = (Tensor(x, mstype.float32) for x in (beta1, beta2, eps))
        self.beta1_power = Parameter(Tensor(1, mstype.float32), name='beta1_power')
        self.beta2_power = Parameter(Tensor(1, mstype.float32), name='beta2_power')
        self.moment1 = self._parameters.clone(prefix='moment1', init='zeros')
        self.moment2 = self._parameters.clone(prefix='moment2', init='zeros')
        self.adam = ops.Adam()

    def construct(self, gradients):
        gradients = self.scale_grad(self.decay_weight(self.flatten_gradients(gradients)))
        lr = self.get_lr()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        beta1_power = self.beta1_power * self.beta1
        beta2_power = self.beta2_power * self.beta2
        self.beta1_power = beta1_power
        self.beta2_power = beta2_power
        for i in range(len(self._parameters)):
            self.adam(self._parameters[i], self.moment1[i], self.moment2[i], beta1_power, beta2_power, lr,
                      self.beta1, self.beta2, self.eps, gradients[i])
        return True


class WithCenters(nn.Cell):
    """An optimizer, and plain SGD for the centres of a center loss.

    The centres take no momentum, weight decay or schedule: the learning rate is 0.5, and what the gradient was
    multiplied by is divided out (CTL, arXiv 2104.13643, published code).

    Args:
        optimizer (nn.Optimizer): of all other parameters.
        centers (list of Parameter): the centres.
        factor (float): what their gradients were multiplied by: loss scale times the weight of the center loss.

    Inputs: gradients, a tuple in the order of `parameters`.
    """

    learning_rate_of_centers = 0.5

    def __init__(self, optimizer, centers, factor):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.centers = ParameterTuple(centers)
        self.parameters = ParameterTuple([*optimizer.parameters, *centers])
        self.others = len(optimizer.parameters)
        self.step_size = self.learning_rate_of_centers / factor

    def construct(self, gradients):
        for i in range(len(self.centers)):
            ops.assign_sub(self.centers[i], self.step_size * gradients[self.others + i])
        return self.optimizer(gradients[:self.others])


def create_optimizer(recipe, params, lr, center_weight=1.0):
    """The optimizer of a recipe.

    Args:
        recipe (EasyDict): optimizer 'adam' (beta1) or 'momentum' (momentum); loss_scale; weight_decay, a float for all
            parameters, or a dict of layer name -> float.
        params (list of Parameter): what it updates; those whose name contains 'centers' by SGD of their own.
        lr (float array): the learning rate of every step.
        center_weight (float): the weight of the center loss in the total.

    Returns:
        nn.Optimizer, or WithCenters where there are centres.
    """
    centers = [p for p in params if 'centers' in p.name]
    if centers:
        others = create_optimizer(recipe, [p for p in params if 'centers' not in p.name], lr)
        return WithCenters(others, centers, recipe.loss_scale * center_weight)
    lr, decay = lr.tolist(), recipe.weight_decay
    if isinstance(decay, dict):
        params = [{'params': [p for p in params if p.name.split('.')[0] == layer], 'weight_decay': value}
                  for layer, value in decay.items()]
        decay = 0.0
    if recipe.optimizer == 'adam':
        return Adam(params, lr, recipe.beta1, weight_decay=decay, loss_scale=recipe.loss_scale)
    return nn.Momentum(params, lr, recipe.momentum, decay, recipe.loss_scale)
