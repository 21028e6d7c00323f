# SPDX-License-Identifier: BSD-3-Clause
"""Which settings of JupyterHub a site may use in ``jupyterhub_extra_config``.

Every setting of the hub's classes is in exactly one of the three tables below; a test compares the
tables with the classes (JupyterHub 6.1.1, batchspawner 1.3.0). So a setting of a later JupyterHub
is refused until somebody has found out whether it takes effect here.

This module imports nothing of JupyterHub: ``playbooks/validate.yml`` uses it on a machine without
the hub's packages.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: The names under which each kind of setting may be set: the classes that the hub uses.
CLASSES = {
    "spawner": (
        "SGESpawner",
        "ShownSpawner",
        "EndingSpawner",
        "ClusterSpawner",
        "BatchSpawnerBase",
        "Spawner",
    ),
    "authenticator": (
        "ClusterAuthenticator",
        "AccountRules",
        "PAMAuthenticator",
        "LocalAuthenticator",
        "Authenticator",
    ),
    "openid": ("ClusterOpenID", "AccountRules", "GenericOAuthenticator", "OAuthenticator"),
    "proxy": ("WatchedProxy", "ConfigurableHTTPProxy", "Proxy"),
    "hub": ("GridHub", "JupyterHub", "Application"),
}

#: Settings that take effect as JupyterHub documents them.
_WORKING = {
    "spawner": """
        auth_state_hook disable_user_config http_timeout hub_connect_url long_interval
        oauth_client_allowed_scopes oauth_roles poll_interval poll_jitter post_stop_hook
        pre_spawn_hook server_token_scopes short_interval stop_timeout wait_limit
        """,
    "authenticator": """
        auth_refresh_age auth_refresh_strict blocked_users enable_auth_state
        encoding otp_prompt post_auth_hook reconcile_auth_state_hook
        refresh_pre_spawn refresh_pre_stop request_otp username_map username_pattern
        """,
    "openid": """
        auth_refresh_age auth_refresh_strict auto_login auto_login_oauth2_authorize basic_auth
        blocked_users enable_pkce encoding extra_authorize_params post_auth_hook refresh_pre_spawn
        refresh_pre_stop token_params userdata_params userdata_token_method username_map
        username_pattern
        """,
    "proxy": "concurrency extra_routes watch_interval",
    "hub": """
        active_server_limit active_user_window activity_resolution
        allow_existing_invalid_named_servers answer_yes api_page_default_limit
        api_page_max_limit api_tokens authenticate_prometheus authenticator_class
        cookie_max_age_days cookie_secret cookie_secret_file custom_scopes data_files_path db_kwargs
        debug_db default_server_name default_url extra_handlers extra_log_file
        extra_log_handlers extra_user_scopes forwarded_host_header init_spawners_timeout
        jinja_environment_options last_activity_interval load_groups log_datefmt log_format
        log_level logging_config logo_file oauth_require_pkce oauth_token_expires_in pid_file
        redirect_to_server service_check_interval service_tokens shutdown_on_logout subdomain_hook
        token_expires_in_max_seconds trust_user_provided_tokens trusted_downstream_ips upgrade_db
        use_legacy_stopped_server_status_code user_redirect_hook
        """,
}

#: The settings of each kind that take effect.
WORKING = {kind: frozenset(names.split()) for kind, names in _WORKING.items()}

#: Settings to which a site may add values, but whose values from GridHub must stay; and how to add.
ADDABLE = {
    "hub": {
        "load_roles": "c.JupyterHub.load_roles.append({…})",
        "services": "c.JupyterHub.services.append({…})",
        "template_paths": "c.JupyterHub.template_paths.insert(0, …)",
        "template_vars": "c.JupyterHub.template_vars.update({…})",
        "tornado_settings": "c.JupyterHub.tornado_settings.update({…})",
    }
}

_MENU = "of jupyterhub_resource_menu (docs/menu.md)"
_SCRIPT = "the broker submits every session with the same job script and fixed arguments"
_QSUB = "Set jupyterhub_qsub_arguments, or add an item to jupyterhub_resource_menu (docs/menu.md)"
_PROLOGUE = "Set jupyterhub_job_prologue"
_SERVER = (
    "the job script starts every session's server with fixed arguments. Put settings of Jupyter"
    " Server into /etc/jupyter on the workers"
)
_PROXY = "the proxy has a unit of its own (role proxy), and the hub does not start it"
_ADDRESS = "the role sets the addresses of hub and proxy for both. Set"
_TLS = "all connections inside the cluster use certificates that the role makes"
_CERTIFICATE = (
    "nginx has the certificate for browsers. Set proxy_tls_certificate and"
    " proxy_tls_certificate_key"
)
_OLD = "JupyterHub itself no longer uses it"
_COMMAND = "JupyterHub reads it from the command line only"
_WHO = (
    "the broker checks who may have sessions too. Set jupyterhub_allowed_users or"
    " jupyterhub_allowed_groups"
)
_ADMINISTRATORS = (
    "the role names the administrators. Set jupyterhub_admin_users and jupyterhub_admin_access"
)
_UNPRIVILEGED = "the hub may not create accounts. Create them as for the cluster"
_NO_ROLES = "PAM reports no groups or roles, so nobody could log in. Use c.JupyterHub.load_roles"
_TIMES = "GridHub's own limit applies"
_NO_TOKENS = "the hub keeps no token of the provider, and asks it only when a person logs in"
_DISCOVERED = (
    "the hub reads the provider's addresses from the provider. Set jupyterhub_openid_issuer"
)
_NO_ACCOUNTS_AT_START = "the hub looks for no account when it starts"
_CLAIM_GROUPS = (
    "the groups of a claim only decide who may log in. Set jupyterhub_openid_groups_claim and"
    " jupyterhub_openid_allowed_groups"
)
_PAM_SERVICE = "the role also writes the PAM service. Set jupyterhub_pam_service"


def _all(names: str, why: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), why)


#: Settings that have no effect here, or that would break GridHub: why, and what to use instead.
REFUSED: dict[str, dict[str, str]] = {
    "spawner": {
        "notebook_dir": "the file browser's folder is a rule of the session. Set"
        " jupyterhub_root_folders",
        "default_url": "people choose the interface in the form. Set an item of"
        f" kind interface {_MENU}",
        **_all("args cmd batchspawner_singleuser_cmd debug", _SERVER),
        **_all(
            "environment env_keep req_keepvars_extra",
            "the broker passes only a fixed list of variables to a session, because others could"
            " run code as the person. Set them in jupyterhub_job_prologue",
        ),
        **_all(
            "mem_limit mem_guarantee req_memory",
            f"Grid Engine limits the memory of sessions. Set an item of kind memory {_MENU}",
        ),
        **_all(
            "cpu_limit cpu_guarantee req_nprocs",
            f"Grid Engine counts the CPU cores of sessions. Set an item of kind slots {_MENU}",
        ),
        "req_ngpus": f"{_SCRIPT}. Set an item of kind count {_MENU}",
        "req_runtime": f"{_SCRIPT}. Set an item of kind run_time {_MENU}",
        **_all("req_queue req_partition", f"{_SCRIPT}. {_QSUB}"),
        **_all("req_account req_host req_options", f"{_SCRIPT}. {_QSUB}"),
        "req_prologue": f"{_SCRIPT}. {_PROLOGUE}",
        "req_epilogue": f"{_SCRIPT}. Set the epilog of the queue in Grid Engine (queue_conf(5))",
        **_all(
            "batch_script batch_submit_cmd batch_query_cmd batch_cancel_cmd exec_prefix",
            f"{_SCRIPT}. Set jupyterhub_qsub_arguments or jupyterhub_job_prologue",
        ),
        **_all("ip port", "the session's starter binds a free port. Set jupyterhub_session_ports"),
        **_all(
            "options_form options_from_form apply_user_options",
            "the form comes from the menu, and so do its checks. Set jupyterhub_resource_menu"
            " (docs/menu.md)",
        ),
        "group_overrides": "people's groups select what the menu offers. Set groups in"
        f" an item {_MENU}",
        "start_timeout": f"{_TIMES}. Set jupyterhub_start_timeout",
        "startup_poll_interval": f"{_TIMES}. Set c.SGESpawner.short_interval",
        "consecutive_failure_limit": "the hub must not exit because sessions fail to start: that"
        " would take away everyone's pages",
        "progress_ready_hook": "the page opens the session as soon as it is ready, and shows"
        " no message",
        **_all("ssl_alt_names ssl_alt_names_include_local", _TLS),
        **_all(
            "menu_file broker_socket", "the broker uses the same file; the role sets it for both"
        ),
        "session_ports": "the broker uses them too. Set jupyterhub_session_ports",
        "sge_root": "the broker uses it too. Set sge_common_root",
        "sge_cell": "the broker uses it too. Set sge_common_cell",
        "sge_bin_dir": "the broker uses it too. Set sge_common_bin_dir",
        "sge_dialect": "the role sets it. Set sge_common_dialect",
        "site_arguments": "the broker uses them too. Set jupyterhub_qsub_arguments",
        "sge_ports": "the broker uses them too. Set sge_common_ports",
        **_all("sge_timeout broker_timeout", "the broker uses it too. Set jupyterhub_sge_timeout"),
        "session_path": "the role sets it. Set sge_common_session_path",
        "accounting_file": "the role sets it. Set jupyterhub_accounting_file",
    },
    "authenticator": {
        **_all(
            "allowed_users allowed_groups allow_all allow_existing_users any_allow_config", _WHO
        ),
        **_all("whitelist group_whitelist", _WHO),
        **_all("admin_users admin_groups", _ADMINISTRATORS),
        **_all("create_system_users add_user_cmd uids", _UNPRIVILEGED),
        **_all("manage_groups manage_roles reset_managed_roles_on_startup", _NO_ROLES),
        **_all(
            "auto_login auto_login_oauth2_authorize",
            "PAM needs the login page. Set c.JupyterHub.authenticator_class to another class for a"
            " login elsewhere",
        ),
        "pam_normalize_username": "a person's name is always the account's own name",
        "delete_invalid_users": _NO_ACCOUNTS_AT_START,
        "service": _PAM_SERVICE,
        "check_account": "GridHub always asks PAM whether an account is open",
        "open_sessions": "the PAM session would be on the hub's host, not on the worker",
        "executor_threads": "GridHub checks passwords and accounts in threads of its own",
    },
    "openid": {
        **_all(
            "allowed_users allowed_groups allow_all allow_existing_users any_allow_config"
            " allowed_scopes whitelist",
            _WHO,
        ),
        **_all("admin_users admin_groups", _ADMINISTRATORS),
        **_all(
            "manage_groups manage_roles reset_managed_roles_on_startup auth_state_groups_key"
            " claim_groups_key",
            f"{_CLAIM_GROUPS}. Use c.JupyterHub.load_roles for roles",
        ),
        **_all("groups_claim allowed_claim_groups", _CLAIM_GROUPS),
        **_all(
            "enable_auth_state modify_auth_state_hook reconcile_auth_state_hook refresh_user_hook",
            _NO_TOKENS,
        ),
        **_all("request_otp otp_prompt", "people type passwords and codes at the provider only"),
        "delete_invalid_users": _NO_ACCOUNTS_AT_START,
        "service": _PAM_SERVICE,
        **_all("authorize_url token_url userdata_url", _DISCOVERED),
        "issuer": "the role sets it. Set jupyterhub_openid_issuer",
        "client_id": "the role sets it. Set jupyterhub_openid_client_id",
        **_all(
            "client_secret client_secret_file",
            "the role writes the secret into a file. Set jupyterhub_openid_client_secret",
        ),
        "login_service": "the role sets it. Set jupyterhub_openid_name",
        "scope": "the role sets it. Set jupyterhub_openid_scopes",
        **_all("username_claim username_key", "the role sets it. Set jupyterhub_openid_claim"),
        "account_pattern": "the role sets it. Set jupyterhub_openid_pattern",
        "userdata_from_id_token": "the role sets it. Set jupyterhub_openid_claims_from",
        "check_again_hours": "the role sets it. Set jupyterhub_openid_check_again_hours",
        **_all(
            "end_session logout_redirect_url",
            "the hub finds out where people log out. Set jupyterhub_openid_logout",
        ),
        "oauth_callback_url": f"{_ADDRESS} jupyterhub_public_url",
        **_all(
            "validate_server_cert tls_verify http_request_kwargs ca_file",
            "the provider's certificate is always checked. Set jupyterhub_openid_ca",
        ),
        "extra_params": "it is the older name of token_params. Set c.ClusterOpenID.token_params",
        "custom_403_message": "each refusal has its own sentence. Set jupyterhub_words",
    },
    "proxy": {
        **_all("command command_umask debug log_level pid_file should_start", _PROXY),
        "api_url": f"{_ADDRESS} jupyterhub_proxy_api_url",
        "auth_token": "the role makes the token for hub and proxy",
        "check_running_interval": f"{_PROXY}. Set c.WatchedProxy.watch_interval",
    },
    "hub": {
        "spawner_class": "GridHub is this class: without it, no session is a job of Grid Engine",
        "proxy_class": "without this class, the hub does not find out that the proxy has lost"
        " routes",
        "concurrent_spawn_limit": "sessions that wait in the queue would count. Set"
        " c.JupyterHub.active_server_limit, or a quota in Grid Engine",
        "implicit_spawn_seconds": "a link or a visit never starts a session: people choose first",
        **_all(
            "cleanup_servers cleanup_proxy",
            "a restart of the hub must not end sessions or lose their routes",
        ),
        **_all(
            "allow_named_servers named_server_limit_per_user",
            "the pages show the number too. Set jupyterhub_named_servers",
        ),
        **_all("admin_access admin_users", _ADMINISTRATORS),
        "public_url": f"{_ADDRESS} jupyterhub_public_url",
        **_all("bind_url ip port base_url", f"{_ADDRESS} jupyterhub_public_url"),
        **_all(
            "hub_bind_url hub_ip hub_port hub_socket_mode hub_routespec",
            f"{_ADDRESS} jupyterhub_bind_address and jupyterhub_port",
        ),
        **_all(
            "hub_connect_url hub_connect_ip hub_connect_port",
            f"{_ADDRESS} jupyterhub_connect_host and jupyterhub_port",
        ),
        **_all(
            "internal_ssl internal_certs_location generate_certs recreate_internal_certs"
            " trusted_alt_names external_ssl_authorities",
            _TLS,
        ),
        **_all("ssl_cert ssl_key", _CERTIFICATE),
        **_all(
            "subdomain_host cookie_host_prefix_enabled",
            "nginx needs it too. Set jupyterhub_user_subdomains",
        ),
        "db_url": "other programs read it too, and moving to another database needs"
        " playbooks/move_database.yml. Set jupyterhub_database_url",
        "reset_db": "the hub would forget all sessions at each start",
        **_all("config_file generate_config show_config show_config_json", _COMMAND),
        **_all(
            "confirm_no_ssl debug_proxy proxy_api_ip proxy_api_port proxy_auth_token"
            " proxy_check_interval proxy_cmd",
            _OLD,
        ),
    },
}


def kind_of(section: str) -> str:
    """Return the kind of a class's settings; empty if the hub does not use the class."""
    return next((kind for kind, names in CLASSES.items() if section in names), "")


def known(kind: str) -> set[str]:
    """Return the names of all settings of a kind."""
    return {*WORKING[kind], *ADDABLE.get(kind, ()), *REFUSED[kind]}


def is_classified(kind: str, name: str) -> bool:
    """Return whether somebody has found out whether a setting takes effect here."""
    return name in known(kind)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a question with the most similar of ``names``; empty if none is similar."""
    found = difflib.get_close_matches(name, sorted(names), 1, 0.7)
    return f" Did you mean {found[0]}?" if found else ""


def objection(section: str, name: str, kind: str = "") -> str:
    """Return why a setting may not be set at all; empty if it may, or if the class is not ours.

    :param kind: the kind of the class that reads it, if it is known.
    """
    kind = kind or kind_of(section)
    if not kind:
        return ""
    if why := REFUSED[kind].get(name):
        return f"{why}."
    if not is_classified(kind, name):
        return f"GridHub does not know this setting.{did_you_mean(name, known(kind))}"
    return ""


def sentence(section: str, name: str, why: str) -> str:
    """Return the message about a setting that cannot be used."""
    return f"jupyterhub_extra_config cannot set c.{section}.{name}: {why}"
