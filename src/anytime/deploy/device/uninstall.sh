#!/bin/sh
# Removes what install.sh installed.
#
#   uninstall.sh [--root DIR] [--purge]
#
# The configuration in /etc/anytime stays, unless --purge. It may be run again at any time.
set -eu

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

main() {
  root='' purge=''
  while [ $# -gt 0 ]; do
    case $1 in
    --root) [ $# -ge 2 ] && [ -d "$2" ] || die '--root takes a directory that is there'; root=$(cd "$2" && pwd); shift 2 ;;
    --purge) purge=yes; shift ;;
    *) die "$1 is unknown: uninstall.sh [--root DIR] [--purge]" ;;
    esac
  done
  [ "$root" != / ] || root=''
  [ -n "$root" ] || [ "$(id -u)" = 0 ] || die 'only root may: run it with sudo'
  units=$root/etc/systemd/system
  systemd=''
  [ -d "$root/run/systemd/system" ] && command -v systemctl >/dev/null && systemd=yes
  [ -z "$systemd" ] || [ ! -e "$units/anytime.service" ] || systemctl disable --quiet --now anytime
  rm -f "$units/multi-user.target.wants/anytime.service" "$units/anytime.service"
  [ -z "$systemd" ] || systemctl daemon-reload
  cd /
  rm -rf "$root/opt/anytime"
  if [ -n "$purge" ]; then
    rm -rf "$root/etc/anytime"
  elif [ -d "$root/etc/anytime" ]; then
    printf 'kept %s/etc/anytime; --purge removes it, too\n' "$root"
  fi
  printf 'anytime is removed\n'
}

main "$@"
exit 0
