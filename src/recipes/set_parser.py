"""The flags of the doors: each published system's own names, one table for all."""
import argparse
import math
import os
import sys
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from easydict import EasyDict

from src.common.errors import InputError
from src.datasets import REID_DATASETS
from src.losses import LOSSES, loss_kind
from src.networks import BACKBONES
from src.recipes.config import (
    EVALUATION,
    RECIPES,
    SOP_FOLDER,
    ZERO_SHOT_DATASETS,
    Change,
    Recipe,
    choose,
    create_recipe,
    entries_of,
    list_recipes,
)
from src.training.learning_rate import LR_MODES


def boolean(text):
    """True or False from the words users write; bool('False') would be True."""
    words = {'true': True, 'yes': True, '1': True, 'false': False, 'no': False, '0': False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f'expected True or False, not {text!r}')
    return words[text.lower()]


def natural(text):
    """A whole number from 0 on."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f'expected a whole number of at least 0, not {text!r}')
    return int(text)


def positive(text):
    """A whole number from 1 on."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a whole number of at least 1, not {text!r}')
    return int(text)


def integers(text):
    """Whole numbers from 1 on, separated by commas."""
    return [positive(word) for word in text.split(',')]


def real(text):
    """A finite number from 0 on."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f'expected a number of at least 0, not {text!r}')
    return number


def fraction(text):
    """A number between 0 and 1, neither of them."""
    if not 0 < real(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a number between 0 and 1, not {text!r}')
    return real(text)


def image_size(text):
    """S for square images, or height and width separated by a comma."""
    sides = [positive(word) for word in text.split(',')]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f'expected one side, or height and width, not {text!r}')
    return sides[0] if len(sides) == 1 else sides


def output_file(text):
    """The name of a file that can be made, so that long work does not end with one that cannot."""
    path = os.path.abspath(text)
    if os.path.isdir(path):
        raise argparse.ArgumentTypeError(f'cannot write {text}: it is a folder; give the name of a file')
    parent = os.path.dirname(path)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if not (os.path.isdir(parent) and os.access(parent, os.W_OK)):
        raise argparse.ArgumentTypeError(f'cannot write {text}: no file can be made in {parent}')
    return text


def first_id(text):
    """The first number of [0,1] or 0,1 or 0: CTL's list of devices, of which one process uses one."""
    return natural(text.strip('[]() ').split(',')[0].strip())


def dataset_name(text):
    """A dataset in the spelling of this project; CTL writes dukemtmcreid."""
    return {'dukemtmcreid': 'DukeMTMC-reID', 'market1501': 'Market1501'}.get(text.lower().strip('\'"()'), text)


def lr_mode(text):
    """A learning-rate mode; metric_learn's `default` is the linear one of its code."""
    return {'default': 'linear', 'policy': 'poly'}.get(text, text)


TRAIN, EVAL, EXPORT, INFER = DOORS = ('train', 'eval', 'export', 'infer')
DATASETS = (*ZERO_SHOT_DATASETS, 'SOP', *REID_DATASETS)
RECIPE_NAMES = tuple(dict.fromkeys(name for *_, name in RECIPES))
DEVICE, WORK, FILES, TRAINING = 'device', 'what to work on', 'checkpoints and results', 'training'
ZERO_SHOT, METRIC, REID = 'zero-shot learning (DEM)', 'metric learning', 're-identification (CTL)'
MEASURING, INFERENCE, EXPORTING = 'measuring', 'inference', 'export'


class Flag(NamedTuple):
    """One flag.

    names: the first is the attribute of an option; those without dashes are CTL's, written NAME VALUE. doors: where it
    works. sets: the entry it sets; a function (value, recipe entries) -> entries; None for an option that a door itself
    uses. implies: entries it sets unless another flag does. systems: those it is for, where the entry alone does not
    say it. idle: doors that take it without effect, because the published pages list one parser for all.
    """
    names: Tuple[str, ...]
    doors: Sequence[str]
    group: str
    help: str
    type: Optional[Callable[[str], Any]] = None
    sets: Union[str, Callable, None] = None
    implies: Dict[str, Any] = {}
    systems: Tuple[str, ...] = ()
    choices: Optional[Sequence[str]] = None
    default: Any = None
    idle: Sequence[str] = ()
    switch: bool = False


