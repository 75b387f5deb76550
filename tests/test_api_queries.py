"""Queries: what each of them answers, page by page."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.checkpoint import decode_verifier_key, verify_checkpoint
from ledger.encoding import MAX_INTEGER, decode_base64url, encode_base64url
from ledger.keys import sign
from ledger.operations import PublishProgram, RecordPurchases, Redeem, signed_message
from ledger.program_terms import Band, ExpiresAfterDays
from ledger.state import Rejection
from ledger.terms import Purchase
from tests.service import Service, running, typed_document
from tests.worlds import ORIGIN, World, make_program, pay


class Town:
    """A merchant, three members, purchases over two months, transfers and a redemption."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.merchant = world.add_merchant("Bakery")
        world.add_asset(self.merchant, "STAR", make_program(expiry=ExpiresAfterDays(count=100)))
        self.alice, self.bob, self.carol = world.add_members(3)
        self.buy("o1", self.alice, "2026-01-31T23:00:00.000Z", 10_000)
        self.buy("o2", self.alice, "2026-02-01T01:00:00.000Z", 5_050)
        self.buy("o3", self.bob, "2026-02-02T01:00:00.000Z", 99)
        world.clock.advance(days=1)
        self.transfer = world.record(pay(self.alice, "STAR", 120, self.bob))[0]
        world.clock.advance(days=1)
        redemption = self.bob.sign(Redeem, asset="STAR", amount=20, merchant=self.merchant.account, reference="b1")
        world.record(redemption)

    def buy(self, order: str, member: Any, at: str, amount: int) -> None:
        """One purchase."""
        bought = (Purchase(amount=amount, at=at, member=str(member.account), order=order),)
        self.world.record(self.merchant.sign(RecordPurchases, asset="STAR", currency="USD", purchases=bought))


@pytest.fixture
def town(world: World) -> Town:
    return Town(world)


@pytest.fixture
def service(world: World, town: Town, tmp_path: Path) -> Iterator[Service]:
    with running(world, tmp_path) as service:
        yield service


@pytest.fixture
def operator(world: World, service: Service) -> str:
    return service.sign_in(world.operator)


def test_ledger_is_public(world: World, service: Service) -> None:
    """Its parameters and a checkpoint that verifies with the key it names."""
    ledger = service.query(
        "{ ledger { origin name operatorId formatVersion size lastTime clockToleranceMs currencies { code scale } "
        "logKey checkpoint { size root note } } checkpoint { size root note } }"
    )
    found = ledger["ledger"]
    assert (found["origin"], found["name"], found["formatVersion"]) == (ORIGIN, "Operator", 1)
    assert found["operatorId"] == world.operator.account
    assert found["currencies"] == [{"code": "EUR", "scale": 2}, {"code": "USD", "scale": 2}]
    assert found["clockToleranceMs"] == 30_000
    assert found["checkpoint"] == ledger["checkpoint"]
    verified = verify_checkpoint(found["checkpoint"]["note"], decode_verifier_key(found["logKey"]), ORIGIN)
    assert (verified.size, verified.root.hex()) == (found["size"], found["checkpoint"]["root"])


def test_asset_tells_its_supply_and_program(town: Town, service: Service) -> None:
    """Issued, spent, expired and circulating add up; the program is the one in force."""
    found = service.query(
        '{ asset(code: "STAR") { id code issuerId name scale supplyCap transferable value { points } entryId '
        "supply { issued spent expired circulating } program { version } } }"
    )["asset"]
    assert found["issuerId"] == town.merchant.account
    assert found["supply"] == {"issued": 150, "spent": 20, "expired": 0, "circulating": 130}
    assert found["program"] == {"version": 1}
    assert service.query('{ asset(code: "NONE") { id } }') == {"asset": None}


