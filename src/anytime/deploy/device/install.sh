#!/bin/sh
# Installs anytime from the directory that this script lies in, without a network.
#
#   install.sh [--root DIR] [--quick]
#
# --root DIR: install below DIR, as into the image of a device. --quick: measure the machine for some seconds only.
#
# A version is installed beside the others and becomes the current one once it has answered; until then, and wherever
# this script fails or is interrupted, everything stays as it was. It may be run again at any time.
set -eu
umask 022
unset PYTHONPATH PYTHONHOME

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

step() {
  printf '%s\n' "$*"
}

# Nothing of this directory is used before all of it has been found whole.
check_copy() {
  again='this copy is not whole: copy the directory again'
  [ -f SHA256SUMS ] || die "SHA256SUMS is missing; $again"
  listed=$(grep -c '^[0-9a-f]\{64\}  ' SHA256SUMS) || true
  [ "$(tail -n 1 SHA256SUMS)" = "# $listed files" ] || die "SHA256SUMS is cut off; $again"
  missing=$(grep -v '^#' SHA256SUMS | while read -r _ name; do [ -f "$name" ] || printf ' %s' "$name"; done)
  [ -z "$missing" ] || die "missing:$missing; $again"
  wrong=$(LC_ALL=C sha256sum --check --strict --quiet SHA256SUMS 2>/dev/null) ||
    die "altered or cut off: $(printf '%s' "$wrong" | sed 's/: FAILED.*//' | tr '\n' ' '); $again"
  strange=$(find . ! -type d ! -type f) && [ -z "$strange" ] || die "no plain file: $strange; $again"
  find . -type f | sed 's|^\./||' | while read -r name; do
    case $name in SHA256SUMS | SHA256SUMS.signed | SHA256SUMS.signed.sig) continue ;; esac
    grep -qxF "$(sha256sum "$name")" SHA256SUMS || die "$name is not in SHA256SUMS; $again"
  done || exit 1
}

# Where this machine has a key configured, somebody it trusts must have signed, and not too long ago.
check_signature() {
  keys=${ANYTIME_TRUSTED:-$root/etc/anytime/trusted.pub}
  [ -f "$keys" ] || [ -n "${ANYTIME_TRUSTED:-}" ] || return 0
  [ -f "$keys" ] || die "the trusted keys in $keys are not there: give a file of public keys, one a line"
  export ANYTIME_TRUSTED="$keys"
  remedy="sign it with a key in $keys ('anytime deploy --key')"
  [ -f SHA256SUMS.signed ] && [ -f SHA256SUMS.signed.sig ] ||
    die "this directory is not signed, and this machine installs only what is: $remedy"
  command -v ssh-keygen >/dev/null || die "signatures take ssh-keygen of OpenSSH: install openssh-client"
  expires=$(sed -n 's/^expires \([0-9]\{4\}-[0-9][0-9]-[0-9][0-9]\)$/\1/p' SHA256SUMS.signed)
  [ "$(printf 'anytime signature 1\nsha256 %s\nexpires %s' "$(sha256sum <SHA256SUMS | cut -c1-64)" "$expires")" = \
    "$(cat SHA256SUMS.signed)" ] || die "SHA256SUMS is not what was signed: copy the directory again, or $remedy"
  is_signed "$expires" && return 0
  is_signed 9999-12-31 || die "the signature of this directory is by none of the keys in $keys ($said): $remedy"
  die "the signature of this directory expired on $expires: have it signed again (and see that the date is right: $(date))"
}

is_signed() { # until the day $1
  signers=$(mktemp)
  until=$(printf '%s' "$1" | tr -d -)
  grep -v '^[[:space:]]*\(#\|$\)' "$keys" | sed "s/^/anytime valid-before=\"$until\",namespaces=\"anytime\" /" >"$signers"
  code=0
  said=$(TZ=UTC ssh-keygen -Y verify -f "$signers" -I anytime -n anytime -s SHA256SUMS.signed.sig \
    <SHA256SUMS.signed 2>&1) || code=$?
  rm -f "$signers"
  return "$code"
}

check_device() {
  [ "$(uname -m)" = "$ARCHITECTURE" ] ||
    die "this is $(uname -m), the directory was made for $TARGET ($ARCHITECTURE): 'anytime deploy --target' for this device"
  python='' seen=''
  for name in "python$PYTHON" python3; do
    version=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    seen="$seen $name is $version"
    [ "$version" = "$PYTHON" ] && python=$name && break
  done
  [ -n "$python" ] || die "this device has no Python $PYTHON, which the wheels are for (${seen:- no python3 at all} ):" \
    "'anytime deploy --python' with the version that it has, or install python$PYTHON"
  "$python" -c 'import venv' 2>/dev/null || die "$python has no module venv: install python$PYTHON-venv"
  [ -n "$root" ] || [ "$(id -u)" = 0 ] || die "only root installs to /opt and /etc: run it with sudo"
}

build() {
  [ ! -e "$new/answered" ] || return 0
  rm -rf "$new"
  step "installing $id"
  mkdir -p "$new"
  cp -R bundle anytime.service anytime.yaml question.json uninstall.sh "$new"
  system=''
  [ "$ENGINE" != tensorrt ] || system=--system-site-packages # where JetPack has TensorRT's Python module
  "$python" -m venv --without-pip $system "$new/venv"
  "$new/venv/bin/python" "$(echo wheels/pip-*.whl)/pip" install --quiet --disable-pip-version-check --no-cache-dir \
    --ignore-installed --no-index --find-links wheels "$REQUIREMENT" ||
    die "the wheels here do not fit this device: run 'anytime deploy' again for its Python and architecture" \
      "($("$python" --version), $(uname -m)), with the wheels that are missing in --wheels"
  chmod -R a+rX "$new"
}

