"""The flags of the doors, each published system's own names: one row a flag.

A flag that sets an entry takes the entry's type and purpose; the others are used by the doors themselves.
"""
import os
from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence, Tuple

from src.common.values import in_milvus
from src.recipes.entries import RERANK
from src.recipes.recipe import PURPOSES, RECIPES
from src.recipes.systems import DATASETS
from src.recipes.types import Refused, Type, boolean, encoding, one_of, real, text, whole

TRAIN, EVAL, EXPORT, INFER = DOORS = ('train', 'eval', 'export', 'infer')
DEVICE, WORK, FILES, TRAINING = 'device', 'what to work on', 'checkpoints and results', 'training'
ZERO_SHOT, METRIC, REID = 'zero-shot learning (DEM)', 'metric learning', 're-identification (CTL)'
MEASURING, INFERENCE, EXPORTING = 'measuring', 'inference', 'export'


class Flag(NamedTuple):
    """One flag.

    names: the first is the attribute of an option; those without dashes are CTL's, written NAME VALUE. doors: where it
    works. sets: the entry it sets, DICT.OPTION, or a name of src.recipes.recipe.DERIVED; None for an option of the door.
    help: for --help, where the entry's purpose does not do. type, default: of an option. idle: doors that take it without
    effect, because the published pages list one parser for all. lenient: doors in which a recipe without the entry leaves
    the flag alone. spelling: from what published pages write to what this project writes. suggests: the dataset that the
    flag suggests where --dataset is not given; `none` where it suggests none, whatever others say.
    """
    names: Tuple[str, ...]
    doors: Sequence[str]
    group: str
    sets: Optional[str] = None
    help: str = ''
    type: Optional[Type] = None
    default: Any = None
    idle: Sequence[str] = ()
    lenient: Sequence[str] = ()
    switch: bool = False
    spelling: Callable[[str], str] = str
    suggests: str = ''

    @property
    def attribute(self) -> str:
        """The name of the option."""
        return self.names[0].lstrip('-').replace('.', '_').lower()


def _writable(value: Any) -> str:
    """The name of a file that can be made, so that long work does not end with one that cannot."""
    path = os.path.abspath(value)
    if os.path.isdir(path):
        raise Refused(f'cannot write {value}: it is a folder; give the name of a file')
    parent = os.path.dirname(path)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if not (os.path.isdir(parent) and os.access(parent, os.W_OK)):
        raise Refused(f'cannot write {value}: no file can be made in {parent}')
    return str(value)


def _gallery(value: Any) -> str:
    """The name of a gallery in Milvus, or of an embedding file that can be made."""
    return str(value) if in_milvus(str(value)) else _writable(value)


def _first_id(value: str) -> str:
    """The first number of [0,1] or 0,1 or 0: CTL's list of devices, of which one process uses one."""
    return value.strip('[]() ').split(',')[0].strip()


def _spelled(names: Mapping[str, str]) -> Callable[[str], str]:
    return lambda value: names.get(value.lower().strip('\'"()'), value)


GALLERY = Type('the name of an embedding file or gallery', _gallery, textual=True)
OUTPUT = Type('the name of a file', _writable, textual=True)
FRACTION = real(0, 1, positive=True)
DATASET = _spelled({'dukemtmcreid': 'DukeMTMC-reID', 'market1501': 'Market1501'})
CHECKPOINT = ('--save_ckpt', '--ckpt_path', '--ckpt_file', '--pretrained_model')

