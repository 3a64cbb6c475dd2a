"""PaddleCV's first stage: an element loss (softmax, arcmargin ...) by the recipe `paddle`; flags as for train.py."""
import sys

from src.common.run import run
from train import main

if __name__ == '__main__':
    run(lambda: main(['--dataset=SOP', '--recipe=paddle', '--loss_name=softmax', *sys.argv[1:]]))
