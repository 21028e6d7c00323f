"""``pip install`` leads into a place that the site's kernel can import."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from newcomer import Newcomer

Make = Callable[..., Newcomer]


@pytest.mark.parametrize("way", ["%pip", "!pip", "pip", "pip3", "python -m pip"])
def test_what_pip_installs_can_be_imported_at_once(newcomer: Make, way: str) -> None:
    person = newcomer().start()
    command = f"{way} install --quiet --no-deps cowsay"
    if way[0] in "%!":
        person.run(person.kernel, command, 120)
    else:
        assert "ERROR" not in person.terminal(command, seconds=120)
    where = person.cell("import cowsay; print(cowsay.__file__)")
    assert where.startswith(f"{person.home}/.local/share/jupyterhub/python3.")
    assert person.terminal("cowsay -t moo | grep -c moo") == "1"


@pytest.mark.parametrize("way", ["%pip", "pip", "python -m pip"])
@pytest.mark.parametrize("habit", ["settings", "option"])
def test_pip_works_for_people_who_are_used_to_the_user_scheme(
    newcomer: Make, habit: str, way: str
) -> None:
    person = newcomer()
    if habit == "settings":
        person.write(".config/pip/pip.conf", "[global]\nuser = true\n")
    person.start()
    option = "--user" if habit == "option" else ""
    command = f"{way} install {option} --quiet --no-deps cowsay"
    if way == "%pip":
        person.run(person.kernel, command, 120)
    else:
        assert "ERROR" not in person.terminal(command, seconds=120)
    assert person.cell("import cowsay; print('here')") == "here"


def test_a_broken_package_breaks_the_kernel_but_not_the_server(newcomer: Make) -> None:
    person = newcomer().start()
    place = person.cell("import sys; print(sys.prefix)")
    packages = person.cell("import site; print(site.getsitepackages()[0])")
    assert packages.startswith(place)
    for package in ("ipykernel", "tornado", "jupyter_server"):
        person.write(
            f"{packages.removeprefix(person.home)}/{package}/__init__.py", "raise Exception('bad')"
        )
    person.stop()
    person.request()
    person.wait_until_ready()
    person.open_lab()
    person.start_kernel()
    assert "Exception: bad" in person.wait_for_notice("has ended")


def test_a_package_replaces_the_sites_package_of_the_same_name(newcomer: Make) -> None:
    person = newcomer().start()
    before = person.cell("import packaging; print(packaging.__file__)")
    assert before.startswith("/opt/")
    shown = person.terminal(
        "pip install --no-deps --upgrade --force-reinstall packaging", seconds=120
    )
    assert "ERROR" not in shown
    person.kernel = person.start_kernel()
    assert person.cell("import packaging; print(packaging.__file__)").startswith(person.home)


def test_the_persons_own_environment_comes_first_in_terminals(newcomer: Make) -> None:
    person = newcomer()
    person.write("bin/pip", "#!/bin/sh\necho my own\n", "755")
    person.write(".bash_profile", 'PATH="$HOME/bin:$PATH"\n')
    person.start()
    assert person.terminal("pip") == "my own"
    assert person.terminal("jupyter kernelspec list | grep -c python3") == "1"