def test_assets_come_by_code(world: World, town: Town, service: Service) -> None:
    """A connection over all assets."""
    for code in ("ZINC", "ALFA"):
        world.add_asset(town.merchant, code)
    first = service.query("{ assets(first: 2) { nodes { code } pageInfo { hasNextPage endCursor } } }")["assets"]
    assert [node["code"] for node in first["nodes"]] == ["ALFA", "STAR"]
    rest = service.query(
        "query($after: String) { assets(after: $after) { nodes { code } pageInfo { hasNextPage } } }",
        {"after": first["pageInfo"]["endCursor"]},
    )["assets"]
    assert rest == {"nodes": [{"code": "ZINC"}], "pageInfo": {"hasNextPage": False}}


def test_program_is_found_by_version_and_time(world: World, town: Town, service: Service) -> None:
    """The version in force at a time is the last published of those that have started, until it ends."""
    world.record(
        town.merchant.sign(
            PublishProgram,
            asset="STAR",
            version=2,
            starts="2026-06-01T00:00:00.000Z",
            ends="2026-07-01T00:00:00.000Z",
            program=make_program(),
        )
    )
    document = 'query($by: ProgramBy!) { program(asset: "STAR", by: $by) { id version expiry { after count } } }'
    for by, version in [
        ({"version": 1}, 1),
        ({"version": 2}, 2),
        ({"at": "2026-05-31T23:59:59.999Z"}, 1),
        ({"at": "2026-06-01T00:00:00.000Z"}, 2),
    ]:
        assert service.query(document, {"by": by})["program"]["version"] == version
    for by in ({"version": 3}, {"at": "1996-01-01T00:00:00.000Z"}, {"at": "2026-07-01T00:00:00.000Z"}):
        assert service.query(document, {"by": by}) == {"program": None}
    versions = service.query('{ asset(code: "STAR") { programs { nodes { version grants { activity maxPoints } } } } }')
    assert [node["version"] for node in versions["asset"]["programs"]["nodes"]] == [1, 2]


def test_account_has_balances_by_lot(world: World, town: Town, service: Service) -> None:
    """Lots by last day, the earliest first; what has passed its last day is not spendable."""
    document = (
        "query($id: ID!) { account(id: $id) { id role keys threshold custodianId openedAt entryId "
        "balances { asset total spendable lots { lastDay points isSpendable } } } }"
    )
    token = service.sign_in(town.bob)
    found = service.query(document, {"id": town.bob.account}, token)["account"]
    assert found["role"] == "MEMBER"
    # o1's 100 points were earned on 31 January, of which 120 - 20 moved on with their lots; o2's on 1 February.
    assert found["balances"] == [
        {
            "asset": "STAR",
            "total": 100,
            "spendable": 100,
            "lots": [
                {"lastDay": "2026-05-11", "points": 80, "isSpendable": True},
                {"lastDay": "2026-05-12", "points": 20, "isSpendable": True},
            ],
        }
    ]
    world.clock.advance(days=69)  # 12 May
    token = service.sign_in(town.bob)
    (later,) = service.query(document, {"id": town.bob.account}, token)["account"]["balances"]
    assert (later["total"], later["spendable"]) == (100, 20)
    assert [lot["isSpendable"] for lot in later["lots"]] == [False, True]


def test_balances_can_be_of_one_asset(town: Town, service: Service) -> None:
    """Others are left out."""
    token = service.sign_in(town.bob)
    document = "query($a: String) { viewer { balances(asset: $a) { asset } } }"
    assert service.query(document, {"a": "STAR"}, token)["viewer"]["balances"] == [{"asset": "STAR"}]
    assert service.query(document, {"a": "NONE"}, token)["viewer"]["balances"] == []


