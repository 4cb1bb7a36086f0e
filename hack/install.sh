#!/usr/bin/env bash
# install.sh install|uninstall: copies what make build made below $DESTDIR$PREFIX, or
# removes what it copied. The list of files and of the folders that it made is kept in
# share/sluice/installed: uninstall removes these and nothing else, and a folder only
# where nothing else is in it.
set -euo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go} BIN=${BIN:-bin} PREFIX=${PREFIX:-/usr/local} DESTDIR=${DESTDIR:-}
case $PREFIX in
/*) PREFIX=${PREFIX%/} ;;
*) echo "PREFIX=$PREFIX must begin with /" >&2 && exit 2 ;;
esac
case $PREFIX$DESTDIR in
*[!A-Za-z0-9/._+@-]*) echo "PREFIX and DESTDIR hold letters, digits and / . _ + @ - alone" >&2 && exit 2 ;;
esac
list=$PREFIX/share/sluice/installed
programs="sluice sluice-server sluice-proxy kubectl-sluice sluice-top"
umask 022

record() { grep -qxF -- "$1" "$new" || echo "$1" >>"$new"; }

folder() { # PATH: makes it and those above it, and notes those that were missing
	[ -d "$DESTDIR$1" ] && return
	if [ "$1" != / ] && [ -n "$1" ]; then folder "$(dirname "$1")"; fi
	mkdir -m 755 "$DESTDIR$1"
	record "$1/"
}

put() { # MODE FILE PATH
	folder "$(dirname "$3")"
	install -m "$1" "$2" "$DESTDIR$3"
	record "$3"
}

remove() { # reads a list from its end: what is in a folder goes before the folder
	tac | while IFS= read -r path; do
		case $path in
		*/) rmdir "$DESTDIR$path" 2>/dev/null || true ;;
		/*) rm -f "$DESTDIR$path" ;;
		esac
	done
}

case ${1:-} in
install)
	for program in $programs; do
		if [ ! -x "$BIN/$program" ]; then
			GO=$GO BIN=$BIN hack/build.sh
			break
		fi
	done
	temporary=$(mktemp -d)
	trap 'rm -rf "$temporary"' EXIT
	new=$temporary/list old=$temporary/old
	: >"$new"
	: >"$old"
	if [ -f "$DESTDIR$list" ]; then
		cp "$DESTDIR$list" "$old"
		grep '/$' "$old" >>"$new" || true # folders that an earlier install made
	fi
	if [ ! -d "$BIN/man" ] || [ "$BIN/sluice" -nt "$BIN/man/sluice.1" ]; then
		GO=$GO BIN=$BIN hack/man.sh
	fi
	for program in $programs; do put 755 "$BIN/$program" "$PREFIX/bin/$program"; done
	for page in "$BIN"/man/*.[18]; do put 644 "$page" "$PREFIX/share/man/man${page##*.}/${page##*/}"; done
	for shell in bash zsh fish; do "$BIN/sluice" completion "$shell" >"$temporary/$shell"; done
	put 644 "$temporary/bash" "$PREFIX/share/bash-completion/completions/sluice"
	put 644 "$temporary/zsh" "$PREFIX/share/zsh/site-functions/_sluice"
	put 644 "$temporary/fish" "$PREFIX/share/fish/vendor_completions.d/sluice.fish"
	for unit in sluice-server sluice-proxy; do
		for of in system user; do
			from=deploy/systemd/$unit.service.in
			[ $of = system ] || from=deploy/systemd/user/$unit.service.in
			sed "s|@BINDIR@|$PREFIX/bin|" "$from" >"$temporary/unit"
			put 644 "$temporary/unit" "$PREFIX/lib/systemd/$of/$unit.service"
		done
	done
	put 644 deploy/systemd/sysusers.conf "$PREFIX/lib/sysusers.d/sluice.conf"
	for text in LICENSE THIRD_PARTY_LICENSES; do
		[ ! -f $text ] || put 644 $text "$PREFIX/share/doc/sluice/$text"
	done
	folder "$(dirname "$list")"
	record "$list"
	# What an earlier install wrote and this one does not is gone.
	{ grep -vxF -f "$new" "$old" || true; } | remove
	install -m 644 "$new" "$DESTDIR$list"
	echo "installed below $DESTDIR$PREFIX: $("$BIN/sluice" version --short 2>/dev/null || echo sluice); the list is $DESTDIR$list"
	;;
uninstall)
	if [ ! -f "$DESTDIR$list" ]; then
		echo "nothing is installed below $DESTDIR$PREFIX: $DESTDIR$list is missing" >&2
		exit 1
	fi
	files=$(cat "$DESTDIR$list")
	# Folders first in the reversed order they were noted in, files of each before it.
	{ grep '/$' <<<"$files" | awk '{print length($0) " " $0}' | sort -n | cut -d' ' -f2-; grep -v '/$' <<<"$files"; } | remove
	echo "uninstalled from $DESTDIR$PREFIX; rules and settings stay in /var/lib/sluice and /etc/sluice"
	;;
*)
	echo "usage: hack/install.sh install|uninstall" >&2
	exit 2
	;;
esac
