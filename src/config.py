"""Every hyper-parameter of every system: one table of recipes, and the rules by which flags choose and change one."""
import copy

from easydict import EasyDict

from src.errors import InputError

DEM_DATASETS = ('AwA', 'CUB')
REID_DATASETS = ('DukeMTMC-reID', 'Market1501', 'lists')
# Where PaddleCV has its data, whose commands name no folder.
SOP_FOLDER = 'data/Stanford_Online_Products'

# What every recipe has unless it says otherwise.
COMMON = dict(
    seed=1,
    optimizer='momentum', momentum=0.9, weight_decay=0.0, loss_scale=1.0, clip_norm=0.0,
    # Learning rate, see src.training.get_lr: either falls at fractions of all steps, at lr_epochs or at lr_steps.
    lr_mode='const', lr_max=1e-4, lr_init=0.0, lr_end=0.0, lr_epochs=[], lr_steps=[], warmup_epochs=0,
    distributed_lr_factor=1,
    # Iterations, where given, go before epochs. interval_step: steps from one loss line to the next, 0: one an epoch.
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
    network_options={}, loss_name='mse', loss_options={}, feature_scaling='none', semantics_scaling='none',
    dropout=None,
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
# Found on held-out seen classes; what each choice contributes is in the README. The network maps all seen classes in
# every step and is trained to rank them by the cosine that classifies.
_RANKED = dict(
    loss_name='prototype_softmax', metric='cosine', beta1=0.9, clip_norm=0.0, batch_size=200, lr_mode='cosine',
    lr_max=2e-4, interval_step=20, feature_scaling='centred', validation='none',
)
_RANKED_AWA = dict(_RANKED, loss_options={'scale': 20.0, 'label_smoothing': 0.1}, semantics_scaling='centred',
                   epoch_size=2)
_RANKED_CUB = dict(_RANKED, loss_options={'scale': 30.0, 'label_smoothing': 0.1}, semantics_scaling='root_centred',
                   dropout=[0.2, 0.5], epoch_size=6)
_ONE_LAYER = {'output_relu': False, 'sigmas': [0.001]}
_TWO_LAYERS = {'hidden_dim': 700, 'output_relu': False, 'sigmas': [0.01, 0.001]}
_FUSED_LAYERS = {'output_relu': False, 'sigmas': [0.01, 0.01, 0.001]}
_PAPER_FUSION = dict(beta1=0.9, weight_decay={'fc1': 1e-3, 'fc2': 1e-2, 'fc3': 1e-2})

# ResNet50 on Stanford Online Products, as the published metric_learn trains it: the half set on 8 devices.
_METRIC = dict(
    system='metric_learning', subset='half', class_num=0, network='resnet50',
    network_options={'padding': 'same', 'bn_eps': 1e-4, 'embedding_size': 0}, loss_options={}, samples_each_class=2,
    image_size=224, train_transform='random_resized_crop', eval_transform='resize', flip=0.0, bgr=False, num_workers=8,
    test_batch_size=50, pretrained=None, query=None, gallery=None, recall_k=[1, 10, 100, 1000],
    weight_decay=1e-4, loss_scale=1024.0, epoch_size=30, validation_fraction=0.1,
)
_SOFTMAX = dict(_METRIC, loss_name='softmax', batch_size=80, lr_mode='steps', lr_max=0.3)
# The published code differentiates the sum over the triplets of a batch; its learning rate relies on that.
_TRIPLET = dict(_METRIC, loss_name='triplet', batch_size=60, lr_max=1e-4,
                loss_options={'margin': 0.1, 'reduction': 'sum'})
_QUADRUPLET = dict(_METRIC, loss_name='quadruplet', batch_size=60, lr_max=1e-4, loss_options={'margin': 0.1})

# PaddleCV: the full set, two stages, counted in iterations; its weights were trained with symmetric padding.
# Its commands name no data: they expect it here.
_PADDLE = dict(_METRIC, subset='full', dataset_path=SOP_FOLDER,
               network_options={'padding': 'symmetric', 'bn_eps': 1e-5, 'embedding_size': 0},
               flip=0.5, eval_transform='center_crop', loss_scale=1.0, lr_mode='steps', interval_step=20,
               save_iter_step=10000)
_PADDLE_ELEMENT = dict(_PADDLE, batch_size=256, lr_max=0.01, total_iter_num=30000, lr_steps=[15000, 25000])
_PADDLE_PAIR = dict(_PADDLE, batch_size=160, lr_max=1e-4, total_iter_num=100000, lr_steps=[100000])
_ARCMARGIN = {'scale': 80.0, 'margin': 0.15, 'easy_margin': False}

# From scratch on few small pictures, on a CPU: 64 px, resized to 72 and cropped.
_SMALL = dict(_METRIC, image_size=64, train_transform='resize_crop', flip=0.5, subset='full', num_workers=2,
              recall_k=[1, 5, 10], loss_scale=1.0, lr_mode='steps', epoch_size=15, weight_decay=5e-4)
_SMALL_ELEMENT = dict(_SMALL, batch_size=32, lr_max=0.05)
# Few steps at a low rate: more of either forget what the first stage learnt (README, Accuracy).
_SMALL_PAIR = dict(_SMALL, batch_size=60, lr_max=1e-3, epoch_size=4)
# Losses of embeddings that are not normalised: their gradient grows with the embeddings' norms.
_SMALL_RAW_PAIR = dict(_SMALL_PAIR, lr_max=1e-4)
# PaddleCV's 80 and 0.15 are for 11,318 classes.
_SMALL_ARCMARGIN = {'scale': 30.0, 'margin': 0.3, 'easy_margin': False}

# CTL: 16 identities x 4 images, 256 x 128, from ImageNet weights (--pretrained), as published for DukeMTMC-reID.
_REID = dict(
    system='reid', network='resnet50_reid', network_options={}, loss_options={}, samples_each_class=4, resample=False,
    image_size=[256, 128], train_transform='reid', flip=0.5, num_workers=8, batch_size=64, test_batch_size=128,
    pretrained=None, train_list=None, query=None, gallery=None, picture=None, run_eval=True,
    optimizer='adam', beta1=0.9, weight_decay=5e-4, loss_scale=1024.0,
    lr_mode='steps', lr_max=3.5e-4, lr_epochs=[40, 70], warmup_epochs=10, epoch_size=120,
)
# From scratch on few small pictures, on a CPU. Padding of 10 and erasing would leave little of them.
_REID_SMALL = dict(_REID, image_size=[64, 64], train_transform='resize_crop', num_workers=2, loss_scale=1.0,
                   lr_epochs=[12, 16], warmup_epochs=2, epoch_size=20)
# What CTL is compared with: its classifier and batch-hard triplet alone.
_NO_CENTROIDS = {'center_weight': 0.0, 'centroid_weight': 0.0}

RECIPES = {
    # DEM, by (dataset, mode, --recipe).
    ('AwA', 'att', 'published'): _AWA_ATT,
    ('AwA', 'word', 'published'): _AWA_WORD,
    ('AwA', 'fusion', 'published'): _AWA_FUSION,
    ('CUB', 'att', 'published'): _CUB_ATT,
    ('CUB', 'word', 'published'): _CUB_WORD,
    ('CUB', 'fusion', 'published'): _CUB_FUSION,
    ('CUB', 'att', 'ranked'): {**_CUB_ATT, **_RANKED_CUB, 'network_options': _TWO_LAYERS},
    ('AwA', 'att', 'ranked'): {**_AWA_ATT, **_RANKED_AWA, 'network_options': _TWO_LAYERS},
    ('AwA', 'word', 'ranked'): {**_AWA_WORD, **_RANKED_AWA, 'network_options': _ONE_LAYER},
    ('AwA', 'fusion', 'ranked'): {**_AWA_FUSION, **_RANKED_AWA, 'network_options': _FUSED_LAYERS},
    ('AwA', 'att', 'paper'): dict(_AWA_ATT, beta1=0.9, weight_decay=1e-2),
    ('AwA', 'word', 'paper'): dict(_AWA_WORD, beta1=0.9, weight_decay=1e-3),
    ('AwA', 'fusion', 'paper'): dict(_AWA_FUSION, **_PAPER_FUSION),
    ('CUB', 'att', 'paper'): dict(_CUB_ATT, beta1=0.9, weight_decay=1e-2),
    ('CUB', 'word', 'paper'): dict(_CUB_WORD, beta1=0.9, weight_decay=1e-3),
    ('CUB', 'fusion', 'paper'): dict(_CUB_FUSION, **_PAPER_FUSION),
    # Metric learning on Stanford Online Products or any list or folder of images, by (SOP, loss, --recipe).
    ('SOP', 'softmax', 'published'): _SOFTMAX,
    ('SOP', 'triplet', 'published'): _TRIPLET,
    ('SOP', 'quadruplet', 'published'): _QUADRUPLET,
    ('SOP', 'softmax', 'paddle'): dict(_PADDLE_ELEMENT, loss_name='softmax'),
    ('SOP', 'arcmargin', 'paddle'): dict(_PADDLE_ELEMENT, loss_name='arcmargin', loss_options=_ARCMARGIN),
    ('SOP', 'triplet', 'paddle'): dict(_PADDLE_PAIR, loss_name='triplet', loss_options={'margin': 0.1}, batch_size=120),
    ('SOP', 'quadruplet', 'paddle'): dict(_PADDLE_PAIR, loss_name='quadruplet', loss_options={'margin': 0.1}),
    ('SOP', 'eml', 'paddle'): dict(_PADDLE_PAIR, loss_name='eml'),
    ('SOP', 'npairs', 'paddle'): dict(_PADDLE_PAIR, loss_name='npairs', loss_options={'reg_lambda': 0.01}),
    ('SOP', 'softmax', 'small'): dict(_SMALL_ELEMENT, loss_name='softmax'),
    ('SOP', 'arcmargin', 'small'): dict(_SMALL_ELEMENT, loss_name='arcmargin', loss_options=_SMALL_ARCMARGIN),
    ('SOP', 'triplet', 'small'): dict(_SMALL_PAIR, loss_name='triplet',
                                      loss_options={'margin': 0.5, 'reduction': 'sum'}),
    ('SOP', 'quadruplet', 'small'): dict(_SMALL_PAIR, loss_name='quadruplet', loss_options={'margin': 0.1},
                                         batch_size=24),
    ('SOP', 'eml', 'small'): dict(_SMALL_RAW_PAIR, loss_name='eml'),
    ('SOP', 'npairs', 'small'): dict(_SMALL_RAW_PAIR, loss_name='npairs', loss_options={'reg_lambda': 0.01}),
    # Re-identification, by (dataset, loss, --recipe); 'lists' are three of `path label camera`.
    **{(dataset, loss, name): dict(recipe, dataset=dataset, loss_name=loss, loss_options=options)
       for dataset in REID_DATASETS
       for loss, options in (('ctl', {}), ('baseline', _NO_CENTROIDS))
       for name, recipe in (('published', _REID), ('small', _REID_SMALL))},
}

# A flag of another name than the entry of the recipe it goes before.
RENAMED = {'lr': 'lr_max', 'model': 'network'}
# A flag named like an entry is for the recipes that have this entry, bar those that doors use in their own way.
ENTRIES = set().union(*RECIPES.values())
OF_THE_DOORS = ('dataset', 'dataset_path', 'test_batch_size', 'query', 'gallery', 'picture')
# Flags that are options of a loss, by loss and option.
LOSS_FLAGS = {
    'arc_scale': {'arcmargin': 'scale'},
    'arc_margin': {'arcmargin': 'margin'},
    'arc_easy_margin': {'arcmargin': 'easy_margin'},
    'margin': {'triplet': 'margin', 'quadruplet': 'margin', 'ctl': 'margin', 'baseline': 'margin'},
    'npairs_reg_lambda': {'npairs': 'reg_lambda'},
}
# Where one of these is given the command is PaddleCV's.
PADDLE_FLAGS = ('model', 'use_gpu', 'total_iter_num', 'arc_scale', 'arc_margin', 'arc_easy_margin', 'npairs_reg_lambda')


def _given(args):
    """Names of the flags that were given."""
    return {name for name, value in vars(args).items() if value is not None}


def choose_recipe(args):
    """The key in RECIPES that flags ask for.

    Raises:
        InputError: the flags name no system, or no recipe is called so.
    """
    given = _given(args)
    evaluating = not hasattr(args, 'pretrained')  # then --save_ckpt is a checkpoint to use, not a folder to write to
    if args.dataset in DEM_DATASETS:
        if 'loss_name' in given:
            raise InputError(f'--loss_name={args.loss_name}: is not for {args.dataset}; --recipe chooses its loss')
        kind = (args.dataset, args.train_mode or 'att')
        name = 'published'
    elif args.dataset in REID_DATASETS or (not args.dataset and 'train_list' in given):
        kind = (args.dataset or 'lists', getattr(args, 'loss_name', None) or 'ctl')
        name = 'published'
    elif args.dataset == 'SOP' or ('data_path' not in given and given & (
            {'dataset_path', 'loss_name', 'model', 'query'} | ({'save_ckpt'} if evaluating else set()))):
        kind = ('SOP', getattr(args, 'loss_name', None) or 'softmax')
        name = 'paddle' if given & set(PADDLE_FLAGS) or kind + ('published',) not in RECIPES else 'published'
    else:
        raise InputError('which system? Give --dataset (AwA, CUB, DukeMTMC-reID, Market1501), --train_list or '
                         '--dataset_path, the folder of images')
    key = kind + (getattr(args, 'recipe', None) or name,)
    if key not in RECIPES:
        there = ', '.join(recipe for *named, recipe in RECIPES if tuple(named) == kind)
        if not there:
            losses = dict.fromkeys(loss for dataset, loss, _ in RECIPES if dataset == kind[0])
            raise InputError(f'--loss_name={kind[1]}: for {kind[0]} there are {", ".join(losses)}')
        raise InputError(f'--recipe={key[2]}: for {" ".join(kind)} there are {there}')
    return key


def create_recipe(args, saved=None):
    """The recipe that flags choose, with what they change.

    Args:
        args (Namespace): of src.set_parser; a flag that was not given is None.
        saved (dict or None): the recipe a checkpoint was trained by, which then takes the place of the table's.

    Returns:
        EasyDict.

    Raises:
        InputError: see choose_recipe; a flag that is for another system or loss; or the checkpoint is of another
            dataset or mode than the flags say.
    """
    recipe = EasyDict(copy.deepcopy(saved or {**COMMON, **RECIPES[choose_recipe(args)]}))
    for flag, value in vars(args).items():
        entry = RENAMED.get(flag, flag)
        if value is None:
            continue
        if saved and not _fits(entry, value, recipe):
            raise InputError(f'--{entry}={value}: the checkpoint was trained for {recipe.get(entry, "SOP")}')
        if entry in recipe:
            recipe[entry] = value
        elif not saved and entry in ENTRIES and entry not in OF_THE_DOORS:
            raise InputError(f'--{flag}: is not for {recipe.get("dataset", "SOP")} with this recipe; leave it out')
    given = _given(args)
    if saved and given & {'data_path', 'dataset_path'} and not given & {'query', 'gallery'}:
        # Lists that the training measured on would go before the folder that is named now.
        recipe.update({name: None for name in ('train_list', 'query', 'gallery') if name in recipe})
    _let_flags_decide(recipe, args)
    for flag, options in LOSS_FLAGS.items():
        value = getattr(args, flag, None)
        if value is None:
            continue
        if recipe.get('loss_name') not in options:
            raise InputError(f'--{flag}: is for --loss_name={" or ".join(options)}')
        recipe.loss_options[options[recipe.loss_name]] = value
    for flag in ('model', 'embedding_size'):
        if recipe.system != 'metric_learning' and getattr(args, flag, None) is not None:
            raise InputError(f'--{flag}: is for metric learning, and this is {recipe.dataset}')
    if getattr(args, 'embedding_size', None) is not None:
        recipe.network_options.embedding_size = args.embedding_size
    for name in ('data_path', 'dataset_path'):
        recipe[name] = getattr(args, name, None) or recipe.get(name)
    return recipe


def _fits(entry, value, recipe):
    """Whether a checkpoint of this recipe can be used with a value of --dataset or --train_mode."""
    if entry == 'dataset':
        then = recipe.get('dataset', 'SOP')
        # What was learnt on one set of persons may be measured on another.
        return value == then or {value, then} <= set(REID_DATASETS)
    return entry != 'train_mode' or value == recipe.get('train_mode', value)


def _let_flags_decide(recipe, args):
    """Clear what a recipe says in another unit than the flags, and would go before them."""
    given = _given(args)
    for flag, entry, nothing in (('epoch_size', 'total_iter_num', 0), ('save_checkpoint_epochs', 'save_iter_step', 0),
                                 ('lr_steps', 'lr_epochs', [])):
        if flag in given and entry not in given:
            recipe[entry] = nothing
    if 'warmup_epochs' in given and not recipe.total_iter_num and recipe.warmup_epochs > recipe.epoch_size:
        raise InputError(f'--warmup_epochs={recipe.warmup_epochs}: the whole training has {recipe.epoch_size} epochs')
    if 'lr_steps' in given:
        if recipe.lr_mode != 'steps' and 'lr_mode' in given:
            raise InputError(f'--lr_steps: is for --lr_mode=steps, not {recipe.lr_mode}')
        recipe.lr_mode = 'steps'
    if 'test_iter_step' in given and 'validation' not in given and recipe.system == 'metric_learning':
        recipe.validation = 'test_classes'  # what PaddleCV's flag means
