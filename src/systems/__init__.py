"""The published systems: for each, which data, network, loss and accuracy belong together."""
from src.common.registry import loader

SYSTEMS = {
    'zero_shot': 'zero_shot.ZeroShot',
    'generalised': 'generalised.Generalised',
    'metric_learning': 'metric_learning.MetricLearning',
    'reid': 'reid.Reid',
}
# The class of a system, a src.systems.system.System.
system_class = loader('src.systems', SYSTEMS, 'system')


def create_system(recipe, process):
    """The system a recipe belongs to; its data is not opened yet."""
    return system_class(recipe.system)(recipe, process)
