# SPDX-License-Identifier: BSD-3-Clause
"""Restore the routes of configurable-http-proxy, which loses them when it restarts."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy
from traitlets import Float


class WatchedProxy(ConfigurableHTTPProxy):
    """Restores routes within seconds after the proxy restarts or becomes reachable again.

    JupyterHub's own check, every five minutes, also writes each session's last activity to the
    database. This class checks only the routes, which is cheap enough for every few seconds. No
    session is ended because the proxy is unreachable.

    A session that is suspended, for example, has no route until it answers again. Its address then
    leads to the hub, which gives the reason. Otherwise, a browser would wait for ever.
    """

    watch_interval = Float(
        2.0, help="Seconds between checks whether the proxy still has its routes."
    ).tag(config=True)

    watching: asyncio.Future[Any] | None = None

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        """Add a route.

        A session's route contains the session's name, so that the proxy can check the session's
        certificate.
        """
        user = next(
            (each for each in self.app.users.values() if each.name == data.get("user")), None
        )
        spawner = user and user.spawners.get(data.get("server_name", ""))
        if name := spawner and spawner.certified_name:
            target = target.replace("://", f"://{name}@", 1)
        await super().add_route(routespec, target, data)

    async def get_all_routes(self) -> dict[str, Any]:
        """Return the proxy's routes, without the sessions' names and last activities.

        JupyterHub would treat traffic on a route as use of the session. But an open page sends
        requests every few seconds even if the person is away. So only the session itself may report
        its use.
        """
        routes: dict[str, Any] = await super().get_all_routes()
        for route in routes.values():
            route["data"].pop("last_activity", None)
            route["target"] = re.sub("//[0-9a-f]+@", "//", route["target"])
        return routes

    async def check_routes(
        self, user_dict: Any, service_dict: Any, routes: dict[str, Any] | None = None
    ) -> None:
        """Update the proxy's routes; the first call also starts the task that watches them."""
        if self.watching is None:
            self.watching = asyncio.gather(
                self._keep_watching(user_dict, service_dict), self._keep_finding_silent(user_dict)
            )
        await super().check_routes(user_dict, service_dict, routes)

    async def add_user(self, user: Any, server_name: str = "") -> None:
        """Add a session's route.

        A failure is only logged, so that JupyterHub does not end the session if the proxy is
        unreachable. The next check adds the missing route. A silent session gets no route.
        """
        if user.spawners[server_name].silent:
            return
        try:
            await super().add_user(user, server_name)
        except Exception as error:
            self.log.warning("Cannot add the route of %s now: %s", user.name, error)

    async def delete_user(self, user: Any, server_name: str = "") -> None:
        """Delete a session's route.

        A failure is only logged, so that JupyterHub can stop the session even if the proxy is
        unreachable.
        """
        try:
            await super().delete_user(user, server_name)
        except Exception as error:
            self.log.warning("Cannot delete the route of %s now: %s", user.name, error)

    async def _keep_finding_silent(self, user_dict: Any) -> None:
        while True:
            await asyncio.sleep(self.watch_interval)
            spawners = [s for user in user_dict.values() for s in user.spawners.values()]
            checks = (each.check_silence() for each in spawners)
            for error in await asyncio.gather(*checks, return_exceptions=True):
                if error:
                    self.log.error("Cannot find out whether a session answers: %r", error)

    async def _keep_watching(self, user_dict: Any, service_dict: Any) -> None:
        while True:
            await asyncio.sleep(self.watch_interval)
            try:
                routes = await self.get_all_routes()
                # A proxy that has just started has no routes, not even the hub's. A proxy that was
                # unreachable for a moment may have missed route changes.
                spawners = [s for user in user_dict.values() for s in user.spawners.values()]
                expected = {s.proxy_spec for s in spawners if s.ready and s.host and not s.silent}
                alive = {s.proxy_spec for s in spawners if s.active}
                sessions = {path for path, route in routes.items() if "user" in route["data"]}
                for path in sessions & {s.proxy_spec for s in spawners if s.silent}:
                    self.log.info("Removing the route %s: its session does not answer", path)
                    await self.delete_route(path)
                if not expected | {self.app.hub.routespec} <= routes.keys() or sessions - alive:
                    self.log.warning("The proxy's routes are not up to date; sending them again")
                    await super().check_routes(user_dict, service_dict, routes)
            except Exception as error:  # the next check may succeed
                self.log.warning("Cannot ask the proxy for its routes: %s", error)
