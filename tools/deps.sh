#!/bin/bash
# deps.sh - looks for the Debian packages that building (build), testing (test) and testing for 64-bit Arm (neon) need and installs those that
# are missing.  Says what it installs; needs no root when everything is there.  usage: tools/deps.sh build [test] [neon]
set -euo pipefail

missing=()
optional=()
have_command() { command -v "$1" >/dev/null 2>&1; }
need_command() { have_command "$1" || missing+=("$2"); }
need_package() { { have_command pkg-config && pkg-config --exists "$1"; } || missing+=("$2"); }

for part in "${@:-build}"; do
    case $part in
    build)
        need_command "${CC:-gcc}" "$(case ${CC:-gcc} in *clang*) echo clang ;; *) echo gcc ;; esac)"
        [ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
        need_command make make
        need_command ar binutils
        need_command pkg-config pkg-config
        need_package libutf8proc libutf8proc-dev
        need_package jansson libjansson-dev
        need_package yaml-0.1 libyaml-dev
        need_package libzstd libzstd-dev
        need_package zlib zlib1g-dev
        need_package sqlite3 libsqlite3-dev
        need_package libedit libedit-dev
        need_package libmd libmd-dev
        need_package libmicrohttpd libmicrohttpd-dev
        need_package libcurl libcurl4-gnutls-dev # any of Debian's three; this one's TLS library is libmicrohttpd's too
        { have_command mpicc && have_command mpirun; } || [ "${MPI:-auto}" = 0 ] || optional+=(libopenmpi-dev openmpi-bin) # many ranks; builds without
        case ${CC:-gcc} in *clang*)
            echo 'int main(void) { return 0; }' | "${CC}" -fopenmp -x c -o /dev/null - 2>/dev/null || missing+=(libomp-dev) ;;
        esac
        ;;
    test)
        need_package cmocka libcmocka-dev
        have_command node || optional+=(nodejs)
        have_command npm || optional+=(npm)
        have_command python3 || optional+=(python3) # only tools/fetch_corpus.py and its test
        ;;
    neon) # only for make check-neon
        need_command make make
        need_command pkg-config pkg-config
        need_command aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
        [ -e /usr/aarch64-linux-gnu/include/stdio.h ] || missing+=(libc6-dev-arm64-cross)
        need_command qemu-aarch64 qemu-user
        ;;
    *) echo "deps.sh: unknown part \"$part\", want build, test or neon" >&2; exit 2 ;;
    esac
done

[ ${#missing[@]} -gt 0 ] || [ ${#optional[@]} -gt 0 ] || exit 0

run=()
can_install=1
have_command apt-get || can_install=0
if [ "$(id -u)" -ne 0 ]; then
    if have_command sudo; then run=(sudo); else can_install=0; fi
fi

if [ ${#missing[@]} -gt 0 ]; then
    if [ $can_install -eq 0 ]; then
        echo "deps.sh: missing packages: ${missing[*]}" >&2
        echo "deps.sh: cannot install them here (needs apt-get, and root or sudo); as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    echo "deps.sh: installing ${missing[*]}" >&2
    "${run[@]}" apt-get update -qq >&2
    "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi
# what works without these says so: training on many machines, the checks against other programs
if [ ${#optional[@]} -gt 0 ]; then
    if [ $can_install -eq 1 ]; then
        echo "deps.sh: installing ${optional[*]} (optional: training on many machines, tests against other programs, the corpus recipe)" >&2
        [ ${#missing[@]} -gt 0 ] || "${run[@]}" apt-get update -qq >&2 || true
        "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${optional[@]}" >&2 ||
            echo "deps.sh: could not install ${optional[*]}; what needs them is left out, tests are skipped" >&2
    else
        echo "deps.sh: ${optional[*]} not found; what needs them is left out, tests are skipped" >&2
    fi
fi
