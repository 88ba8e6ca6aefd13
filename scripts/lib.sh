# Sourced by the other scripts: strict mode, the repository's root, a usable Go.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

need_go() {
	local want have
	want=$(awk '$1 == "go" { print $2; exit }' go.mod)
	if ! command -v go >/dev/null && [ -x /usr/local/go/bin/go ]; then
		PATH=$PATH:/usr/local/go/bin
	fi
	command -v go >/dev/null ||
		die "Go isn't installed. Install Go ${want} or newer from https://go.dev/dl and put its bin directory into PATH."
	# In a module that asks for a newer Go, an older one fetches it or says why it can't.
	have=$(go env GOVERSION 2>&1) && have=${have#go} ||
		die "Go ${want} or newer is needed: ${have}
Install it from https://go.dev/dl, or allow Go to fetch it: GOTOOLCHAIN=auto make ..."
	[ "$(printf '%s\n%s\n' "$want" "${have%% *}" | sort -V | head -n 1)" = "$want" ] ||
		die "Go ${want} or newer is needed, this is ${have}. Install it from https://go.dev/dl."
}

# The race detector needs a C compiler.
race_flag() {
	if [ "$(go env CGO_ENABLED)" = 1 ] && command -v "$(go env CC)" >/dev/null; then
		echo -race
	else
		say "no C compiler: the race detector is off" >&2
	fi
}

# The Store's tests start PostgreSQL servers of their own. Where its programs are
# missing they are installed, if that takes no question, and no service with them.
need_postgres() {
	local as=() apt
	! have_postgres || return 0
	[ "$(id -u)" = 0 ] || as=(sudo -n)
	if command -v apt-get >/dev/null && "${as[@]}" true 2>/dev/null; then
		say "== PostgreSQL isn't installed: installing Debian's"
		apt=("${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq)
		"${apt[@]}" update &&
			"${apt[@]}" install --no-install-recommends postgresql-common >/dev/null &&
			"${as[@]}" sed -ri 's/^#?(create_main_cluster) .*/\1 = false/' /etc/postgresql-common/createcluster.conf &&
			"${apt[@]}" install --no-install-recommends postgresql >/dev/null || true
	fi
	have_postgres ||
		die "PostgreSQL's programs (initdb, postgres) aren't installed, and the tests that need them are never skipped.
Install them: apt-get install postgresql (Debian, Ubuntu), brew install postgresql@17 (macOS)."
}
# Where internal/pgtest looks.
have_postgres() {
	local place
	for place in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin {/opt/homebrew,/usr/local}/opt/postgresql@*/bin; do
		[ ! -x "$place/initdb" ] || return 0
	done
	command -v initdb >/dev/null
}

# Tools come from a module of their own, at the versions its go.mod names.
tool() { go tool -modfile=tools/go.mod "$@"; }

need_go