def _embedding(width, entries):
    if entries['head'] == 'embedding':
        return {'head_options.embedding_size': width}
    if width:
        return {'head': 'linear', 'head_options': {'embedding_size': width}}
    # The other heads have no such layer.
    return {'head': 'none'} if entries['head'] == 'linear' else {}


def _identities(count, entries):
    return {'batch_size': count * entries.get('samples_each_class', 1)}


def _resample(counts, _):
    return {'small_classes': 'repeat' if counts else 'mask'}


LISTS = {'train_list': None, 'query': None, 'gallery': None}
ROW = Flag
FLAGS = [
    ROW(('--device_target',), DOORS, DEVICE, 'default: Ascend where this machine has one, else CPU',
        choices=('Ascend', 'GPU', 'CPU')),
    ROW(('--device_id', 'GPU_IDS'), DOORS, DEVICE, 'default: DEVICE_ID of the environment, else 0', first_id),
    ROW(('--distribute', '--run_distribute'), (TRAIN,), DEVICE, 'one process of several, started by a launcher', boolean,
        default=False, idle=(EVAL, EXPORT)),
    ROW(('--device_num',), (TRAIN,), DEVICE, 'number of processes of a distributed training', positive,
        idle=(EVAL, EXPORT)),
    ROW(('--use_gpu',), DOORS, DEVICE, 'of PaddleCV: a GPU where the machine has one and no Ascend', boolean),

    ROW(('--dataset', 'DATASETS.NAMES'), DOORS, WORK, 'chooses the system; lists are those of --train_list', dataset_name,
        choices=DATASETS),
    ROW(('--data_path', 'DATASETS.ROOT_DIR'), (TRAIN, EVAL), WORK,
        'folder that holds AwA_data and CUB_data, or DukeMTMC-reID or market1501; GBU: the one of res101.mat',
        sets='data_path', implies=LISTS,
        idle=(EXPORT,)),
    ROW(('--dataset_path',), (TRAIN, EVAL), WORK,
        'metric learning: folder of Stanford Online Products, a list of images, or a folder with one folder a class',
        sets='dataset_path', implies=LISTS),
    ROW(('--dataset_path', '--images'), (INFER,), WORK,
        f'list of images, with or without labels, or folder; of a dataset the test images; default: {SOP_FOLDER}',
        default=SOP_FOLDER),
    ROW(('--subset',), (TRAIN, EVAL, INFER), WORK, 'of Stanford Online Products', sets='subset',
        choices=('full', 'half', 'tiny')),
    ROW(('--query',), (TRAIN, EVAL), WORK, 'list or folder of query images, with --gallery instead of leave-one-out',
        sets='query'),
    ROW(('--gallery',), (TRAIN, EVAL), WORK, 'list or folder of the images to find them in', sets='gallery'),

    ROW(('--recipe',), DOORS, TRAINING, 'a named set of hyper-parameters; --list_recipes tells them',
        choices=RECIPE_NAMES),
    ROW(('--list_recipes',), DOORS, TRAINING, 'print the recipes and end', switch=True),
    ROW(('--show_recipe',), (TRAIN,), TRAINING, 'print all of the recipe that the flags make and end', switch=True),
    ROW(('--set',), DOORS, TRAINING, 'any entry of the recipe, as ENTRY=VALUE or loss_options.OPTION=VALUE; repeatable'),

    ROW(('--save_ckpt', '--model_save_dir', '--save_checkpoint_path', 'OUTPUT_DIR'), (TRAIN,), FILES,
        'folder for all that is written; default: output', default='output'),
    ROW(('--pretrained', '--ckpt_path', '--pretrained_model'), (TRAIN,), FILES, 'weights to start from',
        sets='pretrained'),
    ROW(('--save_ckpt', '--ckpt_path', '--ckpt_file', '--pretrained_model'), (EVAL, EXPORT), FILES,
        'a checkpoint, or the folder of a training'),
    ROW(('--save_ckpt', '--ckpt_path', '--ckpt_file', '--pretrained_model', '--model_file'), (INFER,), FILES,
        'a checkpoint, the folder of a training, or an exported .mindir or .onnx, whose fixed batch is kept'),
    ROW(('--resume',), (TRAIN,), FILES, 'go on from the last training state in the folder', switch=True),
    ROW(('--checkpoint',), (TRAIN,), FILES, 'go on from this training state, or from the last one in this folder'),
    ROW(('--result_file',), (EVAL,), FILES, 'write the figures to this file as JSON too', output_file),

    ROW(('--batch_size', '--train_batch_size'), (TRAIN,), TRAINING, 'rows a step and device', positive, 'batch_size'),
    # Before the row that counts in it.
    ROW(('--samples_each_class',), (TRAIN,), TRAINING, 'images of a class in a batch', positive, 'samples_each_class'),
    ROW(('SOLVER.IMS_PER_BATCH',), (TRAIN,), REID, 'identities a step and device', positive, _identities),
    ROW(('--test_batch_size', 'TEST.IMS_PER_BATCH'), (TRAIN,), TRAINING, 'images at once in evaluation', positive,
        'test_batch_size'),
    ROW(('--test_batch_size', '--batch_size', 'TEST.IMS_PER_BATCH'), (EVAL, INFER), TRAINING, 'images at once', positive,
        'test_batch_size'),
    ROW(('--epoch_size', 'SOLVER.MAX_EPOCHS'), (TRAIN,), TRAINING, 'epochs', positive, 'epoch_size',
        {'total_iter_num': 0}, idle=(EVAL, EXPORT)),
    ROW(('--pretrain_epoch_size',), (TRAIN,), TRAINING, 'epochs of the schedule already trained elsewhere', natural,
        'pretrain_epoch_size'),
    ROW(('--total_iter_num',), (TRAIN,), TRAINING, 'iterations; go before epochs', positive, 'total_iter_num'),
    ROW(('--lr', '--lr_max', 'SOLVER.BASE_LR'), (TRAIN,), TRAINING, 'the highest learning rate', real, 'lr_max'),
    ROW(('--lr_init',), (TRAIN,), TRAINING, 'where the warm-up begins', real, 'lr_init'),
    ROW(('--lr_end',), (TRAIN,), TRAINING, 'where linear, poly and cosine end', real, 'lr_end'),
    ROW(('--lr_mode', '--lr_decay_mode'), (TRAIN,), TRAINING, 'course of the learning rate', lr_mode, 'lr_mode',
        choices=tuple(LR_MODES)),
    ROW(('--lr_steps',), (TRAIN,), TRAINING, 'iterations at which the learning rate falls to a tenth', integers,
        'lr_steps', {'lr_epochs': [], 'lr_mode': 'steps'}),
    ROW(('--warmup_epochs',), (TRAIN,), TRAINING, 'epochs in which the learning rate rises', natural, 'warmup_epochs'),
    ROW(('--momentum',), (TRAIN,), TRAINING, 'of the optimizer momentum', real, 'momentum'),
    ROW(('--weight_decay',), (TRAIN,), TRAINING, 'L2', real, 'weight_decay'),
    ROW(('--loss_scale',), (TRAIN,), TRAINING, 'factor on the loss before differentiation', real, 'loss_scale'),
    ROW(('--interval_step', '--display_iter_step'), (TRAIN,), TRAINING, 'steps from one loss line to the next', positive,
        'interval_step', idle=(EVAL, EXPORT)),
    ROW(('--save_checkpoint',), (TRAIN,), TRAINING, 'False keeps the last network alone', boolean, 'save_checkpoint'),
    ROW(('--save_checkpoint_epochs',), (TRAIN,), TRAINING, 'epochs from one training state to the next', positive,
        'save_checkpoint_epochs', {'save_iter_step': 0}),
    ROW(('--save_iter_step',), (TRAIN,), TRAINING, 'the same in steps', positive, 'save_iter_step'),
    ROW(('--keep_checkpoint_max',), (TRAIN,), TRAINING, 'how many training states stay', positive, 'keep_checkpoint_max'),
    ROW(('--validation',), (TRAIN,), TRAINING, 'what best.ckpt is chosen on', sets='validation',
        choices=('seen_images', 'seen_classes', 'test_classes', 'none')),
    ROW(('--validation_fraction',), (TRAIN,), TRAINING, 'share of the seen images or classes held out', fraction,
        'validation_fraction'),
    ROW(('--test_iter_step',), (TRAIN,), TRAINING,
        'steps from one validation to the next, on the test classes where --validation does not say otherwise', positive,
        'test_iter_step', {'validation': 'test_classes'}),
    ROW(('--run_eval',), (TRAIN,), TRAINING, 'evaluate on the test classes at the end', boolean, 'run_eval'),
    ROW(('--seed',), (TRAIN,), TRAINING, 'of all that is random', natural, 'seed'),
    ROW(('--loss_name',), (TRAIN,), TRAINING, 'with --recipe chooses the recipe', choices=tuple(LOSSES)),

    ROW(('--train_mode',), DOORS, ZERO_SHOT, "the class semantics; default: att", choices=('att', 'word', 'fusion')),
    ROW(('--features',), (TRAIN, EVAL), ZERO_SHOT, 'GBU: file of the features and labels; default: res101.mat',
        sets='features'),
    ROW(('--splits',), (TRAIN, EVAL), ZERO_SHOT, 'GBU: file of the semantics and splits; default: att_splits.mat',
        sets='splits'),

    ROW(('--model',), DOORS, METRIC, 'the backbone', str.lower, 'backbone', choices=tuple(BACKBONES)),
    ROW(('--class_num',), (TRAIN,), METRIC, 'checked against the training list', positive, 'class_num'),
    ROW(('--embedding_size',), DOORS, METRIC, 'width of a linear layer after the backbone, 0 for none', natural, _embedding,
        systems=('metric_learning',)),
    ROW(('--image_size',), (TRAIN, EVAL, INFER), METRIC, 'side, or height,width', image_size, 'image_size'),
    ROW(('--train_transform',), (TRAIN,), METRIC, 'how images are cropped', sets='train_transform'),
    ROW(('--eval_transform',), (INFER,), METRIC, "default: the checkpoint's", sets='eval_transform',
        choices=('resize', 'center_crop')),
    ROW(('--bgr',), (TRAIN, EVAL, INFER), METRIC,
        'feed BGR through the RGB statistics, as the published checkpoints were trained', boolean, 'bgr'),
    ROW(('--num_workers',), (TRAIN, EVAL, INFER), METRIC,
        'threads that read images, and processes that augment those of 128 px and more', positive, 'num_workers'),
    ROW(('--margin',), (TRAIN,), METRIC, 'of triplet, quadruplet, ctl', real, 'loss_options.margin'),
    ROW(('--arc_scale',), (TRAIN,), METRIC, 'scale of arcmargin', real, 'loss_options.scale'),
    ROW(('--arc_margin',), (TRAIN,), METRIC, 'margin of arcmargin', real, 'loss_options.margin'),
    ROW(('--arc_easy_margin',), (TRAIN,), METRIC, 'easy margin of arcmargin', boolean, 'loss_options.easy_margin'),
    ROW(('--npairs_reg_lambda',), (TRAIN,), METRIC, 'regularisation of npairs', real, 'loss_options.reg_lambda'),
    ROW(('--recall_k',), (EVAL,), METRIC,
        'the K of Recall@K beside 1, separated by commas; those beyond the images compared with are left out', integers,
        'recall_k'),

    ROW(('--train_list',), (TRAIN,), REID, 'list of `path label camera`, with --query and --gallery of the same kind',
        sets='train_list'),
    ROW(('--resample',), (TRAIN,), REID, 'let the repeated images of identities with too few count', boolean, _resample,
        systems=('reid',)),

    ROW(('--false_match_rate',), (EVAL,), MEASURING,
        'find the similarity from which two images show the same, for this share of false matches, and keep it beside the '
        'checkpoint', fraction, 'false_match_rate'),
    ROW(('--rerank',), (EVAL,), MEASURING, 'k-reciprocal re-ranking: its figures beside the others', sets='rerank',
        switch=True),
    ROW(('--mirror',), (EVAL, INFER), MEASURING, 'average each embedding with that of the mirrored image', sets='mirror',
        switch=True),
    ROW(('--turned',), (EVAL, INFER), MEASURING, 'the embedding of each image beside those of it turned by 90, 180 and 270 '
        'degrees, four times as wide', sets='turned', switch=True),
    ROW(('--picture',), (EVAL,), MEASURING,
        'draw to this file: the threshold of --false_match_rate; without it, what was found for queries of '
        're-identification', output_file, 'picture'),

    ROW(('--engine',), (INFER,), INFERENCE, 'what runs the network; default: onnxruntime where it is installed, on a CPU',
        choices=('mindspore', 'onnxruntime')),
    ROW(('--output',), (INFER,), INFERENCE, '.npy, with the paths in a .txt beside it, or .npz; default: embeddings.npy',
        output_file, default='embeddings.npy'),
    ROW(('--query',), (INFER,), INFERENCE, 'images or embedding file whose neighbours in --gallery are printed'),
    ROW(('--gallery',), (INFER,), INFERENCE, 'embedding file, an earlier --output'),
    ROW(('--threshold',), (INFER,), INFERENCE,
        "answer `unknown` below it: eval.py's file beside the checkpoint, or the .json beside the exported model"),
    ROW(('--index',), (INFER,), INFERENCE, 'ivf: shortlist by an index beside --gallery (faiss), made when there is none',
        choices=('none', 'ivf'), default='none'),
    ROW(('--rerank',), (INFER,), INFERENCE, 'order the neighbours by k-reciprocal re-ranking', switch=True),
    ROW(('--append',), (INFER,), INFERENCE, 'add the images to --output, an existing .npy', switch=True),
    ROW(('--remove',), (INFER,), INFERENCE, 'take the images of this list out of --gallery'),
    ROW(('--centroids',), (INFER,), INFERENCE, 'write the mean of every class of --gallery to this embedding file',
        output_file),
    ROW(('--top_k',), (INFER,), INFERENCE, 'neighbours of each query; default: 10', positive, default=10),
    ROW(('--picture',), (INFER,), INFERENCE, 'draw the neighbours of the first 20 queries: .png, .pdf or .svg',
        output_file),

    ROW(('--classes',), (INFER,), INFERENCE, 'name the images of --dataset_path, or those of --query, an embedding file: the '
        'folder of a training of GBU, or its exported network'),
    ROW(('--add_classes',), (INFER,), INFERENCE, 'CSV of further unseen classes for --classes: name, numbers'),

    ROW(('--batch_size',), (EXPORT,), EXPORTING, '0 for any; default: 1', natural, default=1),
    ROW(('--file_format',), (EXPORT,), EXPORTING, 'default: MINDIR', choices=('MINDIR', 'ONNX', 'AIR'), default='MINDIR',
        idle=(TRAIN, EVAL)),
    ROW(('--file_name',), (EXPORT,), EXPORTING, 'default: named after the network, in the current folder'),
    ROW(('--width',), (EXPORT,), EXPORTING, 'of the images; default: as trained', positive),
    ROW(('--height',), (EXPORT,), EXPORTING, 'of the images; default: as trained', positive),
]
# Flags of DEM's page that its eval.py takes though they change nothing there.
SHARED_BY_DEM = ('--batch_size',)


