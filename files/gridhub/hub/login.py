# SPDX-License-Identifier: BSD-3-Clause
"""Login with a password, through PAM."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pamela
from jupyterhub.auth import PAMAuthenticator

from gridhub.accounts import NoAccount, NoAnswer, NotOneName, account_of
from gridhub.hub.account_rules import NO_ANSWER, NOT_CHECKED, AccountRules
from gridhub.hub.errors import Refusal
from gridhub.tls import is_proxy
from gridhub.words import text

#: Threads in which PAM checks only passwords. A wrong password occupies a thread for seconds
#: (pam_fail_delay(3)). In shared threads, many wrong passwords would delay the checks of people who
#: are logged in, and those checks would delay logins.
PASSWORD_CHECKS = ThreadPoolExecutor(8, "password")

#: How long a login waits for PAM, in seconds.
PASSWORD_LIMIT = 40.0


def accepted_name(username: str, passwords: Sequence[str], service: str, encoding: str) -> str:
    """Return the name under which PAM accepts the passwords, without checking the account.

    PAM's modules may change the name (PAM_USER, pam_get_item(3)), such as when a person types an
    e-mail address. :func:`pamela.authenticate` does not report it, or does not end the transaction.

    :raises pamela.PAMError: when PAM refuses them, or cannot check them.
    """
    answers = pamela.new_simple_password_conv(passwords, encoding)
    transaction = pamela.pam_start(service, username, conv_func=answers, encoding=encoding)
    code = pamela.PAM_AUTHENTICATE(transaction, 0)
    name = username
    if code == pamela.PAM_SUCCESS:
        pamela.PAM_SETCRED(transaction, pamela.PAM_REINITIALIZE_CRED)
        name = transaction.get_item(pamela.PAM_USER, encoding) or username
    pamela.pam_end(transaction, code)
    return name


class ClusterAuthenticator(AccountRules, PAMAuthenticator):
    """PAM login, only for people whom the inventory names.

    Only a person with the right password reads why the account cannot be used.
    """

    def _check_password(self, username: str, passwords: Sequence[str]) -> str | None:
        """Return the name under which PAM accepts the password; ``None`` if it refuses it.

        Do not check the account: JupyterHub's own method does, and does not show which check
        failed.

        :raises NoAnswer: when the directory service cannot be asked.
        :raises Refusal: 503 with a message for the person when PAM has not checked the password.
        """
        try:
            return accepted_name(username, passwords, self.service, self.encoding)
        except pamela.PAMError as error:
            # Log only the first characters of the name: some people type their password into the
            # name field by mistake.
            self.log.warning("PAM refuses the login of %.32r: %s", username, error)
            if error.errno in NO_ANSWER:
                raise NoAnswer(f"PAM: {error}") from error
            if error.errno == NOT_CHECKED:
                raise Refusal(503, text("account.not_checked")) from error
            # Most systems' PAM files hide that a module had no answer. NSS may have none either.
            with contextlib.suppress(NoAccount, NotOneName):
                account_of(username)
            return None

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        """Check name and password; accept them only from the proxy, which limits login attempts.

        :returns: the account's own name; ``None`` if name or password is wrong.
        :raises Refusal: with a message for the person: 403 when the account cannot be used, 503
            when nobody can find out.
        """
        username = data["username"]
        if not is_proxy(handler.request.connection.stream.socket):
            self.log.warning(
                "A password for %.32r came from %s, not through the proxy; ignored",
                username,
                handler.request.remote_ip,
            )
            return None
        if not username.isprintable():  # PAM would read it only up to a NUL character
            return None
        # PAM asks for the password and the second factor in one conversation, so pass both at once.
        passwords = [data[each] for each in ("password", "otp") if each in data]
        try:
            async with asyncio.timeout(PASSWORD_LIMIT):
                login = await asyncio.get_running_loop().run_in_executor(
                    PASSWORD_CHECKS, self._check_password, username, passwords
                )
        except (NoAnswer, TimeoutError) as error:
            self.log.error("The login of %.32r cannot be checked now: %r", username, error)
            raise Refusal(503, self.no_answer()) from error
        return None if login is None else await self.admit(handler, login)
