"""The flags of the doors: each published system's own names, one table for all."""
import argparse
import math
import sys

from src.config import SOP_FOLDER
from src.errors import InputError
from src.training.learning_rate import MODES


def boolean(text):
    """True or False from the words users write; bool('False') would be True."""
    words = {'true': True, 'yes': True, '1': True, 'false': False, 'no': False, '0': False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f'expected True or False, not {text!r}')
    return words[text.lower()]


def positive(text):
    """A whole number from 1 on."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a whole number of at least 1, not {text!r}')
    return int(text)


def integers(text):
    """Whole numbers from 1 on, separated by commas."""
    return [positive(word) for word in text.split(',')]


def natural(text):
    """A whole number from 0 on."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f'expected a whole number of at least 0, not {text!r}')
    return int(text)


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


TRAIN, EVAL, EXPORT, INFER = 'train', 'eval', 'export', 'infer'
EVERY = (TRAIN, EVAL, EXPORT, INFER)

# (doors, names, what argparse needs). The first name is the attribute. A flag not given stays None: the recipe decides.
FLAGS = [
    # Device.
    (EVERY, ['--device_target'], dict(choices=['Ascend', 'GPU', 'CPU'],
                                      help='default: Ascend where this machine has one, else CPU')),
    (EVERY, ['--device_id'], dict(type=natural, help='default: DEVICE_ID of the environment, else 0')),
    ((TRAIN,), ['--distribute', '--run_distribute'], dict(type=boolean, default=False,
                                                          help='one process of several, started by a launcher')),
    ((TRAIN,), ['--device_num'], dict(type=positive, help='number of processes of a distributed training')),
    ((TRAIN, EVAL, INFER), ['--use_gpu'], dict(type=boolean, help='of PaddleCV: without effect, --device_target '
                                                                  'chooses the device')),
    # What to work on.
    (EVERY, ['--dataset'], dict(choices=['AwA', 'CUB', 'SOP', 'DukeMTMC-reID', 'Market1501', 'lists'],
                               help='the dataset chooses the system; lists are those of --train_list')),
    (EVERY, ['--train_mode'], dict(choices=['att', 'word', 'fusion'], help="DEM's class semantics; default: att")),
    ((TRAIN, EVAL), ['--data_path'], dict(help='folder that holds AwA_data and CUB_data, or DukeMTMC-reID or '
                                               'market1501')),
    ((TRAIN, EVAL), ['--dataset_path'], dict(help='metric learning: folder of Stanford Online Products, a list of '
                                                  'images, or a folder with one folder a class; default: where '
                                                  f'PaddleCV has its data, {SOP_FOLDER}')),
    ((INFER,), ['--dataset_path', '--images'], dict(default=SOP_FOLDER,
                                                    help='list of images, with or without labels, or folder; of a '
                                                         f'dataset the test images; default: {SOP_FOLDER}')),
    ((TRAIN, EVAL, INFER), ['--subset'], dict(choices=['full', 'half', 'tiny'], help='of Stanford Online Products')),
    ((TRAIN,), ['--loss_name'], dict(choices=['softmax', 'arcmargin', 'triplet', 'quadruplet', 'eml', 'npairs', 'ctl',
                                             'baseline'])),
    ((TRAIN,), ['--recipe'], dict(help='a named set of hyper-parameters of src/config.py')),
    # Checkpoints and results.
    ((TRAIN,), ['--save_ckpt', '--model_save_dir'], dict(help='folder for all that is written; default: output')),
    ((TRAIN,), ['--pretrained', '--ckpt_path', '--pretrained_model'], dict(help='weights to start from')),
    ((EVAL, EXPORT), ['--save_ckpt', '--ckpt_path', '--ckpt_file', '--pretrained_model'],
     dict(help='a checkpoint, or the folder of a training')),
    ((INFER,), ['--save_ckpt', '--ckpt_path', '--ckpt_file', '--pretrained_model', '--model_file'],
     dict(help='a checkpoint, the folder of a training, or an exported .mindir or .onnx, whose fixed batch is kept')),
    ((TRAIN,), ['--resume'], dict(action='store_true', help='go on from the last training state in the folder')),
    ((TRAIN,), ['--checkpoint'], dict(help='go on from this training state, or from the last one in this folder')),
    ((TRAIN,), ['--run_eval'], dict(type=boolean, help='evaluate on the test classes at the end')),
    ((EVAL,), ['--result_file'], dict(help='write the figures to this file as JSON too')),
    # Hyper-parameters that go before the recipe's.
    ((TRAIN,), ['--batch_size', '--train_batch_size'], dict(type=positive)),
    ((TRAIN,), ['--test_batch_size'], dict(type=positive)),
    ((EVAL, INFER), ['--test_batch_size', '--batch_size'], dict(type=positive)),
    ((EXPORT,), ['--batch_size'], dict(type=natural, default=1, help='0 for any; default: 1')),
    ((TRAIN,), ['--epoch_size'], dict(type=positive)),
    ((TRAIN,), ['--total_iter_num'], dict(type=positive, help='iterations; go before epochs')),
    ((TRAIN,), ['--lr'], dict(type=real, help='the highest learning rate')),
    ((TRAIN,), ['--lr_mode'], dict(choices=MODES)),
    ((TRAIN,), ['--lr_steps'], dict(type=integers, help='iterations at which the learning rate falls to a tenth')),
    ((TRAIN,), ['--warmup_epochs'], dict(type=natural)),
    ((TRAIN,), ['--interval_step', '--display_iter_step'], dict(type=positive,
                                                                help='steps from one loss line to the next')),
    ((TRAIN,), ['--save_checkpoint_epochs'], dict(type=positive, help='epochs from one training state to the next')),
    ((TRAIN,), ['--save_iter_step'], dict(type=positive, help='the same in steps')),
    ((TRAIN,), ['--keep_checkpoint_max'], dict(type=positive, help='how many training states stay')),
    ((TRAIN,), ['--validation'], dict(choices=['seen_images', 'seen_classes', 'test_classes', 'none'],
                                      help='what best.ckpt is chosen on')),
    ((TRAIN,), ['--validation_fraction'], dict(type=fraction, help='share of the seen images or classes held out')),
    ((TRAIN,), ['--test_iter_step'], dict(type=positive, help='steps from one validation to the next; in metric '
                                                             'learning without --validation on the test classes')),
    ((TRAIN,), ['--seed'], dict(type=natural)),
    # Metric learning.
    (EVERY, ['--model'], dict(type=str.lower, choices=['resnet50', 'resnet101', 'resnet152'])),
    ((TRAIN,), ['--class_num'], dict(type=positive, help='checked against the training list')),
    (EVERY, ['--embedding_size'], dict(type=natural, help='width of a linear layer after the backbone, 0 for none')),
    ((TRAIN, EVAL, INFER), ['--image_size'], dict(type=image_size, help='side, or height,width')),
    ((TRAIN,), ['--train_transform'], dict(choices=['random_resized_crop', 'resize_crop', 'reid'])),
    ((TRAIN, EVAL, INFER), ['--bgr'], dict(type=boolean, help='feed BGR through the RGB statistics, as the published '
                                                       'checkpoints were trained')),
    ((TRAIN, EVAL, INFER), ['--num_workers'], dict(type=positive, help='threads that read images')),
    ((TRAIN,), ['--samples_each_class'], dict(type=positive)),
    ((TRAIN,), ['--margin'], dict(type=real)),
    ((TRAIN,), ['--arc_scale'], dict(type=real)),
    ((TRAIN,), ['--arc_margin'], dict(type=real)),
    ((TRAIN,), ['--arc_easy_margin'], dict(type=boolean)),
    ((TRAIN,), ['--npairs_reg_lambda'], dict(type=real)),
    ((TRAIN, EVAL), ['--query'], dict(help='list or folder of query images, with --gallery instead of leave-one-out')),
    ((TRAIN, EVAL), ['--gallery'], dict(help='list or folder of the images to find them in')),
    ((EVAL,), ['--recall_k'], dict(type=integers, help='the K of Recall@K beside 1, separated by commas; those beyond '
                                                                 'the number of images compared with are left out')),
    # Re-identification.
    ((TRAIN,), ['--train_list'], dict(help='list of `path label camera`, with --query and --gallery of the same kind')),
    ((TRAIN,), ['--resample'], dict(type=boolean, help='let the repeated images of identities with too few count')),
    ((EVAL,), ['--picture'], dict(help='draw queries and what was found for them, right and wrong, to this file')),
    # Inference.
    ((INFER,), ['--eval_transform'], dict(choices=['resize', 'center_crop'],
                                          help="default: the checkpoint's; an exported model has none: resize, with "
                                               '--model center_crop as PaddleCV')),
    ((INFER,), ['--output'], dict(default='embeddings.npy', help='.npy, with the paths in a .txt beside it, or .npz; '
                                                                 'default: embeddings.npy')),
    ((INFER,), ['--query'], dict(help='images or embedding file whose neighbours in --gallery are printed')),
    ((INFER,), ['--gallery'], dict(help='embedding file, an earlier --output')),
    ((INFER,), ['--top_k'], dict(type=positive, default=10, help='neighbours of each query; default: 10')),
    ((INFER,), ['--picture'], dict(help='draw the neighbours of the first 20 queries: .png, .pdf or .svg')),
    # Export.
    ((EXPORT,), ['--file_format'], dict(choices=['MINDIR', 'ONNX', 'AIR'], default='MINDIR')),
    ((EXPORT,), ['--file_name'], dict(help='default: named after the network, in the current folder')),
    ((EXPORT,), ['--width'], dict(type=positive, help='of the images; default: as trained')),
    ((EXPORT,), ['--height'], dict(type=positive, help='of the images; default: as trained')),
]


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(message)


def parse_args(door, argv=None):
    """The flags of one door.

    Args:
        door (str): 'train', 'eval', 'export' or 'infer'.
        argv (list of str or None): None for those of this process.

    Returns:
        argparse.Namespace.

    Raises:
        InputError: an unknown flag or a bad value.
    """
    parser = _Parser(prog=f'{door}.py', allow_abbrev=False)
    for doors, names, options in FLAGS:
        if door in doors:
            parser.add_argument(*names, **options)
    return parser.parse_args(argv)


def run(main):
    """Run the main function of a door; bad input becomes one line on standard error and exit code 2, Ctrl-C and 130."""
    try:
        main()
    except InputError as error:
        print(f'{sys.argv[0]}: error: {error}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f'{sys.argv[0]}: interrupted', file=sys.stderr)
        sys.exit(130)
