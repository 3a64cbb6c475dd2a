#!/bin/sh
# The benchmark "the good, the bad and the ugly" (ResNet101 features and splits) from its authors, as xlsa17/data/DATASET.
# Tested with a local server: nothing was fetched from this address; its page publishes neither size nor checksum.
set -eu
USAGE='usage: sh download_gbu.sh [FOLDER]
  FOLDER  where xlsa17/ shall be (default: the current folder)
Starting it again continues a broken download. Needs curl or wget, and unzip.
ADDRESS in the environment names a mirror, SHA256 a checksum to compare with.'
ADDRESS=${ADDRESS:-http://datasets.d2.mpi-inf.mpg.de/xian/xlsa17.zip}
. "$(dirname -- "$0")/download.sh"

enter_folder "$@"
[ ! -e xlsa17 ] || stop "$folder/xlsa17 is there already: nothing to do" 0
fetch "$ADDRESS" xlsa17.zip
unpack xlsa17.zip xlsa17
mv -- "$found" xlsa17
finish xlsa17.zip "python train.py --dataset=GBU --data_path='$folder/xlsa17/data/CUB' --save_ckpt=output/gbu"
