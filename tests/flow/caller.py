"""An application and its operator, as the flow tests play them: over HTTP, with their keys."""

import time
from collections.abc import Callable
from typing import Any

import anyio
import httpx

from bench.gateway import Gateway

PATIENCE_SECONDS = 20.0

Json = dict[str, Any]


class Caller:
    """Sends and reads mail; whatever is not 2xx is an error unless asked for."""

    def __init__(self, gateway: Gateway) -> None:
        self.bodies: list[bytes] = []
        root = gateway.url.removesuffix("/v1")
        # Loopback needs no proxy, whatever the environment says.
        self.http = httpx.AsyncClient(
            base_url=root, headers={"Authorization": f"Bearer {gateway.api_key}"}, timeout=30, trust_env=False
        )
        self.admin = httpx.AsyncClient(
            base_url=f"{root}/admin", headers={"x-admin-key": gateway.secrets["ADMIN_API_KEY"]}, trust_env=False
        )

    async def send(self, key: str | None = None, **fields: object) -> str:
        """Send one mail and return its id; `sender` is the field `from`."""
        body = {
            "from": fields.pop("sender", "Billing <billing@example.com>"),
            "subject": "A bill",
            "text": "x",
        } | fields
        answer = await self.http.post("/v1/emails", json=body, headers={"Idempotency-Key": key} if key else {})
        assert answer.status_code == 202, answer.text
        self.bodies.append(answer.request.content)
        return str(answer.json()["id"])

    async def get(self, email_id: str) -> Json:
        """Return the mail as the API shows it."""
        return await self._json(self.http.get(f"/v1/emails/{email_id}"))

    async def timeline(self, email_id: str) -> list[Json]:
        """Return the mail's events, oldest first."""
        return list((await self._json(self.http.get(f"/v1/emails/{email_id}/events")))["data"])

    async def find(self, **criterion: str) -> list[str]:
        """Search, and return the ids of what was found."""
        found = await self._json(self.http.post("/v1/emails/search", json=criterion))
        return [email["id"] for email in found["data"]]

    async def dead_letters(self) -> list[Json]:
        """List the operator's dead-letter queue."""
        return list((await self._json(self.admin.get("/dlq")))["data"])

    async def wait_for(self, email_id: str, *states: str, attempts: int = 0) -> Json:
        """Wait until the mail's deliveries are in these states, in order, and return it."""

        def is_there(email: Json) -> bool:
            deliveries = email["deliveries"]
            return [one["state"] for one in deliveries] == list(states) and deliveries[0]["attempts"] >= attempts

        return await self._wait(email_id, is_there)

    async def _wait(self, email_id: str, is_there: Callable[[Json], bool]) -> Json:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_there(email := await self.get(email_id)):
            shown = [(one["state"], one["attempts"], one["reason"]) for one in email["deliveries"]]
            assert time.monotonic() < deadline, f"the deliveries stand at {shown}"
            await anyio.sleep(0.05)
        return email

    async def _json(self, request: Any) -> Json:
        answer: httpx.Response = await request
        assert answer.status_code == 200, answer.text
        body: Json = answer.json()
        return body

    async def close(self) -> None:
        await self.http.aclose()
        await self.admin.aclose()
