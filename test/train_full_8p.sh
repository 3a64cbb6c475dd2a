#!/bin/sh
# The name that the published commands use.
exec sh "$(dirname -- "$0")/../scripts/train_full_8p.sh" "$@"
