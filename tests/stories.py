"""Two ledgers, told step by step and recorded by the reference verifier alone: what vectors of ledgers are made of.

One is about points, the other about keys. Each step records an entry, or notes an operation that is refused where the
story stands; the reference must refuse it with the code that the story's author meant. Everything is determined: keys
are SHA-256 of their names, nonces of their numbers. Nothing of the implementation is imported.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests import naive
from tests import reference_verifier as reference

ORIGIN = "vectors.example/points"
KEYS_ORIGIN = "vectors.example/keys"
OTHER_ORIGIN = "vectors.example/else"
UNKNOWN_MEMBER = "mem_" + "a" * 26

Case = dict[str, Any]
Document = dict[str, Any]


@cache
def key(name: str) -> Ed25519PrivateKey:
    """The private key of a name."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"guerdon vector key " + name.encode()).digest())


def key_text(name: str) -> str:
    """The public key of a name, as operations write it."""
    return base64url(naive.public_bytes(key(name)))


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def refusal(check: Callable[[], Any]) -> str:
    """The code with which the reference refuses; empty when it does not."""
    try:
        check()
    except reference.RefusedError as error:
        return error.code
    return ""


def log_key(name: str, origin: str = ORIGIN) -> str:
    return naive.verifier_key(origin, key(name))


