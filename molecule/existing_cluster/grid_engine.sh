# grid_engine.sh qmaster|worker|submit: sets up a site's own Grid Engine on this host, by hand: Debian's programs, but
# in /opt/sge, with a cell, ports, spool, queues and rules that our roles know nothing of.
# grid_engine.sh state: prints all that the cluster is configured with.
part=$1
export DEBIAN_FRONTEND=noninteractive SGE_ROOT=/opt/sge SGE_CELL=site SGE_QMASTER_PORT=16444 SGE_EXECD_PORT=16445
bin=$SGE_ROOT/bin/lx-amd64

prepare() {
  apt-get install --yes --quiet=2 --no-install-recommends libhwloc15 libjemalloc2 libmunge2 libssl3 libtirpc3 tcsh >/dev/null
  id sgeadmin >/dev/null 2>&1 || useradd --system --uid 450 --no-create-home sgeadmin
  install -d -o sgeadmin -g sgeadmin /var/spool/sge
}

# Starts a daemon, now and at each boot.
start() {
  cat >"/etc/systemd/system/$1.service" <<UNIT
[Unit]
After=network-online.target remote-fs.target
[Service]
Type=exec
Environment=SGE_ROOT=$SGE_ROOT SGE_CELL=$SGE_CELL SGE_ND=1
Environment=SGE_QMASTER_PORT=$SGE_QMASTER_PORT SGE_EXECD_PORT=$SGE_EXECD_PORT
ExecStart=$bin/$1
KillMode=process
LimitNOFILE=1024:infinity
[Install]
WantedBy=multi-user.target
UNIT
  systemctl enable --quiet --now "$1"
}

wait_for() {
  local deadline=$((SECONDS + 60))
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || { echo "not within a minute: $*" >&2; exit 1; }
    sleep 0.2
  done
}