def test_accounts_come_in_the_order_they_were_opened(world: World, town: Town, service: Service, operator: str) -> None:
    """By role if asked for, forwards and backwards."""
    document = (
        "query($role: AccountRole, $first: Int, $after: String, $last: Int, $before: String) { "
        "accounts(role: $role, first: $first, after: $after, last: $last, before: $before) "
        "{ edges { cursor node { id } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"
    )
    members = [str(wallet.account) for wallet in (town.alice, town.bob, town.carol)]
    everyone = service.query(document, {}, operator)["accounts"]["edges"]
    assert [edge["node"]["id"] for edge in everyone] == [world.operator.account, town.merchant.account, *members]
    page = service.query(document, {"role": "MEMBER", "first": 2}, operator)["accounts"]
    assert [edge["node"]["id"] for edge in page["edges"]] == members[:2]
    assert page["pageInfo"]["hasNextPage"]
    end = service.query(document, {"role": "MEMBER", "last": 2}, operator)["accounts"]
    assert [edge["node"]["id"] for edge in end["edges"]] == members[1:]
    assert (end["pageInfo"]["hasPreviousPage"], end["pageInfo"]["hasNextPage"]) == (True, False)
    before = {"role": "MEMBER", "last": 5, "before": end["pageInfo"]["startCursor"]}
    assert [e["node"]["id"] for e in service.query(document, before, operator)["accounts"]["edges"]] == members[:1]


ENTRIES = (
    "query($filter: EntryFilterInput, $first: Int, $after: String, $last: Int, $before: String) { "
    "entries(filter: $filter, first: $first, after: $after, last: $last, before: $before) { "
    "nodes { seq kind actorId postings { accountId asset amount lastDay } document } "
    "pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"
)


def test_entries_are_walked_both_ways(world: World, service: Service, operator: str) -> None:
    """Forwards in pages and backwards in pages: every entry once, in the order recorded."""
    size = service.query("{ ledger { size } }")["ledger"]["size"]
    forwards: list[int] = []
    after = None
    while True:
        page = service.query(ENTRIES, {"first": 4, "after": after}, operator)["entries"]
        forwards += [node["seq"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert forwards == list(range(size))
    backwards: list[int] = []
    before = None
    while True:
        page = service.query(ENTRIES, {"last": 3, "before": before}, operator)["entries"]
        backwards = [node["seq"] for node in page["nodes"]] + backwards
        before = page["pageInfo"]["startCursor"]
        if not page["pageInfo"]["hasPreviousPage"]:
            break
    assert backwards == forwards


def test_entries_can_be_filtered(world: World, town: Town, service: Service, operator: str) -> None:
    """By account, asset and kind, alone and together."""

    def seqs(**given: Any) -> list[int]:
        nodes = service.query(ENTRIES, {"filter": given, "first": 100}, operator)["entries"]["nodes"]
        return [node["seq"] for node in nodes]

    entries = service.query(ENTRIES, {"first": 100}, operator)["entries"]["nodes"]

    bob = str(town.bob.account)
    opening = service.query("query($id: ID!) { account(id: $id) { entryId } }", {"id": bob}, operator)["account"]

    def touches_bob(entry: Any) -> bool:
        # His purchase o3 earned nothing and has no posting.
        moved = any(leg["accountId"] == bob for leg in entry["postings"]) or '"o3"' in entry["document"]
        return moved or entry["actorId"] == bob or f"ent_{entry['seq']}" == opening["entryId"]

    assert seqs(account=bob) == [entry["seq"] for entry in entries if touches_bob(entry)]
    assert seqs(kind="RECORD_PURCHASES") == [e["seq"] for e in entries if e["kind"] == "RECORD_PURCHASES"]
    assert seqs(account=bob, kind="TRANSFER") == [town.transfer.seq]
    assert seqs(account=bob, asset="STAR", kind="REDEEM") == [town.transfer.seq + 1]
    assert seqs(account=bob, asset="NONE") == []
    in_asset = seqs(asset="STAR")
    assert {"DEFINE_ASSET", "PUBLISH_PROGRAM", "TRANSFER"} <= {entries[seq]["kind"] for seq in in_asset}
    assert seqs(asset="STAR", kind="TRANSFER") == [town.transfer.seq]


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "!!", "WzFd", "bnVsbA", "eyJhIjoxfQ", "WzEsImEiLDFd", "A" * 300, "ÿ", "W1tbW1tbW1tb"],
    ids=str,
)
def test_bad_cursor_is_a_typed_error(cursor: str, service: Service, operator: str) -> None:
    """Nothing of how cursors are made shows in it."""
    answer = service.ask(ENTRIES, {"after": cursor}, operator)
    (error,) = answer["errors"]
    assert error["extensions"]["code"] == "BAD_CURSOR"
    assert error["message"] == "this cursor was not given for this list with these filters"


