#!/bin/sh
# Everything from the pictures to models/emoji-sd and its figures. Resumable: start it again and it goes on.
#     npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz
#     sh models/train/train.sh package work
set -eu
EMOJI=$1
WORK=$2
HERE=$(dirname "$0")
PYTHON=${PYTHON:-python}
THREADS=${THREADS:-1}
"$PYTHON" "$HERE/train_autoencoder.py" --emoji "$EMOJI" --work "$WORK" --threads "$THREADS" --steps "${AUTOENCODER_STEPS:-2000}"
"$PYTHON" "$HERE/train_diffusion.py" --emoji "$EMOJI" --work "$WORK" --threads "$THREADS" --steps "${DIFFUSION_STEPS:-12400}"
"$PYTHON" "$HERE/../export/export_emoji_sd.py" --work "$WORK"
"$PYTHON" "$HERE/../export/make_goldens.py" --work "$WORK"
"$PYTHON" "$HERE/../export/make_numbers.py"
"$PYTHON" "$HERE/write_docs.py" --emoji "$EMOJI" --work "$WORK"
