"""How the site's public address is checked, and how the role ``proxy`` uses it."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import yaml
from jinja2 import Environment

from folders import ROOT
from gridhub.site.inventory import address_problems

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from ansible.plugins.filter import core, urlsplit


@pytest.fixture(scope="module")
def environment() -> Environment:
    """Return an environment that evaluates expressions as Ansible does."""
    environment = Environment(autoescape=False)
    environment.filters |= core.FilterModule().filters() | urlsplit.FilterModule().filters()
    environment.tests["match"] = lambda text, pattern: re.match(pattern, text) is not None
    return environment


def objections(url: str, subdomains: object = False) -> list[str]:
    return list(address_problems(url, subdomains))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://jupyter.example.org/",
        "https://jupyter.example.org",
        "https://Jupyter.example.org:8443/",
        "https://192.0.2.1/",
        "https://[2001:db8::1]:8443/",
        "https://localhost/",
    ],
)
def test_an_address_that_people_can_type_is_accepted(url: str) -> None:
    assert objections(url) == []


@pytest.mark.parametrize(
    "url",
    [
        "jupyter.example.org",
        "http://jupyter.example.org/",
        "https://",
        "https:///hub",
        "https://ann@jupyter.example.org/",
        "https://jupyter.example.org/?x=1",
        "https://jupyter.example.org/#x",
        "https://jupyter.example.org; return 200/",
        "https://jupyter_example.org:x/",
    ],
)
def test_anything_else_is_refused_with_its_value(url: str) -> None:
    (objection,) = objections(url)
    assert f"jupyterhub_public_url is '{url}'" in objection


@pytest.mark.parametrize(
    "url",
    [
        "https://jupyter.example.org/",
        "https://hub-2.jupyter.example.org:8443/",
        "https://jupyter.example.org:4430/",
    ],
)
@pytest.mark.parametrize("wanted", [True, "true", "yes"])
def test_people_can_have_host_names_below_a_name(url: str, wanted: object) -> None:
    assert objections(url, wanted) == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://localhost/",
        "https://192.0.2.1/",
        "https://[2001:db8::1]/",
        "https://Jupyter.example.org/",
        "https://jupyter.example.org:443/",
        "https://-x.example.org/",
        "https://jupyter.example.org./",
        "https://jupyter.example.org/jupyter/",
    ],
)
def test_people_cannot_have_host_names_below_anything_else(url: str) -> None:
    (objection,) = objections(url, True)
    assert f"jupyterhub_public_url is '{url}'" in objection
    assert "docs/administrators/addresses.md" in objection
    assert objections(url, False) == []


def proxy_variables(environment: Environment, **site: object) -> dict[str, Any]:
    """Return the internal variables that the role ``proxy`` computes from a site's variables."""
    text = (ROOT / "roles/proxy/vars/main.yml").read_text(encoding="utf-8")
    known: dict[str, Any] = {
        "proxy_server_name": "web",
        "inventory_hostname": "web",
        "ansible_facts": {"hostname": "web"},
        "proxy_user_subdomains": False,
        **site,
    }
    for name, value in yaml.safe_load(text).items():
        if name.startswith(("__proxy_public", "__proxy_asked", "__proxy_certificate_names")):
            expression = re.sub(r"^\s*{{|}}\s*$", "", value)
            known[name] = environment.compile_expression(expression)(**known)
    for name in ("__proxy_asked_names", "__proxy_certificate_names"):
        known[name] = list(known[name])
    return known


@pytest.mark.parametrize(
    ("url", "name", "port"),
    [
        ("", "", ""),
        ("https://Jupyter.example.org/hub2/", "jupyter.example.org", ""),
        ("https://jupyter.example.org:443/", "jupyter.example.org", ""),
        ("https://jupyter.example.org:4430", "jupyter.example.org", ":4430"),
        ("https://192.0.2.1:8443/", "192.0.2.1", ":8443"),
        ("https://[2001:db8::1]/", "[2001:db8::1]", ""),
    ],
)
def test_the_proxy_takes_name_and_port_from_the_address(
    environment: Environment, url: str, name: str, port: str
) -> None:
    known = proxy_variables(environment, proxy_public_url=url)
    assert (known["__proxy_public_name"], known["__proxy_public_port"]) == (name, port)
    # Certificates are requested only for names, not for IP addresses.
    assert known["__proxy_asked_names"] == ([name] if "jupyter" in name else [])


def test_a_certificate_has_the_names_that_people_use(environment: Environment) -> None:
    known = proxy_variables(
        environment,
        proxy_public_url="https://jupyter.example.org/",
        proxy_user_subdomains="true",
        proxy_server_name="jupyter.example.org",
    )
    names = ["jupyter.example.org", "*.jupyter.example.org", "web", "localhost"]
    assert known["__proxy_certificate_names"] == names
    assert known["__proxy_asked_names"] == ["jupyter.example.org", "a-person.jupyter.example.org"]