class Command(NamedTuple):
    """What a command line says.

    options: what the door itself uses, by the first name of the flag. changes: what flags change in the recipe, in
    order. given: the first names of the flags that were given.
    """
    door: str
    options: EasyDict
    changes: List[Change]
    given: Tuple[str, ...]


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(message)


def _attribute(row):
    return row.names[0].lstrip('-').replace('.', '_').lower()


def _create_parser(door, rows, values=None):
    parser = _Parser(prog=f'{door}.py', allow_abbrev=False, add_help=False)
    groups = {}
    parser.add_argument('-h', '--help', action='store_true', help='this text; with --dataset or --loss_name, and --recipe, '
                                                                  'also what that recipe has')
    for row in rows:
        if row.group not in groups:
            groups[row.group] = parser.add_argument_group(row.group)
        group = groups[row.group]
        names = [name for name in row.names if name.startswith('--')] or [f'--{row.names[0]}']
        text = row.help.replace('%', '%%')
        if values and isinstance(row.sets, str):
            name, _, option = row.sets.partition('.')
            value = values.get(name)
            value = value.get(option) if option and isinstance(value, dict) else value
            if value is not None:
                text += f' [{value}]'
        common = dict(dest=_attribute(row), help=text)
        if row.switch:
            group.add_argument(*names, action='store_true', **common)
        elif row.names[0] == '--set':
            group.add_argument(*names, action='append', metavar='ENTRY=VALUE', default=[], **common)
        else:
            group.add_argument(*names, type=row.type, choices=row.choices,
                               metavar=None if row.choices and len(row.choices) < 6 else 'NAME' if row.choices
                               else names[0].lstrip('-').upper(), **common)
    return parser


