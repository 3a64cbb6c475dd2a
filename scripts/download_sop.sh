#!/bin/sh
# Stanford Online Products from its authors.
# Tested with a local server: nothing was fetched from this address, which publishes no checksum.
set -eu
USAGE='usage: sh download_sop.sh [FOLDER]
  FOLDER  where Stanford_Online_Products/ shall be (default: the current folder)
Starting it again continues a broken download. Needs curl or wget, and unzip.
ADDRESS in the environment names a mirror, SHA256 a checksum to compare with.'
ADDRESS=${ADDRESS:-ftp://cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip}
. "$(dirname -- "$0")/download.sh"

enter_folder "$@"
[ ! -e Stanford_Online_Products ] || stop "$folder/Stanford_Online_Products is there already: nothing to do" 0
fetch "$ADDRESS" Stanford_Online_Products.zip
unpack Stanford_Online_Products.zip Stanford_Online_Products
mv -- "$found" Stanford_Online_Products
finish Stanford_Online_Products.zip \
    "python train.py --dataset_path='$folder/Stanford_Online_Products' --loss_name=softmax --save_ckpt=output/softmax"