# What the service would do, with the parameters that it would have.
try() {
  if [ "$ENGINE" = tensorrt ]; then
    step "building this machine's plan"
    XDG_STATE_HOME=$new/state "$new/venv/bin/anytime" export "$new/bundle" --engine tensorrt ||
      die "version $id has no plan on this device; why is said above"
  fi
  step 'measuring this machine, if that was not done'
  XDG_STATE_HOME=$new/state "$new/venv/bin/anytime" serve --calibrate $quick --params "$params" --bundle "$new/bundle" ||
    die "version $id does not do on this device; what to change is said above ($params has its parameters)"
  step 'asking it'
  decision=$(XDG_STATE_HOME=$new/state "$new/venv/bin/anytime" node --json --params "$params" --bundle "$new/bundle" \
    <question.json) || die "version $id does not answer; why is said above"
  case $decision in
  *'"source":"fallback"'* | '') die "version $id has no answer of its own: ${decision:-it printed nothing}" ;;
  *'"answer":'*) step "$decision" ;;
  *) die "version $id answers what nobody can read: $decision" ;;
  esac
  chmod -R a+rX "$new"
  sync
  : >"$new/answered"
}

use() { # the version $1 from now on; link and unit are each replaced at once
  ln -sfn "versions/$1" "$base/current.new"
  mv -T "$base/current.new" "$base/current"
  cp "$base/versions/$1/anytime.service" "$units/.anytime.service.new"
  mv "$units/.anytime.service.new" "$units/anytime.service"
}

configure() {
  mkdir -p "$root/etc/anytime" "$units"
  if [ -e "$root/etc/anytime/anytime.yaml" ]; then
    cmp -s anytime.yaml "$root/etc/anytime/anytime.yaml" || step "kept $root/etc/anytime/anytime.yaml as it is"
  else
    cp anytime.yaml "$root/etc/anytime/.anytime.yaml.new"
    configured=$root/etc/anytime/anytime.yaml
    mv "$root/etc/anytime/.anytime.yaml.new" "$configured"
  fi
}

has_systemd() {
  [ -d "$root/run/systemd/system" ] && command -v systemctl >/dev/null
}

start() {
  has_systemd || { step 'no systemd runs here: the service starts when the device does' && enable_offline && return 0; }
  if [ "$old" = "$id" ] && [ -z "$(others)" ] && systemctl is-active --quiet anytime; then
    step 'the service runs already'
    return 0
  fi
  systemctl daemon-reload && systemctl enable --quiet anytime && systemctl restart anytime || return 1
  case $(systemctl show --property=StatusText --value anytime) in
  answering*) return 0 ;;
  *) return 1 ;;
  esac
}

enable_offline() {
  mkdir -p "$units/multi-user.target.wants"
  ln -sfn ../anytime.service "$units/multi-user.target.wants/anytime.service"
}

others() {
  find "$base/versions" -mindepth 1 -maxdepth 1 ! -name "$id"
}

# However this ends: no half of a version is left, and a version that did not start gives way to the one before.
leave() {
  code=$?
  trap - EXIT
  [ -e "$new/answered" ] || rm -rf "$new"
  if [ -n "$switched" ]; then
    printf 'error: version %s did not start (journalctl -u anytime)\n' "$id" >&2
    roll_back
  fi
  [ "$code" -eq 0 ] || printf 'nothing was changed%s\n' "${old:+: $old is used as before}" >&2
  exit "$code"
}

roll_back() {
  if [ -n "$old" ]; then
    use "$old"
    ! has_systemd || { systemctl daemon-reload && systemctl restart anytime; } || true
    return
  fi
  ! has_systemd || systemctl disable --quiet --now anytime || true
  rm -f "$base/current" "$units/anytime.service" ${configured:+"$configured"}
}

main() {
  root='' quick=''
  while [ $# -gt 0 ]; do
    case $1 in
    --root) [ $# -ge 2 ] && [ -d "$2" ] || die '--root takes a directory that is there'; root=$(cd "$2" && pwd); shift 2 ;;
    --quick) quick=--quick; shift ;;
    *) die "$1 is unknown: install.sh [--root DIR] [--quick]" ;;
    esac
  done
  [ "$root" != / ] || root=''
  cd "$(dirname "$0")"
  check_copy
  check_signature
  . ./deploy.env
  check_device
  base=$root/opt/anytime units=$root/etc/systemd/system
  params=$root/etc/anytime/anytime.yaml
  [ -e "$params" ] || params=anytime.yaml
  id=$VERSION-$(sha256sum SHA256SUMS | cut -c1-12)
  new=$base/versions/$id
  mkdir -p "$base/versions"
  exec 9>"$base/lock"
  flock -n 9 || die 'another installation is under way: wait for it'
  old=$(readlink "$base/current" 2>/dev/null | sed 's|^versions/||') || old=''
  switched='' configured=''
  trap leave EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  build
  try
  configure
  switched=yes
  use "$id"
  start
  switched=''
  sync # the link, before what it led to is gone
  others | while read -r version; do rm -rf "$version"; done
  step "$id is installed and answers"
}

main "$@"
exit 0