def _with_dashes(argv, rows):
    """CTL's NAME VALUE pairs as the flags they stand for."""
    flags = {name: ([n for n in row.names if n.startswith('--')] or [f'--{row.names[0]}'])[0]
             for row in rows for name in row.names if not name.startswith('--')}
    # The published pages have blanks behind some of the backslashes that join their lines.
    words, out = [word.strip() if word.strip()[:2] in ('', '--') else word for word in argv], []
    words = [word for word in words if word]
    while words:
        word = words.pop(0)
        if word in flags:
            if not words:
                raise InputError(f'{word}: needs a value after it')
            out.append(f'{flags[word]}={words.pop(0)}')
        else:
            out.append(word)
    return out


def parse_args(door: str, argv: Optional[Sequence[str]] = None) -> Command:
    """Read the flags of one door; --help and --list_recipes print and end the process.

    Args:
        door: 'train', 'eval', 'export' or 'infer'.
        argv: None for those of this process.

    Raises:
        InputError: an unknown flag or a bad value.
    """
    rows = [row for row in FLAGS if door in row.doors or door in row.idle]
    parser = _create_parser(door, rows)
    args = vars(parser.parse_args(_with_dashes(sys.argv[1:] if argv is None else argv, rows)))
    if args.pop('help'):
        values = None
        if any(args.get(name) for name in ('dataset', 'loss_name', 'recipe', 'train_list')):
            values = make_recipe(_command(door, rows, args))[0]
        _create_parser(door, rows, values).print_help()
        raise SystemExit(0)
    if args.pop('list_recipes'):
        print(list_recipes())
        raise SystemExit(0)
    return _command(door, rows, args)


