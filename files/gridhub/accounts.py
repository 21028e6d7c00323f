# SPDX-License-Identifier: BSD-3-Clause
"""Unix accounts and their groups, as the host's directory service lists them.

A person is a uid, and has one name: the one that the directory gives for the uid. Grid Engine makes
this name the owner of the person's jobs, and runs a job as the account of this name. An account may
have other names (``ANN`` in a directory that ignores case, a login beside ``ann.smith``):
:func:`account_of` finds the account by any of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import grp
import os
import pwd
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait

#: The uids that mean "nobody in particular": those that servers give to accounts which they cannot
#: map, and -1, with which setresuid(2) changes nothing.
NOBODY = frozenset({65534, 2**32 - 2, 2**32 - 1})


class NoAccount(LookupError):
    """There is no such account."""


class NoAnswer(OSError):
    """The directory service cannot be asked now, so it is not known whether an account exists."""


class NotOneName(LookupError):
    """The directory gives different accounts for a uid and for its name."""


def _entry(name: str) -> pwd.struct_passwd:
    """Return the entry of a name.

    :raises NoAccount: when there is none.
    :raises NoAnswer: when the directory service cannot be asked.
    """
    if not _is_possible(name):
        raise NoAccount(name)
    try:
        return pwd.getpwnam(name)
    except ValueError as error:  # not a text that the system can look up
        raise NoAccount(name) from error
    except KeyError as error:
        if code := _lookup_error(name):
            raise NoAnswer(code, os.strerror(code), name) from error
        raise NoAccount(name) from error


def _lookup_error(name: str) -> int:
    """Return the error of a look-up without a result; 0 if there is no such account.

    :mod:`pwd` raises the same exception for both. With glibc, each other value, even ENOENT, means
    that the last service of nsswitch.conf(5) has not answered.
    """
    libc = ctypes.CDLL(None)
    entry, found = ctypes.create_string_buffer(256), ctypes.c_void_p()
    buffer = ctypes.create_string_buffer(65_536)
    code = libc.getpwnam_r(
        os.fsencode(name), entry, buffer, ctypes.c_size_t(len(buffer)), ctypes.byref(found)
    )
    return 0 if found else int(code)


def account_of(name: str) -> pwd.struct_passwd:
    """Return the account that has a name, under its own name.

    :raises NoAccount: when there is no such account.
    :raises NotOneName: when jobs of the account would not run as the account.
    :raises NoAnswer: when the directory service cannot be asked.
    """
    uid = _entry(name).pw_uid
    try:
        own = pwd.getpwuid(uid)
    except KeyError as error:
        raise NotOneName(f"the account {name} has uid {uid}, which has no name") from error
    if (back := _entry(own.pw_name).pw_uid) != uid:
        raise NotOneName(
            f"the account {name} has uid {uid}, whose name {own.pw_name} belongs to uid {back}"
        )
    return own


def is_listed(account: pwd.struct_passwd, names: Iterable[str]) -> bool:
    """Return whether a list has the account, under any of its names."""
    names = frozenset(names)
    return account.pw_name in names or any(_has_name(account, each) for each in names)


def own_names(names: Iterable[str], limit: float = 10.0) -> frozenset[str]:
    """Return the accounts' own names for the names of a list.

    A name stays as it is if there is no such account, or no answer within ``limit`` seconds in
    total. Names that no account can have are left out.
    """
    pool = ThreadPoolExecutor(8)
    found = {each: pool.submit(account_of, each) for each in names if _is_possible(each)}
    done = wait(found.values(), limit).done
    pool.shutdown(wait=False, cancel_futures=True)
    return frozenset(
        each.result().pw_name if each in done and not each.exception() else name
        for name, each in found.items()
    )


def _is_possible(name: str) -> bool:
    return name.isprintable() and name.strip(". ") != "" and not set(name) & set(":/")


def _has_name(account: pwd.struct_passwd, name: str) -> bool:
    with contextlib.suppress(NoAccount, NoAnswer):
        return _entry(name).pw_uid == account.pw_uid
    return False


def group_names(account: pwd.struct_passwd, also: Iterable[str] = ()) -> frozenset[str]:
    """Return the names of an account's Unix groups, including its primary group.

    :param also: names that a list gives to groups. A group may have several, such as one in another
        case; those of the account's groups are in the result too.
    """
    gids = frozenset(os.getgrouplist(account.pw_name, account.pw_gid))
    names = set()
    for gid in gids:
        with contextlib.suppress(KeyError):  # skip a gid without a name
            names.add(grp.getgrgid(gid).gr_name)
    for name in frozenset(also) - names:
        with contextlib.suppress(KeyError, ValueError):
            if grp.getgrnam(name).gr_gid in gids:
                names.add(name)
    return frozenset(names)