@pytest.mark.parametrize("name", ["STAR\x00", "\x00", "\ud800", "é"], ids=ascii)
def test_cursor_with_a_key_no_database_takes_is_bad(name: str, service: Service, operator: str) -> None:
    """A forged key with NUL or half a surrogate pair in it is a bad cursor, on every list whose keys are text."""
    for document in (
        "query($after: String) { page: assets(first: 1, after: $after) { pageInfo { endCursor } } }",
        'query($after: String) { page: pointsByMonth(asset: "STAR", after: $after) { pageInfo { endCursor } } }',
    ):
        cursor = service.query(document, token=operator)["page"]["pageInfo"]["endCursor"]
        version, listed, *key = json.loads(decode_base64url(cursor, len(cursor) * 3 // 4))
        forged = encode_base64url(json.dumps([version, listed, name, *key[1:]]).encode())
        assert service.error_code(document, {"after": forged}, operator) == "BAD_CURSOR"


@pytest.mark.parametrize("text", ["STAR\x00", "\x00", "star", "", "A" * 17, "S\u0000TAR"], ids=ascii)
def test_text_that_can_be_no_code_or_id_reaches_no_database(text: str, service: Service, operator: str) -> None:
    """Null where one thing is asked for, BAD_USER_INPUT where a list or a sum is; no database cuts it at a NUL."""
    nothing = {
        "query($x: String!) { found: asset(code: $x) { id } }",
        "query($x: String!) { found: program(asset: $x, by: {version: 1}) { id } }",
        "query($x: ID!) { found: account(id: $x) { id } }",
        "query($x: ID!) { found: node(id: $x) { id } }",
    }
    for document in nothing:
        assert service.query(document, {"x": text}, operator) == {"found": None}, document
    account = "mem_" + "a" * 26
    refused = [
        'query($x: ID!) { statement(account: $x, asset: "STAR") { openingBalance } }',
        f'query($x: String!) {{ statement(account: "{account}", asset: $x) {{ openingBalance }} }}',
        "query($x: String!) { pointsByMonth(asset: $x) { nodes { points } } }",
        "query($x: String!) { pointsTotals(asset: $x) { total { points } } }",
        'query($x: ID!) { pointsTotals(asset: "STAR", account: $x) { total { points } } }',
        "query($x: String!) { viewer { balances(asset: $x) { total } } }",
        "query($x: ID!) { sessionChallenge(account: $x) { challenge } }",
    ]
    if text:
        refused.append("query($x: ID!) { entries(filter: {account: $x}) { nodes { seq } } }")
        refused.append("query($x: String!) { entries(filter: {asset: $x}) { nodes { seq } } }")
    for document in refused:
        assert service.error_code(document, {"x": text}, operator) == "BAD_USER_INPUT", document


def test_cursor_is_good_for_its_own_filters(service: Service, operator: str) -> None:
    """A cursor that lost its filter would answer from the wrong place: it is refused."""
    page = service.query(ENTRIES, {"filter": {"asset": "STAR"}, "first": 2}, operator)["entries"]
    cursor = page["pageInfo"]["endCursor"]
    assert service.error_code(ENTRIES, {"after": cursor}, operator) == "BAD_CURSOR"
    assert service.error_code("query($a: String) { accounts(after: $a) { nodes { id } } }", {"a": cursor}, operator)
    assert service.query(ENTRIES, {"filter": {"asset": "STAR"}, "after": cursor}, operator)["entries"]["nodes"]


@pytest.mark.parametrize("size", [{"first": 0}, {"first": 101}, {"last": -1}, {"first": 1, "last": 1}], ids=str)
def test_page_of_another_size_is_refused(size: dict[str, int], service: Service, operator: str) -> None:
    """1 to 100, from one end."""
    assert service.error_code(ENTRIES, size, operator) == "BAD_USER_INPUT"


def test_entry_is_found_three_ways(town: Town, service: Service, operator: str) -> None:
    """By sequence number, leaf hash and operation id."""
    document = "query($by: EntryBy!) { entry(by: $by) { id seq hash prev operationId at time signatures { key sig } } }"
    seq = town.transfer.seq
    found = service.query(document, {"by": {"seq": seq}}, operator)["entry"]
    assert found["id"] == f"ent_{seq}"
    assert found["hash"] == town.transfer.leaf_hash.hex()
    assert service.query(document, {"by": {"hash": found["hash"]}}, operator)["entry"] == found
    assert service.query(document, {"by": {"operationId": found["operationId"]}}, operator)["entry"] == found
    before = service.query(document, {"by": {"seq": seq - 1}}, operator)["entry"]
    assert before["hash"] == found["prev"]
    for by in ({"seq": 10**9}, {"hash": "0" * 64}, {"operationId": "0" * 64}):
        assert service.query(document, {"by": by}, operator) == {"entry": None}


@pytest.mark.parametrize("by", [{}, {"seq": 1, "hash": "0" * 64}, {"seq": None}, {"seq": -1}], ids=str)
def test_entry_is_named_in_exactly_one_way(by: dict[str, Any], service: Service, operator: str) -> None:
    """@oneOf: none or two are refused before anything is read, and so is a number that counts nothing."""
    answer = service.ask("query($by: EntryBy!) { entry(by: $by) { id } }", {"by": by}, operator)
    assert answer["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


STATEMENT = (
    "query($account: ID!, $asset: String!, $from: Time, $to: Time, $first: Int, $after: String, $last: Int) { "
    "statement(account: $account, asset: $asset, from: $from, to: $to, first: $first, after: $after, last: $last) { "
    "openingBalance closingBalance nodes { entryId leg time at kind amount lastDay balance } "
    "pageInfo { hasNextPage endCursor } } }"
)


def test_statement_runs_from_opening_to_closing_balance(town: Town, service: Service) -> None:
    """Each line's balance is the one before and its amount, on every page alike."""
    token = service.sign_in(town.alice)
    asked = {"account": town.alice.account, "asset": "STAR"}
    whole = service.query(STATEMENT, asked, token)["statement"]
    assert (whole["openingBalance"], whole["closingBalance"]) == (0, 30)
    assert [(line["amount"], line["balance"]) for line in whole["nodes"]] == [
        (100, 100),
        (50, 150),
        (-100, 50),
        (-20, 30),
    ]
    assert whole["nodes"][0]["at"] == "2026-03-02T12:00:00.000Z"
    first = service.query(STATEMENT, {**asked, "first": 3}, token)["statement"]
    rest = {**asked, "first": 3, "after": first["pageInfo"]["endCursor"]}
    second = service.query(STATEMENT, rest, token)["statement"]
    assert first["nodes"] + second["nodes"] == whole["nodes"]
    assert service.query(STATEMENT, {**asked, "last": 2}, token)["statement"]["nodes"] == whole["nodes"][2:]


def test_statement_covers_a_span_of_recording_time(town: Town, service: Service) -> None:
    """What lies before is the opening balance; `to` is excluded."""
    token = service.sign_in(town.bob)
    asked = {"account": town.bob.account, "asset": "STAR", "from": "2026-03-04T00:00:00.000Z"}
    span = service.query(STATEMENT, asked, token)["statement"]
    assert (span["openingBalance"], span["closingBalance"]) == (120, 100)
    assert [line["amount"] for line in span["nodes"]] == [-20]
    asked |= {"from": "2026-03-03T12:00:00.000Z", "to": "2026-03-04T12:00:00.000Z"}
    span = service.query(STATEMENT, asked, token)["statement"]
    assert (span["openingBalance"], span["closingBalance"]) == (0, 120)
    asked |= {"to": "2026-03-01T00:00:00.000Z"}
    assert service.error_code(STATEMENT, asked, token) == "BAD_USER_INPUT"


def test_points_are_told_by_member_and_month(town: Town, service: Service, operator: str) -> None:
    """By account and month, with purchases that earned nothing."""
    document = (
        'query($account: ID, $first: Int, $after: String) { pointsByMonth(asset: "STAR", account: $account, '
        "first: $first, after: $after) { nodes { accountId month points purchases amount } "
        "pageInfo { hasNextPage endCursor } } }"
    )
    alice, bob = str(town.alice.account), str(town.bob.account)
    expected = [
        {"accountId": alice, "month": "2026-01", "points": 100, "purchases": 1, "amount": 10_000},
        {"accountId": alice, "month": "2026-02", "points": 50, "purchases": 1, "amount": 5_050},
        {"accountId": bob, "month": "2026-02", "points": 0, "purchases": 1, "amount": 99},
    ]
    expected.sort(key=lambda row: (str(row["accountId"]), str(row["month"])))
    found: list[Any] = []
    info: Any = {"endCursor": None, "hasNextPage": True}
    while info["hasNextPage"]:
        page = service.query(document, {"first": 1, "after": info["endCursor"]}, operator)["pointsByMonth"]
        found += page["nodes"]
        info = page["pageInfo"]
    assert found == expected
    mine = service.query(document, {}, service.sign_in(town.bob))["pointsByMonth"]["nodes"]
    assert mine == [row for row in expected if row["accountId"] == bob]


def test_points_are_told_in_total(town: Town, service: Service, operator: str) -> None:
    """By month over all members, and over all months."""
    document = (
        "query($asset: String!, $account: ID) { pointsTotals(asset: $asset, account: $account) { "
        "total { points purchases members amount } "
        "months { month points purchases members amount } } }"
    )
    found = service.query(document, {"asset": "STAR"}, operator)["pointsTotals"]
    assert found["total"] == {"points": 150, "purchases": 3, "members": 2, "amount": 15_149}
    assert found["months"] == [
        {"month": "2026-01", "points": 100, "purchases": 1, "members": 1, "amount": 10_000},
        {"month": "2026-02", "points": 50, "purchases": 2, "members": 2, "amount": 5_149},
    ]
    bob = service.query(document, {"asset": "STAR", "account": town.bob.account}, operator)["pointsTotals"]
    assert bob["total"] == {"points": 0, "purchases": 1, "members": 1, "amount": 99}
    assert [month["month"] for month in bob["months"]] == ["2026-02"]
    nothing = service.query(document, {"asset": "NONE"}, operator)["pointsTotals"]
    assert nothing == {"total": {"points": 0, "purchases": 0, "members": 0, "amount": 0}, "months": []}


def test_amount_that_no_client_could_read_is_an_error_of_its_field(town: Town, service: Service, operator: str) -> None:
    """Each purchase may be 2^53-1: the sum of two is told by nobody's number, and the rest of the answer stands."""
    town.world.add_asset(town.merchant, "DEAR", make_program(bands=(Band(from_amount=0, points=0, per=1),)))
    bought = tuple(
        Purchase(amount=MAX_INTEGER, at="2026-02-05T10:00:00.000Z", member=str(town.carol.account), order=f"dear{i}")
        for i in range(2)
    )
    town.world.record(town.merchant.sign(RecordPurchases, asset="DEAR", currency="USD", purchases=bought))
    for document in (
        '{ pointsTotals(asset: "DEAR") { total { purchases amount } } }',
        '{ pointsByMonth(asset: "DEAR") { nodes { purchases amount } } }',
    ):
        answer = service.ask(document, token=operator)
        (error,) = answer["errors"]
        assert error["extensions"]["code"] == "VALUE_OUT_OF_RANGE"
        assert error["path"][-1] == "amount"
        assert '{"purchases": 2, "amount": null}' in json.dumps(answer["data"])


def test_nodes_are_found_by_ids_that_say_their_type(town: Town, service: Service, operator: str) -> None:
    """Accounts, entries, assets and program versions; null for what there is not."""
    ids = [
        town.alice.account,
        "ent_0",
        "ast_STAR",
        "prg_STAR_1",
        "ent_999999",
        "ast_NONE",
        "x",
        "",
        "ent_01",
        "prg_STAR_9",
    ]
    document = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"
    found = service.query(document, {"ids": ids}, operator)["nodes"]
    assert [node and node["__typename"] for node in found] == ["Account", "Entry", "Asset", "Program", *[None] * 6]
    assert [node["id"] for node in found[:4]] == ids[:4]
    one = service.query("query($id: ID!) { node(id: $id) { ... on Entry { kind } } }", {"id": "ent_0"}, operator)
    assert one == {"node": {"kind": "GENESIS"}}
    assert service.error_code(document, {"ids": ["ent_0"] * 101}, operator) == "BAD_USER_INPUT"


PREVIEW = (
    "query($input: OperationPreviewInput!) { operationPreview(input: $input) { document message operationId "
    "postings { accountId amount lastDay } balance replayed seq userErrors { code path message } } }"
)


def test_preview_is_what_the_wallet_signs(town: Town, service: Service) -> None:
    """The canonical bytes, the message with its context, the lots used and the balance after; then it is recorded."""
    token = service.sign_in(town.bob)
    signed = pay(town.bob, "STAR", 90, town.alice)
    typed = typed_document(json.loads(signed.op_bytes))
    preview = service.query(PREVIEW, {"input": {"transfer": typed}}, token)["operationPreview"]
    assert preview["document"].encode() == signed.op_bytes
    message = preview["message"]
    assert decode_base64url(message, len(message) * 3 // 4) == signed_message(signed.op_bytes)
    assert preview["operationId"] == signed.op_id.hex()
    assert [(leg["amount"], leg["lastDay"]) for leg in preview["postings"]] == [
        (-80, "2026-05-11"),
        (-10, "2026-05-12"),
        (80, "2026-05-11"),
        (10, "2026-05-12"),
    ]
    assert preview["balance"] == 10
    assert preview["userErrors"] == []
    by_document = service.query(PREVIEW, {"input": {"document": preview["document"]}}, token)["operationPreview"]
    assert by_document == preview
    assert service.query("{ ledger { size } }")["ledger"]["size"] == town.transfer.seq + 2


def test_preview_fills_in_time_and_nonce(town: Town, service: Service) -> None:
    """What is left out is made by the server; what is signed of it is recorded."""
    token = service.sign_in(town.bob)
    asked = {"actor": town.bob.account, "asset": "STAR", "recipients": [{"to": town.alice.account, "amount": 1}]}
    preview = service.query(PREVIEW, {"input": {"transfer": asked}}, token)["operationPreview"]
    message = preview["message"]
    sig = sign(town.bob.keys[0], decode_base64url(message, len(message) * 3 // 4))
    (key,) = service.query("{ viewer { keys } }", token=token)["viewer"]["keys"]
    text = f'{{"op":{preview["document"]},"sigs":[{{"key":"{key}","sig":"{sig}"}}]}}'
    (result,) = service.submit_all([text])["results"]
    assert (result["operationId"], result["userErrors"]) == (preview["operationId"], [])


def test_preview_of_what_is_recorded_moves_nothing(town: Town, service: Service) -> None:
    """It names the entry, to those who may see it; it does not show the points moving a second time."""
    signed = pay(town.bob, "STAR", 5, town.alice)
    given = {"input": {"document": signed.op_bytes.decode()}}
    token = service.sign_in(town.bob)
    before = service.query(PREVIEW, given, token)["operationPreview"]
    assert (before["replayed"], before["seq"], before["balance"]) == (False, None, 95)
    (recorded,) = town.world.record(signed)
    after = service.query(PREVIEW, given, token)["operationPreview"]
    assert (after["replayed"], after["seq"], after["balance"]) == (True, recorded.seq, None)
    assert (after["postings"], after["userErrors"], after["message"]) == ([], [], before["message"])
    stranger = service.query(PREVIEW, given)["operationPreview"]
    assert (stranger["replayed"], stranger["seq"], stranger["postings"]) == (False, None, None)


def test_preview_tells_that_an_operation_is_too_large(world: World, town: Town, service: Service) -> None:
    """Before it is read, and when its entry would be larger than an entry can be, as submitting it would."""
    huge = service.query(PREVIEW, {"input": {"document": "[" * 70_000}})["operationPreview"]
    assert [error["code"] for error in huge["userErrors"]] == ["TOO_LARGE"]
    token = service.sign_in(town.merchant)
    for count in (290, 330):
        bought = tuple(
            Purchase(
                amount=100 * i, at="2026-02-05T10:00:00.000Z", member=str(town.carol.account), order=f"{count}-{i}"
            )
            for i in range(1, count)
        )
        signed = town.merchant.sign(RecordPurchases, asset="STAR", currency="USD", purchases=bought)
        given = {"input": {"document": signed.op_bytes.decode()}}
        preview = service.query(PREVIEW, given, token)["operationPreview"]
        (outcome,) = world.submit(signed)
        codes = [error["code"] for error in preview["userErrors"]]
        assert codes == ([str(outcome.code)] if isinstance(outcome, Rejection) else [])
        assert (codes == ["TOO_LARGE"]) == (count == 330)


def test_preview_tells_the_refusal(town: Town, service: Service) -> None:
    """With the path of the input, and the bytes all the same."""
    token = service.sign_in(town.bob)
    asked = {"actor": town.bob.account, "asset": "STAR", "recipients": [{"to": town.alice.account, "amount": 101}]}
    preview = service.query(PREVIEW, {"input": {"transfer": asked}}, token)["operationPreview"]
    assert preview["userErrors"][0]["code"] == "INSUFFICIENT_POINTS"
    assert preview["document"] is not None
    asked["recipients"] = [{"to": "nobody", "amount": 1}]
    preview = service.query(PREVIEW, {"input": {"transfer": asked}}, token)["operationPreview"]
    assert preview["userErrors"][0]["path"] == ["input", "recipients", "0", "to"]
    assert preview["document"] is None


@pytest.mark.parametrize("document", ["", "x", "{}", '{"kind":"transfer"}', '{ "kind": "none" }', "[" * 5000])
def test_preview_of_a_malformed_document_is_refused(document: str, service: Service) -> None:
    """A typed refusal, whoever asks."""
    preview = service.query(PREVIEW, {"input": {"document": document}})["operationPreview"]
    assert preview["userErrors"][0]["code"] in {"MALFORMED", "NOT_CANONICAL"}
    assert preview["postings"] is None


def test_sibling_fields_read_side_by_side(town: Town, service: Service, operator: str) -> None:
    """Many aliased fields in one document: each reads a snapshot of its own."""
    fields = " ".join(f"e{i}: entry(by: {{seq: {i % 9}}}) {{ seq }}" for i in range(30))
    found = service.query(f"{{ {fields} }}", token=operator)
    assert [found[f"e{i}"]["seq"] for i in range(30)] == [i % 9 for i in range(30)]