class Story:
    """A ledger as it is written, by the reference alone: entries, what was refused in between, who signs when."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.verifier = reference.Verifier()
        self.verifier.replica.origin = origin
        self.replica = self.verifier.replica
        self.data: list[bytes] = []
        self.decisions: list[Case] = []
        self.keys: list[Case] = []
        self.accounts: dict[str, str] = {}
        self._nonces = 0

    def operation(self, kind: str, at: str, fields: Document) -> Document:
        """An operation with a nonce of its own; a field that is None is left out."""
        nonce = hashlib.sha256(f"guerdon vector nonce {self.origin} {self._nonces}".encode()).digest()[:16]
        self._nonces += 1
        common = {"at": at, "guerdon": 1, "kind": kind, "ledger": self.origin, "nonce": base64url(nonce)}
        return {name: value for name, value in {**common, **fields}.items() if value is not None}

    def record(self, time: str, kind: str, signers: str, /, **fields: Any) -> None:
        """Make a signed operation the next entry."""
        op = self.operation(kind, time, fields)
        op_bytes = reference.encode(op)
        sigs = signatures(op_bytes, signers)
        reference.check_operation(op)
        postings = self.replica.decide(op, {item["key"] for item in sigs}, time)
        entry = {"op": op, "postings": postings, "prev": self.verifier.prev, "seq": len(self.data)}
        data = reference.encode({**entry, "sigs": sigs, "time": time})
        self.verifier.add(data)
        self.data.append(data)

    def open(self, who: str, time: str, signers: str, role: str, /, *, keys: str = "", **fields: Any) -> None:
        """Open an account that :attr:`accounts` then has under a name."""
        given = [key_text(name) for name in keys.split()] or None
        self.record(time, "open_account", signers, role=role, keys=given, **fields)
        op_id = hashlib.sha256(reference.encode(json.loads(self.data[-1])["op"])).digest()
        self.accounts[who] = reference.account_id(role, op_id)

    def refuse(self, code: str, name: str, time: str, kind: str, signers: str, /, **fields: Any) -> None:
        """An operation that is refused here, and the reference must say with this code; '' for one that is not."""
        op = self.operation(kind, fields.pop("at", time), fields)
        op_bytes = reference.encode(op)
        sigs = signatures(op_bytes, signers)
        reference.check_operation(op)
        signing = {item["key"] for item in sigs}
        assert refusal(lambda: self.replica.decide(op, signing, time)) == code, (name, code)
        case = {"name": name, "after": len(self.data), "time": time, "code": code}
        case["document"] = reference.encode({"op": op, "sigs": sigs}).decode()
        if not code:
            case["postings"] = self.replica.decide(op, signing, time)
        self.decisions.append(case)

    def show(self, who: str, time: str) -> None:
        """Note the keys in force for an account at a time."""
        account = self.replica.account_at(self.accounts[who], time)
        acting, threshold = self.replica.acting_for(self.accounts[who], time)
        case = {"name": f"{who} after {len(self.data)} entries at {time}", "after": len(self.data), "time": time}
        case |= {"account": self.accounts[who], "acting": acting, "threshold": threshold}
        case |= {"in_custody": not account["keys"], "recovery_pending": account["recovery"] is not None}
        self.keys.append(case)

    def vectors(self, about: str) -> dict[str, Any]:
        leaves = [naive.hash_leaf(data) for data in self.data]
        ids = [hashlib.sha256(reference.encode(json.loads(data)["op"])).hexdigest() for data in self.data]
        entries = [
            {"name": f"entry {i}", "bytes": data.decode(), "op_id": ids[i], "leaf_hash": leaves[i].hex()}
            for i, data in enumerate(self.data)
        ]
        sizes = sorted({1, len(self.data), *(seq + n for seq, _ in self.replica.log_keys[1:] for n in (0, 1))})
        return {
            "about": about,
            "origin": self.origin,
            "entries": entries,
            "forged": list(forgeries(self.data)),
            "decisions": self.decisions,
            "keys_in_force": self.keys,
            "checkpoints": [self._checkpoint_case(size, leaves) for size in sizes],
        }

    def _checkpoint_case(self, size: int, leaves: list[bytes]) -> Case:
        root = naive.naive_root(leaves[:size])
        text = naive.checkpoint_text(self.origin, size, root)
        private = {log_key(name, self.origin): key(name) for name in ("log", "next log", "last log")}
        history = [text_ for seq, text_ in self.replica.log_keys if seq < size]
        note = f"{text}\n" + "".join(naive.log_line(text, self.origin, private[known]) for known in history[:-3:-1])
        verified = reference.Verifier()
        for data in self.data[:size]:
            verified.add(data)
        verified.check_checkpoint(note)
        case = {"name": f"checkpoint of {size}", "size": size, "root": root.hex()}
        return {**case, "log_key_in_force": verified.replica.log_key_for(size), "note": note}


def signatures(op_bytes: bytes, signers: str) -> list[dict[str, str]]:
    """The signatures of an operation by the keys of these names."""
    message = b"guerdon operation v1\n" + op_bytes
    return [{"key": key_text(name), "sig": base64url(key(name).sign(message))} for name in signers.split()]


def forgeries(chain: list[bytes]) -> Iterator[Case]:
    """Entries changed so that they still are JSON: each makes a verifier in full refuse it, and ``light`` ones both."""
    last = len(chain) - 1
    changes: list[tuple[str, int, bool, Callable[[Document], Any]]] = [
        ("another sequence number", last, True, lambda entry: entry.update(seq=entry["seq"] + 1)),
        ("another link", last, True, lambda entry: entry.update(prev="0" * 64)),
        ("an earlier time", last, True, lambda entry: entry.update(time="2025-12-31T23:59:59.999Z")),
        ("a time that no calendar has", last, True, lambda entry: entry.update(time="2027-02-29T00:00:00.000Z")),
        ("a field too many", last, True, lambda entry: entry.update(note="hello")),
        ("a field missing", last, True, lambda entry: entry.pop("postings")),
        ("null for a field", last, True, lambda entry: entry.update(postings=None)),
        ("no signatures", last, False, lambda entry: entry.update(sigs=[])),
        ("a signature twice", last, False, lambda entry: entry.update(sigs=entry["sigs"] * 2)),
        ("a flipped bit in a signature", last, True, _flip_signature),
        ("another nonce", last, True, lambda entry: entry["op"].update(nonce="A" * 22)),
        ("another ledger's operation", last, True, lambda entry: entry["op"].update(ledger=OTHER_ORIGIN)),
        ("another version", last, True, lambda entry: entry["op"].update(guerdon=2)),
        ("a surplus posting", last, False, _post_more),
    ]
    for seq, data in enumerate(chain):
        if json.loads(data)["postings"]:
            changes += [
                (f"a posting of entry {seq} left out", seq, True, lambda entry: entry["postings"].pop()),
                (f"a posting of entry {seq} raised", seq, False, _raise_posting),
                (f"postings of entry {seq} exchanged", seq, False, lambda entry: entry["postings"].reverse()),
            ]
    for name, seq, light, change in changes:
        entry = json.loads(chain[seq])
        change(entry)
        data = reference.encode(entry)
        assert data != chain[seq]
        yield _forged(chain, name, seq, data, light=light)
    loose = json.dumps(json.loads(chain[last]), sort_keys=True, ensure_ascii=False).encode()
    yield _forged(chain, "spaces", last, loose, light=True)
    yield _forged(chain, "a repeated entry", last, chain[last - 1], light=True)


def _forged(chain: list[bytes], name: str, seq: int, data: bytes, *, light: bool) -> Case:
    for depth in (False, True) if light else (False,):
        verifier = reference.Verifier(light=depth)
        for earlier in chain[:seq]:
            verifier.add(earlier)
        assert refusal(lambda verifier=verifier: verifier.add(data)), name  # type: ignore[misc]
    return {"name": name, "seq": seq, "bytes": data.decode(), "light": light}


def _flip_signature(entry: Document) -> None:
    signature = entry["sigs"][0]["sig"]
    entry["sigs"][0]["sig"] = ("A" if signature[0] != "A" else "B") + signature[1:]


def _post_more(entry: Document) -> None:
    legs = [{"account": "sys_spent", "amount": amount, "asset": "STAR"} for amount in (1, -1)]
    entry["postings"] += legs


def _raise_posting(entry: Document) -> None:
    entry["postings"][0]["amount"] -= 1
    entry["postings"][-1]["amount"] += 1


PROGRAM = {
    "bands": [{"from": 5_000, "per": 100, "points": 1}, {"from": 10_000, "per": 300, "points": 7}],
    "currency": "EUR",
    "expiry": {"after": "months", "count": 1},
    "grants": [{"activity": "birthday", "max_points": 100}],
    "round_amount": "none",
    "round_points": "half_even",
    "time_zone": "Europe/Berlin",
}


def _found(story: Story, **fields: Any) -> None:
    currencies = [{"code": "EUR", "scale": 2}, {"code": "JPY", "scale": 0}]
    story.record(
        "2026-01-01T09:00:00.000Z",
        "genesis",
        "operator",
        clock_tolerance_ms=1_000,
        currencies=currencies,
        keys=[key_text("operator")],
        log_key=log_key("log", story.origin),
        name="Vectors",
        **fields,
    )
    story.accounts["operator"] = next(iter(story.replica.accounts))


@cache
def points_story() -> Story:
    """Points: every kind that moves them, and every refusal of the rules that is about them."""
    story = Story(ORIGIN)
    refuse, account = story.refuse, story.accounts
    time = "2026-01-01T09:00:00.000Z"
    refuse("UNKNOWN_ACCOUNT", "before genesis", time, "open_account", "ada", role="member", keys=[key_text("ada")])
    _found(story)
    operator = account["operator"]
    time = "2026-01-02T08:00:00.000Z"
    genesis = json.loads(story.data[0])["op"]
    again = {name: genesis[name] for name in ("clock_tolerance_ms", "currencies", "keys", "log_key", "name")}
    refuse("GENESIS_EXISTS", "a second genesis", time, "genesis", "operator", **again)
    shop = {"role": "merchant", "name": "Shop", "keys": [key_text("shop")], "actor": operator}
    refuse("SIGNATURE_MISSING", "not signed by the operator", time, "open_account", "shop", **shop)
    refuse("SIGNATURE_MISSING", "not signed by the new key", time, "open_account", "operator", **shop)
    refuse("SIGNATURE_UNEXPECTED", "signed by a stranger too", time, "open_account", "operator shop ada", **shop)
    refuse("WRONG_LEDGER", "of another ledger", time, "open_account", "operator shop", ledger=OTHER_ORIGIN, **shop)
    late = {"expires": "2026-01-02T07:59:59.999Z", **shop}
    refuse("EXPIRED", "expired a millisecond ago", time, "open_account", "operator shop", **late)
    refuse("", "expires now", time, "open_account", "operator shop", **{**shop, "expires": time})
    for at, code in (("2026-01-02T08:00:01.000Z", ""), ("2026-01-02T08:00:01.001Z", "AT_IN_FUTURE")):
        refuse(code, f"at {at}", time, "open_account", "operator shop", at=at, **shop)
    story.open("shop", time, "operator shop", "merchant", keys="shop", name="Shop", actor=operator)
    story.open("cafe", time, "operator cafe", "merchant", keys="cafe", name="Café “Süd” 😀", actor=operator)
    story.open("ada", time, "ada", "member", keys="ada")
    story.open("bob", time, "shop", "member", actor=account["shop"])
    story.open("school", time, "operator school", "beneficiary", keys="school", name="School", actor=operator)
    story.open("eve", time, "operator eve", "auditor", keys="eve", name="Eve & Co", actor=operator)
    member = {"role": "member", "keys": [key_text("ada")], "actor": account["ada"]}
    refuse("NOT_PERMITTED", "a member vouches for a member", time, "open_account", "ada", **member)
    for who in story.accounts:
        story.show(who, time)
    _define(story)
    _earn(story)
    _spend(story)
    return story


def _define(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time = "2026-01-02T09:00:00.000Z"
    star = {"actor": account["shop"], "asset": "STAR", "name": "Stars", "scale": 0, "transferable": True}
    refuse("NOT_PERMITTED", "a member's asset", time, "define_asset", "ada", **{**star, "actor": account["ada"]})
    refuse("ASSET_EXISTS", "a currency's code", time, "define_asset", "shop", **{**star, "asset": "EUR"})
    value = {"amount": 100, "currency": "USD", "points": 100}
    refuse("UNKNOWN_CURRENCY", "worth USD", time, "define_asset", "shop", **star, value=value)
    refuse("UNKNOWN_ACCOUNT", "nobody's asset", time, "define_asset", "shop", **{**star, "actor": UNKNOWN_MEMBER})
    story.record(time, "define_asset", "shop", **star, supply_cap=1_000, value={**value, "currency": "EUR"})
    refuse("ASSET_EXISTS", "an asset's code", time, "define_asset", "cafe", **{**star, "actor": account["cafe"]})
    fixed = {**star, "actor": account["cafe"], "asset": "MUG", "transferable": False}
    story.record(time, "define_asset", "cafe", **fixed)
    grant = {"activity": "birthday", "amount": 1, "asset": "STAR", "member": account["ada"], "reference": "1"}
    refuse("PROGRAM_MISSING", "before the program", time, "grant", "shop", actor=account["shop"], **grant)
    version = {"asset": "STAR", "program": PROGRAM, "starts": "2025-12-31T23:00:00.000Z", "version": 1}
    by_shop = {"actor": account["shop"], **version}
    refuse("UNKNOWN_ASSET", "no such asset", time, "publish_program", "shop", **{**by_shop, "asset": "DUST"})
    by_cafe = {**by_shop, "actor": account["cafe"]}
    refuse("NOT_PERMITTED", "another's asset", time, "publish_program", "cafe", **by_cafe)
    usd = {**by_shop, "program": {**PROGRAM, "currency": "USD"}}
    refuse("UNKNOWN_CURRENCY", "earned in USD", time, "publish_program", "shop", **usd)
    refuse("VERSION_CONFLICT", "version 2 first", time, "publish_program", "shop", **{**by_shop, "version": 2})
    story.record(time, "publish_program", "shop", **by_shop)
    second = {**by_shop, "version": 2, "starts": "2026-02-01T00:00:00.000Z", "ends": "2026-04-01T00:00:00.000Z"}
    second["program"] = {
        **PROGRAM,
        "bands": [{"from": 0, "per": 200, "points": 3}],
        "expiry": {"after": "year_end", "count": 1},
        "round_amount": "whole_units",
    }
    yen = {**second, "program": {**PROGRAM, "currency": "JPY"}}
    refuse("CURRENCY_MISMATCH", "another currency", time, "publish_program", "shop", **yen)
    tokyo = {**second, "program": {**PROGRAM, "time_zone": "Asia/Tokyo"}}
    refuse("TIME_ZONE_MISMATCH", "another time zone", time, "publish_program", "shop", **tokyo)
    for starts, code in (("2026-01-02T08:59:59.000Z", ""), ("2026-01-02T08:59:58.999Z", "STARTS_IN_PAST")):
        refuse(code, f"starts {starts}", time, "publish_program", "shop", **{**second, "starts": starts})
    story.record(time, "publish_program", "shop", **second)


def _earn(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time = "2026-01-31T23:31:00.000Z"
    ada, bob = account["ada"], account["bob"]
    purchase = {"amount": 12_075, "at": "2026-01-30T10:00:00.000Z", "member": ada, "order": "R-1"}
    sale = {"actor": account["shop"], "asset": "STAR", "currency": "EUR"}

    def one(**changes: Any) -> Document:
        return {**sale, "purchases": [{**purchase, **changes}]}

    refuse("UNKNOWN_ACCOUNT", "an unknown buyer", time, "record_purchases", "shop", **one(member=UNKNOWN_MEMBER))
    refuse("UNKNOWN_ACCOUNT", "a merchant buys", time, "record_purchases", "shop", **one(member=account["cafe"]))
    late = "2026-01-31T23:31:01.001Z"
    refuse("AT_IN_FUTURE", "a purchase to come", time, "record_purchases", "shop", **one(at=late))
    old = "2025-12-31T22:59:59.999Z"
    refuse("PROGRAM_MISSING", "a purchase before the program", time, "record_purchases", "shop", **one(at=old))
    refuse("CURRENCY_MISMATCH", "in yen", time, "record_purchases", "shop", **{**one(), "currency": "JPY"})
    refuse("SUPPLY_EXCEEDED", "beyond the cap", time, "record_purchases", "shop", **one(amount=10_000_000))
    purchases = [
        purchase,
        {"amount": 3_000, "at": "2026-01-30T10:05:00.000Z", "member": bob, "order": "R-2"},
        {"amount": 20_000, "at": "2026-01-31T23:30:00.000Z", "member": bob, "order": "R-3"},
        {"amount": 4_999, "at": "2026-01-31T22:59:59.999Z", "member": ada, "order": "R-4"},
    ]
    story.record(time, "record_purchases", "shop", **sale, purchases=purchases)
    refuse("ORDER_EXISTS", "an order that earned nothing", time, "record_purchases", "shop", **one(order="R-2"))
    time = "2026-02-02T12:00:00.000Z"
    mixed = [{**purchase, "at": at, "order": f"R-{i}"} for i, at in enumerate((time, "2026-01-29T12:00:00.000Z"), 5)]
    story.record(time, "record_purchases", "shop", **sale, purchases=mixed)
    grant = {"activity": "birthday", "actor": account["shop"], "amount": 100, "asset": "STAR"}
    grant |= {"member": ada, "reference": "ada/2026"}
    refuse("ACTIVITY_UNKNOWN", "an unknown activity", time, "grant", "shop", **{**grant, "activity": "rain"})
    refuse("GRANT_TOO_LARGE", "a grant too large", time, "grant", "shop", **{**grant, "amount": 101})
    story.record(time, "grant", "shop", **grant)
    refuse("REFERENCE_EXISTS", "granted twice", time, "grant", "shop", **{**grant, "amount": 1})
    closed = {**grant, "reference": "late", "at": "2026-04-01T00:00:00.000Z"}
    refuse("PROGRAM_CLOSED", "a closed program", "2026-04-01T00:00:00.000Z", "grant", "shop", **closed)
    uncapped = {**PROGRAM, "grants": [{"activity": "birthday", "max_points": 2**53 - 1}], "expiry": {"after": "never"}}
    version = {"actor": account["cafe"], "asset": "MUG", "starts": time, "version": 1, "program": uncapped}
    story.record(time, "publish_program", "cafe", **version)
    mug = {**grant, "actor": account["cafe"], "asset": "MUG"}
    story.record(time, "grant", "cafe", **{**mug, "amount": 2**53 - 10})
    refuse("", "up to 2^53-1", time, "grant", "cafe", **{**mug, "amount": 9, "reference": "2"})
    refuse("POINTS_OVERFLOW", "beyond 2^53-1", time, "grant", "cafe", **{**mug, "amount": 10, "reference": "2"})


def _spend(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time = "2026-02-03T18:00:00.000Z"
    ada, bob, school = account["ada"], account["bob"], account["school"]
    gift = {"actor": ada, "asset": "STAR"}

    def to(*recipients: tuple[str, int]) -> Document:
        return {**gift, "recipients": [{"amount": amount, "to": who} for who, amount in recipients]}

    refuse("NOT_PERMITTED", "an auditor gives", time, "transfer", "eve", **{**to((ada, 1)), "actor": account["eve"]})
    refuse("UNKNOWN_ASSET", "of no asset", time, "transfer", "ada", **{**to((bob, 1)), "asset": "DUST"})
    refuse("NOT_TRANSFERABLE", "not transferable", time, "transfer", "ada", **{**to((bob, 1)), "asset": "MUG"})
    refuse("UNKNOWN_ACCOUNT", "to nobody", time, "transfer", "ada", **to((bob, 1), (UNKNOWN_MEMBER, 1)))
    refuse("NOT_A_HOLDER", "to an auditor", time, "transfer", "ada", **to((account["eve"], 1)))
    refuse("INSUFFICIENT_POINTS", "more than there are", time, "transfer", "ada", **to((bob, 1), (school, 10_000)))
    story.record(time, "transfer", "ada", **to((school, 150), (bob, 50), (account["cafe"], 1)))
    spend = {"actor": bob, "amount": 120, "asset": "STAR", "merchant": account["shop"]}
    refuse("UNKNOWN_ACCOUNT", "at a member", time, "redeem", "shop", **{**spend, "merchant": ada})
    refuse("NOT_ACCEPTED", "at another merchant", time, "redeem", "shop", **{**spend, "merchant": account["cafe"]})
    refuse("SIGNATURE_MISSING", "not by its custodian", time, "redeem", "ada", **spend)
    last_moment = "2026-02-28T22:59:59.999Z"
    story.record(last_moment, "redeem", "shop", **spend, reference="B-1")
    time = "2026-02-28T23:00:00.000Z"
    refuse("", "the last of the last lot", time, "redeem", "ada", **{**spend, "actor": ada, "amount": 275})
    refuse("INSUFFICIENT_POINTS", "lots that ended", time, "redeem", "ada", **{**spend, "actor": ada, "amount": 276})
    end = {"actor": account["operator"], "asset": "STAR", "limit": 1, "through": "2026-02-28"}
    refuse("NOT_YET_DUE", "today is a day of use", time, "expire", "operator", **{**end, "through": "2026-03-01"})
    refuse("NOT_PERMITTED", "another merchant expires", time, "expire", "cafe", **{**end, "actor": account["cafe"]})
    refuse("NOTHING_DUE", "nothing due", time, "expire", "operator", **{**end, "through": "2026-02-27"})
    for _ in range(2):
        story.record("2026-03-05T00:00:00.000Z", "expire", "operator", **{**end, "through": "2026-03-04"})


@cache
def keys_story() -> Story:
    """Keys: every way in which they change, and the same operation before and after."""
    story = Story(KEYS_ORIGIN)
    refuse, account = story.refuse, story.accounts
    _found(story, recovery_delay_ms=3_600_000)
    operator = account["operator"]
    time = "2026-01-02T08:00:00.000Z"
    story.open("shop", time, "operator shop", "merchant", keys="shop", name="Shop", actor=operator)
    story.open("ada", time, "ada", "member", keys="ada")
    story.open("bob", time, "shop", "member", actor=account["shop"])
    story.open("cleo", time, "c1 c2 c3", "member", keys="c1 c2 c3", threshold=2)
    story.open("dora", time, "dora", "member", keys="dora")
    for who in story.accounts:
        story.show(who, time)
    _replace(story)
    _recover(story)
    _replace_log_key(story)
    refuse("NO_RECOVERY", "at the end", story.verifier.time, "cancel_recovery", "dora4", **_own(account["dora"]))
    return story


def _own(account: str) -> Document:
    return {"account": account, "actor": account}


def key_texts(names: str) -> list[str]:
    return [key_text(name) for name in names.split()]


def _replace(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time = "2026-01-03T08:00:00.000Z"
    kind = "replace_keys"
    claim = {"actor": account["bob"], "keys": key_texts("bob")}
    refuse("SIGNATURE_MISSING", "a claim without the custodian", time, kind, "bob", **claim)
    refuse("SIGNATURE_MISSING", "a claim without the new key", time, kind, "shop", **claim)
    refuse("SIGNATURE_UNEXPECTED", "a claim with a stranger", time, kind, "shop bob ada", **claim)
    refuse("", "a claim with the custodian's own key", time, kind, "shop", **{**claim, "keys": key_texts("shop")})
    story.record(time, kind, "shop bob", **claim)
    refuse(
        "SIGNATURE_MISSING",
        "the custodian after the claim",
        time,
        kind,
        "shop bob2",
        **{**claim, "keys": key_texts("bob2")},
    )
    story.show("bob", time)
    rotate = {"actor": account["cleo"], "keys": key_texts("c2 c4"), "threshold": 2}
    refuse("SIGNATURE_MISSING", "one of two signs", time, kind, "c1 c4", **rotate)
    refuse("", "a key that is kept need not sign", time, kind, "c1 c3 c4", **rotate)
    refuse("SIGNATURE_MISSING", "the new key does not sign", time, kind, "c1 c2 c3", **rotate)
    story.record(time, kind, "c1 c2 c4", **rotate)
    refuse("SIGNATURE_MISSING", "revoked keys", time, kind, "c1 c3", **{**rotate, "keys": key_texts("c1 c3")})
    refuse(
        "SIGNATURE_UNEXPECTED",
        "a revoked key beside",
        time,
        kind,
        "c1 c2 c4",
        **{**rotate, "keys": key_texts("c2")} | {"threshold": None},
    )
    story.show("cleo", time)
    story.record(time, kind, "operator operator2", actor=account["operator"], keys=key_texts("operator operator2"))
    story.show("operator", time)
    shop = {"actor": account["shop"], "keys": key_texts("shop2")}
    story.record(time, kind, "shop shop2", **shop)
    story.show("shop", time)
    refuse("UNKNOWN_ACCOUNT", "nobody's keys", time, kind, "ada", actor=UNKNOWN_MEMBER, keys=key_texts("ada"))


def _recover(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    operator, ada = account["operator"], account["ada"]
    begun, just_before, then = "2026-01-04T08:00:00.000Z", "2026-01-04T08:59:59.999Z", "2026-01-04T09:00:00.000Z"
    kind = "recover_keys"
    lost = {"account": ada, "actor": operator, "keys": key_texts("ada2")}
    refuse("NOT_PERMITTED", "a merchant recovers", begun, kind, "shop2 ada2", **{**lost, "actor": account["shop"]})
    refuse("NOT_PERMITTED", "a member recovers itself", begun, kind, "ada ada2", **{**lost, "actor": ada})
    refuse(
        "UNKNOWN_ACCOUNT", "nobody is recovered", begun, kind, "operator ada2", **{**lost, "account": UNKNOWN_MEMBER}
    )
    refuse(
        "NOT_PERMITTED", "the operator recovers itself", begun, kind, "operator ada2", **{**lost, "account": operator}
    )
    refuse("SIGNATURE_MISSING", "without the operator", begun, kind, "ada ada2", **lost)
    refuse("SIGNATURE_MISSING", "without the new key", begun, kind, "operator", **lost)
    refuse("SIGNATURE_UNEXPECTED", "with the lost key too", begun, kind, "operator ada ada2", **lost)
    story.show("ada", begun)
    story.record(begun, kind, "operator2 ada2", **lost)
    refuse("RECOVERY_PENDING", "while one is pending", just_before, kind, "operator ada2", **lost)
    refuse("", "once it is in effect", then, kind, "operator ada2", **lost)
    own = {"actor": ada, "keys": key_texts("ada3")}
    for time, old, new in ((just_before, "", "SIGNATURE_MISSING"), (then, "SIGNATURE_MISSING", "")):
        refuse(old, f"the lost key at {time}", time, "replace_keys", "ada ada3", **own)
        refuse(new, f"the recovered key at {time}", time, "replace_keys", "ada2 ada3", **own)
        story.show("ada", time)
    refuse("", "cancelled by the account", just_before, "cancel_recovery", "ada", **_own(ada))
    refuse("", "cancelled by the operator", just_before, "cancel_recovery", "operator", account=ada, actor=operator)
    refuse("SIGNATURE_MISSING", "cancelled by the keys to come", just_before, "cancel_recovery", "ada2", **_own(ada))
    by_shop = {"account": ada, "actor": account["shop"]}
    refuse("NOT_PERMITTED", "cancelled by a merchant", just_before, "cancel_recovery", "shop2", **by_shop)
    refuse("NO_RECOVERY", "cancelled too late", then, "cancel_recovery", "ada2", **_own(ada))
    nobody = {"account": UNKNOWN_MEMBER, "actor": operator}
    refuse("UNKNOWN_ACCOUNT", "nobody's recovery", begun, "cancel_recovery", "operator", **nobody)
    _recover_others(story, then)


def _recover_others(story: Story, time: str) -> None:
    """A recovery after one that took effect; one cancelled; one dropped by other keys; one of an account in custody."""
    refuse, account = story.refuse, story.accounts
    operator, ada, dora = account["operator"], account["ada"], account["dora"]
    story.record(time, "recover_keys", "operator ada4", account=ada, actor=operator, keys=key_texts("ada4"))
    story.show("ada", time)
    story.show("ada", "2026-01-04T10:00:00.000Z")
    story.record(time, "recover_keys", "operator thief", account=dora, actor=operator, keys=key_texts("thief"))
    story.show("dora", time)
    story.record(time, "cancel_recovery", "dora", **_own(dora))
    story.show("dora", "2026-01-05T00:00:00.000Z")
    two = {"account": dora, "actor": operator, "keys": key_texts("dora2 dora3"), "threshold": 2}
    story.record(time, "recover_keys", "operator2 dora2 dora3", **two)
    story.show("dora", "2026-01-05T00:00:00.000Z")
    story.record(time, "replace_keys", "dora dora4", actor=dora, keys=key_texts("dora4"))
    story.show("dora", "2026-01-05T00:00:00.000Z")
    story.open("finn", time, "shop2", "member", actor=account["shop"])
    finn = account["finn"]
    story.show("finn", time)
    story.record(time, "recover_keys", "operator finn", account=finn, actor=operator, keys=key_texts("finn"))
    refuse("", "cancelled by the custodian", time, "cancel_recovery", "shop2", **_own(finn))
    story.show("finn", time)
    story.show("finn", "2026-01-04T10:00:00.000Z")
    story.open("gus", time, "shop2", "member", actor=account["shop"])
    lost = {"account": account["shop"], "actor": operator, "keys": key_texts("shop3")}
    story.record(time, "recover_keys", "operator shop3", **lost)
    for moment in (time, "2026-01-04T10:00:00.000Z"):
        story.show("shop", moment)
        story.show("gus", moment)
    later = "2026-01-04T10:00:00.000Z"
    story.record(later, "replace_keys", "shop3 gus", actor=account["gus"], keys=key_texts("gus"))
    story.record(later, "replace_keys", "finn finn2", actor=finn, keys=key_texts("finn finn2"), threshold=2)
    story.show("finn", later)


def _replace_log_key(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-01-06T08:00:00.000Z", "replace_log_key"
    own = {"actor": account["operator"]}
    old, new, last = (log_key(name, story.origin) for name in ("log", "next log", "last log"))
    refuse("NOT_PERMITTED", "a merchant's log key", time, kind, "shop3", actor=account["shop"], log_key=new)
    refuse("LOG_KEY_USED", "the log key there is", time, kind, "operator", **own, log_key=old)
    refuse("MALFORMED", "a log key of another name", time, kind, "operator", **own, log_key=log_key("log", "a.example"))
    refuse("MALFORMED", "no log key", time, kind, "operator", **own, log_key="")
    witness = naive.verifier_key(story.origin, key("w1"), naive.COSIGNATURE)
    refuse("MALFORMED", "a witness's key", time, kind, "operator", **own, log_key=witness)
    refuse("SIGNATURE_UNEXPECTED", "signed by the log key too", time, kind, "operator log", **own, log_key=new)
    story.record(time, kind, "operator", **own, log_key=new)
    refuse("LOG_KEY_USED", "a log key there was", time, kind, "operator", **own, log_key=old)
    story.open("hal", time, "hal", "member", keys="hal")
    story.record(time, kind, "operator2", **own, log_key=last)
