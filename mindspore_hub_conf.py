"""MindSpore Hub's entry to the networks of this project."""
from src.common.errors import InputError
from src.networks import BACKBONES
from src.networks import create_network as create
from src.recipes.recipe import Recipe, make_recipe

# Recipes by which weights without a record of this project are read; of backbones that of metric learning.
SEMANTICS = {f'{dataset.lower()}_{mode}': (dataset, mode) for dataset in ('CUB', 'AwA') for mode in ('att', 'word', 'fusion')}


def create_network(name, pretrained=None, **options):
    """Create a network in evaluation mode.

    Args:
        name: a backbone (resnet50 ...) or a network of semantics (cub_att ...), see src.networks.
        pretrained: a checkpoint or weight file, or the folder of a training: the network is the trained one, with its head.
        options: of src.networks.create_network; without pretrained only.

    Returns:
        Cell: images (N, 3, H, W) or class semantics (N, A) -> embeddings (N, D), float32.

    Raises:
        InputError: no network has that name, or the file is missing, unreadable or of another network.
    """
    if pretrained is None:
        return create(name, **options).set_train(False)
    if options:
        raise InputError(f'pretrained={pretrained}: brings its own options; leave out {", ".join(options)}')
    from src.systems.trained import load_trained

    def recipe_for(saved, *_):
        if saved:
            return saved
        if name in BACKBONES:
            # Padding and BatchNorm's epsilon are those that such weights usually have.
            return Recipe({**make_recipe('SOP', 'softmax'), 'backbone': name, 'backbone_options': {}})
        if name not in SEMANTICS:
            known = ', '.join([*BACKBONES, *SEMANTICS])
            raise InputError(f'{pretrained}: holds no recipe of this project; name one of {known}')
        return make_recipe(*SEMANTICS[name])
    trained = load_trained(pretrained, recipe_for=recipe_for)
    found = trained.recipe.get('network') or trained.recipe.backbone
    if found != name:
        raise InputError(f'{pretrained}: holds a network {found}, not {name}')
    return trained.network
