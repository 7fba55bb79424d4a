"""Servers as tests of applications start them: modules for Redis and for a database."""

import docker
import pytest
import sqlalchemy
from testcontainers.community.mysql import MySqlContainer
from testcontainers.community.redis import RedisContainer

from conftest import DATABASE, REDIS


def test_redis_answers_on_its_mapped_port(engine):
    with RedisContainer(REDIS) as redis:
        client = redis.get_client(decode_responses=True)
        assert client.set("key", "value")
        assert client.get("key") == "value"
        assert client.info("server")["tcp_port"] == 6379
        id = redis.get_wrapped_container().id
        assert redis.get_exposed_port(6379) != 6379
        assert engine.containers.get(id).status == "running"
    with pytest.raises(docker.errors.NotFound):
        engine.containers.get(id)


def test_redis_with_a_password():
    import redis as library

    with RedisContainer(REDIS, password="secret") as redis:
        assert redis.get_client().ping()
        stranger = library.Redis(redis.get_container_host_ip(), redis.get_exposed_port(6379))
        with pytest.raises(library.exceptions.AuthenticationError):
            stranger.ping()


def test_two_redis_side_by_side():
    with RedisContainer(REDIS) as first, RedisContainer(REDIS) as second:
        first.get_client().set("only", "here")
        assert second.get_client().get("only") is None
        assert first.get_exposed_port(6379) != second.get_exposed_port(6379)


def test_database_keeps_rows(tmp_path):
    tmp_path.chmod(0o755)
    settings = tmp_path / "own.cnf"
    settings.write_text("[mariadbd]\nmax_connections = 77\n")
    settings.chmod(0o644)
    database = (
        MySqlContainer(DATABASE, dialect="pymysql", dbname="shop")
        .with_volume_mapping(settings, "/etc/mysql/conf.d/own.cnf")
        .with_tmpfs_mount("/var/lib/mysql")
    )
    with database:
        engine = sqlalchemy.create_engine(database.get_connection_url())
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE goods (id INT PRIMARY KEY, name TEXT)"))
            connection.execute(sqlalchemy.text("INSERT INTO goods VALUES (1, 'ferry'), (2, 'boat')"))
        with engine.connect() as connection:
            rows = connection.execute(sqlalchemy.text("SELECT name FROM goods ORDER BY id")).scalars().all()
            assert rows == ["ferry", "boat"]
            limit = connection.execute(sqlalchemy.text("SELECT @@max_connections")).scalar()
            assert limit == 77
        engine.dispose()
