#!/bin/bash
# Prepares this machine, and reports what is missing before anything starts.
#   setup.sh check PREFIX PORT   port, memory and disk for the local cluster of that name
#   setup.sh inotify CLUSTERS    inotify instances for this many local clusters
#   setup.sh python              the tools of the project, in .venv
#   setup.sh containers          the programs the local cluster needs
#   setup.sh browser             the browser the tests use
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m%s\033[0m\n' "$*"; }
fail() { printf 'Cannot go on: %s\n' "$*" >&2; exit 1; }

python=${GRIDHUB_PYTHON:-/usr/bin/python3}

install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  say "Installing from the distribution: ${missing[*]}"
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "these packages are missing and there is no sudo: ${missing[*]}. Install them as root."
    root=(sudo)
  fi
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

setup_python() {
  command -v apt-get >/dev/null || fail "this needs Debian 12 or 13, or Ubuntu 24.04 or newer (no apt-get here)."
  install_packages python3-venv
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is $("$python" -V); Python 3.11 or newer is needed. Set GRIDHUB_PYTHON to one."
  # If Python or the lock file has changed, .venv is made again.
  local lock
  lock=$({ "$python" -V; cat requirements/dev.txt; } | sha256sum | cut -c1-16)
  [ "$(cat .venv/.lock 2>/dev/null)" = "$lock" ] && return
  say "Installing the tools of the project into .venv"
  rm -rf .venv
  "$python" -m venv .venv
  .venv/bin/pip install --quiet --no-input --disable-pip-version-check --no-compile --only-binary :all: --require-hashes -r requirements/dev.txt
  echo "$lock" > .venv/.lock
}

# Checks the machine before anything is installed or started; PREFIX and PORT are the cluster's.
check_machine() {
  local prefix=$1 port=$2 memory disk
  [[ $port =~ ^[0-9]{1,5}$ && $port -ge 1 && $port -le 65535 ]] || fail "GRIDHUB_PORT is '$port'; it is a port from 1 to 65535."
  # If the cluster is already up, it uses the port and the memory itself.
  if [ "$(podman port "$prefix-proxy" 443 2>/dev/null)" != "127.0.0.1:$port" ] && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    fail "port $port of 127.0.0.1 is taken, and the cluster $prefix needs it. Free it; the demo can also take another: make demo GRIDHUB_PORT=9443"
  fi
  podman container exists "$prefix-proxy" 2>/dev/null && return
  check_inotify 1
  memory=$(awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
  [ "$memory" -ge 3000 ] || fail "the local cluster needs 3000 MB of free memory; this machine has $memory MB."
  disk=$(df --output=avail -m "$HOME" | tail -1)
  [ "$disk" -ge 6000 ] || fail "the local cluster needs 6000 MB of free disk below $HOME; there are $((disk)) MB."
}

# systemd in a container uses seven inotify instances (five containers: 35, measured). If the kernel has none left,
# systemd does not start and gives no reason. Containers left over from an earlier run are about to be removed, so
# their instances do not count.
check_inotify() {
  local needed=$((38 * $1)) limit used
  limit=$(cat /proc/sys/fs/inotify/max_user_instances 2>/dev/null) || return 0
  used=$({ find /proc/[0-9]*/fd -lname anon_inode:inotify 2>/dev/null || true; } | cut -d/ -f3 |
    { xargs -r -I{} grep -L libpod /proc/{}/cgroup 2>/dev/null || true; } | wc -l)
  [ $((limit - used)) -ge "$needed" ] ||
    fail "the containers need $needed inotify instances, and this machine has $((limit - used)) left of $limit. As root: sysctl fs.inotify.max_user_instances=$((used + 2 * needed))"
}

setup_containers() {
  local rootless=()
  [ "$(id -u)" -eq 0 ] || rootless=(uidmap slirp4netns fuse-overlayfs dbus-user-session)
  install_packages podman runc netavark iptables mmdebstrap "${rootless[@]}"
}

setup_browser() {
  [ -z "${GRIDHUB_CHROMIUM:-}" ] || return 0
  install_packages chromium fonts-dejavu-core ||
    fail "no package chromium is available; set GRIDHUB_CHROMIUM to the path of a Chromium or Chrome."
}

case "${1:-}" in
  python) setup_python ;;
  check) check_machine "$2" "$3" ;;
  inotify) check_inotify "$2" ;;
  containers) setup_containers ;;
  browser) setup_browser ;;
  *) sed -n '2,7s/^# //p' "$0"; exit 2 ;;
esac