def _command(door, rows, args):
    options, changes, given = EasyDict(), [], []
    for row in rows:
        name = _attribute(row)
        value = args.get(name)
        written = row.names[0]
        if value is not None and value != [] and (value or not row.switch):
            given.append(name)
            if door in row.idle and door not in row.doors:
                print(f'{written}: without effect in {door}.py')
                continue
        if row.names[0] == '--set':
            changes += [_set_change(text) for text in value]
        elif row.sets is None:
            if door in row.doors:
                options[name] = row.default if value is None else value
        elif value is not None and not (row.switch and value is False):
            entries = ({row.sets: value} if isinstance(row.sets, str)
                       else lambda recipe, row=row, value=value: row.sets(value, recipe))
            optional = door == EVAL and any(flag in SHARED_BY_DEM for flag in row.names)
            changes.append(Change(f'{written}={value}', entries, row.implies, row.systems, optional))
    return Command(door, options, changes, tuple(given))


def _set_change(text):
    entry, equals, value = text.partition('=')
    if not equals or not entry:
        raise InputError(f'--set={text}: expected ENTRY=VALUE')
    if entry in ('system', 'dataset', 'loss_name', 'recipe', 'train_mode'):
        raise InputError(f'--set={text}: {entry} chooses the recipe; give --{entry}')
    for row in FLAGS:
        if row.sets == entry and row.choices and (row.type or str)(value) not in row.choices:
            raise InputError(f'--set={text}: choose one of {", ".join(row.choices)}')
    return Change(f'--set={text}', {entry: value}, checked=False)


