"""Three ledgers, told step by step and recorded by the reference verifier alone: what vectors of ledgers are made of.

One is about points, one about keys, one about partners. Each step records an entry, or notes an operation that is
refused where the story stands; the reference must refuse it with the code that the story's author meant. Everything is
determined: keys are SHA-256 of their names, nonces of their numbers. Nothing of the implementation is imported.
"""

import base64
import copy
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
        self.ids: dict[str, str] = {}
        self._nonces = 0

    def operation(self, kind: str, at: str, fields: Document) -> Document:
        """An operation with a nonce of its own; a field that is None is left out."""
        nonce = hashlib.sha256(f"guerdon vector nonce {self.origin} {self._nonces}".encode()).digest()[:16]
        self._nonces += 1
        common = {"at": at, "guerdon": 1, "kind": kind, "ledger": self.origin, "nonce": base64url(nonce)}
        return {name: value for name, value in {**common, **fields}.items() if value is not None}

    def record(self, time: str, kind: str, signers: str, /, **fields: Any) -> str:
        """Make a signed operation the next entry; give its id in hex."""
        op = self.operation(kind, time, fields)
        op_bytes = reference.encode(op)
        sigs = signatures(op_bytes, signers)
        reference.check_operation(op)
        postings = self.replica.decide(op, {item["key"] for item in sigs}, time)
        entry = {"op": op, "postings": postings, "prev": self.verifier.prev, "seq": len(self.data)}
        data = reference.encode({**entry, "sigs": sigs, "time": time})
        self.verifier.add(data)
        self.data.append(data)
        return hashlib.sha256(op_bytes).hexdigest()

    def open(self, who: str, time: str, signers: str, role: str, /, *, keys: str = "", **fields: Any) -> None:
        """Open an account that :attr:`accounts` then has under a name."""
        given = [key_text(name) for name in keys.split()] or None
        op_id = self.record(time, "open_account", signers, role=role, keys=given, **fields)
        self.accounts[who] = reference.account_id(role, bytes.fromhex(op_id))

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

    def vectors(self, about: str, *, every_posting: bool = True) -> dict[str, Any]:
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
            "forged": list(forgeries(self.data, every_posting=every_posting)),
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


def forgeries(chain: list[bytes], *, every_posting: bool) -> Iterator[Case]:
    """Entries changed so that they still are JSON: each makes a verifier in full refuse it, and ``light`` ones both.

    Postings are changed of every entry, or of the first of each kind.
    """
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
    seen: set[str] = set()
    for seq, data in enumerate(chain):
        entry = json.loads(data)
        if entry["postings"] and (every_posting or entry["op"]["kind"] not in seen):
            seen.add(entry["op"]["kind"])
            changes += [
                (f"a posting of entry {seq} left out", seq, True, lambda entry: entry["postings"].pop()),
                (f"a posting of entry {seq} raised", seq, False, _raise_posting),
                (f"postings of entry {seq} exchanged", seq, False, lambda entry: entry["postings"].reverse()),
            ]
    prefixes = _Prefixes(chain)
    for name, seq, light, change in changes:
        entry = json.loads(chain[seq])
        change(entry)
        data = reference.encode(entry)
        assert data != chain[seq]
        yield _forged(prefixes, name, seq, data, light=light)
    loose = json.dumps(json.loads(chain[last]), sort_keys=True, ensure_ascii=False).encode()
    yield _forged(prefixes, "spaces", last, loose, light=True)
    yield _forged(prefixes, "a repeated entry", last, chain[last - 1], light=True)


class _Prefixes:
    """Verifiers that have taken in the first entries of a chain."""

    def __init__(self, chain: list[bytes]) -> None:
        self.chain = chain
        self._kept = {light: reference.Verifier(light=light) for light in (False, True)}

    def verifier(self, size: int, *, light: bool) -> reference.Verifier:
        """One of so many entries, which may be spoilt."""
        if self._kept[light].size > size:
            self._kept[light] = reference.Verifier(light=light)
        for data in self.chain[self._kept[light].size : size]:
            self._kept[light].add(data)
        return copy.deepcopy(self._kept[light])


def _forged(prefixes: _Prefixes, name: str, seq: int, data: bytes, *, light: bool) -> Case:
    for depth in (False, True) if light else (False,):
        verifier = prefixes.verifier(seq, light=depth)
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


PARTNERS_ORIGIN = "vectors.example/partners"
AGREED = "2026-01-02T12:00:00.000Z"

BANDED = {
    "approval_above": 200,
    "bands": [{"from": 5_000, "per": 100, "points": 1}, {"from": 10_000, "per": 100, "points": 2}],
    "currency": "EUR",
    "expiry": {"after": "months", "count": 1},
    "grants": [{"activity": "birthday", "max_points": 5_000}],
    "returned_lot_days": 10,
    "round_amount": "whole_units",
    "round_points": "down",
    "time_zone": "Europe/Berlin",
}
"""1 point for each euro from 50 to 100, 2 above: 120.00 gives 90, and 40 when 30.00 of it are refunded."""

LASTING = {"bands": [{"from": 0, "per": 100, "points": 1}], "currency": "EUR", "expiry": {"after": "never"}}
LASTING |= {"round_amount": "none", "round_points": "down", "time_zone": "UTC"}


@cache
def partners_story() -> Story:
    """Partners: what merchants agree on, points that cross from one to another, and what they then owe each other."""
    story = Story(PARTNERS_ORIGIN)
    _found(story)
    operator = story.accounts["operator"]
    time = "2026-01-02T08:00:00.000Z"
    shop = {"name": "Shop", "actor": operator, "approval_threshold": 2}
    story.open("shop", time, "operator shop till boss", "merchant", keys="shop till boss", **shop)
    for who in ("cafe", "bakery", "kiosk"):
        story.open(who, time, f"operator {who}", "merchant", keys=who, name=who.title(), actor=operator)
    story.open("school", time, "operator school", "beneficiary", keys="school", name="School", actor=operator)
    story.open("eve", time, "operator eve", "auditor", keys="eve", name="Eve & Co", actor=operator)
    for who in ("ada", "bob", "dora"):
        story.open(who, time, who, "member", keys=who)
    story.open("cleo", time, "cafe", "member", actor=story.accounts["cafe"])
    for who in story.accounts:
        story.show(who, time)
    _define_partners_assets(story)
    _agree_to_exchange(story)
    _agree_to_accept_and_earn(story)
    _earn_from_partners(story)
    _exchange(story)
    _pass_on(story)
    _redeem_at_partners(story)
    _hold(story)
    _refund(story)
    _owe(story)
    _correct(story)
    _freeze(story)
    _clear(story)
    _end_agreements(story)
    _hold_too_often(story)
    return story


