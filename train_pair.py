"""PaddleCV's second stage: a pair loss (triplet, eml ...) by the recipe `paddle`; flags as for train.py."""
import sys

from src.common.run import run
from train import main

if __name__ == '__main__':
    run(lambda: main(['--dataset=SOP', '--recipe=paddle', '--loss_name=triplet', *sys.argv[1:]]))
