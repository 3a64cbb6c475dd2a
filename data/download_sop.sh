#!/bin/sh
# The name that PaddleCV's page uses: cd data/; sh download_sop.sh
exec sh "$(dirname -- "$0")/../scripts/download_sop.sh" "$@"
