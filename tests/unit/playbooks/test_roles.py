"""Each role declares, names and documents its variables, tasks and tags consistently."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from folders import ROOT

ROLES = ROOT / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir())


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def options(role: str) -> dict[str, dict[str, Any]]:
    """Return the variables that each entry point of a role declares."""
    declared = load(ROLES / role / "meta/argument_specs.yml")["argument_specs"]
    return {entry: spec.get("options", {}) for entry, spec in declared.items()}


#: Entry points that only one playbook calls. The playbook also has the entry point's defaults.
OF_A_PLAYBOOK = {
    "announcement": "announce.yml",
    "drain": "drain.yml",
    "worker_window": "worker_window.yml",
}


@pytest.mark.parametrize("role", NAMES)
def test_the_declared_variables_of_a_role_agree_with_its_defaults(
    role: str,
) -> None:
    declared: dict[str, object] = {}
    for entry, each in options(role).items():
        if entry not in OF_A_PLAYBOOK:
            required = {name for name, option in each.items() if option.get("required")}
            declared |= {
                n: option.get("default") for n, option in each.items() if n not in required
            }
    assert declared == load(ROLES / role / "defaults/main.yml")


@pytest.mark.parametrize("entry", OF_A_PLAYBOOK)
def test_the_declared_variables_of_an_entry_point_agree_with_its_playbooks_defaults(
    entry: str,
) -> None:
    [play] = load(ROOT / "playbooks" / OF_A_PLAYBOOK[entry])
    declared = options("jupyterhub")[entry]
    assert {name: option["default"] for name, option in declared.items()} == play["vars"]
    assert all(option["description"] and option["type"] for option in declared.values())


@pytest.mark.parametrize("role", NAMES)
def test_a_roles_variables_start_with_its_name(role: str) -> None:
    for name in load(ROLES / role / "defaults/main.yml"):
        assert name.startswith(f"{role}_")
    for file in (ROLES / role / "vars").glob("*.yml"):
        for name in load(file):
            assert name.startswith(f"__{role}_")


@pytest.mark.parametrize("role", NAMES)
def test_a_roles_readme_names_its_variables(role: str) -> None:
    readme = (ROLES / role / "README.md").read_text(encoding="utf-8")
    missing = [
        name for name in load(ROLES / role / "defaults/main.yml") if f"`{name}`" not in readme
    ]
    assert missing == [], f"{role}/README.md"


#: No task may name a distribution, and only tasks of the role `distribution` may name a package
#: manager.
DISTRIBUTIONS = r"alma|amazon|centos|debian|fedora|oracle|red ?hat|rhel|rocky|suse|ubuntu"
PACKAGE_MANAGERS = r"os_family|ansible\.builtin\.(apt|dnf|yum|rpm)"


@pytest.mark.parametrize("role", NAMES)
def test_no_task_names_a_distribution(role: str) -> None:
    pattern = DISTRIBUTIONS if role == "distribution" else f"{DISTRIBUTIONS}|{PACKAGE_MANAGERS}"
    for folder in ("tasks", "handlers", "templates"):
        for file in (ROLES / role / folder).glob("*"):
            found = re.search(pattern, file.read_text(encoding="utf-8"), re.IGNORECASE)
            assert found is None, f"{file}: {found}"


@pytest.mark.parametrize("role", NAMES)
def test_all_distributions_of_a_role_set_the_same_variables_and_only_they_set_them(
    role: str,
) -> None:
    files = sorted((ROLES / role / "vars").glob("*.yml"))
    everywhere = {name for file in files if file.stem == "main" for name in load(file)}
    names = [set(load(file)) for file in files if file.stem != "main"]
    assert all(each == names[0] and not each & everywhere for each in names)
    tasks = "".join(file.read_text("utf-8") for file in (ROLES / role / "tasks").glob("*.yml"))
    assert bool(names) is (f"distribution_role: {role}\n" in tasks)


def test_no_role_and_no_playbook_needs_another_collection() -> None:
    """Sites may install ``ansible-core`` alone, which has only ``ansible.builtin``.

    The exception is loaded only for a host in the group database (roles/database/README.md).
    """
    exception = ROLES / "database/tasks/account.yml"
    pattern = re.compile(r"\b(community|containers)\.[a-z]+\.|\bansible\.(posix|netcommon)\.")
    for path in [*ROLES.rglob("*.yml"), *ROLES.rglob("*.j2"), *(ROOT / "playbooks").glob("*.yml")]:
        found = pattern.search(path.read_text(encoding="utf-8"))
        assert (found is None) is (path != exception), f"{path}: {found}"


def own_plugins() -> set[str]:
    """Return the names of the collection's modules and filters."""
    names = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
    for path in (ROOT / "plugins/filter").glob("*.py"):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        names |= set(module.FilterModule().filters())
    return names


