#!/bin/bash
# arm64_sysroot.sh - unpacks the arm64 libraries that the program and its tests link with into a folder, for cross-building.
# usage: tools/arm64_sysroot.sh DIR
# Debian's packages are fetched with a package list of their own: the system learns of no foreign architecture, nothing is installed,
# no root is needed.  Does nothing when DIR is complete.
set -euo pipefail

dir=${1:?usage: tools/arm64_sysroot.sh DIR}
packages=(libcmocka-dev libcmocka0 libjansson-dev libjansson4 libyaml-dev libyaml-0-2 libzstd-dev libzstd1 zlib1g-dev zlib1g
          libutf8proc-dev libutf8proc2 libsqlite3-dev libsqlite3-0 libedit-dev libedit2 libbsd-dev libbsd0 libmd-dev libmd0
          libncurses-dev libncurses6 libtinfo6 libmicrohttpd-dev libmicrohttpd12 libgnutls30 libp11-kit0 libidn2-0 libunistring2
          libtasn1-6 libnettle8 libhogweed6 libgmp10 libffi8 libcurl4-gnutls-dev libcurl3-gnutls libbrotli1 libnghttp2-14 libpsl5 librtmp1
          libssh2-1 libssl3 libldap-2.5-0 libsasl2-2 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 libcom-err2 libkeyutils1)

[ "$(cat "$dir/complete" 2>/dev/null)" != "${packages[*]}" ] || exit 0
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "arm64_sysroot.sh: needs Debian's apt-get and dpkg-deb to fetch: ${packages[*]}" >&2
    exit 1
fi
rm -rf "$dir"
mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial"
: >"$dir/apt/status"
full=$(cd "$dir/apt" && pwd)
apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State="$full" -o Dir::State::status="$full/status"
     -o Dir::State::lists="$full/lists" -o Dir::Cache="$full/cache" -o APT::Sandbox::User=)
echo "arm64_sysroot.sh: fetching arm64 libraries into $dir" >&2
"${apt[@]}" update >&2
(cd "$full" && "${apt[@]}" download "${packages[@]}" >&2)
for deb in "$full"/*.deb; do dpkg-deb -x "$deb" "$dir"; done
rm -rf "$dir/apt"
echo "${packages[*]}" >"$dir/complete"
