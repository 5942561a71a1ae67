import httpx
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from email_gateway.api.openapi import build_document
from email_gateway.api.routes import ROUTES
from email_gateway.api.routing import RouteTable

pytestmark = pytest.mark.anyio

DOCUMENT = msgspec.json.decode(build_document(ROUTES))


def test_the_document_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_the_document_lists_exactly_the_paths_that_are_routed() -> None:
    listed = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert listed == {(route.method, route.path) for route in ROUTES}
    table = RouteTable(ROUTES)
    for route in ROUTES:
        assert table.find(route.method, route.path.replace("{", "").replace("}", ""))[0] is route


def test_every_operation_has_its_own_name_a_summary_and_says_who_may_call() -> None:
    operations = [operation for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] and operation["description"] for operation in operations)
    assert all("security" in operation for operation in operations)


def test_the_message_is_documented_as_it_is_read() -> None:
    schema = DOCUMENT["components"]["schemas"]["SendEmail"]
    assert set(schema["required"]) == {"to"}  # a template may have the rest
    assert schema["additionalProperties"] is False
    assert schema["properties"]["subject"]["maxLength"] == 998


async def test_the_document_is_served_to_anyone(client: httpx.AsyncClient) -> None:
    answer = await client.get("/openapi.json", headers={"authorization": ""})
    assert answer.json() == DOCUMENT
