"""Wraps and canaries: a data key comes out only of its own wrap, under its own root, name and purpose."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from email_gateway.errors import KeyUnavailable, Tampered
from email_gateway.vault.data_keys import fingerprint_of, make_material
from email_gateway.vault.pae import pae
from email_gateway.vault.roots import derive_root, expand, extract
from email_gateway.vault.wraps import KeyName, Purpose, make_canary, open_canary, open_wrap, unwrap, wrap
from tests.vault.test_xaes import tink_of

KEY, SALT = "k" * 40, "s" * 40
ROOT = derive_root(KEY, SALT)
OTHER_ROOT = derive_root("K" * 40, SALT)
MATERIAL = bytes(range(32))
NAME = KeyName(fingerprint_of(MATERIAL), UUID("018f2c6e-0000-7000-8000-000000000001"), Purpose.FIELD)


def flipped(blob: bytes) -> list[bytes]:
    """Every blob that differs in one bit."""
    return [blob[:at] + bytes((blob[at] ^ 1 << bit,)) + blob[at + 1 :] for at in range(len(blob)) for bit in range(8)]


def test_wrap_gives_the_key_back_and_has_90_bytes() -> None:
    for purpose in Purpose:
        material = make_material()
        name = KeyName(fingerprint_of(material), uuid4(), purpose)
        blob = wrap(ROOT, name, material)
        assert len(blob) == 90
        assert unwrap(ROOT, name, blob) == material


def test_wrap_bytes_stand_where_the_design_draws_them() -> None:
    blob = wrap(ROOT, NAME, MATERIAL)
    assert blob[:18] == b"\xe1\x02" + ROOT.root_id
    kek = expand(extract(salt=SALT.encode(), key_material=KEY.encode()), b"emailgw/root/kek/v1", 32)
    aad = pae(blob[:18], b"emailgw/wrap/v1", NAME.key_id, NAME.tenant_id.bytes, b"\x01")
    assert tink_of(kek).decrypt(blob[18:], aad) == MATERIAL


def test_every_flipped_bit_of_a_wrap_is_noticed() -> None:
    for changed in flipped(wrap(ROOT, NAME, MATERIAL)):
        with pytest.raises(Tampered):
            unwrap(ROOT, NAME, changed)


def test_every_other_length_of_a_wrap_is_refused() -> None:
    blob = wrap(ROOT, NAME, MATERIAL)
    for changed in (*(blob[:length] for length in range(90)), blob + b"\0"):
        with pytest.raises(Tampered):
            unwrap(ROOT, NAME, changed)


def test_wrap_opens_for_its_own_key_tenant_purpose_and_root_only() -> None:
    blob = wrap(ROOT, NAME, MATERIAL)
    for name in (
        replace(NAME, key_id=bytes(16)),
        replace(NAME, tenant_id=uuid4()),
        replace(NAME, purpose=Purpose.INDEX),
    ):
        with pytest.raises(Tampered):
            unwrap(ROOT, name, blob)
    with pytest.raises(Tampered, match="another root"):
        unwrap(OTHER_ROOT, NAME, blob)
    with pytest.raises(Tampered):
        unwrap(OTHER_ROOT, NAME, blob[:2] + OTHER_ROOT.root_id + blob[18:])


def test_wrap_that_holds_another_key_is_refused_though_it_is_authentic() -> None:
    blob = wrap(ROOT, NAME, make_material())
    with pytest.raises(Tampered, match="another data key"):
        unwrap(ROOT, NAME, blob)


def test_open_wrap_uses_the_root_that_the_wrap_names() -> None:
    roots = {root.root_id: root for root in (ROOT, OTHER_ROOT)}
    for root in (ROOT, OTHER_ROOT):
        assert open_wrap(roots, NAME, wrap(root, NAME, MATERIAL)) == MATERIAL


def test_open_wrap_says_when_waiting_may_help() -> None:
    with pytest.raises(KeyUnavailable):
        open_wrap({ROOT.root_id: ROOT}, NAME, None)
    with pytest.raises(KeyUnavailable):
        open_wrap({ROOT.root_id: ROOT}, NAME, wrap(OTHER_ROOT, NAME, MATERIAL))
    with pytest.raises(Tampered):
        open_wrap({ROOT.root_id: ROOT}, NAME, b"\xe1\x09" + wrap(ROOT, NAME, MATERIAL)[2:])


def test_canary_opens_under_its_own_root_only() -> None:
    canary = make_canary(ROOT)
    open_canary(ROOT, canary)
    with pytest.raises(Tampered):
        open_canary(OTHER_ROOT, canary)
    with pytest.raises(Tampered):
        open_canary(OTHER_ROOT, canary[:2] + OTHER_ROOT.root_id + canary[18:])


def test_every_flipped_bit_of_a_canary_is_noticed() -> None:
    for changed in flipped(make_canary(ROOT)):
        with pytest.raises(Tampered):
            open_canary(ROOT, changed)
