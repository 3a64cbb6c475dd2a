"""The command-line flags of train.py, eval.py, export.py and infer.py, under the names of every published system.

A flag that sets a recipe entry takes the entry's type and purpose. The doors themselves use the other flags.
"""
import os
from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence, Tuple

from src.common.values import in_milvus
from src.recipes.entries import ENTRIES, RERANK
from src.recipes.recipe import PURPOSES, RECIPES
from src.recipes.systems import DATASETS
from src.recipes.types import Refused, Type, boolean, encoding, one_of, real, text, whole

TRAIN, EVAL, EXPORT, INFER = DOORS = ('train', 'eval', 'export', 'infer')
DEVICE, WORK, FILES, TRAINING = 'device', 'data', 'checkpoints and results', 'training'
ZERO_SHOT, METRIC, REID = 'zero-shot learning (DEM)', 'metric learning', 're-identification (CTL)'
MEASURING, INFERENCE, EXPORTING = 'evaluation', 'inference', 'export'


class Flag(NamedTuple):
    """One command-line flag.

    names: all its names; the first gives the option's attribute. Names without dashes are CTL's, written NAME VALUE.
    doors: the doors in which it works. sets: the entry it sets, DICT.OPTION, or a name of src.recipes.recipe.DERIVED; None
    for an option of the door. help: text for --help if the entry's purpose does not fit. type, default: of a door's option.
    idle: doors that accept it without effect, because the published commands use one parser for all doors. lenient: doors
    that ignore it if the recipe lacks the entry. spelling: converts a published value to this project's spelling.
    loss: the loss it is for, if other losses have an option of that name.
    suggests: the dataset to assume if --dataset is not given; `none` overrides the suggestions of other flags.
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
    loss: str = ''

    @property
    def attribute(self) -> str:
        """Name of the option in Command.options."""
        return self.names[0].lstrip('-').replace('.', '_').lower()


def _writable(value: Any) -> str:
    """Check before the work starts that the file can be written; returns its name."""
    path = os.path.abspath(value)
    if os.path.isdir(path):
        raise Refused(f'cannot write {value}: it is a folder; give a file name')
    parent = os.path.dirname(path)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if not (os.path.isdir(parent) and os.access(parent, os.W_OK)):
        raise Refused(f'cannot write {value}: no file can be made in {parent}')
    return str(value)


def _gallery(value: Any) -> str:
    """Name of a Milvus gallery, or of an embedding file that can be written."""
    return str(value) if in_milvus(str(value)) else _writable(value)


def _first_id(value: str) -> str:
    """First number of CTL's device list ([0,1], 0,1 or 0), since a process uses one device."""
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
         help='device; default: Ascend if this machine has one, else CPU'),
    Flag(('--version',), DOORS, DEVICE, switch=True, help='print the version of this project and exit'),
    Flag(('--device_id', 'GPU_IDS'), DOORS, DEVICE, type=whole(), spelling=_first_id,
         help='device number; default: the environment variable DEVICE_ID, else 0'),
    Flag(('--distribute', '--run_distribute'), (TRAIN,), DEVICE, type=boolean, default=False, idle=(EVAL, EXPORT),
         help='run as one process of a distributed training, started by a launcher'),
    Flag(('--device_num',), (TRAIN,), DEVICE, type=whole(1), idle=(EVAL, EXPORT),
         help='number of processes in a distributed training'),
    Flag(('--amp_level',), (TRAIN, INFER), DEVICE, 'amp_level'),
    Flag(('--use_gpu',), DOORS, DEVICE, type=boolean,
         help="PaddleCV's flag: use a GPU if the machine has one and no Ascend"),

    Flag(('--dataset', 'DATASETS.NAMES'), DOORS, WORK, type=one_of(DATASETS), spelling=DATASET,
         help='dataset, which chooses the system; lists: re-identification with --train_list'),
    Flag(('--data_path', 'DATASETS.ROOT_DIR'), (TRAIN, EVAL), WORK, 'data_path', idle=(EXPORT,), suggests='none'),
    Flag(('--dataset_path',), (TRAIN, EVAL), WORK, 'dataset_path', suggests='SOP'),
    Flag(('--dataset_path', '--images'), (INFER,), WORK, type=text, default='data/Stanford_Online_Products', suggests='SOP',
         help='folder or list of images, with or without labels; of a dataset, the test images are used; default: '
              'data/Stanford_Online_Products'),
    Flag(('--subset',), (TRAIN, EVAL), WORK, 'subset'),
    Flag(('--subset',), (INFER,), WORK, type=ENTRIES['subset'].type, help='subset of Stanford Online Products'),
    Flag(('--query',), (TRAIN, EVAL), WORK, 'query', suggests='SOP'),
    Flag(('--gallery',), (TRAIN, EVAL), WORK, 'gallery'),

    Flag(('--encoding',), (TRAIN, EVAL), WORK, 'encoding'),
    Flag(('--encoding',), (INFER,), WORK, type=encoding, default='utf-8', help='encoding of lists, e.g. gbk or latin-1'),
    Flag(('--skip_broken',), (TRAIN, EVAL), WORK, 'skip_broken'),
    Flag(('--skip_broken',), (INFER,), WORK, type=real(0, 1), default=0.0,
         help='largest fraction of unreadable images to skip'),

    Flag(('--recipe',), DOORS, TRAINING, type=one_of(dict.fromkeys([*PURPOSES, *(key[2] for key in RECIPES)])), suggests='SOP',
         help='named set of hyper-parameters; see --list_recipes'),
    Flag(('--config_path',), DOORS, TRAINING, type=text,
         help='YAML or JSON file of entries and flags, or the result.json of a training; flags override it'),
    Flag(('--list_recipes',), DOORS, TRAINING, switch=True, help='print the recipes and exit'),
    Flag(('--show_recipe',), (TRAIN,), TRAINING, switch=True, help='print the complete recipe that the flags give and exit'),
    Flag(('--set',), DOORS, TRAINING, type=text,
         help='set any recipe entry: ENTRY=VALUE or loss_options.OPTION=VALUE; repeatable'),

    Flag(('--save_ckpt', '--model_save_dir', '--save_checkpoint_path', 'OUTPUT_DIR'), (TRAIN,), FILES, type=text,
         default='output', help='output folder of the training; default: output'),
    Flag(('--pretrained', '--ckpt_path', '--pretrained_model'), (TRAIN,), FILES, 'pretrained'),
    Flag(CHECKPOINT, (EVAL, EXPORT), FILES, type=text, suggests='SOP', help='checkpoint, or folder of a training'),
    Flag((*CHECKPOINT, '--model_file'), (INFER,), FILES, type=text, suggests='SOP',
         help='checkpoint, folder of a training, or exported .mindir or .onnx model, whose batch size is kept'),
    Flag(('--resume',), (TRAIN,), FILES, switch=True, help='resume from the last training state in the folder'),
    Flag(('--checkpoint',), (TRAIN,), FILES, type=text,
         help='resume from this training state, or from the last one in this folder'),
    Flag(('--profile',), (TRAIN,), FILES, type=text,
         help="write MindSpore's profile of a few steps to this folder"),
    Flag(('--data_url',), (TRAIN,), FILES, type=text,
         help='ModelArts: data folder, copied from obs:// by moxing; replaces --data_path or --dataset_path'),
    Flag(('--train_url',), (TRAIN,), FILES, type=text, help='ModelArts: folder to which --save_ckpt is copied at the end'),
    Flag(('--result_file',), (EVAL,), FILES, type=OUTPUT, help='also write the results to this JSON file'),

    Flag(('--batch_size', '--train_batch_size'), (TRAIN,), TRAINING, 'batch_size'),
    Flag(('--samples_each_class',), (TRAIN,), TRAINING, 'samples_each_class'),
    Flag(('SOLVER.IMS_PER_BATCH',), (TRAIN,), REID, 'identities', help='identities per batch on each device'),
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
    Flag(('--loss_name',), (TRAIN,), TRAINING, type=text, suggests='SOP',
         help='loss, e.g. softmax or triplet (--list_recipes: all); selects the recipe, with --recipe'),
    Flag(('--gather',), (TRAIN,), TRAINING, 'gather'),

    Flag(('--train_mode',), DOORS, ZERO_SHOT, type=one_of(('att', 'word', 'fusion')),
         help='class semantics; default: att'),
    Flag(('--features',), (TRAIN, EVAL), ZERO_SHOT, 'features'),
    Flag(('--splits',), (TRAIN, EVAL), ZERO_SHOT, 'splits'),

    Flag(('--model',), DOORS, METRIC, 'backbone', spelling=str.lower, suggests='SOP'),
    Flag(('--class_num',), (TRAIN,), METRIC, 'class_num'),
    Flag(('--embedding_size',), DOORS, METRIC, 'embedding_size',
         help='width of the linear layer after the backbone, 0 for no layer'),
    Flag(('--image_size',), (TRAIN, EVAL, INFER), METRIC, 'image_size'),
    Flag(('--train_transform',), (TRAIN,), METRIC, 'train_transform'),
    Flag(('--eval_transform',), (INFER,), METRIC, 'eval_transform', help="cropping of images; default: the checkpoint's"),
    Flag(('--bgr',), (TRAIN, EVAL, INFER), METRIC, 'bgr'),
    Flag(('--num_workers',), (TRAIN, EVAL, INFER), METRIC, 'num_workers'),
    Flag(('--margin',), (TRAIN,), METRIC, 'loss_options.margin', help='margin of triplet, quadruplet and ctl'),
    Flag(('--arc_scale',), (TRAIN,), METRIC, 'loss_options.scale', help='scale of arcmargin', loss='arcmargin'),
    Flag(('--arc_margin',), (TRAIN,), METRIC, 'loss_options.margin', help='margin of arcmargin', loss='arcmargin'),
    Flag(('--arc_easy_margin',), (TRAIN,), METRIC, 'loss_options.easy_margin', help='easy margin of arcmargin'),
    Flag(('--npairs_reg_lambda',), (TRAIN,), METRIC, 'loss_options.reg_lambda', help='regularisation of npairs'),
    Flag(('--recall_k',), (EVAL,), METRIC, 'recall_k'),

    Flag(('--train_list',), (TRAIN,), REID, 'train_list', suggests='lists'),
    Flag(('--resample',), (TRAIN,), REID, 'resample', help='count repeated images, of identities with too few, in the loss'),

    Flag(('--false_match_rate',), (EVAL,), MEASURING, 'false_match_rate', type=FRACTION),
    Flag(('--rerank',), (EVAL,), MEASURING, 'rerank', switch=True),
    Flag(('--rerank_options',), (EVAL,), MEASURING, 'rerank_options'),
    Flag(('--mirror',), (EVAL, INFER), MEASURING, 'mirror', switch=True),
    Flag(('--turned',), (EVAL, INFER), MEASURING, 'turned', switch=True),
    Flag(('--picture',), (EVAL,), MEASURING, 'picture', type=OUTPUT),
    Flag(('--report',), (EVAL,), MEASURING, 'report', type=OUTPUT),

    Flag(('--engine',), (INFER,), INFERENCE, type=one_of(('mindspore', 'onnxruntime')),
         help='library that runs the network; default: on a CPU onnxruntime if installed'),
    Flag(('--output',), (INFER,), INFERENCE, type=GALLERY, default='embeddings.npy',
         help='embedding file: .npy, with the paths in a .txt beside it, or .npz; or Milvus gallery to add them to: '
         'NAME.db or http://HOST:PORT, and #COLLECTION if it has several; default: embeddings.npy'),
    Flag(('--query',), (INFER,), INFERENCE, type=text, suggests='SOP',
         help='image, list, folder or embedding file; prints its neighbours in --gallery'),
    Flag(('--gallery',), (INFER,), INFERENCE, type=text,
         help='an earlier --output, to search in; with --output instead of --query it is copied into Milvus'),
    Flag(('--where',), (INFER,), INFERENCE, type=text, help='search only part of a Milvus gallery: a filter on '
         "label, class_name, camera and path, e.g. 'label == 3'"),
    Flag(('--threshold',), (INFER,), INFERENCE, type=text,
         help="answer `unknown` if even the nearest neighbour is below this threshold: eval.py's file beside the checkpoint, "
         'the .json beside an exported model, or `gallery` for the one stored in a Milvus gallery; without --query the file is '
         'stored there'),
    Flag(('--rerank',), (INFER,), INFERENCE, switch=True, help='sort the neighbours by k-reciprocal re-ranking'),
    Flag(('--rerank_options',), (INFER,), INFERENCE, type=RERANK,
         help='re-rank with settings other than k1=20,k2=6,weight=0.3'),
    Flag(('--list',), (INFER,), INFERENCE, switch=True, help='print the classes of --gallery and their numbers of images'),
    Flag(('--index',), (INFER,), INFERENCE, type=text, help='build this index in a Milvus gallery and print its recall: FLAT '
         '(exact, default of a new gallery), IVF_FLAT or HNSW; with parameters, as in HNSW,M=16,ef=64'),
    Flag(('--remove',), (INFER,), INFERENCE, type=text, help='remove the images of this list from a Milvus gallery'),
    Flag(('--centroids',), (INFER,), INFERENCE, type=OUTPUT, help='write the mean embedding of every class of --gallery '
         'to this embedding file'),
    Flag(('--top_k',), (INFER,), INFERENCE, type=whole(1), help='neighbours per query; default: 10, or all of fewer'),
    Flag(('--picture',), (INFER,), INFERENCE, type=OUTPUT, help='draw the neighbours of the first 20 queries: .png, .pdf or '
         '.svg'),
    Flag(('--report',), (INFER,), INFERENCE, type=OUTPUT, help='write the neighbours or names of the best and worst queries, '
         'confusions and a map to this .html page'),

    Flag(('--classes',), (INFER,), INFERENCE, type=text, help='name the classes of the images of --dataset_path, or of '
         'the embedding file --query: folder of a GBU training, or its exported network'),
    Flag(('--add_classes',), (INFER,), INFERENCE, type=text, help='CSV of more unseen classes for --classes: name, attributes'),

    Flag(('--batch_size',), (EXPORT,), EXPORTING, type=whole(), default=1,
         help='batch size of the exported model, 0 for any; default: 1'),
    Flag(('--file_format',), (EXPORT,), EXPORTING, type=one_of(('MINDIR', 'ONNX', 'AIR')), default='MINDIR',
         idle=(TRAIN, EVAL), help='format of the exported model; default: MINDIR'),
    Flag(('--file_name',), (EXPORT,), EXPORTING, type=text,
         help='path of the exported model; default: the name of the network, in the current folder'),
    Flag(('--width',), (EXPORT,), EXPORTING, type=whole(1, 2 ** 15), help='size of the images; default: as trained'),
    Flag(('--height',), (EXPORT,), EXPORTING, type=whole(1, 2 ** 15), help='size of the images; default: as trained'),
]
