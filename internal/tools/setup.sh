#!/usr/bin/env bash
# setup.sh [postgresql] [compiler] [chromium] [haproxy] [nginx] [caddy] [systemd] [pgbouncer]
# [prometheus] [nchan] [npm]: makes sure that this machine has what the targets of the Makefile
# need. What is missing is installed by apt, where that needs no password; else one line says what to
# install.
set -euo pipefail

has() { command -v "$1" >/dev/null 2>&1; }

# Debian keeps servers where not everybody's PATH leads.
has_server() { has "$1" || [ -x "/usr/sbin/$1" ]; }

# The same places as internal/devpg looks in.
has_postgresql() {
	has postgres || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ||
		compgen -G '/opt/homebrew/opt/postgresql@*/bin/initdb' >/dev/null ||
		[ -x "${PG_BIN:-/nowhere}/initdb" ]
}

# The race detector links with the system's C library.
has_compiler() { has gcc || has cc || has clang; }

has_chromium() {
	has chromium || has chromium-browser || has google-chrome || has google-chrome-stable ||
		has headless-shell || has headless_shell || [ -d '/Applications/Google Chrome.app' ]
}

# The page is in Chinese as well: without a font, screenshots show boxes.
has_chinese_font() { ! has fc-list || [ -n "$(fc-list :lang=zh)" ]; }

missing=()
for need in "$@"; do
	case "$need" in
	# Another version than the installed one is postgresql.sh's business.
	postgresql) [ -n "${PG:-}" ] || has_postgresql || missing+=(postgresql) ;;
	# To have it read a unit, not to run anything by it.
	systemd) [ "$(uname)" != Linux ] || has systemd-analyze || missing+=(systemd) ;;
	npm) has npm || missing+=(npm) ;;
	compiler) has_compiler || missing+=(gcc libc6-dev) ;;
	chromium)
		has_chromium || missing+=(chromium fonts-noto-cjk)
		has_chromium && { has_chinese_font || missing+=(fonts-noto-cjk); }
		;;
	# A peer of the benches: nginx, and its module that holds streams.
	nchan) has_server nginx && [ -e /usr/lib/nginx/modules/ngx_nchan_module.so ] || missing+=(nginx libnginx-mod-nchan) ;;
	prometheus) has prometheus && has promtool || missing+=(prometheus) ;;
	haproxy | nginx | caddy | pgbouncer) has_server "$need" || missing+=("$need") ;;
	*)
		echo "setup.sh: '$need' is none of postgresql, compiler, chromium, haproxy, nginx, caddy, systemd, pgbouncer, prometheus, nchan, npm" >&2
		exit 2
		;;
	esac
done
[ ${#missing[@]} -gt 0 ] || exit 0

root=()
[ "$(id -u)" = 0 ] || root=(sudo -n)
if ! has apt-get || ! "${root[@]}" true 2>/dev/null; then
	echo "please install what is missing, on Debian: sudo apt-get install -y ${missing[*]}" >&2
	exit 1
fi

# Debian would start a server of its own with the package; nothing here uses it.
# A machine that has had PostgreSQL before keeps the choice it made.
clusters=/etc/postgresql-common/createcluster.conf
if [[ " ${missing[*]} " == *" postgresql "* && ! -e $clusters ]]; then
	"${root[@]}" mkdir -p "${clusters%/*}"
	echo 'create_main_cluster = false' | "${root[@]}" tee "$clusters" >/dev/null
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" </dev/null >>"$log" 2>&1; }
install() { apt -o Dpkg::Options::=--force-confold --no-install-recommends install "${missing[@]}"; }

echo "installing ${missing[*]}" >&2
# The package lists may be absent or old: they are fetched when that shows.
if ! install && ! { apt update && install; }; then
	cat "$log" >&2
	echo "apt-get could not install it, please do: sudo apt-get install -y ${missing[*]}" >&2
	exit 1
fi

# Where systemd runs, Debian has started these as services; the tests run their own.
for service in haproxy pgbouncer nginx caddy prometheus; do
	if [[ " ${missing[*]} " == *" $service "* && -d /run/systemd/system ]]; then
		"${root[@]}" systemctl disable --now --quiet "$service" >&2 &&
			echo "the service $service, which nothing here uses, is off; to turn it on: sudo systemctl enable --now $service" >&2
	fi
done
