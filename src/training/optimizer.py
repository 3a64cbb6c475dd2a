"""Optimizers by name, and the learning rate and weight decay of every parameter."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore import dtype as mstype
from numpy.typing import NDArray

from src.common.errors import InputError

# Prefix of the names of a loss's parameters, which tells them from the network's in a checkpoint.
LOSS = 'loss.'
# One learning rate, or one per step.
Rate = Any


class Adam(nn.Optimizer):
    """Adam (Kingma and Ba, arXiv 1412.6980) for dense gradients, with weight decay.

    A weight moves by -lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps), algorithm 1, as in PyTorch. With epsilon_hat it
    moves by -lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps), the end of section 2, as in MindSpore and TensorFlow: in
    the first step eps then counts 32 times as much.

    nn.Adam gives the same numbers as epsilon_hat, but creates an operator for sparse gradients that MindSpore 2.8 deprecates
    and warns of at every start. The parameters of its state have nn.Adam's names.

    Args:
        params: groups of parameters with their weight decay, L2, added to the gradient; see nn.Optimizer.
        learning_rate: float, or float32 array of one value per step.
        beta1, epsilon_hat: see above; beta2 is 0.999, eps 1e-8.
        decoupled: whether the decay shrinks the weights by learning rate times weight_decay instead, apart from the
            gradient: AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2).

    Inputs: gradients, a tuple in the order of params.
    """

    def __init__(self, params: Sequence[Any], learning_rate: Rate, beta1: float, decoupled: bool, epsilon_hat: bool):
        super().__init__(learning_rate, params)
        self.beta1, self.beta2, self.eps = (Tensor(x, mstype.float32) for x in (beta1, 0.999, 1e-8))
        self.beta1_power = Parameter(Tensor(1, mstype.float32), name='beta1_power')
        self.beta2_power = Parameter(Tensor(1, mstype.float32), name='beta2_power')
        self.moment1 = self._parameters.clone(prefix='moment1', init='zeros')
        self.moment2 = self._parameters.clone(prefix='moment2', init='zeros')
        self.decoupled = decoupled
        self.epsilon_hat = epsilon_hat
        self.adam = ops.Adam()

    def construct(self, gradients: tuple[Tensor, ...]) -> bool:
        decay = self.get_weight_decay()
        if not self.decoupled:
            gradients = self.decay_weight(gradients)
        lr = self.get_lr()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        beta1_power = self.beta1_power * self.beta1
        beta2_power = self.beta2_power * self.beta2
        self.beta1_power = beta1_power
        self.beta2_power = beta2_power
        eps = self.eps if self.epsilon_hat else self.eps * ops.sqrt(1 - beta2_power)
        for i in range(len(self._parameters)):
            rate = lr[i] if self.is_group_lr else lr
            if self.decoupled and self.exec_weight_decay and self.decay_flags[i]:
                ops.assign_sub(self._parameters[i], rate * (decay[i] if self.is_group else decay) * self._parameters[i])
            self.adam(self._parameters[i], self.moment1[i], self.moment2[i], beta1_power, beta2_power, rate,
                      self.beta1, self.beta2, eps, gradients[i])
        return True


class WithOwnUpdates(nn.Cell):
    """An optimizer, and plain SGD without momentum, weight decay and schedule for the parameters in Loss.own_updates.

    Args:
        optimizer: optimizer of all other parameters.
        updates: parameters with their step sizes.

    Inputs: gradients, a tuple in the order of `parameters`.
    """

    def __init__(self, optimizer: nn.Optimizer, updates: Sequence[tuple[Parameter, float]]):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.own = ParameterTuple([parameter for parameter, _ in updates])
        self.step_sizes = tuple(float(size) for _, size in updates)
        self.parameters = ParameterTuple([*optimizer.parameters, *self.own])
        self.others = len(optimizer.parameters)

    def construct(self, gradients: tuple[Tensor, ...]) -> Any:
        for i in range(len(self.own)):
            ops.assign_sub(self.own[i], self.step_sizes[i] * gradients[self.others + i])
        return self.optimizer(gradients[:self.others])


def _adam(params: Sequence[Any], lr: Rate, recipe: Mapping[str, Any]) -> Adam:
    return Adam(params, lr, recipe['beta1'], recipe['optimizer'] == 'adamw', recipe['epsilon_hat'])


# Name -> function (groups of parameters, lr, recipe) -> optimizer.
OPTIMIZERS: dict[str, Callable[..., nn.Optimizer]] = {
    'adam': _adam,
    'adamw': _adam,
    'momentum': lambda params, lr, recipe: nn.Momentum(params, lr, recipe['momentum']),
}


def _decay_of(parameter: Parameter, recipe: Mapping[str, Any]) -> float:
    """Weight decay of one parameter."""
    decay = recipe['weight_decay']
    if isinstance(decay, Mapping):
        layer = parameter.name.split('.')[0]
        if layer not in decay:
            raise InputError(f'weight_decay: names {", ".join(decay)} but not {layer}, which {parameter.name} belongs '
                             'to; give every layer a value, 0 for none')
        return float(decay[layer])
    # MindSpore's own rule for parameters without groups.
    spared = recipe['decay'] == 'weights' and ('beta' in parameter.name or 'gamma' in parameter.name)
    return 0.0 if spared else float(decay)


def _head_first_steps(recipe: Mapping[str, Any], total_steps: int) -> int:
    """Number of first steps in which only new layers and the loss are trained."""
    epochs = recipe['head_first_epochs']
    if epochs and recipe['total_iter_num']:
        raise InputError(f'head_first_epochs={epochs}: counts epochs, and this recipe counts iterations '
                         '(total_iter_num); give --epoch_size')
    if not epochs:
        return 0
    done = recipe['pretrain_epoch_size']
    return max(epochs - done, 0) * (total_steps // (recipe['epoch_size'] - done))


def create_optimizer(recipe: Mapping[str, Any], network: nn.Cell, loss: nn.Cell, lr: NDArray[Any]) -> nn.Cell:
    """Create the optimizer of a recipe.

    Every trained parameter has a weight decay and a learning rate: lr, times loss_lr_factor and Loss.lr_factors for
    parameters of the loss. In the first head_first_epochs the rate is 0 except for the loss's parameters and the network's
    new_layers, so that no other weight moves (the running statistics of BatchNorm do, and moments accumulate).

    Args:
        recipe: optimizer, a key of OPTIMIZERS, with beta1 and epsilon_hat, or momentum; weight_decay, a float, or a dict of
            layer name -> float; decay, which parameters a float is for: 'weights', all but gamma and beta of the
            normalisations, or 'all'; loss_lr_factor; head_first_epochs, with epoch_size, pretrain_epoch_size and
            total_iter_num.
        network: to train; has new_layers if head_first_epochs is not 0.
        loss: of src.losses; its parameters' names begin with 'loss.' by now.
        lr: float array, the learning rate of every step.

    Returns:
        Cell with `parameters`, called with their gradients: nn.Optimizer, or WithOwnUpdates.

    Raises:
        InputError: a parameter that no group of decays names.
        ValueError: the loss names a parameter that it does not have.
    """
    own = loss.own_updates()
    own_names = {parameter.name for parameter, _ in own}
    of_loss = {parameter.name: parameter for parameter in loss.trainable_params()}
    factors = {LOSS + name: factor for name, factor in loss.lr_factors().items()}
    unknown = (set(factors) | own_names) - set(of_loss)
    if unknown:
        raise ValueError(f'{type(loss).__name__} has no parameter {min(unknown)} to train')
    params = [p for p in [*network.trainable_params(), *of_loss.values()] if p.name not in own_names]

    waiting = _head_first_steps(recipe, len(lr))
    late = lr.copy()
    late[:waiting] = 0
    new_layers = tuple(network.new_layers) if waiting else ()
    groups: dict[tuple[float, bool, float], list[Parameter]] = {}
    for parameter in params:
        head = parameter.name in of_loss or parameter.name.startswith(new_layers)
        factor = recipe['loss_lr_factor'] * factors.get(parameter.name, 1.0) if parameter.name in of_loss else 1.0
        key = (factor, bool(waiting) and not head, _decay_of(parameter, recipe))
        groups.setdefault(key, []).append(parameter)
    rates = {(factor, waits) for factor, waits, _ in groups}

    def group(factor: float, waits: bool, decay: float, members: list[Parameter]) -> dict[str, Any]:
        rate = {} if rates == {(1.0, False)} else {'lr': (factor * (late if waits else lr)).astype(np.float32).tolist()}
        return {'params': members, 'weight_decay': decay, **rate}

    grouped = [group(factor, waits, decay, members) for (factor, waits, decay), members in groups.items()]
    optimizer = OPTIMIZERS[recipe['optimizer']]([*grouped, {'order_params': params}], lr.tolist(), recipe)
    return WithOwnUpdates(optimizer, own) if own else optimizer