install_programs() {
  local from=$1/usr/lib/gridengine program
  for package in master exec client common; do
    (cd "$1" && apt-get download --quiet=2 -o APT::Sandbox::User=root "gridengine-$package" && dpkg-deb --extract "gridengine-${package}"_*.deb .)
  done
  mkdir -p $bin $SGE_ROOT/$SGE_CELL/common
  for program in qacct qalter qconf qdel qhold qhost qmod qping qquota qrls qselect qstat qsub \
    sge_execd sge_qmaster sge_shepherd sge_coshepherd spoolinit spooldefaults.bin; do
    install "$from/$program" $bin/
  done
  # Debian's programs look for these in either folder.
  mkdir -p /usr/lib/gridengine $SGE_ROOT/lib/lx-amd64
  install -m 0644 "$from"/*.so /usr/lib/gridengine/
  install -m 0644 "$from"/*.so $SGE_ROOT/lib/lx-amd64/
  cp -r "$1/usr/share/gridengine/util" $SGE_ROOT/
}

make_cell() {
  local common=$SGE_ROOT/$SGE_CELL/common
  cat >$common/bootstrap <<BOOTSTRAP
admin_user         sgeadmin
default_domain     none
ignore_fqdn        true
spooling_method    classic
spooling_lib       libspoolc
spooling_params    $common;/var/spool/sge/qmaster
binary_path        $SGE_ROOT/bin
qmaster_spool_dir  /var/spool/sge/qmaster
security_mode      none
listener_threads   2
worker_threads     2
scheduler_threads  1
BOOTSTRAP
  cat >$common/settings.sh <<SETTINGS
SGE_ROOT=$SGE_ROOT; export SGE_ROOT
SGE_CELL=$SGE_CELL; export SGE_CELL
SGE_QMASTER_PORT=$SGE_QMASTER_PORT; export SGE_QMASTER_PORT
SGE_EXECD_PORT=$SGE_EXECD_PORT; export SGE_EXECD_PORT
PATH=$bin:\$PATH; export PATH
SETTINGS
  hostname >$common/act_qmaster
  # What the site wants of each job, and of each list of jobs.
  echo "-w e -j y -m n" >$common/sge_request
  echo "-s rs -g c" >$common/sge_qstat

  sed -e 's|^execd_spool_dir.*|execd_spool_dir /var/spool/sge|' -e 's|^enforce_project.*|enforce_project true|' \
    -e "s|^jsv_url.*|jsv_url script:$SGE_ROOT/$SGE_CELL/jsv.sh|" \
    -e 's|^qmaster_params.*|qmaster_params jsv_timeout=5|' \
    "$1/usr/share/gridengine/default-configuration" >/tmp/configuration
  chown -R sgeadmin: $SGE_ROOT
  local resources=$1/usr/share/gridengine/util/resources
  local as="runuser -u sgeadmin --"
  $as mkdir -p /var/spool/sge/qmaster
  $as $bin/spoolinit classic libspoolc "$common;/var/spool/sge/qmaster" init
  $as $bin/spooldefaults.bin configuration /tmp/configuration
  $as $bin/spooldefaults.bin complexes "$resources/centry"
  $as $bin/spooldefaults.bin usersets "$resources/usersets"
  $as $bin/spooldefaults.bin managers root sgeadmin
}

# A program of the site that changes requests, refuses some, and talks about it.
write_jsv() {
  cat >$SGE_ROOT/$SGE_CELL/jsv.sh <<'JSV'
#!/bin/bash
# The protocol is in jsv(1).
while read -r word rest; do
  case $word in
    START) slots=1 && echo STARTED ;;
    PARAM) [ "${rest%% *}" != pe_min ] || slots=${rest#* } ;;
    BEGIN)
      echo "LOG INFO Site policy 7: looked at a request for $slots slots"
      if [ "$slots" -gt 3 ]; then
        echo "RESULT STATE REJECT Site policy 4: at most 3 cores. Write to hpc@cluster.example."
      else
        printf '%s\n' "PARAM p -100" "PARAM ac SITE_POLICY=7"
        echo "RESULT STATE CORRECT Site policy 7: priority lowered"
      fi
      ;;
    QUIT) exit ;;
  esac
done
JSV
  chmod 0755 $SGE_ROOT/$SGE_CELL/jsv.sh
}

# add SHOW CREATE ATTRIBUTES: makes an object. With SHOW (such as -sq), qconf's own template has the other attributes.
add() {
  local show=$1 create=$2 attributes=$3 template
  template=$(mktemp)
  [ -z "$show" ] || SGE_SINGLE_LINE=1 $bin/qconf "$show" >"$template"
  while read -r name value; do
    if grep -q "^$name " "$template"; then sed -i "s|^$name .*|$name $value|" "$template"; else echo "$name $value" >>"$template"; fi
  done <<<"$attributes"
  $bin/qconf "$create" "$template" >/dev/null
}

describe_cluster() {
  for host in node1 node2; do
    $bin/qconf -ah $host
    add "" -Ae "hostname $host
load_scaling NONE
complex_values NONE
user_lists NONE
xuser_lists NONE
projects NONE
xprojects NONE
usage_scaling NONE
report_variables NONE"
  done
  $bin/qconf -as jupyter
  $bin/qconf -as head
  $bin/qconf -sc | sed -e '/^#/d' -e '/^h_vmem /d' >/tmp/complexes
  cat >>/tmp/complexes <<COMPLEXES
h_vmem h_vmem MEMORY <= YES YES 1G 0
ngpu ngpu INT <= YES JOB 0 0
licence lic INT <= YES YES 0 0
COMPLEXES
  $bin/qconf -Mc /tmp/complexes >/dev/null
  $bin/qconf -aattr exechost complex_values h_vmem=16G,ngpu=0 node1
  $bin/qconf -aattr exechost complex_values h_vmem=16G,ngpu=2 node2
  add "" -Ahgrp "group_name @compute
hostlist node1 node2"
  add "" -Ap "pe_name shm
slots 999
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
allocation_rule \$pe_slots
control_slaves FALSE
job_is_first_task TRUE
urgency_slots min
accounting_summary FALSE
qsort_args NONE"
  add "" -Au "name web_users
type ACL
fshare 0
oticket 0
entries alice,bob,carol"
  add "" -Aprj "name webui
oticket 0
fshare 0
acl web_users
xacl NONE"
  add "" -Aprj "name production
oticket 0
fshare 0
acl NONE
xacl NONE"
  for queue in web.q prod.q; do
    add "-sq" -Aq "qname $queue
hostlist @compute
slots 4
pe_list shm
shell_start_mode unix_behavior
notify 00:00:20
load_thresholds NONE
s_rt INFINITY
h_rt 24:00:00"
  done
  # One job of the site's own work on a node suspends the sessions there.
  $bin/qconf -rattr queue subordinate_list web.q=1 prod.q
  $bin/qconf -rattr queue projects webui web.q
  $bin/qconf -rattr queue projects production prod.q
}

# qconf fails where there are no objects of a kind, so its failures are a part of what is printed.
show_state() {
  local list show name file
  for show in -sconf -ssconf -sc -sh -ss -sm -so -sconfl -srqsl -stree -scall; do
    echo "== $show"
    $bin/qconf $show 2>&1 || true
  done
  for list in shgrpl:shgrp spl:sp sql:sq sprjl:sprj sul:su sel:se scall:scal sckptl:sckpt; do
    for name in $($bin/qconf "-${list%:*}" 2>/dev/null); do
      echo "== -${list#*:} $name"
      # What a worker reports is no configuration.
      SGE_SINGLE_LINE=1 $bin/qconf "-${list#*:}" "$name" 2>&1 | grep -v -e '^load_values' -e '^processors' || true
    done
  done
  for file in "$SGE_ROOT/$SGE_CELL/common"/*; do
    [ ! -f "$file" ] || [ "${file##*/}" = accounting ] || sha256sum "$file"
  done
}

case $part in
  qmaster)
    prepare
    programs=$(mktemp --directory)
    install_programs "$programs"
    make_cell "$programs"
    write_jsv
    chown -R sgeadmin: $SGE_ROOT
    start sge_qmaster
    wait_for $bin/qconf -sss
    describe_cluster
    show_state >/root/state
    ;;
  worker)
    prepare
    start sge_execd
    ;;
  submit)
    prepare
    # The notebook environment is built here.
    apt-get install --yes --quiet=2 --no-install-recommends python3-venv >/dev/null
    mkdir -p /apps/jupyter
    ;;
  state) show_state ;;
esac
