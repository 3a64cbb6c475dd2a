"""The published systems: for each, which data, network, loss and accuracy belong together."""
from src import registry

SYSTEMS = {
    'zero_shot': 'zero_shot.ZeroShot',
    'generalised': 'generalised.Generalised',
    'metric_learning': 'metric_learning.MetricLearning',
    'reid': 'reid.Reid',
}


def system_class(name):
    """The class of a system, a src.systems.system.System."""
    return registry.load('src.systems', SYSTEMS, name, 'system')


def create_system(recipe, process):
    """The system a recipe belongs to; its data is not opened yet."""
    return system_class(recipe.system)(recipe, process)
