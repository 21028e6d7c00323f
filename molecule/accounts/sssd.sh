# Lets this host take accounts from the site's directory, as a site does: the distribution's SSSD, and what its packages
# write into nsswitch.conf and into the PAM files.
export DEBIAN_FRONTEND=noninteractive
apt-get install --yes --quiet=2 --no-install-recommends sssd-ldap libnss-sss libpam-sss >/dev/null
umask 077
# SSSD's own times are 5,400 s (entry_cache_timeout), 300 s (memcache_timeout) and 60 s and more (offline_timeout). The
# tests cannot wait for them; what happens when they are over is the same.
cat >/etc/sssd/sssd.conf <<'CONF'
[sssd]
services = nss, pam
domains = example
[nss]
memcache_timeout = 5
entry_negative_timeout = 5
[pam]
[domain/example]
id_provider = ldap
auth_provider = ldap
access_provider = ldap
ldap_uri = ldaps://directory
ldap_search_base = dc=example,dc=org
ldap_tls_cacert = /etc/ssl/certs/directory.pem
ldap_access_order = expire
ldap_account_expire_policy = shadow
cache_credentials = true
entry_cache_timeout = 15
ldap_network_timeout = 2
ldap_opt_timeout = 4
offline_timeout = 5
offline_timeout_max = 5
offline_timeout_random_offset = 0
CONF
systemctl restart sssd
for _ in $(seq 100); do
  getent passwd ann >/dev/null && exit
  sleep 0.2
done
echo "SSSD does not find ann" >&2
exit 1
