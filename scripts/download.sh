# Sourced by the download scripts, never run: fetch, check and unpack one archive. POSIX sh; expects USAGE.
# common.sh is not for them: it asks for a Python, which a download does not need.
# Set SHA256 to have the archive compared with a checksum; the sources publish none, so by default it is only printed.

stop() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit "${2:-1}"
}

# enter_folder [FOLDER]: reads the arguments, sets folder, makes it and enters it.
enter_folder() {
    case ${1:-} in
        -h | --help) printf '%s\n' "$USAGE" && exit 0 ;;
        -*) stop "$1 is no folder; give ./$1 if it is one" 2 ;;
    esac
    [ $# -le 1 ] || stop "at most 1 argument, $# given
$USAGE" 2
    folder=${1:-.}
    command -v unzip >/dev/null || stop 'unzip is missing: install it'
    mkdir -p -- "$folder"
    CDPATH='' cd -- "$folder"
    folder=$PWD
}

file_size() {
    if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi
}

# Bytes of ADDRESS by the server's headers, nothing where it does not say.
remote_size() {
    if command -v curl >/dev/null; then
        curl --silent --location --fail --connect-timeout 30 --head --output "$2" "$1" || :
    else
        wget --spider --server-response --tries=3 --timeout=30 "$1" >"$2" 2>&1 || :
    fi
    # The last one: redirections have lengths of their own.
    [ ! -f "$2" ] || LC_ALL=C tr -d '\r' <"$2" | LC_ALL=C sed -n 's/^ *[Cc]ontent-[Ll]ength: *\([0-9][0-9]*\)$/\1/p' | tail -n 1
    rm -f -- "$2"
}

# need_space BYTES: refuses before a disk is full, not after.
need_space() {
    free=$(df -Pk . | awk 'NR == 2 { print $4 }')
    [ "$(($1 / 1024))" -le "$free" ] ||
        stop "$folder needs $(($1 / 1000000 + 1)) MB more and has $((free * 1024 / 1000000)) MB: the disk would be full"
}

# fetch ADDRESS ARCHIVE: continues a broken download; ARCHIVE has its name only when it is whole.
fetch() {
    part=$2.part
    if [ ! -f "$2" ]; then
        command -v curl >/dev/null || command -v wget >/dev/null || stop 'neither curl nor wget is installed'
        size=$(remote_size "$1" "$2.head")
        have=$(file_size "$part")
        [ -z "$size" ] || [ "$have" -le "$size" ] ||
            stop "$folder/$part has $have bytes, more than the $size of $1: delete it and start again"
        [ -z "$size" ] || need_space "$((size - have))"
        code=0
        if [ "$have" = "$size" ]; then
            : # A server answers a request for nothing more with an error.
        elif command -v curl >/dev/null; then
            curl --fail --location --connect-timeout 30 --continue-at - --output "$part" "$1" || code=$?
        else
            wget --continue --tries=3 --timeout=30 --output-document="$part" "$1" || code=$?
        fi
        [ "$code" != 23 ] || stop "$folder/$part could not be written: is the disk full? Start again to continue"
        [ "$code" != 33 ] || stop "$1 cannot be continued by its server: delete $folder/$part and start again"
        [ "$code" = 0 ] || stop "$1 could not be fetched (exit code $code): offline, or it has moved; start again to continue"
        have=$(file_size "$part")
        [ -z "$size" ] || [ "$have" = "$size" ] ||
            stop "$folder/$part has $have bytes where $1 has $size: start again to continue"
        mv -- "$part" "$2"
    fi
    sum=$(sha256sum "$2")
    printf '%s\n' "$sum"
    [ -z "${SHA256:-}" ] || [ "${sum%% *}" = "$SHA256" ] ||
        stop "$folder/$2 does not have the checksum $SHA256: delete it and start again"
}

# unpack ARCHIVE MARKER: sets found to the folder MARKER of the archive, unpacked below ARCHIVE.unpacked.
# Under another name until complete: a broken run must not look like the data.
unpack() {
    total=$(unzip -l "$1" 2>/dev/null | awk 'END { print $1 + 0 }') || total=0
    need_space "$total"
    code=0
    unzip -q -o "$1" -d "$1.unpacked" || code=$?
    [ "$code" != 50 ] || stop "$folder: the disk is full; make room and start again"
    [ "$code" = 0 ] || stop "$folder/$1 is damaged (unzip: exit code $code): delete it and start again"
    found=$(find "$1.unpacked" -type d -name "$2" ! -path '*/__MACOSX/*' | head -n 1)
    [ -n "$found" ] || stop "$folder/$1 has no folder $2: it is another archive, or its layout has changed"
}

# finish ARCHIVE COMMAND: removes what is left of the unpacking and says what to run.
finish() {
    rm -rf -- "$1.unpacked"
    printf '%s/%s may be deleted. Next, from the project'\''s folder:\n%s\n' "$folder" "$1" "$2"
}
