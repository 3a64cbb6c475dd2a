#!/usr/bin/env bash
# From nothing to trained, evaluated and exported models on data that the project makes itself, on this machine's device.
# usage: bash scripts/quickstart.sh [FOLDER]      (default: output_quickstart in the project)
set -eu
FOLDER=${1:-$(cd "$(dirname "$0")/.." && pwd)/output_quickstart}
case $FOLDER in /*) ;; *) FOLDER=$PWD/$FOLDER ;; esac
cd "$(dirname "$0")/.."
# Only what an earlier run has made is removed.
if [ $# -gt 0 ] && [ -e "$FOLDER" ] && [ ! -e "$FOLDER/.quickstart" ] && [ -n "$(ls -A "$FOLDER")" ]; then
    echo "${0##*/}: $FOLDER holds other files: name a new folder" >&2
    exit 2
fi
. scripts/environment.sh
prepare_environment requirements.txt

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

rm -rf "$FOLDER"
mkdir -p "$FOLDER"
: >"$FOLDER/.quickstart"

echo '--- DEM: zero-shot learning ---'
run python -m src.samples.dem_sample "$FOLDER/DEM_data"
run python train.py --data_path="$FOLDER/DEM_data" --save_ckpt="$FOLDER/dem" --dataset=CUB --train_mode=att --epoch_size=5 --interval_step=10
run python eval.py --data_path="$FOLDER/DEM_data" --save_ckpt="$FOLDER/dem" --dataset=CUB --train_mode=att
run python export.py --save_ckpt="$FOLDER/dem" --dataset=CUB --train_mode=att --file_name="$FOLDER/dem/cub_att"

echo
echo '--- metric_learn: ResNet50, softmax and then triplet loss ---'
run python -m src.samples.image_sample products "$FOLDER/products"
run python train.py --dataset_path="$FOLDER/products" --loss_name=softmax --recipe=small --epoch_size=8 --save_ckpt="$FOLDER/softmax"
run python train.py --dataset_path="$FOLDER/products" --loss_name=triplet --recipe=small --epoch_size=3 --ckpt_path="$FOLDER/softmax/train.ckpt" --save_ckpt="$FOLDER/triplet"
run python eval.py --dataset_path="$FOLDER/products" --ckpt_path="$FOLDER/triplet"
run python export.py --ckpt_file="$FOLDER/triplet" --width=64 --height=64 --file_name="$FOLDER/triplet/resnet50"

echo
echo '--- Generalised zero-shot learning: names for pictures of classes that no training has seen ---'
run python -m src.samples.image_sample described "$FOLDER/described"
run python infer.py --dataset_path="$FOLDER/described/images" --ckpt_file="$FOLDER/softmax" --output="$FOLDER/described/features.npz"
run python -m src.datasets.own_classes "$FOLDER/described/features.npz" "$FOLDER/described/classes.csv" "$FOLDER/described/unseen.txt" "$FOLDER/described/gbu" --by=folder
run python train.py --dataset=GBU --data_path="$FOLDER/described/gbu" --batch_size=50 --save_ckpt="$FOLDER/zero_shot"
run python export.py --save_ckpt="$FOLDER/zero_shot" --file_name="$FOLDER/zero_shot/classes"
run python infer.py --classes="$FOLDER/zero_shot/classes.mindir" --add_classes="$FOLDER/described/added.csv" --ckpt_file="$FOLDER/softmax" --dataset_path="$FOLDER/described/added" --top_k=3 --picture="$FOLDER/zero_shot/named.png"

printf '\nAll is in %s: checkpoints, exported models, result.json and curves.png of each training.\n' "$FOLDER"
