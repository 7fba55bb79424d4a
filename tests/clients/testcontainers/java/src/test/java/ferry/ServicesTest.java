package ferry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.api.exception.NotFoundException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.sql.DriverManager;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.wait.strategy.Wait;
import org.testcontainers.images.builder.Transferable;
import org.testcontainers.mariadb.MariaDBContainer;

/** Servers as tests of applications start them: Redis, and a database with its module. */
class ServicesTest {
    private static final String REDIS = "redis:latest";
    private static final String DATABASE = "mariadb:latest";

    /** Sends one command to a Redis and gives the first line of its answer. */
    private static String ask(GenericContainer<?> redis, String command) throws IOException {
        try (var socket = new Socket(redis.getHost(), redis.getMappedPort(6379));
                var reader = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8))) {
            socket.setSoTimeout(10_000);
            socket.getOutputStream().write((command + "\r\n").getBytes(StandardCharsets.UTF_8));
            return reader.readLine();
        }
    }

    @Test
    void redisAnswersOnItsMappedPort() throws Exception {
        String id;
        try (var redis = new GenericContainer<>(REDIS).withExposedPorts(6379)) {
            redis.start();
            id = redis.getContainerId();
            assertNotEquals(6379, redis.getMappedPort(6379));
            assertEquals("+OK", ask(redis, "SET key value"));
            var get = redis.execInContainer("redis-cli", "get", "key");
            assertEquals("value\n", get.getStdout());
            assertEquals(0, get.getExitCode());
        }
        var docker = org.testcontainers.DockerClientFactory.instance().client();
        assertThrows(NotFoundException.class, () -> docker.inspectContainerCmd(id).exec());
    }

    @Test
    void redisWithAConfigurationFile() throws Exception {
        try (var redis = new GenericContainer<>(REDIS)
                .withExposedPorts(6379)
                .withCopyToContainer(Transferable.of("requirepass secret\nbind * -::*\n"), "/etc/own.conf")
                .withCommand("redis-server", "/etc/own.conf")
                .waitingFor(Wait.forLogMessage(".*Ready to accept connections.*", 1))) {
            redis.start();
            assertEquals("-NOAUTH Authentication required.", ask(redis, "PING"));
            assertEquals("+OK", ask(redis, "AUTH secret"));
        }
    }

    @Test
    void databaseKeepsRows() throws Exception {
        try (var database = new MariaDBContainer(DATABASE)
                .withDatabaseName("shop")
                .withUsername("clerk")
                .withPassword("secret")
                .withTmpFs(Map.of("/var/lib/mysql", "rw"))
                .withCopyToContainer(
                        Transferable.of("[mariadbd]\nmax_connections = 77\n"), "/etc/mysql/conf.d/own.cnf")) {
            database.start();
            try (var connection = DriverManager.getConnection(
                            database.getJdbcUrl(), database.getUsername(), database.getPassword());
                    var statement = connection.createStatement()) {
                statement.execute("CREATE TABLE goods (id INT PRIMARY KEY, name TEXT)");
                statement.execute("INSERT INTO goods VALUES (1, 'ferry'), (2, 'boat')");
                List<String> names = new ArrayList<>();
                try (var rows = statement.executeQuery("SELECT name FROM goods ORDER BY id")) {
                    while (rows.next()) {
                        names.add(rows.getString(1));
                    }
                }
                assertEquals(List.of("ferry", "boat"), names);
                try (var rows = statement.executeQuery("SELECT @@max_connections")) {
                    assertTrue(rows.next());
                    assertEquals(77, rows.getInt(1));
                }
            }
        }
    }
}
