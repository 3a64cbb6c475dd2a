"""Class semantics to prototypes through class normalisation (Skorokhodov, Elhoseiny, arXiv 2006.11328)."""
from typing import Optional

from mindspore import Tensor, mint, nn
from mindspore.common.initializer import Uniform

from src.networks.demnet import SemanticNetwork, check_layers


class ClassNormalisedNetwork(SemanticNetwork):
    """Dense, ReLU, Dense, CS, ReLU, CS, Dense, where CS standardises every unit over the classes of the batch.

    CS subtracts the mean and divides by the deviation, without learnt scale; in evaluation by running statistics. The
    last layer starts so that a prototype's variance does not grow with the widths: uniform in
    +-sqrt(3 / (hidden_dim * visual_dim)) (section 3.3), which assumes that its inputs come from CS.

    Args:
        attribute_dim, hidden_dim, visual_dim: widths.
        output_relu: whether ReLU follows the last layer, as published for features that are not negative.

    Inputs: semantics (C, attribute_dim) float32, C > 1 in training; optionally keep (C, hidden_dim), a dropout mask for
    the last hidden layer. Outputs: (C, visual_dim) float32.
    """

    def __init__(self, attribute_dim: int, hidden_dim: int = 1024, visual_dim: int = 1024, output_relu: bool = True):
        super().__init__()
        check_layers((attribute_dim, hidden_dim, visual_dim), (), 0)
        self.fc1 = nn.Dense(attribute_dim, hidden_dim)
        self.fc2 = nn.Dense(hidden_dim, hidden_dim)
        bound = (3 / (hidden_dim * visual_dim)) ** 0.5
        self.fc3 = nn.Dense(hidden_dim, visual_dim, weight_init=Uniform(bound), bias_init='zeros')
        self.cs1 = nn.BatchNorm1d(hidden_dim, affine=False)
        self.cs2 = nn.BatchNorm1d(hidden_dim, affine=False)
        self.output_relu = output_relu
        self.input_widths = (attribute_dim,)
        self.hidden_width = hidden_dim

    def construct(self, semantics: Tensor, keep: Optional[Tensor] = None) -> Tensor:
        x = self.fc2(mint.nn.functional.relu(self.fc1(semantics)))
        x = self.cs2(mint.nn.functional.relu(self.cs1(x)))
        if keep is not None:
            x = x * keep
        x = self.fc3(x)
        return mint.nn.functional.relu(x) if self.output_relu else x