def make_recipe(command: Command, default: Optional[str] = None) -> Tuple[Recipe, str]:
    """The recipe that a command line asks for, and one line that says which it is and why.

    Args:
        command: of parse_args.
        default: the recipe to take where --recipe is not given and the table has it, for weights of a known origin.

    Raises:
        InputError: no system or no such recipe, or see create_recipe.
    """
    options = command.options
    dataset = options.dataset or _guess_dataset(command)
    kind = None
    if dataset in ZERO_SHOT_DATASETS:
        if options.get('loss_name'):
            raise InputError(f'--loss_name={options.loss_name}: is not for {dataset}; --recipe chooses its loss')
        choice = options.train_mode or 'att'
    else:
        if options.train_mode:
            raise InputError(f'--train_mode: is not for {dataset} with this recipe; leave it out')
        choice = options.get('loss_name') or ('softmax' if dataset == 'SOP' else 'ctl')
        own = [key[2] for key in RECIPES if key[:2] == ('lists' if dataset in REID_DATASETS else dataset, choice)]
        if not own or options.recipe not in (None, *own):
            kind = loss_kind(choice)
    chosen = choose(dataset, choice, options.recipe or default, kind, tuple(REID_DATASETS))
    base = entries_of(chosen.key)
    if dataset not in ZERO_SHOT_DATASETS:
        base.update(dataset=dataset, loss_name=choice)
    recipe = create_recipe(base, command.changes)
    return recipe, f'recipe {recipe.recipe} of {dataset} {choice}: {chosen.why}'


