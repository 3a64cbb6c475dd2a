"""Every hyper-parameter of every system: one table of recipes, and the rules by which flags choose and change one."""
import copy

from easydict import EasyDict

from src.errors import InputError

# What every recipe has unless it says otherwise.
COMMON = dict(
    seed=1,
    optimizer='momentum', momentum=0.9, weight_decay=0.0, loss_scale=1.0, clip_norm=0.0,
    # Learning rate, see src.training.get_lr: either falls at fractions of all steps, at lr_epochs or at lr_steps.
    lr_mode='const', lr_max=1e-4, lr_init=0.0, lr_end=0.0, lr_epochs=[], lr_steps=[], warmup_epochs=0,
    distributed_lr_factor=1,
    # Iterations, where given, go before epochs. interval_step: steps from one loss line to the next, 0 for one an epoch.
    epoch_size=100, total_iter_num=0, interval_step=0,
    save_checkpoint_epochs=10, save_iter_step=0, keep_checkpoint_max=2,
    validation='none', validation_epochs=1, test_iter_step=0, run_eval=False,
)

_DEM = dict(
    system='zero_shot', optimizer='adam', weight_decay=0.0, clip_norm=0.2, distributed_lr_factor=5,
    # The published code hands Adam its weight decay where beta1 stands, so this is what its results were trained with:
    # beta1 0.01 and no decay. The recipes called `paper` have the paper's own.
    beta1=0.01,
    epoch_size=100, interval_step=100, run_eval=True,
    network_options={},
    validation='seen_images', validation_fraction=0.05,
)
_AWA = dict(_DEM, dataset='AwA', batch_size=64)
_CUB = dict(_DEM, dataset='CUB', batch_size=100)
_AWA_ATT = dict(_AWA, train_mode='att', network='awa_att', metric='euclidean', lr_max=1e-5)
_AWA_WORD = dict(_AWA, train_mode='word', network='awa_word', metric='cosine', lr_max=1e-4)
_AWA_FUSION = dict(_AWA, train_mode='fusion', network='awa_fusion', metric='cosine', lr_max=1e-4)
_CUB_ATT = dict(_CUB, train_mode='att', network='cub_att', metric='euclidean', lr_max=1e-5)
_CUB_WORD = dict(_CUB, train_mode='word', network='cub_word', metric='cosine', lr_max=1e-4)
_CUB_FUSION = dict(_CUB, train_mode='fusion', network='cub_fusion', metric='cosine', lr_max=1e-4)
_PAPER_FUSION = dict(beta1=0.9, weight_decay={'fc1': 1e-3, 'fc2': 1e-2, 'fc3': 1e-2})

RECIPES = {
    # DEM, by (dataset, mode, --recipe).
    ('AwA', 'att', 'published'): _AWA_ATT,
    ('AwA', 'word', 'published'): _AWA_WORD,
    ('AwA', 'fusion', 'published'): _AWA_FUSION,
    ('CUB', 'att', 'published'): _CUB_ATT,
    ('CUB', 'word', 'published'): _CUB_WORD,
    ('CUB', 'fusion', 'published'): _CUB_FUSION,
    ('AwA', 'att', 'paper'): dict(_AWA_ATT, beta1=0.9, weight_decay=1e-2),
    ('AwA', 'word', 'paper'): dict(_AWA_WORD, beta1=0.9, weight_decay=1e-3),
    ('AwA', 'fusion', 'paper'): dict(_AWA_FUSION, **_PAPER_FUSION),
    ('CUB', 'att', 'paper'): dict(_CUB_ATT, beta1=0.9, weight_decay=1e-2),
    ('CUB', 'word', 'paper'): dict(_CUB_WORD, beta1=0.9, weight_decay=1e-3),
    ('CUB', 'fusion', 'paper'): dict(_CUB_FUSION, **_PAPER_FUSION),
}

# A flag of another name than the entry of the recipe it goes before.
RENAMED = {'lr': 'lr_max'}


def choose_recipe(args):
    """The key in RECIPES that flags ask for.

    Raises:
        InputError: the flags name no system, or no recipe is called so.
    """
    if getattr(args, 'dataset', None) is None:
        raise InputError('which system? Give --dataset (AwA, CUB)')
    key = (args.dataset, args.train_mode or 'att', getattr(args, 'recipe', None) or 'published')
    if key not in RECIPES:
        there = ', '.join(name for dataset, mode, name in RECIPES if (dataset, mode) == key[:2])
        raise InputError(f'--recipe={key[2]}: for --dataset={key[0]} --train_mode={key[1]} there are {there}')
    return key


def create_recipe(args, saved=None):
    """The recipe that flags choose, with what they change.

    Args:
        args (Namespace): of src.set_parser; a flag that was not given is None.
        saved (dict or None): the recipe a checkpoint was trained by, which then takes the place of the table's.

    Returns:
        EasyDict.

    Raises:
        InputError: see choose_recipe; or the checkpoint is of another dataset or mode than the flags say.
    """
    recipe = EasyDict(copy.deepcopy(saved or {**COMMON, **RECIPES[choose_recipe(args)]}))
    for flag, value in vars(args).items():
        entry = RENAMED.get(flag, flag)
        if entry not in recipe or value is None:
            continue
        if saved and entry in ('dataset', 'train_mode') and value != recipe[entry]:
            raise InputError(f'--{entry}={value}: the checkpoint was trained for {recipe[entry]}')
        recipe[entry] = value
    recipe.data_path = getattr(args, 'data_path', None)
    return recipe
