"""An operator at the dashboard, as a browser would be: logs in, opens every page, reveals one message."""

import re

import httpx

from bench.gateway import Gateway

LINK = re.compile(r'(?:href|src|action)="(/dashboard[^"#]*)"')
CSRF = re.compile(r'name="csrf" value="([^"]+)"')


class Operator:
    """`opened` holds every page that was opened; `session` is the cookie's token."""

    def __init__(self, gateway: Gateway) -> None:
        self._key = gateway.secrets["ADMIN_API_KEY"]
        self._http = httpx.AsyncClient(base_url=gateway.url.removesuffix("/v1"), trust_env=False, timeout=30)
        self.opened: dict[str, str] = {}
        self.session = ""

    async def look_at_everything(self) -> None:
        """Log in, follow every link of the dashboard, and see each message in clear, for a reason."""
        answer = await self._http.post("/dashboard/login", data={"operator": "ana", "key": self._key})
        assert answer.status_code == 303
        (self.session,) = self._http.cookies.values()
        waiting = ["/dashboard/", "/dashboard/inbox"]
        while waiting:
            path = waiting.pop()
            if path in self.opened:
                continue
            self.opened[path] = page = await self._open(path)
            waiting += LINK.findall(page)

    async def _open(self, path: str) -> str:
        if path.endswith(("/logout", "/reveal")):
            return await self._reveal(path) if path.endswith("/reveal") else ""
        answer = await self._http.get(path)
        assert answer.status_code == 200, path
        return answer.text

    async def _reveal(self, path: str) -> str:
        form = CSRF.search(self.opened[path.removesuffix("/reveal")])
        assert form is not None
        answer = await self._http.post(path, data={"csrf": form[1], "reason": "ticket 4711"})
        assert answer.status_code == 200
        return answer.text

    async def close(self) -> None:
        await self._http.aclose()