def _guess_dataset(command):
    given = set(command.given)
    if 'train_list' in given:
        return 'lists'
    if 'data_path' not in given and given & ({'dataset_path', 'loss_name', 'model', 'query', 'recipe'}
                                             | ({'save_ckpt'} if command.door != TRAIN else set())):
        return 'SOP'
    raise InputError('which system? Give --dataset (AwA, CUB, GBU, DukeMTMC-reID, Market1501), --train_list '
                     'or --dataset_path, the folder of images')


def use_recipe(command: Command, saved: Dict[str, Any]) -> Recipe:
    """The recipe a checkpoint was trained by, with what flags change for its use.

    Raises:
        InputError: the flags say another dataset or mode than it was trained for, or see create_recipe.
    """
    options = command.options
    then = saved['dataset']
    if options.dataset and options.dataset != then:
        # What was learnt on one set of persons may be measured on another.
        if not {options.dataset, then} <= set(REID_DATASETS):
            raise InputError(f'--dataset={options.dataset}: the checkpoint was trained for {then}')
        saved = dict(saved, dataset=options.dataset)
    if 'backbone' in saved:
        saved = {**EVALUATION, **saved}
    if options.train_mode and options.train_mode != saved.get('train_mode', options.train_mode):
        raise InputError(f'--train_mode={options.train_mode}: the checkpoint was trained for {saved["train_mode"]}')
    return create_recipe(saved, command.changes, saved=True)


def run(main):
    """Run the main function of a door; bad input becomes one line on standard error and exit code 2, Ctrl-C and 130.

    Where nobody reads standard output any more (infer.py ... | head) it ends in silence, with the 141 of a shell.
    """
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would write what is left at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except InputError as error:
        print(f'{sys.argv[0]}: error: {error}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f'{sys.argv[0]}: interrupted', file=sys.stderr)
        sys.exit(130)
