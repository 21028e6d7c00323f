# SPDX-License-Identifier: BSD-3-Clause
"""The hub's view of configurable-http-proxy, which forgets its routes when it is restarted."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy
from traitlets import Float


class WatchedProxy(ConfigurableHTTPProxy):
    """Keeps a proxy that restarts, or is away, up to date within seconds, and ends nothing over it.

    JupyterHub looks at the routes every five minutes, together with writing everybody's last
    activity to the database. Asking more often for the routes alone is cheap.
    """

    watch_interval = Float(
        2.0, help="Seconds between looks at whether the proxy still has its routes."
    ).tag(config=True)

    _watch: asyncio.Task[None] | None = None

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        """Add a route; that of a session names it, and the proxy asks for its certificate."""
        user = next(
            (each for each in self.app.users.values() if each.name == data.get("user")), None
        )
        spawner = user and user.spawners.get(data.get("server_name", ""))
        if name := spawner and spawner.certified_name:
            target = target.replace("://", f"://{name}@", 1)
        await super().add_route(routespec, target, data)

    async def get_all_routes(self) -> dict[str, Any]:
        """Return the proxy's routes as JupyterHub knows them, without the names of sessions.

        And without when something last went over each.

        JupyterHub would take that for use of the session. But an open page asks for news every few
        seconds whether or not anybody sits before it; the session itself says when it was in use.
        """
        routes: dict[str, Any] = await super().get_all_routes()
        for route in routes.values():
            route["data"].pop("last_activity", None)
            route["target"] = re.sub("//[0-9a-f]+@", "//", route["target"])
        return routes

    async def check_routes(
        self, user_dict: Any, service_dict: Any, routes: dict[str, Any] | None = None
    ) -> None:
        """Bring the proxy's routes up to date, and watch them from the first time on."""
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._keep_watching(user_dict, service_dict))
        await super().check_routes(user_dict, service_dict, routes)

    async def add_user(self, user: Any, server_name: str = "") -> None:
        """Add a session's route.

        A proxy that is away is no reason for JupyterHub to end the session: the next look brings
        what is missing.
        """
        try:
            await super().add_user(user, server_name)
        except Exception as error:
            self.log.warning("Cannot add the route of %s now: %s", user.name, error)

    async def delete_user(self, user: Any, server_name: str = "") -> None:
        """Delete a session's route; a proxy that is away does not keep JupyterHub from stopping."""
        try:
            await super().delete_user(user, server_name)
        except Exception as error:
            self.log.warning("Cannot delete the route of %s now: %s", user.name, error)

    async def _keep_watching(self, user_dict: Any, service_dict: Any) -> None:
        while True:
            await asyncio.sleep(self.watch_interval)
            try:
                routes = await self.get_all_routes()
                # A proxy that has just started knows no route at all, not even the hub's; one
                # that was away for a moment has missed what changed meanwhile.
                spawners = [s for user in user_dict.values() for s in user.spawners.values()]
                expected = {s.proxy_spec for s in spawners if s.ready and s.host}
                alive = {s.proxy_spec for s in spawners if s.active}
                sessions = {path for path, route in routes.items() if "user" in route["data"]}
                if not expected | {self.app.hub.routespec} <= routes.keys() or sessions - alive:
                    self.log.warning("The proxy's routes are not up to date; sending them again")
                    await super().check_routes(user_dict, service_dict, routes)
            except Exception as error:  # whatever it was, the next look may succeed
                self.log.warning("Cannot ask the proxy for its routes: %s", error)
