"""
What every driver promises, as a suite that whoever writes one can import.

    class TestAcme(DriverContract):
        @pytest.fixture
        def opened(self) -> Opened:
            return acme_stand_in  # an asynccontextmanager that yields a `DriverRig`

`reconciler.testing.drivers_rig` says what a rig is.  A stand-in of the server is needed, and must
be no kinder than the real one.
"""

import pytest

from reconciler.drivers import Login, Trust
from reconciler.errors import (
    Blocked,
    ConnectionLost,
    DriverError,
    LoginSilent,
    NoAnswer,
    ServerRefused,
    ServerUnreachable,
    Unauthorized,
    UnknownAnswer,
    WrongAccount,
)
from reconciler.model.observed import Logbook
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.testing.drivers_rig import (
    HASTY,
    NO_PATIENCE,
    NOWHERE,
    Action,
    DriverRig,
    Opened,
    made_up,
)
from reconciler.testing.drivers_robots import RobotStories

__all__ = ["DriverContract", "DriverRig", "Opened"]


class DriverContract(RobotStories):
    """
    The promises of `reconciler.drivers.Driver` and `Session`, each told as a story of one server.

    A subclass gives `opened`, and `tell` if its stories run on a clock of their own.  Why something
    is refused is said in words that are the same for all drivers: `does not run`, `new connection`,
    `reboot`, `must not send`; and `nothing was sent` on a connection that is over.
    """

    def test_observing_shows_everything_and_changes_nothing(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened(command="plan") as rig:
                *empty, last = rig.exchange.fields
                rig.set_value(last.name, "abcdefgh")
                before = rig.values()
                session = await rig.session()
                seen = await session.observe()
                await session.close()
                assert (seen.account, seen.version) == (rig.target.account, rig.version)
                assert tuple(e.code for e in seen.exchanges) == rig.exchanges
                filled = replace(last, mask=rig.driver.mask(Secret("abcdefgh")))
                expected = replace(rig.exchange, fields=(*empty, filled))
                assert seen.exchange(rig.exchange.code) == expected
                assert seen.robots == rig.robots
                (line,) = seen.log.boots
                assert seen.log == Logbook(
                    readable=True, boot=line.time, boots=(line,), newest=seen.log.newest
                )
                assert seen.log.newest is not None
                assert seen.log.newest >= line.time
                assert rig.values() == before
                assert rig.done() == (0, 0, 0)
                assert rig.running() == {1, 2}

        self.tell(story)

    def test_a_glance_sees_what_moved(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened() as rig:
                session = await rig.session()
                await session.observe()
                assert await session.unchanged()
                assert await session.unchanged()
                rig.set_value(rig.exchange.fields[0].name, "by-another-hand")
                assert not await session.unchanged()
                assert await session.unchanged(), "it is as it was read last"
                await session.stop(1)
                await session.robots()
                await session.exchanges()
                assert await session.unchanged()
                await session.close()
                with pytest.raises(ConnectionLost):
                    await session.unchanged()

        self.tell(story)

    def test_saving_twice_is_saving_once(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened() as rig:
                session = await rig.session()
                await session.exchanges()
                values = rig.full()
                first = await session.save(rig.exchange.code, values)
                once = rig.values()
                second = await session.save(rig.exchange.code, values)
                assert first == second
                assert rig.values() == once == {n: v.reveal() for n, v in values.items()}
                assert first.exchange == await rig.listed(session)
                for field in (await rig.listed(session)).fields:
                    assert field.mask == rig.driver.mask(values[field.name])
                await session.close()
                assert rig.done() == (2, 0, 0)
                assert rig.running() == {1, 2}

        self.tell(story)

    def test_deleting_twice_is_deleting_once(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened() as rig:
                first, *others = rig.full()
                for name, value in rig.full().items():
                    rig.set_value(name, value.reveal())
                session = await rig.session()
                await session.exchanges()
                answer = await session.delete(rig.exchange.code, first)
                assert answer.exchange is not None
                assert [f.name for f in answer.exchange.fields if f.mask] == others
                with pytest.raises(ServerRefused):
                    await session.delete(rig.exchange.code, first)
                for name in others:
                    await session.delete(rig.exchange.code, name)
                await session.close()
                assert rig.values() == {}
                assert rig.done() == (0, 1 + len(others), 0)

        self.tell(story)

    def test_a_delete_that_is_wanted_no_longer_is_not_sent(self, opened: Opened) -> None:
        """Asked last of all: what it reads before takes time, and a document may change in it."""

        async def story() -> None:
            async with opened() as rig:
                for name, value in rig.full().items():
                    rig.set_value(name, value.reveal())
                session = await rig.session()
                await session.exchanges()

                def still() -> None:
                    raise Blocked("suspended meanwhile", "it is not done")

                with pytest.raises(Blocked):
                    await session.delete(rig.exchange.code, rig.first, still)
                assert set(rig.values()) == set(rig.full())
                await session.delete(rig.exchange.code, rig.first)
                await session.close()
                assert rig.done() == (0, 1, 0)

        self.tell(story)

    @pytest.mark.parametrize(
        "deed",
        [
            lambda s, rig: s.save("no-such-exchange", rig.full()),
            lambda s, rig: s.save(rig.exchange.code, {}),
            lambda s, rig: s.save(rig.exchange.code, {rig.first: made_up()}),
            lambda s, rig: s.save(rig.exchange.code, rig.full() | {rig.elsewhere: made_up()}),
            lambda s, rig: s.save(rig.exchange.code, rig.full() | {rig.first: Secret("")}),
            lambda s, rig: s.delete("no-such-exchange", rig.first),
            lambda s, rig: s.delete(rig.exchange.code, rig.first),
            lambda s, rig: s.delete(rig.exchange.code, rig.elsewhere),
            lambda s, rig: s.delete(rig.exchange.code, ""),
        ],
    )
    def test_what_could_fail_is_refused_and_the_session_lives_on(
        self, opened: Opened, deed: Action
    ) -> None:
        async def story() -> None:
            async with opened() as rig:
                rig.set_value(rig.elsewhere, made_up().reveal())
                session = await rig.session()
                for read_first in (False, True):
                    if read_first:
                        await session.exchanges()
                    with pytest.raises(ServerRefused):
                        await deed(session, rig)
                assert len(await session.robots()) == 3
                await session.close()
                assert rig.done() == (0, 0, 0)

        self.tell(story)

    def test_a_command_that_reads_cannot_write(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened(command="plan") as rig:
                rig.set_value(rig.first, made_up().reveal())
                session = await rig.session()
                await session.exchanges()
                with pytest.raises(ServerRefused):
                    await rig.save(session)
                with pytest.raises(ServerRefused):
                    await session.delete(rig.exchange.code, rig.first)
                await session.close()
                assert rig.done() == (0, 0, 0)

        self.tell(story)

    @pytest.mark.parametrize(
        ("fault", "expected", "stored"),
        [
            ("silent", NoAnswer, True),
            ("lost before", NoAnswer, False),
            ("lost after", NoAnswer, True),
            ("odd answer", UnknownAnswer, True),
        ],
    )
    def test_after_a_write_of_unknown_outcome_the_session_is_dead(
        self,
        opened: Opened,
        fault: str,
        expected: type[DriverError],
        stored: bool,  # noqa: FBT001  - a parameter of the table
        harmed: bool = False,  # noqa: FBT001, FBT002  - for a server that stops all robots then
    ) -> None:
        async def story() -> None:
            async with opened(timeouts=HASTY) as rig:
                session = await rig.session()
                before = (await session.observe()).log
                rig.misbehave(fault)
                with pytest.raises(expected):
                    await rig.save(session)
                for again in (rig.save(session), session.observe(), session.robots()):
                    with pytest.raises(ConnectionLost):
                        await again
                await session.close()
                assert bool(rig.values()) is stored
                anew = await rig.session()
                seen = await anew.observe()
                await anew.close()
                assert seen.running() == (() if harmed else rig.robots[:2])
                assert (seen.log.alarm is not None) is harmed
                assert seen.log.boot == before.boot

        self.tell(story)

    def test_a_field_that_the_server_forgot_is_seen(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened() as rig:
                rig.misbehave("lose")
                session = await rig.session()
                await session.exchanges()
                await rig.save(session)
                found = await rig.listed(session)
                await session.close()
                assert [f.name for f in found.fields if f.mask] == [*rig.full()][:-1]

        self.tell(story)

    def test_a_connection_lost_in_a_read_ends_the_session(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened() as rig:
                session = await rig.session()
                rig.misbehave("lost in a read")
                with pytest.raises(ConnectionLost):
                    await session.exchanges()
                with pytest.raises(ConnectionLost):
                    await session.robots()
                await session.close()
                await session.close()

        self.tell(story)

    def test_whoever_is_not_let_in_did_nothing(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened(timeouts=NO_PATIENCE) as rig:
                with pytest.raises(Unauthorized):
                    await rig.session(made_up())
                with pytest.raises(WrongAccount):
                    await rig.session(account="7")
                rig.misbehave("silent door")
                with pytest.raises(LoginSilent):
                    await rig.session()
                assert rig.done() == (0, 0, 0)
                assert rig.running() == {1, 2}

        self.tell(story)

    def test_a_server_that_is_not_there(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened() as rig:
                with pytest.raises(ServerUnreachable):
                    await rig.driver.open(NOWHERE, Login(), Trust())

        self.tell(story)

    @pytest.mark.parametrize("value", ["a", "abcdef", "abcdefghijklm", "пароль-ключ", "a😀"])
    def test_what_the_driver_says_is_what_the_server_shows(
        self, opened: Opened, value: str
    ) -> None:
        async def story() -> None:
            async with opened() as rig:
                rig.set_value(rig.first, value)
                session = await rig.session()
                found = await rig.listed(session)
                await session.close()
                assert found.fields[0].mask == rig.driver.mask(Secret(value))
                assert rig.driver.refusal(Secret("")) != ""
                assert rig.driver.tested(rig.version)

        self.tell(story)

    # ── log and clock ────────────────────────────────────────────────────────────────────────────

    def test_the_log_for_people_has_what_the_logbook_is_made_of(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened(command="logs") as rig:
                session = await rig.session()
                log, entries = await session.log(), await session.entries()
                assert entries
                booted = [e.time for e in entries if e.message.endswith(rig.boot_message)]
                assert booted == [line.time for line in log.boots]
                rig.misbehave("log unreadable")
                assert await session.entries() is None
                assert await session.log() == Logbook(readable=False)
                await session.close()

        self.tell(story)

    def test_the_clock_is_read_without_a_login(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened() as rig:
                for ahead in (0.0, 7200.0):
                    read = await rig.driver.clock(rig.target, Trust())
                    if read is None:
                        pytest.skip("such a server does not tell its time")
                    assert 0 < read.uncertainty < 3
                    assert abs(read.ahead - ahead) <= read.uncertainty + 0.1
                    rig.misbehave("clock ahead")
                assert await rig.driver.clock(NOWHERE, Trust()) is None
                assert rig.done() == (0, 0, 0)

        self.tell(story)

    def test_patience_is_a_span_of_time(self, opened: Opened) -> None:
        async def story() -> None:
            async with opened() as rig:
                session = await rig.session()
                assert 0 <= session.patience <= 120
                await session.close()

        self.tell(story)
