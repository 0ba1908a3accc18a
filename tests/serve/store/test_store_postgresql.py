"""A real PostgreSQL server: stopped, started, crashed and shared."""

import threading
from collections.abc import Iterator

import pytest

from solomonic.core import CheckpointError, StorageError
from solomonic.serve.store import StoreConfig, Utterance, open_store


@pytest.fixture
def running(server) -> Iterator:
    """The server, which runs again afterwards whatever the test did."""
    yield server
    try:
        server.connect().close()
    except Exception:
        server.start()


def test_a_server_that_was_restarted_between_calls_is_not_noticed(
    database: str, running, state
) -> None:
    store = open_store(database)
    for restart in ("fast", "immediate", "fast"):
        for _ in range(2):
            store.commit("ana", Utterance("a"), state=state(1), fingerprint="model-a")
        before = store.memory("ana")
        running.stop(restart)  # "immediate" is a crash: it recovers from its log
        running.start()
        assert store.memory("ana") == before
    assert store.commit("ana", Utterance("b")) == 7
    store.check()
    store.close()


def test_a_server_that_is_gone_is_one_clear_error_and_comes_back(
    database: str, running, state
) -> None:
    store = open_store(database)
    store.commit("ana", Utterance("a"), state=state(1), fingerprint="model-a")
    before = store.memory("ana")
    running.stop("immediate")
    for call in (
        store.check,
        lambda: store.memory("ana"),
        lambda: store.commit("ana", Utterance("my secret")),
        lambda: open_store(database),
    ):
        with pytest.raises(StorageError, match="see that it runs") as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1
        assert "secret" not in str(caught.value)
    running.start()
    store.check()
    assert store.memory("ana") == before
    assert store.commit("ana", Utterance("b")) == 2
    store.close()


def test_speakers_go_on_when_the_server_is_stopped_and_started(database: str, running) -> None:
    store = open_store(database)
    acknowledged: dict[int, list[str]] = {index: [] for index in range(6)}
    unknown: dict[int, list[str]] = {index: [] for index in range(6)}
    strange: list[BaseException] = []
    stop = threading.Event()

    def speak(index: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            try:
                store.commit(f"user-{index}", Utterance(f"{turn}"))
                acknowledged[index].append(f"{turn}")
            except StorageError as error:
                if "may or may not" in str(error):
                    unknown[index].append(f"{turn}")
                stop.wait(0.05)
            except BaseException as error:
                strange.append(error)
                return

    threads = [threading.Thread(target=speak, args=(index,)) for index in acknowledged]
    for thread in threads:
        thread.start()
    for mode in ("fast", "immediate"):
        stop.wait(0.3)
        running.stop(mode)
        stop.wait(0.1)
        running.start()
    counts = {index: len(said) for index, said in acknowledged.items()}
    for index, count in counts.items():  # everybody is heard again
        for _ in range(400):
            if len(acknowledged[index]) > count:
                break
            stop.wait(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert strange == []
    assert all(len(said) > counts[index] for index, said in acknowledged.items())
    for index, said in acknowledged.items():
        memory = store.memory(f"user-{index}", last=None)
        texts = [utterance.text for utterance in memory.utterances]
        assert len(set(texts)) == len(texts)  # nothing was sent twice
        assert set(said) <= set(texts) <= set(said) | set(unknown[index])
        assert memory.revision == len(texts)
    store.close()


def test_a_transaction_whose_connection_dies_before_its_end_is_run_again(
    database: str, running
) -> None:
    store = open_store(database)
    store.commit("ana", Utterance("a"))
    tries: list[int] = []
    killed: list[int] = []

    def work(connection, _) -> None:
        tries.append(1)
        user = "UPDATE solomonic_users SET revision = revision + 1"
        connection.exec_driver_sql(user)
        if not killed:
            killed.append(1)
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            with running.connect() as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            connection.exec_driver_sql(user)

    store.write(work)
    assert len(tries) == 2
    assert store.memory("ana").revision == 2
    tries.clear()
    killed.clear()
    running.stop()
    running.start()  # connections that died at rest do not use up the second try
    store.write(work)
    assert len(tries) == 2
    assert store.memory("ana").revision == 3

    def hopeless(connection, _) -> None:
        tries.append(1)
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with running.connect() as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        connection.exec_driver_sql("SELECT 1")

    tries.clear()
    with pytest.raises(StorageError, match="connection was lost"):
        store.write(hopeless)
    assert len(tries) == 2
    store.close()


def test_a_lost_answer_to_a_commit_is_said_to_be_unknown(database: str, running) -> None:
    store = open_store(database)
    tries: list[int] = []

    def work(connection, _) -> None:
        tries.append(1)
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with running.connect() as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))

    with pytest.raises(StorageError, match="may or may not have happened"):
        store.write(work)
    assert len(tries) == 1  # not sent again
    store.close()


def test_a_lock_that_is_held_too_long_is_one_clear_error(database: str) -> None:
    store, other = open_store(database, StoreConfig(timeout=0.3)), open_store(database)
    store.commit("ana", Utterance("a"))

    def hold(connection, _) -> None:
        connection.exec_driver_sql("SELECT * FROM solomonic_users FOR UPDATE").all()
        with pytest.raises(StorageError, match="timeout"):
            store.commit("ana", Utterance("b"))

    other.write(hold)
    assert store.commit("ana", Utterance("c")) == 2
    store.close()
    other.close()


def test_servers_that_start_together_make_one_schema(database: str) -> None:
    errors: list[BaseException] = []

    def start() -> None:
        try:
            store = open_store(database, StoreConfig(connections=1))
            store.commit("ana", Utterance("a"))
            store.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    store = open_store(database)
    assert store.memory("ana").revision == 4
    store.close()


def test_tables_of_others_are_left_alone_but_ours_must_be_ours(database: str) -> None:
    store = open_store(database)
    store.write(lambda c, _: c.exec_driver_sql("CREATE TABLE other (x INTEGER)"))
    store.close()
    store = open_store(database)
    store.write(lambda c, _: c.exec_driver_sql("DROP TABLE solomonic_version"))
    store.close()
    with pytest.raises(CheckpointError, match="another program"):
        open_store(database)


def test_a_newer_store_is_refused(database: str) -> None:
    store = open_store(database)
    store.write(lambda c, _: c.exec_driver_sql("UPDATE solomonic_version SET version = 99"))
    store.close()
    with pytest.raises(CheckpointError, match="newer solomonic"):
        open_store(database)


def test_passwords_are_not_shown(tmp_path) -> None:
    url = f"postgresql://ana:hunter2@/x?host={tmp_path}"
    with pytest.raises(StorageError) as caught:
        open_store(url)
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "hunter2" not in str(chain)
        chain = chain.__cause__