def test_own_modules_and_filters_have_their_full_names() -> None:
    """A role of a collection finds them only by their full names."""
    short = re.compile(rf"(\|\s*|^\s+)({'|'.join(sorted(own_plugins()))})(\(|\s|:|$)", re.MULTILINE)
    for path in [*ROLES.rglob("*.yml"), *ROLES.rglob("*.j2"), *(ROOT / "playbooks").glob("*.yml")]:
        found = short.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path}: {found}"


PARTS = {"install", "configure", "service"}

#: Roles whose parts cannot run alone, and why not.
WITHOUT_TAGS = {
    "distribution": "it runs with the tags of the role that imports it",
    "patch": "a worker is drained, maintained and enabled again, or nothing of it",
    "uninstall": "everything is removed, or nothing",
    "validate": "its playbook sets them, because the inventory is checked with any tags",
}


def tagged(role: str, name: str, tags: frozenset[str] = frozenset()) -> Iterator[tuple[str, Any]]:
    """Yield the name of each task in a file, with the tags that select the task."""

    def walk(tasks: list[dict[str, Any]], above: frozenset[str]) -> Iterator[tuple[str, Any]]:
        for task in tasks:
            own = above | set(task.get("tags", ()))
            if "block" in task:
                for part in ("block", "rescue", "always"):
                    yield from walk(task.get(part, []), own)
            elif "ansible.builtin.import_tasks" in task:
                yield from tagged(role, task["ansible.builtin.import_tasks"], own)
            elif "ansible.builtin.include_tasks" in task:
                # The file is always read, and then its tasks are selected by their own tags.
                assert own == {"always"}
                yield from tagged(role, task["ansible.builtin.include_tasks"])
            else:
                # A tag selects an included role's tasks only if the including task applies the tag.
                included = task.get("ansible.builtin.include_role", {"apply": {"tags": own}})
                yield task["name"], own & set(included["apply"]["tags"])

    yield from walk(load(ROLES / role / "tasks" / name), tags)


@pytest.mark.parametrize("role", [name for name in NAMES if name not in WITHOUT_TAGS])
def test_each_task_of_a_role_has_its_tags(role: str) -> None:
    for task, tags in tagged(role, "main.yml"):
        of_a_part = bool(tags & PARTS) and role in tags
        assert of_a_part or "always" in tags, f"{role}: {task}"
    assert all(tags & (PARTS | {"always"}) for _, tags in tagged(role, "main.yml"))


def test_the_tags_are_documented() -> None:
    text = (ROOT / "docs/administrators/playbooks.md").read_text(encoding="utf-8")
    documented = text.partition("## Tags")[2].partition("\n## ")[0]
    for tag in {*PARTS, "menu"}:
        assert f"`{tag}`" in documented


def test_the_command_that_lists_sessions_is_written_once_and_has_no_variables() -> None:
    files = [path for path in ROLES.rglob("*") if path.suffix in (".yml", ".j2")]
    found = [path for path in files if "/sge_sessions.py" in path.read_text(encoding="utf-8")]
    assert found == [ROLES / "jupyterhub/vars/main.yml"]
    command = load(found[0])["__jupyterhub_list_sessions"]
    assert "/opt/jupyterhub/current/sge_sessions.py" in command
    assert "{" not in "".join(command)


def names(tasks: Any) -> Iterator[str]:
    """Yield the names of plays, tasks and handlers."""
    for task in tasks if isinstance(tasks, list) else []:
        yield task["name"]
        for part in ("tasks", "block", "rescue", "always"):
            yield from names(task.get(part))


TASK_FILES = sorted(
    file.relative_to(ROOT)
    for pattern in ("roles/*/tasks/*.yml", "roles/*/handlers/*.yml", "playbooks/*.yml")
    for file in [*ROOT.glob(pattern), *ROOT.glob("molecule/shared/*.yml")]
)


