"""The flags of the doors: each published system's own names, one table for all."""
import argparse
import sys

from src.errors import InputError


def boolean(text):
    """True or False from the words users write; bool('False') would be True."""
    words = {'true': True, 'yes': True, '1': True, 'false': False, 'no': False, '0': False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f'expected True or False, not {text!r}')
    return words[text.lower()]


def positive(text):
    """A whole number from 1 on."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a whole number of at least 1, not {text!r}')
    return int(text)


def integers(text):
    """Whole numbers separated by commas."""
    try:
        return [int(word) for word in text.split(',')]
    except ValueError:
        raise argparse.ArgumentTypeError(f'expected whole numbers separated by commas, not {text!r}') from None


TRAIN, EVAL, EXPORT, INFER = 'train', 'eval', 'export', 'infer'
EVERY = (TRAIN, EVAL, EXPORT, INFER)

# (doors, names, what argparse needs). The first name is the attribute. A flag not given stays None: the recipe decides.
FLAGS = [
    # Device.
    (EVERY, ['--device_target'], dict(choices=['Ascend', 'GPU', 'CPU'],
                                      help='default: Ascend where this machine has one, else CPU')),
    (EVERY, ['--device_id'], dict(type=int, help='default: DEVICE_ID of the environment, else 0')),
    ((TRAIN,), ['--distribute', '--run_distribute'], dict(type=boolean, default=False,
                                                          help='one process of several, started by a launcher')),
    ((TRAIN,), ['--device_num'], dict(type=positive, help='number of processes of a distributed training')),
    # What to work on.
    (EVERY, ['--dataset'], dict(choices=['AwA', 'CUB'], help='the dataset chooses the system')),
    (EVERY, ['--train_mode'], dict(choices=['att', 'word', 'fusion'], help='DEM: the class semantics used; default att')),
    ((TRAIN, EVAL), ['--data_path'], dict(help='folder that holds AwA_data and CUB_data')),
    ((TRAIN,), ['--recipe'], dict(help='a named set of hyper-parameters of src/config.py; default: published')),
    # Checkpoints and results.
    ((TRAIN,), ['--save_ckpt'], dict(help='folder for checkpoints and results; default: output')),
    ((EVAL, EXPORT, INFER), ['--save_ckpt'], dict(help='a checkpoint, or the folder of a training')),
    ((TRAIN,), ['--resume'], dict(action='store_true', help='go on from the last checkpoint in the folder')),
    ((EVAL,), ['--result_file'], dict(help='write the figures to this file as JSON too')),
    # Hyper-parameters that go before the recipe's.
    ((TRAIN,), ['--batch_size'], dict(type=positive)),
    ((EXPORT,), ['--batch_size'], dict(type=int, default=1, help='0 for any; default: 1')),
    ((TRAIN,), ['--epoch_size'], dict(type=positive)),
    ((TRAIN,), ['--lr'], dict(type=float, help='the highest learning rate')),
    ((TRAIN,), ['--interval_step'], dict(type=positive, help='steps from one loss line to the next')),
    ((TRAIN,), ['--save_checkpoint_epochs'], dict(type=positive, help='epochs from one training state to the next')),
    ((TRAIN,), ['--save_iter_step'], dict(type=positive, help='the same in steps')),
    ((TRAIN,), ['--keep_checkpoint_max'], dict(type=positive, help='how many training states stay')),
    ((TRAIN,), ['--validation'], dict(choices=['seen_images', 'seen_classes', 'test_classes', 'none'],
                                      help='DEM: what best.ckpt is chosen on')),
    ((TRAIN,), ['--validation_fraction'], dict(type=float, help='DEM: share of the seen images or classes held out')),
    ((TRAIN,), ['--seed'], dict(type=int)),
    # Export.
    ((EXPORT,), ['--file_format'], dict(choices=['MINDIR', 'ONNX', 'AIR'], default='MINDIR')),
    ((EXPORT,), ['--file_name'], dict(help='default: named after the network, beside the checkpoint')),
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
    """Run the main function of a door; bad input becomes one line on standard error and exit code 2."""
    try:
        main()
    except InputError as error:
        print(f'{sys.argv[0]}: error: {error}', file=sys.stderr)
        sys.exit(2)
