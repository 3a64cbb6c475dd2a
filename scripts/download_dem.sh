#!/bin/sh
# DEM's features, attributes and word vectors of AwA and CUB from its authors, as DEM_data/{AwA_data,CUB_data}.
# Tested with a local server: nothing was fetched from this address, whose size, checksum and inner folders are not published.
set -eu
USAGE='usage: sh download_dem.sh [FOLDER]
  FOLDER  where DEM_data/ shall be (default: the current folder)
Starting it again continues a broken download. Needs curl or wget, and unzip.
ADDRESS in the environment names a mirror, SHA256 a checksum to compare with.'
ADDRESS=${ADDRESS:-https://www.robots.ox.ac.uk/~lz/DEM_cvpr2017/data.zip}
. "$(dirname -- "$0")/download.sh"

enter_folder "$@"
[ ! -e DEM_data ] || stop "$folder/DEM_data is there already: nothing to do" 0
fetch "$ADDRESS" DEM_data.zip
unpack DEM_data.zip CUB_data
mv -- "$(dirname -- "$found")" DEM_data
finish DEM_data.zip "python train.py --data_path='$folder/DEM_data' --dataset=CUB --train_mode=att --save_ckpt=output/dem"
