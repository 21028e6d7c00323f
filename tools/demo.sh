#!/bin/bash
# Brings the demo up or down; `make demo` and `make demo-down` call it after the set-up.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\033[1m%s\033[0m\n' "$*"; }
export GRIDHUB_PORT=${GRIDHUB_PORT:-8443}

# With MONITORING=1, the demo has Prometheus and Alertmanager too.
inventories=(--inventory inventories/demo)
if [ "${MONITORING:-0}" = 1 ]; then
  inventories+=(--inventory inventories/demo_monitoring)
  export GRIDHUB_MONITORING_PORT=${GRIDHUB_MONITORING_PORT:-9090}
fi

up() {
  say "Making the local cluster: five containers with Debian 12 (1 to 2 minutes the first time)"
  ansible-playbook "${inventories[@]}" molecule/shared/create.yml
  say "Deploying Grid Engine, the workers, the proxy and the hub"
  ansible-playbook "${inventories[@]}" playbooks/site.yml
  cat <<TEXT

The hub is ready:  https://127.0.0.1:$GRIDHUB_PORT
  (its certificate is self-signed: the browser asks once)
${GRIDHUB_MONITORING_PORT:+
Prometheus         http://127.0.0.1:$GRIDHUB_MONITORING_PORT  (docs/watching.md)
}
Log in as          $(python - <<'PYTHON'
import yaml
users = yaml.safe_load(open("inventories/demo/group_vars/all/users.yml"))["demo_users"]
print("\n                   ".join(f"{u['name']:<6} password {u['password']:<12} {'may ask for GPUs (simulated)' if 'gpu' in u['groups'] else 'may not log in' if not u['groups'] else ''}".rstrip() for u in users))
PYTHON
)

Look inside        podman exec -it gridhub-qmaster qstat -f -u '*'
                   podman exec -it gridhub-hub journalctl -u jupyterhub -f
Stop and remove    make demo-down
TEXT
}

# Copies a developer's changes below files/ into the releases in use, without a deployment.
code() {
  local host release
  for host in hub exec1 exec2; do
    release=/opt/jupyterhub/current
    [ "$host" = hub ] || release=/opt/jupyterhub-session/current
    tar -C files --exclude=__pycache__ -c . | podman exec -i "gridhub-$host" tar --no-same-owner -C "$release" -x
  done
  podman exec gridhub-hub systemctl restart jupyterhub
  say "The hub now runs the code in files/, and so will new sessions."
}

down() {
  ansible-playbook --inventory inventories/demo molecule/shared/destroy.yml
  # Removes the image as well, unless a test run is using it.
  podman image ls --quiet --filter reference='localhost/gridhub-*' | xargs --no-run-if-empty podman rmi 2>/dev/null ||
    say "The image stays: other containers use it."
}

"$1"
