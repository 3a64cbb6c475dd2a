#!/bin/sh
# Stanford Online Products from its authors.
set -eu
USAGE='usage: sh download_sop.sh [FOLDER]
  FOLDER  where Stanford_Online_Products/ shall be (default: the current folder)
Starting it again continues a broken download. Needs curl or wget, and unzip.'
ADDRESS=ftp://cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip

stop() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit "${2:-1}"
}

[ $# -le 1 ] || stop "at most 1 argument, $# given
$USAGE" 2
folder=${1:-.}
command -v unzip >/dev/null || stop 'unzip is missing: install it'
mkdir -p -- "$folder"
cd -- "$folder"
[ ! -e Stanford_Online_Products ] || stop "$folder/Stanford_Online_Products is there already: nothing to do" 0

part=Stanford_Online_Products.zip.part
if [ ! -f Stanford_Online_Products.zip ]; then
    if command -v curl >/dev/null; then
        curl --fail --location --connect-timeout 30 --continue-at - --output "$part" "$ADDRESS" || code=$?
    elif command -v wget >/dev/null; then
        wget --continue --tries=3 --timeout=30 --output-document="$part" "$ADDRESS" || code=$?
    else
        stop 'neither curl nor wget is installed'
    fi
    [ "${code:-0}" = 0 ] ||
        stop "$ADDRESS could not be fetched (exit code $code): offline, or it has moved; start again to continue"
    mv -- "$part" Stanford_Online_Products.zip
fi
sha256sum Stanford_Online_Products.zip
# Under another name until complete: a broken run must not look like the data.
unzip -q -o Stanford_Online_Products.zip -d Stanford_Online_Products.part
mv -- Stanford_Online_Products.part/Stanford_Online_Products Stanford_Online_Products
rm -rf -- Stanford_Online_Products.part