def _define_partners_assets(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time = "2026-01-02T09:00:00.000Z"
    worth = {"amount": 3, "currency": "EUR", "points": 2}

    def asset(who: str, code: str, **fields: Any) -> Document:
        return {"actor": account[who], "asset": code, "name": code.title(), "scale": 0, "transferable": True, **fields}

    story.record(time, "define_asset", "shop", **asset("shop", "STAR", supply_cap=20_000, value=worth))
    story.record(time, "define_asset", "cafe", **asset("cafe", "MUG", transferable=False))
    story.record(time, "define_asset", "bakery", **asset("bakery", "CRUMB", supply_cap=1_000))
    fee = {"amount": 1, "currency": "EUR", "fixed": 3_000, "points": 1, "round": "down"}
    terms: Document = {"fee": fee, "in_cap": {"period": "year", "points": 300_000}, "maximum": 30_000}
    terms |= {"minimum": 2_000, "out_cap": {"period": "year", "points": 150_000}, "step": 1_000}
    dollars = {**terms, "fee": {**fee, "currency": "USD"}}
    code = "UNKNOWN_CURRENCY"
    refuse(code, "a fee in USD", time, "define_asset", "shop", **asset("shop", "MILE", transfer_terms=dollars))
    story.record(time, "define_asset", "shop", **asset("shop", "MILE", transfer_terms=terms))

    def version(who: str, code: str, number: int, starts: str, program: Document) -> Document:
        return {"actor": account[who], "asset": code, "program": program, "starts": starts, "version": number}

    kind, begin = "publish_program", "2026-01-01T00:00:00.000Z"
    first = version("shop", "STAR", 1, begin, BANDED)
    refuse("APPROVAL_MISSING", "a program that one key signs", time, kind, "till", **first)
    story.record(time, kind, "shop till", **first)
    second = {**BANDED, "refunds": "negative"}
    del second["returned_lot_days"]
    story.record(time, kind, "till boss", **version("shop", "STAR", 2, "2026-02-01T00:00:00.000Z", second))
    third = {**second, "refunds": "owe", "expiry": {"after": "months", "count": 12}}
    story.record(time, kind, "shop boss", **version("shop", "STAR", 3, "2026-03-01T00:00:00.000Z", third))
    owing = {**LASTING, "refunds": "owe"}
    refuse("VALUE_MISSING", "owed, worth nothing", time, kind, "cafe", **version("cafe", "MUG", 1, begin, owing))
    story.record(time, kind, "cafe", **version("cafe", "MUG", 1, begin, LASTING))
    yearly = {**LASTING, "expiry": {"after": "year_end", "count": 0}}
    story.record(time, kind, "bakery", **version("bakery", "CRUMB", 1, begin, yearly))
    late = {**LASTING, "grants": [{"activity": "birthday", "max_points": 200_000}], "approval_above": 0}
    mile = version("shop", "MILE", 1, "2026-01-03T00:00:00.000Z", late)
    story.record(time, kind, "shop boss", **mile)
    keys = {"actor": account["shop"], "keys": key_texts("shop till boss"), "approval_threshold": 3}
    refuse("APPROVAL_MISSING", "new keys that one key signs", time, "replace_keys", "till", **keys)
    refuse("", "new keys that two keys sign", time, "replace_keys", "till boss", **keys)
    claim = {"actor": account["cleo"], "keys": key_texts("cleo")}
    refuse("", "a claim needs no approval", time, "replace_keys", "cafe cleo", **claim)


def _exchange_terms(account: dict[str, str]) -> Document:
    """4 STAR for 3 MUG and 50 more for each 1,000; 0.06 euros for 100 points to the cafe, which the shop pays 2.5."""
    claim = {"amount": 5, "currency": "EUR", "debtor": account["shop"], "points": 2, "round": "half_up"}
    fee = {"amount": 6, "currency": "EUR", "kept_by": account["cafe"], "maximum": 99, "points": 100, "round": "up"}
    return {
        "type": "exchange",
        "asset": "STAR",
        "into": "MUG",
        "rate": {"get": 3, "give": 4},
        "received": "retired",
        "bonus": {"block": 1_000, "points": 50},
        "claim": claim,
        "fee": fee,
        "holder_cap": {"period": "month", "points": 2_500},
        "maximum": 2_000,
        "minimum": 100,
        "step": 10,
        "total_cap": {"period": "ever", "points": 2_600},
    }


def _agreement(story: Story, actor: str, partner: str, terms: Document, **fields: Any) -> Document:
    parties = {"actor": story.accounts[actor], "partner": story.accounts[partner]}
    return {**parties, "notice_days": 30, "starts": AGREED, "terms": terms, "version": 1, **fields}


def _agree_to_exchange(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = AGREED, "agree"
    terms = _exchange_terms(account)
    deal = _agreement(story, "shop", "cafe", terms)
    both = "shop boss cafe"
    plain = {name: value for name, value in terms.items() if name not in ("claim", "fee")}
    with_nobody = {**deal, "partner": UNKNOWN_MEMBER, "terms": plain}
    refuse("UNKNOWN_ACCOUNT", "agreed with nobody", time, kind, both, **with_nobody)
    refuse("SIGNATURE_MISSING", "without the partner", time, kind, "shop boss", **deal)
    refuse("SIGNATURE_MISSING", "without the issuer", time, kind, "cafe", **deal)
    refuse("SIGNATURE_UNEXPECTED", "with a stranger", time, kind, f"{both} ada", **deal)
    refuse("APPROVAL_MISSING", "one key of the issuer", time, kind, "shop cafe", **deal)
    by_ada = _agreement(story, "ada", "cafe", plain)
    refuse("NOT_PERMITTED", "a member agrees", time, kind, "ada cafe", **by_ada)
    with_bob = _agreement(story, "shop", "bob", plain)
    refuse("UNKNOWN_ACCOUNT", "agreed with a member", time, kind, "shop till bob", **with_bob)
    with_school = _agreement(story, "shop", "school", plain)
    refuse("UNKNOWN_ACCOUNT", "an exchange with a beneficiary", time, kind, "shop till school", **with_school)
    for name, changes, code in (
        ("an exchange of no asset", {"asset": "DUST"}, "UNKNOWN_ASSET"),
        ("an exchange of another's asset", {"asset": "CRUMB"}, "NOT_PERMITTED"),
        ("an exchange into no asset", {"into": "DUST"}, "UNKNOWN_ASSET"),
        ("an exchange into what the partner did not issue", {"into": "CRUMB"}, "NOT_PERMITTED"),
        ("a fee in dollars", {"fee": {**terms["fee"], "currency": "USD"}}, "UNKNOWN_CURRENCY"),
        ("a claim in dollars", {"claim": {**terms["claim"], "currency": "USD"}}, "UNKNOWN_CURRENCY"),
    ):
        refuse(code, name, time, kind, both, **{**deal, "terms": {**terms, **changes}})
    refuse("VERSION_CONFLICT", "the second version first", time, kind, both, **{**deal, "version": 2})
    for starts, code in (("2026-01-02T11:59:59.000Z", ""), ("2026-01-02T11:59:58.999Z", "STARTS_IN_PAST")):
        refuse(code, f"an agreement from {starts}", time, kind, both, **{**deal, "starts": starts})
    story.record(time, kind, both, **deal)
    refuse("VERSION_CONFLICT", "the first version again", time, kind, both, **deal)

    def ways(asset: str, into: str, get: int, give: int, **fields: Any) -> Document:
        rate = {"get": get, "give": give}
        return {"type": "exchange", "asset": asset, "into": into, "rate": rate, "received": "kept", **fields}

    onward = ways("MUG", "CRUMB", 1, 1, off_step="down", step=10)
    story.record(time, kind, "cafe bakery", **_agreement(story, "cafe", "bakery", onward))
    back = _agreement(story, "bakery", "shop", ways("CRUMB", "STAR", 5, 4))
    refuse("", "a loop that gives what it takes", time, kind, "bakery shop boss", **back)
    paying = {**back, "terms": ways("CRUMB", "STAR", 5_001, 4_000)}
    refuse("PAYING_LOOP", "a loop that pays", time, kind, "bakery shop boss", **paying)
    there_and_back = _agreement(story, "cafe", "shop", ways("MUG", "STAR", 4, 3))
    refuse("PAYING_LOOP", "there and back by the bonus", time, kind, "cafe shop boss", **there_and_back)
    story.record(time, kind, "bakery shop boss", **{**back, "terms": ways("CRUMB", "STAR", 1, 1)})
    better = _agreement(story, "cafe", "bakery", ways("MUG", "CRUMB", 5, 4), version=2)
    story.record(time, kind, "cafe bakery", **{**better, "starts": "2026-06-01T00:00:00.000Z"})
    soon = {**back, "terms": ways("CRUMB", "STAR", 11, 10), "version": 2, "starts": "2026-03-01T00:00:00.000Z"}
    refuse("PAYING_LOOP", "a loop that will pay", time, kind, "bakery shop boss", **soon)
    for ends, code in (("2026-06-01T00:00:00.000Z", ""), ("2026-06-01T00:00:00.001Z", "PAYING_LOOP")):
        refuse(code, f"a loop until {ends}", time, kind, "bakery shop boss", **{**soon, "ends": ends})


def _agree_to_accept_and_earn(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = AGREED, "agree"
    claim = {"amount": 1, "currency": "EUR", "debtor": account["shop"], "points": 3, "round": "half_up"}
    at_kiosk = {"type": "acceptance", "asset": "STAR", "received": "retired", "claim": claim, "minimum": 10, "step": 2}
    at_kiosk |= {"maximum": 300, "holder_cap": {"period": "day", "points": 400}}
    at_kiosk |= {"total_cap": {"period": "month", "points": 450}}
    story.record(time, kind, "shop till kiosk", **_agreement(story, "shop", "kiosk", at_kiosk))
    at_bakery = {"type": "acceptance", "asset": "STAR", "received": "kept"}
    story.record(time, kind, "shop till bakery", **_agreement(story, "shop", "bakery", at_bakery))
    donated = {"type": "acceptance", "asset": "STAR", "received": "retired", "claim": {**claim, "round": "down"}}
    story.record(time, kind, "shop till school", **_agreement(story, "shop", "school", donated))
    sold = {"amount": 2, "currency": "EUR", "debtor": account["kiosk"], "points": 1, "round": "down"}
    prepaid = {"type": "earning", "asset": "STAR", "billing": "prepaid", "alert_below": 50, "claim": sold}
    earning = _agreement(story, "shop", "kiosk", prepaid)
    kiosk_sale = {"actor": account["kiosk"], "asset": "STAR", "currency": "EUR", "purchases": [_sale(story, "K-0")]}
    refuse("NOT_PERMITTED", "a partner before they agree", time, "record_purchases", "kiosk", **kiosk_sale)
    story.record(time, kind, "shop till kiosk", **{**earning, "ends": "2026-04-01T00:00:00.000Z"})
    billed = {**prepaid, "billing": "postpaid", "claim": {**sold, "debtor": account["cafe"]}}
    billed |= {"total_cap": {"period": "month", "points": 400}}
    del billed["alert_below"]
    story.record(time, kind, "shop till cafe", **_agreement(story, "shop", "cafe", billed))


def _sale(story: Story, order: str, **changes: Any) -> Document:
    """A purchase of 120.00 by bob, good for 90 points."""
    sale = {"amount": 12_000, "at": "2026-01-02T10:00:00.000Z", "member": story.accounts["bob"], "order": order}
    return {**sale, **changes}


def _sales(story: Story, who: str, *purchases: Document) -> Document:
    return {"actor": story.accounts[who], "asset": "STAR", "currency": "EUR", "purchases": list(purchases)}


def _earn_from_partners(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time = "2026-01-05T12:00:00.000Z"
    kind = "record_purchases"
    later_lot = _sale(story, "S-2", amount=7_000, at=time)
    story.record(time, kind, "shop", **_sales(story, "shop", _sale(story, "S-1", member=account["ada"]), later_lot))
    birthday = {"activity": "birthday", "actor": account["shop"], "asset": "STAR", "member": account["ada"]}
    refuse("", "a grant that one key signs", time, "grant", "till", **birthday, amount=200, reference="1")
    large = {**birthday, "amount": 4_000, "reference": "1"}
    refuse("APPROVAL_MISSING", "a large grant that one key signs", time, "grant", "till", **large)
    story.record(time, "grant", "till shop", **large)
    miles = {**large, "asset": "MILE", "reference": "2"}
    refuse("APPROVAL_MISSING", "where all grants are large", time, "grant", "shop", **miles)
    one = _sales(story, "kiosk", _sale(story, "K-1"))
    refuse("ALLOTMENT_USED_UP", "before an allotment", time, kind, "kiosk", **one)
    nothing = _sales(story, "kiosk", _sale(story, "K-1", amount=4_999))
    refuse("", "no points need no allotment", time, kind, "kiosk", **nothing)
    block = {"actor": account["shop"], "asset": "STAR", "partner": account["kiosk"], "points": 250, "reference": "A-1"}
    allot = "allot"
    refuse("UNKNOWN_ACCOUNT", "allotted to nobody", time, allot, "shop", **{**block, "partner": UNKNOWN_MEMBER})
    refuse("SIGNATURE_MISSING", "an allotment nobody bought", time, allot, "shop", **block)
    refuse("UNKNOWN_ASSET", "an allotment of no asset", time, allot, "shop kiosk", **{**block, "asset": "DUST"})
    mugs = {**block, "asset": "MUG"}
    refuse("NOT_PERMITTED", "an allotment of another's asset", time, allot, "shop kiosk", **mugs)
    to_cafe = {**block, "partner": account["cafe"]}
    refuse("NO_AGREEMENT", "allotted to who pays later", time, allot, "shop cafe", **to_cafe)
    over = "2026-04-01T00:00:00.000Z"
    refuse("NO_AGREEMENT", "allotted when it is over", over, allot, "shop kiosk", **block)
    story.record(time, allot, "till kiosk", **block)
    refuse("REFERENCE_EXISTS", "allotted twice", time, allot, "shop kiosk", **block)
    most = {**block, "reference": "A-2", "points": 2**53 - 1}
    refuse("POINTS_OVERFLOW", "more than can be left", time, allot, "shop kiosk", **most)
    dear = {**most, "points": 2**53 - 251}
    refuse("AMOUNT_OVERFLOW", "more than can be owed", time, allot, "shop kiosk", **dear)
    story.record(time, kind, "kiosk", **one)
    two = [_sale(story, f"K-{i}") for i in (2, 3)]
    refuse("ALLOTMENT_USED_UP", "more than is left of it all", time, kind, "kiosk", **_sales(story, "kiosk", *two))
    story.record(time, kind, "kiosk", **_sales(story, "kiosk", two[0]))
    gift = {**birthday, "actor": account["kiosk"], "reference": "3"}
    refuse("", "a grant by a partner", time, "grant", "kiosk", **gift, amount=70)
    refuse("ALLOTMENT_USED_UP", "a grant of more than is left", time, "grant", "kiosk", **gift, amount=71)
    by_cafe = _sales(story, "cafe", _sale(story, "S-1"), _sale(story, "C-2"))
    story.record(time, kind, "cafe", **by_cafe)
    by_cafe["purchases"] = [_sale(story, f"C-{i}") for i in (3, 4, 5)]
    refuse("CAP_EXCEEDED", "more than a partner may give", time, kind, "cafe", **by_cafe)
    next_month = "2026-02-01T00:00:00.000Z"
    refuse("", "in the next month", next_month, kind, "cafe", **by_cafe)


def _exchange(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-01-06T12:00:00.000Z", "exchange"

    def swap(amount: int, **fields: Any) -> Document:
        limits = {"asset": "STAR", "into": "MUG", "maximum_fee": 99, "minimum_out": 1}
        return {"actor": account["ada"], "amount": amount, **limits, **fields}

    refuse("NOT_PERMITTED", "an auditor exchanges", time, kind, "eve", **swap(100, actor=account["eve"]))
    refuse("UNKNOWN_ASSET", "exchanged from dust", time, kind, "ada", **swap(100, asset="DUST"))
    refuse("UNKNOWN_ASSET", "exchanged to dust", time, kind, "ada", **swap(100, into="DUST"))
    refuse("NO_AGREEMENT", "nobody agreed on it", time, kind, "ada", **swap(100, into="CRUMB"))
    refuse("NO_AGREEMENT", "before it starts", "2026-01-02T11:59:59.999Z", kind, "ada", **swap(100))
    refuse("OFF_STEP", "off the step", time, kind, "ada", **swap(1_005))
    refuse("BELOW_MINIMUM", "below the minimum", time, kind, "ada", **swap(90))
    refuse("ABOVE_MAXIMUM", "above the maximum", time, kind, "ada", **swap(2_010))
    refuse("OUTCOME_TOO_SMALL", "less than wanted", time, kind, "ada", **swap(1_990, minimum_out=1_543))
    refuse("", "just what is wanted", time, kind, "ada", **swap(1_990, minimum_out=1_542))
    refuse("FEE_ABOVE_LIMIT", "a fee above the limit", time, kind, "ada", **swap(110, maximum_fee=6))
    refuse("", "a fee at the limit", time, kind, "ada", **swap(110, maximum_fee=7))
    refuse("INSUFFICIENT_POINTS", "more than there is", time, kind, "bob", **swap(1_000, actor=account["bob"]))
    story.ids["swap"] = story.record(time, kind, "ada", **swap(2_000, minimum_out=1_600))
    refuse("CAP_EXCEEDED", "more than a holder may", time, kind, "ada", **swap(510))
    refuse("", "as much as a holder may", time, kind, "ada", **swap(500))
    later = "2026-01-31T23:00:00.000Z"
    refuse("", "in the next month at home", later, kind, "ada", **swap(600))
    refuse("CAP_EXCEEDED", "more than all may", later, kind, "ada", **swap(610))
    crumbs: Document = {"asset": "MUG", "into": "CRUMB", "maximum_fee": None}
    refuse("BELOW_MINIMUM", "nothing is left of it", time, kind, "ada", **swap(9, **crumbs))
    refuse("SUPPLY_EXCEEDED", "more than the cap of the other", time, kind, "ada", **swap(1_019, **crumbs))
    refuse("", "rounded down to a step", time, kind, "ada", **swap(1_009, **crumbs))
    story.ids["onward"] = story.record(time, kind, "ada", **swap(309, **crumbs))


def _pass_on(story: Story) -> None:
    """Transfers with bounds, a fee and caps."""
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-01-10T12:00:00.000Z", "transfer"
    birthday = {"activity": "birthday", "actor": account["shop"], "asset": "MILE"}
    for i, (who, amount) in enumerate((("ada", 200_000), ("bob", 200_000), ("cleo", 40_000))):
        story.record(time, "grant", "shop till", **birthday, amount=amount, member=account[who], reference=f"m{i}")

    def send(who: str, *recipients: tuple[str, int], fee: int | None = 33_000) -> Document:
        given = [{"amount": amount, "to": account[to]} for to, amount in recipients]
        return {"actor": account[who], "asset": "MILE", "maximum_fee": fee, "recipients": given}

    refuse("OFF_STEP", "one of two off the step", time, kind, "ada", **send("ada", ("bob", 4_000), ("cleo", 1_500)))
    refuse("BELOW_MINIMUM", "a thousand", time, kind, "ada", **send("ada", ("bob", 1_000)))
    refuse("ABOVE_MAXIMUM", "31,000", time, kind, "ada", **send("ada", ("bob", 16_000), ("cleo", 15_000)))
    refuse("FEE_ABOVE_LIMIT", "no fee wanted", time, kind, "ada", **send("ada", ("bob", 2_000), fee=None))
    refuse("FEE_ABOVE_LIMIT", "a cent short", time, kind, "ada", **send("ada", ("bob", 2_000), fee=4_999))
    refuse("", "20.00 and 30.00", time, kind, "ada", **send("ada", ("bob", 2_000), fee=5_000))
    for _ in range(4):
        story.record(time, kind, "ada", **send("ada", ("dora", 30_000)))
    story.record(time, kind, "ada", **send("ada", ("shop", 30_000)))
    refuse("CAP_EXCEEDED", "the sixth 30,000", time, kind, "ada", **send("ada", ("bob", 30_000)))
    refuse("", "in the next year", "2027-01-01T00:00:00.000Z", kind, "ada", **send("ada", ("bob", 30_000)))
    for _ in range(5):
        story.record(time, kind, "bob", **send("bob", ("dora", 30_000)))
    story.record(time, kind, "cafe", **send("cleo", ("dora", 30_000)))
    refuse(
        "CAP_EXCEEDED", "more than dora may get", time, kind, "cafe", **send("cleo", ("bob", 2_000), ("dora", 2_000))
    )
    refuse("", "the issuer may get more", time, kind, "cafe", **send("cleo", ("bob", 2_000), ("shop", 2_000)))


def _redeem_at_partners(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-01-12T12:00:00.000Z", "redeem"

    def spend(amount: int, merchant: str, **fields: Any) -> Document:
        return {"actor": account["ada"], "amount": amount, "asset": "STAR", "merchant": account[merchant], **fields}

    refuse("UNKNOWN_ACCOUNT", "at a member", time, kind, "ada", **spend(10, "bob"))
    refuse("NOT_ACCEPTED", "where nobody agreed", time, kind, "ada", **spend(10, "cafe"))
    refuse("OFF_STEP", "an odd amount", time, kind, "ada", **spend(3, "kiosk"))
    refuse("BELOW_MINIMUM", "below the least", time, kind, "ada", **spend(8, "kiosk"))
    refuse("ABOVE_MAXIMUM", "above the most", time, kind, "ada", **spend(302, "kiosk"))
    story.ids["at kiosk"] = story.record(time, kind, "ada", **spend(284, "kiosk", reference="B-1"))
    refuse("CAP_EXCEEDED", "above the day's", time, kind, "ada", **spend(118, "kiosk"))
    tomorrow = "2026-01-12T23:00:00.000Z"
    refuse("", "on the next day at home", tomorrow, kind, "ada", **spend(166, "kiosk"))
    refuse("CAP_EXCEEDED", "above the month's", tomorrow, kind, "ada", **spend(168, "kiosk"))
    refuse("INSUFFICIENT_POINTS", "more than bob has", time, kind, "bob", **spend(600, "shop", actor=account["bob"]))
    story.ids["at bakery"] = story.record(time, kind, "ada", **spend(100, "bakery"))
    story.ids["at school"] = story.record(time, kind, "ada", **spend(100, "school"))
    story.ids["at shop"] = story.record(time, kind, "ada", **spend(6, "shop"))


def _hold(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-01-20T12:00:00.000Z", "hold"
    until = "2026-01-21T12:00:00.000Z"

    def hold(amount: int, merchant: str, **fields: Any) -> Document:
        where = {"asset": "STAR", "merchant": account[merchant], "until": until}
        return {"actor": account["bob"], "amount": amount, **where, **fields}

    refuse("NOT_PERMITTED", "an auditor holds", time, kind, "eve", **hold(10, "shop", actor=account["eve"]))
    refuse("UNKNOWN_ASSET", "dust is held", time, kind, "bob", **hold(10, "shop", asset="DUST"))
    refuse("UNKNOWN_ACCOUNT", "held for a beneficiary", time, kind, "bob", **hold(10, "school"))
    refuse("NOT_ACCEPTED", "held where nobody agreed", time, kind, "bob", **hold(10, "cafe"))
    refuse("OFF_STEP", "held off the step", time, kind, "bob", **hold(11, "kiosk"))
    for then, code in (
        (time, "UNTIL_OUT_OF_RANGE"),
        ("2026-01-20T12:00:00.001Z", ""),
        ("2027-01-21T12:00:00.000Z", ""),
        ("2027-01-21T12:00:00.001Z", "UNTIL_OUT_OF_RANGE"),
    ):
        refuse(code, f"held until {then}", time, kind, "bob", **hold(10, "shop", until=then))
    refuse("INSUFFICIENT_POINTS", "held above the balance", time, kind, "bob", **hold(381, "shop"))
    names = []
    for amount, merchant in ((100, "kiosk"), (60, "bakery"), (40, "shop"), (30, "shop"), (25, "bakery")):
        op_id = story.record(time, kind, "bob", **hold(amount, merchant))
        names.append(reference.hold_id(bytes.fromhex(op_id)))
    at_kiosk, at_bakery, released, lapsing, forgotten = names
    refuse("INSUFFICIENT_POINTS", "what is held is not spent", time, "redeem", "bob", **_spend_all(account, 126))
    refuse("", "what is not held", time, "redeem", "bob", **_spend_all(account, 125))

    def capture(who: str, name: str, amount: int, **fields: Any) -> Document:
        return {"actor": account[who], "amount": amount, "hold": name, **fields}

    kind, nothing = "capture", "hld_" + "a" * 26
    refuse("UNKNOWN_HOLD", "no such hold", time, kind, "kiosk", **capture("kiosk", nothing, 1))
    refuse("UNKNOWN_HOLD", "held for another", time, kind, "shop", **capture("shop", at_kiosk, 1))
    refuse("HOLD_EXCEEDED", "more than is held", time, kind, "kiosk", **capture("kiosk", at_kiosk, 101))
    for i, amount in enumerate((1, 1, 50)):
        story.ids[f"captured {i}"] = story.record(time, kind, "kiosk", **capture("kiosk", at_kiosk, amount))
    refuse("HOLD_EXCEEDED", "more than is left", time, kind, "kiosk", **capture("kiosk", at_kiosk, 49))
    refuse("", "on the last millisecond", until, kind, "kiosk", **capture("kiosk", at_kiosk, 48))
    late = "2026-01-21T12:00:00.001Z"
    refuse("HOLD_LAPSED", "a millisecond late", late, kind, "kiosk", **capture("kiosk", at_kiosk, 1))
    story.record(time, kind, "kiosk", **capture("kiosk", at_kiosk, 20, final=True, reference="B-2"))
    refuse("HOLD_CLOSED", "after the final one", time, kind, "kiosk", **capture("kiosk", at_kiosk, 1))
    story.ids["kept"] = story.record(time, kind, "bakery", **capture("bakery", at_bakery, 60))
    refuse("HOLD_CLOSED", "when all is captured", time, kind, "bakery", **capture("bakery", at_bakery, 1))
    kind = "release"
    refuse("UNKNOWN_HOLD", "released, not there", time, kind, "shop", actor=account["shop"], hold=nothing)
    refuse("NOT_PERMITTED", "released by its holder", time, kind, "bob", actor=account["bob"], hold=released)
    refuse("", "released by anyone", late, kind, "bob", actor=account["bob"], hold=released)
    story.record(time, kind, "boss", actor=account["shop"], hold=released)
    refuse("HOLD_CLOSED", "released twice", time, kind, "shop", actor=account["shop"], hold=released)
    story.record(late, kind, "eve", actor=account["eve"], hold=lapsing)
    refuse("HOLD_CLOSED", "released by time", late, "capture", "shop", **capture("shop", lapsing, 1))
    refuse("", "lapsed holds can be spent", late, "redeem", "bob", **_spend_all(account, 248))
    refuse("INSUFFICIENT_POINTS", "all lapsed holds", late, "redeem", "bob", **_spend_all(account, 249))
    past = "2026-02-02T23:00:00.000Z"
    refuse("INSUFFICIENT_POINTS", "a lot that ended while held", past, "redeem", "bob", **_spend_all(account, 21))
    story.ids["two lots"] = story.record(late, "redeem", "bob", **_spend_all(account, 240))
    refuse("HOLD_CLOSED", "returned by a redemption", late, "release", "eve", actor=account["eve"], hold=forgotten)


def _spend_all(account: dict[str, str], amount: int) -> Document:
    return {"actor": account["bob"], "amount": amount, "asset": "STAR", "merchant": account["shop"]}


def _back(story: Story, who: str, of: Document, number: str, **fields: Any) -> Document:
    return {"actor": story.accounts[who], "asset": "STAR", "of": of, "reference": number, **fields}


def _purchase(order: str, amount: int) -> Document:
    return {"type": "purchase", "amount": amount, "order": order}


def _spending(op_id: str, amount: int, of: str = "redemption") -> Document:
    return {"type": of, "amount": amount, "operation": op_id}


def _refund(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-01-25T12:00:00.000Z", "refund"
    part = _back(story, "shop", _purchase("S-1", 3_000), "1")
    refuse("UNKNOWN_ASSET", "a refund of dust", time, kind, "shop", **{**part, "asset": "DUST"})
    refuse("UNKNOWN_ORIGINAL", "no such order", time, kind, "shop", **{**part, "of": _purchase("S-9", 1)})
    refuse("UNKNOWN_ORIGINAL", "an order of another asset", time, kind, "shop", **{**part, "asset": "MILE"})
    refuse("UNKNOWN_ORIGINAL", "an order of another", time, kind, "kiosk", **{**part, "actor": account["kiosk"]})
    refuse("REFUND_TOO_LARGE", "more than was paid", time, kind, "shop", **{**part, "of": _purchase("S-1", 12_001)})
    story.record(time, kind, "shop", **part)
    refuse("REFERENCE_EXISTS", "refunded twice", time, kind, "shop", **part)
    rest = {**part, "reference": "2", "of": _purchase("S-1", 9_001)}
    refuse("REFUND_TOO_LARGE", "more than is left of it", time, kind, "shop", **rest)
    story.record(time, kind, "shop", **{**rest, "of": _purchase("S-1", 4_000)})
    story.record(time, kind, "shop", **{**rest, "reference": "3", "of": _purchase("S-1", 5_000)})
    for i, amount in enumerate((20, 82), 4):
        story.record(time, kind, "shop", **_back(story, "shop", _spending(story.ids["two lots"], amount), str(i)))
    story.record(time, kind, "shop", **_back(story, "shop", _purchase("S-2", 7_000), "6"))
    version = next(_entry(data)["op"] for data in story.data if _is_billed(data))
    dearer = {**version["terms"], "claim": {**version["terms"]["claim"], "amount": 5}}
    again = _agreement(story, "shop", "cafe", dearer, starts=time, version=2)
    story.record(time, "agree", "shop till cafe", **again)
    story.record(time, kind, "cafe", **_back(story, "cafe", _purchase("C-2", 3_000), "1"))
    story.record(time, kind, "kiosk", **_back(story, "kiosk", _purchase("K-1", 12_000), "1"))
    story.record(time, kind, "kiosk", **_back(story, "kiosk", _purchase("K-2", 12_000), "2"))
    gift = {"activity": "birthday", "actor": account["kiosk"], "asset": "STAR", "member": account["ada"]}
    refuse("", "what came back is given again", time, "grant", "kiosk", **gift, amount=110, reference="3")
    refuse("ALLOTMENT_USED_UP", "more than came back", time, "grant", "kiosk", **gift, amount=111, reference="3")
    _refund_redemptions(story, time)
    _refund_exchanges(story, time)


def _entry(data: bytes) -> Document:
    entry: Document = json.loads(data)
    return entry


def _is_billed(data: bytes) -> bool:
    terms: Document = _entry(data)["op"].get("terms", {})
    return terms.get("billing") == "postpaid"


def _refund_redemptions(story: Story, time: str) -> None:
    refuse, account, kind = story.refuse, story.accounts, "refund"
    op_id, swapped = story.ids["at kiosk"], _spending(story.ids["swap"], 1)
    bill = _back(story, "kiosk", _spending(op_id, 100), "B-1")
    refuse("UNKNOWN_ORIGINAL", "no such redemption", time, kind, "kiosk", **{**bill, "of": _spending("0" * 64, 1)})
    refuse("UNKNOWN_ORIGINAL", "a redemption elsewhere", time, kind, "shop", **{**bill, "actor": account["shop"]})
    miscalled = _back(story, "cafe", swapped, "9")
    refuse("UNKNOWN_ORIGINAL", "an exchange, not so called", time, kind, "cafe", **miscalled)
    as_swap = {**bill, "of": _spending(op_id, 1, "exchange")}
    refuse("UNKNOWN_ORIGINAL", "a redemption, not so called", time, kind, "kiosk", **as_swap)
    refuse("REFUND_TOO_LARGE", "more than was spent", time, kind, "kiosk", **{**bill, "of": _spending(op_id, 285)})
    story.record(time, kind, "kiosk", **bill)
    refuse("REFERENCE_EXISTS", "a bill refunded twice", time, kind, "kiosk", **bill)
    more = {**bill, "reference": "B-1b", "of": _spending(op_id, 185)}
    refuse("REFUND_TOO_LARGE", "more than is left to return", time, kind, "kiosk", **more)
    after_last_day = "2026-02-10T12:00:00.000Z"
    refuse("", "to lots that have ended", after_last_day, kind, "kiosk", **{**more, "of": _spending(op_id, 184)})
    for who, amount in (("shop", 6), ("school", 7)):
        story.record(time, kind, who, **_back(story, who, _spending(story.ids[f"at {who}"], amount), "B-3"))
    for i, amount in enumerate((1, 1, 25)):
        captured = _spending(story.ids[f"captured {i}"], amount)
        story.record(time, kind, "kiosk", **_back(story, "kiosk", captured, f"B-2/{i}"))
    kept = _back(story, "bakery", _spending(story.ids["at bakery"], 100), "B-5")
    refuse("", "kept points come back", time, kind, "bakery", **kept)
    refuse("", "kept points that have ended come back", after_last_day, kind, "bakery", **kept)
    away = {"actor": account["bakery"], "asset": "STAR", "recipients": [{"amount": 120, "to": account["dora"]}]}
    story.record(time, "transfer", "bakery", **away)
    refuse("INSUFFICIENT_POINTS", "kept points that are gone", time, kind, "bakery", **kept)
    story.record(time, kind, "bakery", **{**kept, "of": _spending(story.ids["kept"], 40)})


def _refund_exchanges(story: Story, time: str) -> None:
    refuse, account, kind = story.refuse, story.accounts, "refund"
    swapped = story.ids["swap"]
    undo = _back(story, "cafe", _spending(swapped, 1_001, "exchange"), "X-1")
    refuse("UNKNOWN_ORIGINAL", "refunded by the issuer", time, kind, "shop", **{**undo, "actor": account["shop"]})
    refuse("UNKNOWN_ORIGINAL", "refunded in the other", time, kind, "cafe", **{**undo, "asset": "MUG"})
    too_much = {**undo, "of": _spending(swapped, 1_700, "exchange")}
    refuse("INSUFFICIENT_POINTS", "what was made of it is spent", time, kind, "cafe", **too_much)
    story.record(time, kind, "cafe", **undo)
    least = {**undo, "of": _spending(swapped, 1, "exchange"), "reference": "X-2"}
    story.record(time, kind, "cafe", **least)
    crumbs = _back(story, "bakery", _spending(story.ids["onward"], 300, "exchange"), "X-3", asset="MUG")
    story.record(time, kind, "bakery", **crumbs)


def _owe(story: Story) -> None:
    """Refunds of more than the member has: forgiven, a debt, money; and how a debt is repaid."""
    refuse, account = story.refuse, story.accounts
    kind, dora = "record_purchases", account["dora"]
    begun = "2026-01-26T12:00:00.000Z"
    purchase = {"member": dora, "amount": 12_000}
    first = _sale(story, "S-20", **purchase, at=begun)
    story.record(begun, kind, "shop", **_sales(story, "shop", first))
    every = {"actor": dora, "asset": "STAR", "merchant": account["shop"]}
    story.record(begun, "redeem", "dora", **every, amount=200)

    def back(order: str, amount: int, number: str) -> Document:
        of = {"type": "purchase", "amount": amount, "order": order}
        return {"actor": account["shop"], "asset": "STAR", "of": of, "reference": number}

    story.record(begun, "refund", "shop", **back("S-20", 3_000, "20"))
    story.record(begun, "refund", "shop", **back("S-20", 9_000, "21"))
    time = "2026-02-03T12:00:00.000Z"
    story.record(time, kind, "shop", **_sales(story, "shop", _sale(story, "S-21", **purchase, at=time)))
    spent = story.record(time, "redeem", "dora", **every, amount=70)
    story.record(time, "refund", "shop", **back("S-21", 12_000, "22"))
    refuse("INSUFFICIENT_POINTS", "a debt", time, "redeem", "dora", **every, amount=1)
    twenty, seventy = (_sale(story, "S-22", member=dora, amount=amount, at=time) for amount in (7_000, 11_000))
    three = [twenty, {**seventy, "order": "S-23"}, {**seventy, "order": "S-24"}]
    refuse("", "a debt repaid by two purchases", time, kind, "shop", **_sales(story, "shop", *three))
    story.record(time, kind, "shop", **_sales(story, "shop", twenty))
    gift = {"actor": account["bob"], "asset": "STAR", "recipients": [{"amount": 20, "to": dora}]}
    birthday = {"activity": "birthday", "actor": account["shop"], "asset": "STAR", "member": account["bob"]}
    story.record(time, "grant", "shop", **birthday, amount=100, reference="20")
    story.record(time, "transfer", "bob", **gift)
    refuse("INSUFFICIENT_POINTS", "a gift repays nothing", time, "redeem", "dora", **every, amount=1)
    story.record(time, "grant", "shop", **{**birthday, "member": dora}, amount=60, reference="21")
    refuse("", "what is left of a grant", time, "redeem", "dora", **every, amount=30)
    refuse("INSUFFICIENT_POINTS", "no more than is left of it", time, "redeem", "dora", **every, amount=31)
    time = "2026-03-02T12:00:00.000Z"
    story.record(time, kind, "shop", **_sales(story, "shop", _sale(story, "S-25", **purchase, at=time)))
    story.record(time, "redeem", "dora", **every, amount=115)
    story.record(time, "refund", "shop", **back("S-25", 6_001, "23"))
    story.record(time, "refund", "shop", **back("S-25", 3_999, "24"))
    late = {**back("", 1, "25"), "of": {"type": "redemption", "amount": 70, "operation": spent}}
    refuse("", "to a lot that stays ended", "2026-03-20T12:00:00.000Z", "refund", "shop", **late)


def _correct(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-03-03T12:00:00.000Z", "correct"

    def correct(amount: int, **fields: Any) -> Document:
        why = {"member": account["bob"], "reason": "goodwill", "reference": "1"}
        return {"actor": account["shop"], "amount": amount, "asset": "STAR", **why, **fields}

    refuse("UNKNOWN_ASSET", "a correction of dust", time, kind, "shop", **correct(1, asset="DUST"))
    refuse("NOT_PERMITTED", "another's correction", time, kind, "cafe", **correct(1, actor=account["cafe"]))
    refuse("UNKNOWN_ACCOUNT", "a merchant is corrected", time, kind, "shop", **correct(1, member=account["cafe"]))
    early = "2026-01-02T23:59:59.999Z"
    refuse("PROGRAM_MISSING", "before the program", early, kind, "shop boss", **correct(1, asset="MILE"))
    refuse(
        "INSUFFICIENT_POINTS", "taken away before the program", early, kind, "shop", **correct(-1_000_000, asset="MILE")
    )
    story.record(time, kind, "shop till", **correct(1_000, member=account["ada"], reference="0"))
    for amount, more in ((200, 201), (-200, -201)):
        wanted = correct(amount, member=account["ada"])
        refuse("", f"a correction by {amount}", time, kind, "till", **wanted)
        refuse("APPROVAL_MISSING", f"a correction by {more}", time, kind, "till", **{**wanted, "amount": more})
    story.record(time, kind, "shop", **correct(150))
    refuse("REFERENCE_EXISTS", "corrected twice", time, kind, "shop", **correct(1))
    story.record(time, kind, "till", **correct(-60, reason="error", reference="2"))
    refuse("INSUFFICIENT_POINTS", "below nothing", time, kind, "till boss", **correct(-5_000, reference="3"))
    lots = story.replica.lots
    circulating = -sum(lots[f"sys_{part}", "STAR", reference.NEVER] for part in ("issued", "spent"))
    room = correct(20_000 - circulating, reference="3", reason="system")
    refuse("SUPPLY_EXCEEDED", "beyond the cap", time, kind, "shop till", **{**room, "amount": room["amount"] + 1})
    story.record(time, kind, "shop till", **room)
    of = {"type": "redemption", "amount": 1, "operation": story.ids["at kiosk"]}
    returned = {"actor": account["kiosk"], "asset": "STAR", "of": of, "reference": "B-9"}
    refuse("SUPPLY_EXCEEDED", "returned beyond the cap", time, "refund", "kiosk", **returned)
    away = {**room, "amount": -room["amount"], "reference": "4"}
    story.record(time, kind, "shop till", **away)
    full = {**room, "actor": account["cafe"], "asset": "MUG", "member": account["cleo"]}
    full["amount"] = 2**53 - 1 + lots["sys_issued", "MUG", reference.NEVER]
    refuse("POINTS_OVERFLOW", "beyond 2^53-1", time, kind, "cafe", **{**full, "amount": full["amount"] + 1})
    story.record(time, kind, "cafe", **{**full, "amount": full["amount"] - 100})
    swap = {"actor": account["ada"], "asset": "STAR", "into": "MUG", "maximum_fee": 99, "minimum_out": 1}
    refuse("", "exchanged up to 2^53-1", time, "exchange", "ada", **swap, amount=130)
    refuse("POINTS_OVERFLOW", "exchanged beyond 2^53-1", time, "exchange", "ada", **swap, amount=140)


def _freeze(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-03-04T12:00:00.000Z", "freeze"
    operator = {"actor": account["operator"]}
    stolen = {"account": account["ada"], **operator, "reason": "lost_keys"}
    refuse("NOT_PERMITTED", "a merchant freezes", time, kind, "shop", **{**stolen, "actor": account["shop"]})
    refuse("UNKNOWN_ACCOUNT", "nobody is frozen", time, kind, "operator", **{**stolen, "account": UNKNOWN_MEMBER})
    itself = {**stolen, "account": account["operator"]}
    refuse("NOT_PERMITTED", "the operator freezes itself", time, kind, "operator", **itself)
    thaw = {**stolen, "reason": "resolved"}
    refuse("NOT_FROZEN", "it is not frozen", time, "unfreeze", "operator", **thaw)
    gift = {"actor": account["ada"], "asset": "STAR", "recipients": [{"amount": 1, "to": account["bob"]}]}
    held = {"actor": account["ada"], "amount": 10, "asset": "STAR", "merchant": account["kiosk"]}
    op_id = story.record(time, "hold", "ada", **held, until="2026-03-20T12:00:00.000Z")
    captured = {"actor": account["kiosk"], "amount": 5, "hold": reference.hold_id(bytes.fromhex(op_id))}
    story.record(time, kind, "operator", **stolen)
    refuse("ALREADY_FROZEN", "frozen twice", time, kind, "operator", **stolen)
    refuse("ACCOUNT_FROZEN", "a frozen account gives", time, "transfer", "ada", **gift)
    refuse("SIGNATURE_MISSING", "a stranger for a frozen account", time, "transfer", "bob", **gift)
    refuse("ACCOUNT_FROZEN", "captured from a frozen account", time, "capture", "kiosk", **captured)
    refuse("", "released to a frozen account", time, "release", "kiosk", actor=account["kiosk"], hold=captured["hold"])
    to_ada = {"actor": account["bob"], "asset": "STAR", "recipients": [{"amount": 1, "to": account["ada"]}]}
    refuse("", "a frozen account receives", time, "transfer", "bob", **to_ada)
    refuse(
        "ACCOUNT_FROZEN",
        "a frozen account's keys",
        time,
        "replace_keys",
        "ada",
        actor=account["ada"],
        keys=key_texts("ada"),
    )
    lost = {"account": account["ada"], **operator, "keys": key_texts("ada2")}
    story.record(time, "recover_keys", "operator ada2", **lost)
    refuse("ACCOUNT_FROZEN", "cancelled by the frozen", time, "cancel_recovery", "ada", **_own(account["ada"]))
    recovered = "2026-03-11T12:00:00.000Z"
    refuse("ACCOUNT_FROZEN", "recovered and still frozen", recovered, "transfer", "ada2", **gift)
    refuse("NOT_PERMITTED", "a merchant thaws", time, "unfreeze", "shop", **{**thaw, "actor": account["shop"]})
    refuse("UNKNOWN_ACCOUNT", "nobody thaws", time, "unfreeze", "operator", **{**thaw, "account": UNKNOWN_MEMBER})
    story.record(recovered, "unfreeze", "operator", **thaw)
    refuse("", "thawed, by its new key", recovered, "transfer", "ada2", **gift)
    story.show("ada", recovered)
    story.record(recovered, kind, "operator", **{**stolen, "account": account["cafe"], "reason": "court_order"})
    swap = {"actor": account["ada"], "amount": 100, "asset": "STAR", "into": "MUG", "maximum_fee": 99}
    refuse("ACCOUNT_FROZEN", "into what the frozen issued", recovered, "exchange", "ada2", **swap, minimum_out=1)
    crumbs = {**swap, "asset": "MUG", "into": "CRUMB"}
    refuse("ACCOUNT_FROZEN", "of what the frozen issued", recovered, "exchange", "ada2", **crumbs, minimum_out=1)
    ward = {"actor": account["cleo"], "amount": 1, "asset": "MUG", "merchant": account["cafe"]}
    refuse("ACCOUNT_FROZEN", "in custody of the frozen", recovered, "redeem", "cafe", **ward)
    mine = {**ward, "actor": account["ada"]}
    refuse("ACCOUNT_FROZEN", "at the frozen", recovered, "redeem", "ada2", **mine)
    deal = _agreement(story, "shop", "cafe", _exchange_terms(account), version=2, starts=recovered)
    refuse("ACCOUNT_FROZEN", "agreed with the frozen", recovered, "agree", "shop till cafe", **deal)
    block = {"actor": account["shop"], "asset": "STAR", "partner": account["cafe"], "points": 1, "reference": "A-9"}
    refuse("ACCOUNT_FROZEN", "allotted to the frozen", recovered, "allot", "shop cafe", **block)
    thaw["account"] = account["cafe"]
    story.record(recovered, "unfreeze", "operator", **{**thaw, "reason": "mistake"})


def _clear(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-03-12T12:00:00.000Z", "dispute"
    claims = story.replica.claims
    of_shop = [key for key, claim in claims.items() if claim["debtor"] == account["shop"]]
    seq, index = next(key for key in of_shop if claims[key]["creditor"] == account["kiosk"])
    disputed = {"actor": account["shop"], "claim": {"index": index, "seq": seq}, "reason": "duplicate"}
    nowhere = {**disputed, "claim": {"index": index + 1, "seq": seq}}
    refuse("UNKNOWN_CLAIM", "no such claim", time, kind, "shop", **nowhere)
    refuse("UNKNOWN_CLAIM", "a claim of others", time, kind, "bakery", **{**disputed, "actor": account["bakery"]})
    story.record(time, kind, "shop", **disputed)
    refuse("DISPUTED", "disputed by both", time, kind, "kiosk", **{**disputed, "actor": account["kiosk"]})
    resolve = {"actor": account["shop"], "claim": disputed["claim"], "outcome": "stands"}
    by_kiosk, by_operator = ({**resolve, "actor": account[who]} for who in ("kiosk", "operator"))
    kind = "resolve_dispute"
    refuse("UNKNOWN_CLAIM", "no such dispute", time, kind, "shop", **{**resolve, "claim": nowhere["claim"]})
    refuse("UNKNOWN_CLAIM", "a dispute of others", time, kind, "bakery", **{**resolve, "actor": account["bakery"]})
    refuse("NOT_PERMITTED", "it stands, says the other", time, kind, "kiosk", **by_kiosk)
    refuse("NOT_PERMITTED", "cancelled by the debtor", time, kind, "shop", **{**resolve, "outcome": "cancelled"})
    refuse("", "it stands, says the operator", time, kind, "operator", **by_operator)
    refuse("", "cancelled by the operator", time, kind, "operator", **{**by_operator, "outcome": "cancelled"})
    refuse("", "cancelled by the creditor", time, kind, "kiosk", **{**by_kiosk, "outcome": "cancelled"})
    story.record(time, kind, "boss", **resolve)
    refuse("NOT_DISPUTED", "resolved twice", time, kind, "shop", **resolve)
    refuse("CLAIM_CLOSED", "disputed again by who did before", time, "dispute", "shop", **disputed)
    story.record(time, "dispute", "kiosk", **{**disputed, "actor": account["kiosk"], "reason": "amount"})
    refuse("", "withdrawn by the other party", time, kind, "kiosk", **by_kiosk)
    story.record(time, kind, "kiosk", **{**by_kiosk, "outcome": "cancelled"})
    refuse("CLAIM_CLOSED", "disputed when it is cancelled", time, "dispute", "shop", **disputed)
    refuse("NOT_DISPUTED", "resolved when it is cancelled", time, kind, "operator", **by_operator)
    _net_and_settle(story, time)
    held = next(key for key in of_shop if claims[key]["creditor"] == account["cafe"])
    netted = {**disputed, "claim": {"index": held[1], "seq": held[0]}}
    refuse("CLAIM_CLOSED", "disputed when it is netted", time, "dispute", "shop", **netted)


def _net_and_settle(story: Story, time: str) -> None:
    refuse, account = story.refuse, story.accounts
    kind, through = "net", "2026-03-11"
    all_merchants = [account[who] for who in ("shop", "cafe", "bakery", "kiosk", "school")]
    payments = _payments(story, all_merchants, through)
    netting = {"actor": account["operator"], "currency": "EUR", "merchants": all_merchants, "payments": payments}
    netting["through"] = through
    refuse("NOT_PERMITTED", "a merchant nets", time, kind, "shop", **{**netting, "actor": account["shop"]})
    refuse("UNKNOWN_CURRENCY", "netted in dollars", time, kind, "operator", **{**netting, "currency": "USD"})
    with_bob = {**netting, "merchants": [*all_merchants, account["bob"]]}
    refuse("UNKNOWN_ACCOUNT", "netted with a member", time, kind, "operator", **with_bob)
    refuse("NOT_YET_DUE", "netted through tomorrow", time, kind, "operator", **{**netting, "through": "2026-03-13"})
    refuse("", "netted through today", time, kind, "operator", **{**netting, "through": "2026-03-12"})
    yen = {**netting, "currency": "JPY", "payments": []}
    refuse("NOTHING_DUE", "no yen", time, kind, "operator", **yen)
    refuse("NOTHING_DUE", "before anything", time, kind, "operator", **{**netting, "through": "2026-01-01"})
    one = payments[0]
    for name, changed in (
        ("a payment missing", payments[1:]),
        ("a payment of a cent more", [{**one, "amount": one["amount"] + 1}, *payments[1:]]),
        ("a payment the other way", [{**one, "debtor": one["creditor"], "creditor": one["debtor"]}, *payments[1:]]),
        ("nobody pays", []),
    ):
        refuse("NETTING_MISMATCH", name, time, kind, "operator", **{**netting, "payments": changed})
    two = [account["cafe"], account["shop"]]
    bilateral = {**netting, "merchants": two, "payments": _payments(story, two, through)}
    refuse("", "only two of them", time, kind, "operator", **bilateral)
    story.record(time, kind, "operator", **netting)
    refuse("NOTHING_DUE", "netted already", time, kind, "operator", **netting)
    kind = "settle"
    debtor, creditor, amount = one["debtor"], one["creditor"], one["amount"]
    who = next(name for name, account_ in account.items() if account_ == creditor)
    paid = {"actor": creditor, "amount": amount - 1, "currency": "EUR", "debtor": debtor, "payment": "P-1"}
    signer = "shop" if who == "shop" else who
    refuse("UNKNOWN_CURRENCY", "settled in dollars", time, kind, signer, **{**paid, "currency": "USD"})
    refuse("UNKNOWN_ACCOUNT", "settled by nobody", time, kind, signer, **{**paid, "debtor": UNKNOWN_MEMBER})
    owed = sum(n for key, n in story.replica.obligations.items() if key[:3] == ("EUR", debtor, creditor))
    refuse("SETTLED_TOO_MUCH", "more than is owed", time, kind, signer, **{**paid, "amount": owed + 1})
    refuse("SETTLED_TOO_MUCH", "the other way", time, kind, "operator", **{**paid, "actor": account["operator"]})
    story.record(time, kind, signer, **paid)
    refuse("REFERENCE_EXISTS", "settled twice", time, kind, signer, **{**paid, "amount": 1})
    refuse("", "the last cent", time, kind, signer, **{**paid, "amount": 1, "payment": "P-2"})
    by_ada = {"actor": account["shop"], "amount": 5_000, "currency": "EUR", "debtor": account["ada"], "payment": "P-3"}
    story.record(time, kind, "till", **by_ada)


def _payments(story: Story, merchants: list[str], through: str) -> list[Document]:
    """Payments that leave each merchant where it was: whoever owes most pays whoever is owed most."""
    position = dict.fromkeys(merchants, 0)
    for (currency, debtor, creditor, netting, day), amount in story.replica.obligations.items():
        if currency == "EUR" and {debtor, creditor} <= set(merchants) and netting == -1 and day <= through:
            position[debtor] -= amount
            position[creditor] += amount
    payments: list[Document] = []
    while any(position.values()):
        debtor = min(merchants, key=lambda who: (position[who], who))
        creditor = max(merchants, key=lambda who: (position[who], who))
        amount = min(-position[debtor], position[creditor])
        payments.append({"amount": amount, "creditor": creditor, "debtor": debtor})
        position[debtor] += amount
        position[creditor] -= amount
    return payments


def _end_agreements(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-03-13T12:00:00.000Z", "end_agreement"
    name, ends = "STAR>MUG", "2026-04-12T12:00:00.000Z"
    end = {"actor": account["cafe"], "agreement": name, "ends": ends}
    refuse("UNKNOWN_AGREEMENT", "no such agreement", time, kind, "cafe", **{**end, "agreement": "MUG>STAR"})
    refuse("UNKNOWN_AGREEMENT", "ended by another", time, kind, "bakery", **{**end, "actor": account["bakery"]})
    too_soon = {**end, "ends": "2026-04-12T11:59:59.999Z"}
    refuse("NOTICE_TOO_SHORT", "a millisecond too soon", time, kind, "cafe", **too_soon)
    story.record(time, kind, "cafe", **end)
    later = {**end, "ends": "2026-05-01T00:00:00.000Z"}
    refuse("AGREEMENT_ENDED", "ended twice", time, kind, "cafe", **later)
    swap = {"actor": account["ada"], "amount": 100, "asset": "STAR", "into": "MUG", "maximum_fee": 99}
    refuse("", "in its last millisecond", "2026-04-12T11:59:59.999Z", "exchange", "ada2", **swap, minimum_out=1)
    refuse("NO_AGREEMENT", "when it is over", ends, "exchange", "ada2", **swap, minimum_out=1)
    onward = {"actor": account["bakery"], "agreement": "MUG>CRUMB", "ends": "2026-05-01T00:00:00.000Z"}
    story.record(time, kind, "bakery", **onward)
    crumbs = {**swap, "asset": "MUG", "into": "CRUMB", "maximum_fee": None, "minimum_out": 1}
    summer = "2026-06-01T00:00:00.000Z"
    refuse("NO_AGREEMENT", "its next version is over too", summer, "exchange", "ada2", **crumbs)
    at_school = {"actor": account["school"], "agreement": f"STAR@{account['school']}", "ends": ends}
    refuse("", "ended by a beneficiary", time, kind, "school", **at_school)


def _hold_too_often(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind, until = "2026-03-14T12:00:00.000Z", "hold", "2026-03-15T12:00:00.000Z"
    held = {"actor": account["cleo"], "amount": 1, "asset": "MUG", "merchant": account["cafe"], "until": until}
    for _ in range(100):
        story.record(time, kind, "cafe", **held)
    refuse(
        "TOO_MANY_HOLDS", "the hundred and first", until, kind, "cafe", **{**held, "until": "2026-03-15T12:00:00.001Z"}
    )
    lapsed = "2026-03-15T12:00:00.001Z"
    refuse("", "when a hundred have lapsed", lapsed, kind, "cafe", **{**held, "until": "2026-03-16T00:00:00.000Z"})
    for who in ("ada", "cleo"):
        story.show(who, story.verifier.time)