@pytest.mark.parametrize("file", sorted(set(TASK_FILES)), ids=str)
def test_the_name_of_a_task_can_be_read_alone_in_a_log(file: Path) -> None:
    for name in names(load(ROOT / file)):
        assert (
            re.search(r"^\w+ (it|its|them|both|what|whether it)\b|^(Say|Tell|Undo)\b", name) is None
        )


@pytest.mark.parametrize("role", NAMES)
def test_no_order_in_a_role_depends_on_a_set(role: str) -> None:
    """Ansible's filters for sets have another order in each run, which would look like a change."""
    for path in (ROLES / role).rglob("*"):
        if path.suffix in (".yml", ".j2"):
            for line in path.read_text(encoding="utf-8").splitlines():
                found = re.search(r"\| *(union|intersect|(symmetric_)?difference)\b", line)
                assert not found or "| sort" in line, f"{path}: {line}"


@pytest.mark.parametrize("role", NAMES)
def test_switches_are_converted_where_they_are_used(role: str) -> None:
    """``-e name=false`` on the command line gives a text, which would count as true."""
    switches = {
        name
        for each in NAMES
        for declared in options(each).values()
        for name, option in declared.items()
        if option["type"] == "bool"
    }
    used = re.compile(rf"\b({'|'.join(switches)})\b")
    for path in (ROLES / role).rglob("*"):
        if path.suffix not in (".yml", ".j2") or path.parent.name in ("meta", "defaults"):
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            expressions = re.findall(r"{{.*?}}|{%.*?%}|(?:when|that): .*", line)
            bare = [each for each in expressions if used.search(each) and "| bool" not in each]
            assert not bare, f"{path}: {line}"


def tasks_of(found: Any) -> Iterator[dict[str, Any]]:
    """Yield the tasks of a list, including those in blocks."""
    for task in found if isinstance(found, list) else []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks_of(task.get(part))


#: The tasks that call a module for each item, and why the list is short or empty.
LOOPS = {
    "Check that the addresses are known": "runs on the controller",
    "Check that the certificate is valid for the names that people use": "runs on the controller",
    "Check that the notebook environments have all that sessions need": "one for a site",
    "Check the names of database and user": "runs on the controller",
    "Check which names the site's own certificate covers": "two names",
    "Enable, start or stop the maintenance units": "empty if nothing changes",
    "Look up the addresses from which the hub connects": "one hub",
    "Look up the addresses of the hosts that the rules let through": "empty without the firewall",
    "Start nginx and configurable-http-proxy, now and at boot": "two units",
    "Write who may log in": "on the database's host, with another owner",
}


def test_no_task_calls_a_module_for_each_of_many_items() -> None:
    """A run that changes nothing consists of such calls; ``file_set`` writes many files in one."""
    files = [path for path in ROLES.rglob("tasks/*.yml") if path.parts[-3] != "patch"]
    looping = {task["name"] for path in files for task in tasks_of(load(path)) if "loop" in task}
    assert looping == set(LOOPS)


def test_each_play_of_the_deployment_gathers_no_facts_by_itself() -> None:
    """Ansible's own settings gather all facts in each play, which takes seconds for each host."""
    for name in ("site.yml", "firewall.yml", "validate.yml"):
        for play in load(ROOT / "playbooks" / name):
            if "ansible.builtin.import_playbook" not in play:
                assert play["gather_facts"] is False, play["name"]


def on_the_controller() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each play and each task that runs on the controller, with its file."""
    for path in sorted([*(ROOT / "playbooks").glob("*.yml"), *ROLES.glob("*/tasks/*.yml")]):
        for each in load(path):
            for task in [each, *each.get("tasks", []), *each.get("block", [])]:
                if "localhost" in (task.get("hosts"), task.get("delegate_to")):
                    yield path.name, task


def test_nothing_on_the_controller_uses_the_connection_and_the_sudo_of_the_hosts() -> None:
    """Only variables have precedence over ``ansible_become`` in an inventory; keywords do not."""
    found = list(on_the_controller())
    assert {name for name, _ in found} >= {"validate.yml", "preflight.yml"}
    for name, task in found:
        values = task.get("vars", {})
        assert values.get("ansible_connection") == "local", (name, task["name"])
        assert values.get("ansible_become") is False, (name, task["name"])
