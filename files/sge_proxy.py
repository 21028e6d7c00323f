# SPDX-License-Identifier: BSD-3-Clause
"""The hub's view of configurable-http-proxy, which forgets its routes when it is restarted."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy
from traitlets import Float


class WatchedProxy(ConfigurableHTTPProxy):
    """Sends a restarted proxy its routes within seconds.

    JupyterHub does so every five minutes, together with writing everybody's last activity to the
    database. Asking more often for the routes alone is cheap, so that is all that is done here.
    """

    watch_interval = Float(
        2.0, help="Seconds between looks at whether the proxy still has its routes."
    ).tag(config=True)

    _watch: asyncio.Task[None] | None = None

    async def check_routes(
        self, user_dict: Any, service_dict: Any, routes: dict[str, Any] | None = None
    ) -> None:
        """Bring the proxy's routes up to date, and watch them from the first time on."""
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._keep_watching(user_dict, service_dict))
        await super().check_routes(user_dict, service_dict, routes)

    async def _keep_watching(self, user_dict: Any, service_dict: Any) -> None:
        while True:
            await asyncio.sleep(self.watch_interval)
            try:
                routes = await self.get_all_routes()
                # A proxy that has just started knows no route at all, not even the hub's; one
                # that was away for a moment may have missed a session's.
                expected = {self.app.hub.routespec} | {
                    spawner.proxy_spec
                    for user in user_dict.values()
                    for spawner in user.spawners.values()
                    if spawner.ready and spawner.host
                }
                if not expected <= routes.keys():
                    self.log.warning("The proxy has lost routes; sending them again")
                    await super().check_routes(user_dict, service_dict, routes)
            except Exception as error:  # whatever it was, the next look may succeed
                self.log.warning("Cannot ask the proxy for its routes: %s", error)
