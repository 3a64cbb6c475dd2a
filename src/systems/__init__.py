"""The published systems: each combines data, network, loss and accuracy."""
from typing import TYPE_CHECKING

from src.common.registry import loader
from src.recipes.systems import SYSTEMS

if TYPE_CHECKING:
    from src.common.device import Process
    from src.recipes.recipe import Recipe
    from src.training.system import System

# The type of a system by its name, a src.training.system.System.
system_class = loader('src.systems', {name: row.target for name, row in SYSTEMS.items()}, 'system')


def create_system(recipe: 'Recipe', process: 'Process') -> 'System':
    """Create the system of a recipe; its data is not opened yet."""
    system: 'System' = system_class(recipe.system)(recipe, process)
    return system
