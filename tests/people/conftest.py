from cluster import (
    base_url,
    hub_host,
    login,
    passwords,
    proxy_host,
    qmaster_host,
    exec1_host,
    exec2_host,
)  # noqa
