#!/usr/bin/env bash
# From nothing to trained, evaluated and exported models on data that the project draws itself, on this machine's device: every
# system, small networks, two minutes on two cores. Ends with a table of what was learnt and the names of the pages to open.
# usage: bash scripts/quickstart.sh [FOLDER]      (default: output_quickstart in the project)
set -euo pipefail
. "$(dirname "$0")/environment.sh"
read_options "$@"
FOLDER=${1:-$(CDPATH='' cd "$(dirname "$0")/.." && pwd)/output_quickstart}
case $FOLDER in /*) ;; *) FOLDER=$PWD/$FOLDER ;; esac
CDPATH='' cd "$(dirname "$0")/.."
if [ -e "$FOLDER" ] && [ ! -e "$FOLDER/.quickstart" ] && { [ ! -d "$FOLDER" ] || [ -n "$(ls -A -- "$FOLDER")" ]; }; then
    echo "${0##*/}: $FOLDER holds other files: name a new folder" >&2
    exit 2
fi
prepare_environment requirements.txt

# Nothing is removed: somebody may have put own files beside those of an earlier run.
if [ -e "$FOLDER/.quickstart" ]; then
    number=1
    while [ -e "$FOLDER.earlier-$number" ]; do number=$((number + 1)); done
    mv -- "$FOLDER" "$FOLDER.earlier-$number"
    echo "$FOLDER held an earlier run: moved to $FOLDER.earlier-$number"
fi
mkdir -p -- "$FOLDER"
: >"$FOLDER/.quickstart"

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

echo '--- DEM: zero-shot learning from attributes ---'
run python -m src.samples.dem_sample "$FOLDER/DEM_data"
run python train.py --data_path="$FOLDER/DEM_data" --save_ckpt="$FOLDER/dem" --dataset=CUB --train_mode=att --epoch_size=5 --interval_step=10
run python eval.py --data_path="$FOLDER/DEM_data" --save_ckpt="$FOLDER/dem" --dataset=CUB --train_mode=att --report="$FOLDER/dem.html"

echo
echo '--- metric_learn: softmax and then triplet loss ---'
run python -m src.samples.image_sample products "$FOLDER/products" --easy
run python train.py --dataset_path="$FOLDER/products" --loss_name=softmax --recipe=quick --run_eval=True --save_ckpt="$FOLDER/softmax"
run python train.py --dataset_path="$FOLDER/products" --loss_name=triplet --recipe=quick --run_eval=True --ckpt_path="$FOLDER/softmax/train.ckpt" --save_ckpt="$FOLDER/triplet"
run python eval.py --dataset_path="$FOLDER/products" --ckpt_path="$FOLDER/triplet" --report="$FOLDER/products.html"
run python export.py --ckpt_file="$FOLDER/triplet" --file_name="$FOLDER/triplet/resnet18"

echo
echo '--- PaddleCV metric learning: arcmargin and then npairs loss ---'
run python train.py --dataset_path="$FOLDER/products" --loss_name=arcmargin --recipe=quick --run_eval=True --save_ckpt="$FOLDER/arcmargin"
run python train.py --dataset_path="$FOLDER/products" --loss_name=npairs --recipe=quick --run_eval=True --ckpt_path="$FOLDER/arcmargin/train.ckpt" --save_ckpt="$FOLDER/npairs"

echo
echo '--- CTL: persons found again in other cameras ---'
run python -m src.samples.image_sample market "$FOLDER" --easy
run python train.py --dataset=Market1501 --data_path="$FOLDER" --recipe=quick --save_ckpt="$FOLDER/ctl"
run python eval.py --data_path="$FOLDER" --ckpt_path="$FOLDER/ctl" --report="$FOLDER/persons.html"

echo
echo '--- Zero-shot learning from pictures: names for pictures of classes that no training has seen ---'
run python -m src.samples.image_sample described "$FOLDER/described" --easy
run python infer.py --dataset_path="$FOLDER/described/images" --ckpt_file="$FOLDER/softmax" --output="$FOLDER/described/features.npz"
run python -m src.datasets.own_classes "$FOLDER/described/features.npz" "$FOLDER/described/classes.csv" "$FOLDER/described/unseen.txt" "$FOLDER/described/gbu" --by=folder
run python train.py --dataset=GBU --data_path="$FOLDER/described/gbu" --batch_size=50 --save_ckpt="$FOLDER/zero_shot"
run python infer.py --classes="$FOLDER/zero_shot" --add_classes="$FOLDER/described/added.csv" --ckpt_file="$FOLDER/softmax" --dataset_path="$FOLDER/described/added" --top_k=3 --report="$FOLDER/names.html" | tee "$FOLDER/zero_shot/named.txt"

printf '\n--- What was learnt ---\n'
python scripts/quickstart_table.py "$FOLDER"
printf '\nAll is in %s: of each training checkpoints, result.json and curves.png; these pages open in a browser:\n' "$FOLDER"
for page in dem products persons names; do printf '  %s\n' "$FOLDER/$page.html"; done
printf '\nNext, your own pictures (README.md), in this environment:\n  source %s/bin/activate\n' "${PYTHON%/bin/python}"
