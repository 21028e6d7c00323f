"""A small apt archive on a host: by default, the host's only source of updates."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator

from cluster import host

#: The archive has the origin and label of Debian's security updates, which hosts install by
#: default.
RELEASE = (
    "Origin: Debian\\nLabel: Debian-Security\\nSuite: stable-security\\nCodename: %s-security\\n"
)

_BUILD = """
set -eu
mkdir -p /srv/archive /srv/build/DEBIAN
printf '%s\\n' 'Package: {name}' 'Version: {version}' 'Architecture: all' \
  'Maintainer: nobody' 'Description: test' > /srv/build/DEBIAN/control
printf '#!/bin/sh\\n%s\\n' {script} > /srv/build/DEBIAN/postinst
chmod 0755 /srv/build/DEBIAN/postinst
dpkg-deb --build /srv/build /srv/archive/{name}_{version}.deb >/dev/null
rm -r /srv/build
cd /srv/archive
: > Packages
for deb in *.deb; do
  dpkg-deb --field "$deb" >> Packages
  printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' \
    "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)" >> Packages
done
. /etc/os-release
printf '{release}SHA256:\\n %s %s Packages\\n' "$VERSION_CODENAME" \
  "$(sha256sum Packages | cut -d' ' -f1)" "$(stat -c %s Packages)" > Release
"""


def run(name: str, command: str) -> str:
    return str(host(name).check_output(command))


def build(name: str, package: str, version: str, script: str = "true") -> None:
    """Put a package into a host's archive; dpkg runs ``script`` when it configures the package."""
    text = _BUILD.format(name=package, version=version, script=shlex.quote(script), release=RELEASE)
    run(name, f"bash -c {shlex.quote(text)}")


def version(name: str, package: str) -> str:
    """Return the state and version of an installed package."""
    return host(name).run(f"dpkg-query -W -f '${{db:Status-Status}} ${{Version}}' {package}").stdout


@contextlib.contextmanager
def archive(*names: str, only: bool = True) -> Iterator[None]:
    """Give each host a small archive that has no updates yet.

    :param only: whether to hide all other archives from the hosts.
    """
    try:
        for name in names:
            for package in ("gridhub-probe", "gridengine-probe"):
                build(name, package, "1.0")
            run(name, "dpkg --install /srv/archive/*.deb")
            if only:
                run(name, "mv /etc/apt/sources.list /etc/apt/sources.list.aside")
                run(
                    name, "mv /var/lib/apt/lists /var/lib/apt/lists.aside; mkdir /var/lib/apt/lists"
                )
            line = "deb [trusted=yes] file:/srv/archive ./"
            run(name, f"echo '{line}' > /etc/apt/sources.list.d/test.list")
        yield
    finally:
        for name in names:
            # Restore apt's old lists, because fetching new lists would take longer than most tests.
            aside = "/etc/apt/sources.list /var/lib/apt/lists"
            put_back = "[ ! -e $each.aside ] || { rm -rf $each; mv $each.aside $each; }"
            run(name, f"for each in {aside}; do {put_back}; done")
            run(name, "dpkg --purge gridhub-probe gridengine-probe")
            run(name, "rm -rf /srv/archive /etc/apt/sources.list.d/test.list")