FLAGS = [
    Flag(('--device_target',), DOORS, DEVICE, type=one_of(('Ascend', 'GPU', 'CPU')),
         help='device; default: Ascend where this machine has one, else CPU'),
    Flag(('--version',), DOORS, DEVICE, switch=True, help='print the version of this project and end'),
    Flag(('--device_id', 'GPU_IDS'), DOORS, DEVICE, type=whole(), spelling=_first_id,
         help='number of the device; default: DEVICE_ID of the environment, else 0'),
    Flag(('--distribute', '--run_distribute'), (TRAIN,), DEVICE, type=boolean, default=False, idle=(EVAL, EXPORT),
         help='one process of several, started by a launcher'),
    Flag(('--device_num',), (TRAIN,), DEVICE, type=whole(1), idle=(EVAL, EXPORT),
         help='number of processes of a distributed training'),
    Flag(('--amp_level',), (TRAIN, INFER), DEVICE, 'amp_level'),
    Flag(('--use_gpu',), DOORS, DEVICE, type=boolean,
         help="PaddleCV's flag: use a GPU where the machine has one and no Ascend"),

    Flag(('--dataset', 'DATASETS.NAMES'), DOORS, WORK, type=one_of(DATASETS), spelling=DATASET,
         help='chooses the system; lists are those of --train_list'),
    Flag(('--data_path', 'DATASETS.ROOT_DIR'), (TRAIN, EVAL), WORK, 'data_path', idle=(EXPORT,), suggests='none'),
    Flag(('--dataset_path',), (TRAIN, EVAL), WORK, 'dataset_path', suggests='SOP'),
    Flag(('--dataset_path', '--images'), (INFER,), WORK, type=text, default='data/Stanford_Online_Products', suggests='SOP',
         help='list of images, with or without labels, or folder; of a dataset the test images; default: '
              'data/Stanford_Online_Products'),
    Flag(('--subset',), (TRAIN, EVAL, INFER), WORK, 'subset'),
    Flag(('--query',), (TRAIN, EVAL), WORK, 'query', suggests='SOP'),
    Flag(('--gallery',), (TRAIN, EVAL), WORK, 'gallery'),

    Flag(('--encoding',), (TRAIN, EVAL), WORK, 'encoding'),
    Flag(('--encoding',), (INFER,), WORK, type=encoding, default='utf-8', help='encoding of lists, e.g. gbk or latin-1'),
    Flag(('--skip_broken',), (TRAIN, EVAL), WORK, 'skip_broken'),
    Flag(('--skip_broken',), (INFER,), WORK, type=real(0, 1), default=0.0,
         help='largest share of the images that may be left out because they cannot be read'),

    Flag(('--recipe',), DOORS, TRAINING, type=one_of(dict.fromkeys([*PURPOSES, *(key[2] for key in RECIPES)])), suggests='SOP',
         help='a named set of hyper-parameters; --list_recipes tells them'),
    Flag(('--config_path',), DOORS, TRAINING, type=text,
         help='YAML or JSON file of entries and flags, or the result.json of a training; flags go before it'),
    Flag(('--list_recipes',), DOORS, TRAINING, switch=True, help='print the recipes and end'),
    Flag(('--show_recipe',), (TRAIN,), TRAINING, switch=True, help='print all of the recipe that the flags make and end'),
    Flag(('--set',), DOORS, TRAINING, type=text,
         help='any entry of the recipe, as ENTRY=VALUE or loss_options.OPTION=VALUE; repeatable'),

    Flag(('--save_ckpt', '--model_save_dir', '--save_checkpoint_path', 'OUTPUT_DIR'), (TRAIN,), FILES, type=text,
         default='output', help='folder for all that is written; default: output'),
    Flag(('--pretrained', '--ckpt_path', '--pretrained_model'), (TRAIN,), FILES, 'pretrained'),
    Flag(CHECKPOINT, (EVAL, EXPORT), FILES, type=text, suggests='SOP', help='a checkpoint, or the folder of a training'),
    Flag((*CHECKPOINT, '--model_file'), (INFER,), FILES, type=text, suggests='SOP',
         help='a checkpoint, the folder of a training, or an exported .mindir or .onnx, whose fixed batch is kept'),
    Flag(('--resume',), (TRAIN,), FILES, switch=True, help='continue from the last training state in the folder'),
    Flag(('--checkpoint',), (TRAIN,), FILES, type=text,
         help='continue from this training state, or from the last one in this folder'),
    Flag(('--profile',), (TRAIN,), FILES, type=text,
         help="write MindSpore's profile of a few steps to this folder"),
    Flag(('--data_url',), (TRAIN,), FILES, type=text,
         help='ModelArts: folder of the data, copied from obs:// by moxing; instead of --data_path or --dataset_path'),
    Flag(('--train_url',), (TRAIN,), FILES, type=text, help='ModelArts: folder that --save_ckpt is copied to at the end'),
    Flag(('--result_file',), (EVAL,), FILES, type=OUTPUT, help='write the figures to this file as JSON too'),

    Flag(('--batch_size', '--train_batch_size'), (TRAIN,), TRAINING, 'batch_size'),
    Flag(('--samples_each_class',), (TRAIN,), TRAINING, 'samples_each_class'),
    Flag(('SOLVER.IMS_PER_BATCH',), (TRAIN,), REID, 'identities', help='identities of a step on each device'),
    Flag(('--test_batch_size', 'TEST.IMS_PER_BATCH'), (TRAIN,), TRAINING, 'test_batch_size'),
    Flag(('--test_batch_size', '--batch_size', 'TEST.IMS_PER_BATCH'), (EVAL, INFER), TRAINING, 'test_batch_size',
         lenient=(EVAL,)),
    Flag(('--epoch_size', 'SOLVER.MAX_EPOCHS'), (TRAIN,), TRAINING, 'epoch_size', idle=(EVAL, EXPORT)),
    Flag(('--pretrain_epoch_size',), (TRAIN,), TRAINING, 'pretrain_epoch_size'),
    Flag(('--total_iter_num',), (TRAIN,), TRAINING, 'total_iter_num'),
    Flag(('--lr', '--lr_max', 'SOLVER.BASE_LR'), (TRAIN,), TRAINING, 'lr_max'),
    Flag(('--lr_init',), (TRAIN,), TRAINING, 'lr_init'),
    Flag(('--lr_end',), (TRAIN,), TRAINING, 'lr_end'),
    Flag(('--lr_mode', '--lr_decay_mode'), (TRAIN,), TRAINING, 'lr_mode',
         spelling=_spelled({'default': 'linear', 'policy': 'poly'})),
    Flag(('--lr_steps',), (TRAIN,), TRAINING, 'lr_steps'),
    Flag(('--warmup_epochs',), (TRAIN,), TRAINING, 'warmup_epochs'),
    Flag(('--momentum',), (TRAIN,), TRAINING, 'momentum'),
    Flag(('--weight_decay',), (TRAIN,), TRAINING, 'weight_decay'),
    Flag(('--loss_scale',), (TRAIN,), TRAINING, 'loss_scale'),
    Flag(('--interval_step', '--display_iter_step'), (TRAIN,), TRAINING, 'interval_step', idle=(EVAL, EXPORT)),
    Flag(('--save_checkpoint',), (TRAIN,), TRAINING, 'save_checkpoint'),
    Flag(('--save_checkpoint_epochs',), (TRAIN,), TRAINING, 'save_checkpoint_epochs'),
    Flag(('--save_iter_step',), (TRAIN,), TRAINING, 'save_iter_step'),
    Flag(('--keep_checkpoint_max',), (TRAIN,), TRAINING, 'keep_checkpoint_max'),
    Flag(('--validation',), (TRAIN,), TRAINING, 'validation'),
    Flag(('--validation_fraction',), (TRAIN,), TRAINING, 'validation_fraction'),
    Flag(('--test_iter_step',), (TRAIN,), TRAINING, 'test_iter_step'),
    Flag(('--run_eval',), (TRAIN,), TRAINING, 'run_eval'),
    Flag(('--seed',), (TRAIN,), TRAINING, 'seed'),
    Flag(('--loss_name',), (TRAIN,), TRAINING, type=text, suggests='SOP', help='with --recipe chooses the recipe'),
    Flag(('--gather',), (TRAIN,), TRAINING, 'gather'),

    Flag(('--train_mode',), DOORS, ZERO_SHOT, type=one_of(('att', 'word', 'fusion')),
         help='the class semantics; default: att'),
    Flag(('--features',), (TRAIN, EVAL), ZERO_SHOT, 'features'),
    Flag(('--splits',), (TRAIN, EVAL), ZERO_SHOT, 'splits'),

    Flag(('--model',), DOORS, METRIC, 'backbone', spelling=str.lower, suggests='SOP'),
    Flag(('--class_num',), (TRAIN,), METRIC, 'class_num'),
    Flag(('--embedding_size',), DOORS, METRIC, 'embedding_size',
         help='width of a linear layer after the backbone, 0 for none'),
    Flag(('--image_size',), (TRAIN, EVAL, INFER), METRIC, 'image_size'),
    Flag(('--train_transform',), (TRAIN,), METRIC, 'train_transform'),
    Flag(('--eval_transform',), (INFER,), METRIC, 'eval_transform', help="how images are cropped; default: the checkpoint's"),
    Flag(('--bgr',), (TRAIN, EVAL, INFER), METRIC, 'bgr'),
    Flag(('--num_workers',), (TRAIN, EVAL, INFER), METRIC, 'num_workers'),
    Flag(('--margin',), (TRAIN,), METRIC, 'loss_options.margin', help='margin of triplet, quadruplet and ctl'),
    Flag(('--arc_scale',), (TRAIN,), METRIC, 'loss_options.scale', help='scale of arcmargin'),
    Flag(('--arc_margin',), (TRAIN,), METRIC, 'loss_options.margin', help='margin of arcmargin'),
    Flag(('--arc_easy_margin',), (TRAIN,), METRIC, 'loss_options.easy_margin', help='easy margin of arcmargin'),
    Flag(('--npairs_reg_lambda',), (TRAIN,), METRIC, 'loss_options.reg_lambda', help='regularisation of npairs'),
    Flag(('--recall_k',), (EVAL,), METRIC, 'recall_k'),

    Flag(('--train_list',), (TRAIN,), REID, 'train_list', suggests='lists'),
    Flag(('--resample',), (TRAIN,), REID, 'resample', help='let the repeated images of identities with too few count'),

    Flag(('--false_match_rate',), (EVAL,), MEASURING, 'false_match_rate', type=FRACTION),
    Flag(('--rerank',), (EVAL,), MEASURING, 'rerank', switch=True),
    Flag(('--rerank_options',), (EVAL,), MEASURING, 'rerank_options'),
    Flag(('--mirror',), (EVAL, INFER), MEASURING, 'mirror', switch=True),
    Flag(('--turned',), (EVAL, INFER), MEASURING, 'turned', switch=True),
    Flag(('--picture',), (EVAL,), MEASURING, 'picture', type=OUTPUT),
    Flag(('--report',), (EVAL,), MEASURING, 'report', type=OUTPUT),

    Flag(('--engine',), (INFER,), INFERENCE, type=one_of(('mindspore', 'onnxruntime')),
         help='what runs the network; default: onnxruntime where it is installed, on a CPU'),
    Flag(('--output',), (INFER,), INFERENCE, type=GALLERY, default='embeddings.npy',
         help='embedding file: .npy, with the paths in a .txt beside it, or .npz; or gallery in Milvus, to which they are '
         'added: NAME.db or http://HOST:PORT, and #COLLECTION if it has several; default: embeddings.npy'),
    Flag(('--query',), (INFER,), INFERENCE, type=text, suggests='SOP',
         help='images or embedding file whose neighbours in --gallery are printed'),
    Flag(('--gallery',), (INFER,), INFERENCE, type=text,
         help='an earlier --output; with --output instead of --query it is loaded into Milvus, without the network'),
    Flag(('--where',), (INFER,), INFERENCE, type=text, help='search only these images of a gallery in Milvus: a filter on '
         "label, class_name, camera and path, e.g. 'label == 3'"),
    Flag(('--threshold',), (INFER,), INFERENCE, type=text,
         help="answer `unknown` below it: eval.py's file beside the checkpoint, or the .json beside the exported model, or "
         '`gallery` for the one kept with a gallery in Milvus; without --query the file is kept there'),
    Flag(('--rerank',), (INFER,), INFERENCE, switch=True, help='order the neighbours by k-reciprocal re-ranking'),
    Flag(('--rerank_options',), (INFER,), INFERENCE, type=RERANK,
         help='the same with other settings than k1=20,k2=6,weight=0.3'),
    Flag(('--list',), (INFER,), INFERENCE, switch=True, help='print the classes of --gallery and how many images each has'),
    Flag(('--index',), (INFER,), INFERENCE, type=text, help='give a gallery in Milvus this index, and print its recall: FLAT '
         '(exact, the default of a new gallery), IVF_FLAT, HNSW; with parameters, as in HNSW,M=16,ef=64'),
    Flag(('--remove',), (INFER,), INFERENCE, type=text, help='take the images of this list out of a gallery in Milvus'),
    Flag(('--centroids',), (INFER,), INFERENCE, type=OUTPUT, help='write the mean of every class of --gallery to this '
         'embedding file'),
    Flag(('--top_k',), (INFER,), INFERENCE, type=whole(1), help='neighbours of each query; default: 10, or all of fewer'),
    Flag(('--picture',), (INFER,), INFERENCE, type=OUTPUT, help='draw the neighbours of the first 20 queries: .png, .pdf or '
         '.svg'),
    Flag(('--report',), (INFER,), INFERENCE, type=OUTPUT, help='write the neighbours or names of the best and worst queries, '
         'confusions and a map to this page, an .html'),

    Flag(('--classes',), (INFER,), INFERENCE, type=text, help='name the images of --dataset_path, or those of --query, an '
         'embedding file: the folder of a training of GBU, or its exported network'),
    Flag(('--add_classes',), (INFER,), INFERENCE, type=text, help='CSV of further unseen classes for --classes: name, numbers'),

    Flag(('--batch_size',), (EXPORT,), EXPORTING, type=whole(), default=1,
         help='batch size of the exported model, 0 for any; default: 1'),
    Flag(('--file_format',), (EXPORT,), EXPORTING, type=one_of(('MINDIR', 'ONNX', 'AIR')), default='MINDIR',
         idle=(TRAIN, EVAL), help='format of the exported model; default: MINDIR'),
    Flag(('--file_name',), (EXPORT,), EXPORTING, type=text,
         help='name of the exported model; default: named after the network, in the current folder'),
    Flag(('--width',), (EXPORT,), EXPORTING, type=whole(1, 2 ** 15), help='size of the images; default: as trained'),
    Flag(('--height',), (EXPORT,), EXPORTING, type=whole(1, 2 ** 15), help='size of the images; default: as trained'),
]
