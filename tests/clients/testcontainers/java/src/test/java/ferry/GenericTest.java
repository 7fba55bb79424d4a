package ferry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.api.exception.DockerException;
import com.github.dockerjava.api.model.HealthCheck;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.testcontainers.containers.BindMode;
import org.testcontainers.containers.Container.ExecResult;
import org.testcontainers.containers.ContainerLaunchException;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.Network;
import org.testcontainers.containers.output.ToStringConsumer;
import org.testcontainers.containers.output.WaitingConsumer;
import org.testcontainers.containers.startupcheck.OneShotStartupCheckStrategy;
import org.testcontainers.containers.wait.strategy.Wait;
import org.testcontainers.containers.wait.strategy.WaitAllStrategy;
import org.testcontainers.images.builder.Transferable;

/** Containers of any image: ways to wait, exec, copies, logs, networks. */
class GenericTest {
    private static final String BUSYBOX = "busybox:latest";
    private static final String SERVER = "mkdir /w; echo served > /w/index.html; sleep 0.5; exec httpd -f -p 8080 -h /w";

    private static GenericContainer<?> shell(String script) {
        return new GenericContainer<>(BUSYBOX).withCommand("sh", "-c", script);
    }

    @Test
    void waitsForALineOfTheLog() {
        try (var container = shell("sleep 0.7; echo ready to serve; sleep 60")
                .waitingFor(Wait.forLogMessage(".*ready to .*", 1))) {
            container.start();
            assertEquals("ready to serve\n", container.getLogs());
        }
    }

    @Test
    void waitsInVainForALineOfTheLog() {
        try (var container = shell("echo other; sleep 60")
                .waitingFor(Wait.forLogMessage(".*ready.*", 1).withStartupTimeout(Duration.ofSeconds(2)))) {
            assertThrows(ContainerLaunchException.class, container::start);
        }
    }

    @Test
    void waitsForPortsAndAnswersOverHttp() throws Exception {
        try (var container = shell(SERVER)
                .withExposedPorts(8080)
                .waitingFor(new WaitAllStrategy()
                        .withStrategy(Wait.forListeningPort())
                        .withStrategy(Wait.forHttp("/index.html").forStatusCode(200)))) {
            container.start();
            URI uri = URI.create("http://" + container.getHost() + ":" + container.getMappedPort(8080) + "/index.html");
            var answer = HttpClient.newHttpClient()
                    .send(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofString());
            assertEquals("served\n", answer.body());
        }
    }

    @Test
    void waitsForHealth() {
        var check = new HealthCheck()
                .withTest(List.of("CMD-SHELL", "test -e /tmp/done"))
                .withInterval(300_000_000L)
                .withRetries(50);
        try (var container = shell("sleep 0.7; touch /tmp/done; sleep 60")
                .withCreateContainerCmdModifier(command -> command.withHealthcheck(check))
                .waitingFor(Wait.forHealthcheck())) {
            container.start();
            assertTrue(container.isHealthy());
        }
    }

    @Test
    void waitsForACommandAndForTheEnd() {
        try (var container = shell("sleep 0.7; touch /tmp/done; sleep 60")
                .waitingFor(Wait.forSuccessfulCommand("test -e /tmp/done"))) {
            container.start();
            assertTrue(container.isRunning());
        }
        try (var once = shell("sleep 0.3; echo finished").withStartupCheckStrategy(new OneShotStartupCheckStrategy())) {
            once.start();
            assertEquals("finished\n", once.getLogs());
            assertFalse(once.isRunning());
        }
    }

    @Test
    void execGivesStatusAndStreamsApart() throws Exception {
        try (var container = shell("sleep 60")) {
            container.start();
            ExecResult result = container.execInContainer("sh", "-c", "echo out; echo err >&2; exit 3");
            assertEquals("out\n", result.getStdout());
            assertEquals("err\n", result.getStderr());
            assertEquals(3, result.getExitCode());
        }
    }

    @Test
    void copiesBothWays(@TempDir Path dir) throws Exception {
        try (var container = shell("cat /given/file; sleep 60")
                .withCopyToContainer(Transferable.of("by the test\n"), "/given/file")
                .waitingFor(Wait.forLogMessage(".*by the test.*", 1))) {
            container.start();
            container.copyFileToContainer(Transferable.of("later\n"), "/tmp/later");
            assertEquals("later\n", container.execInContainer("cat", "/tmp/later").getStdout());
            Path copy = dir.resolve("copy");
            container.copyFileFromContainer("/tmp/later", copy.toString());
            assertEquals("later\n", Files.readString(copy));
        }
    }

    @Test
    void bindsAndEnvironment(@TempDir Path dir) throws Exception {
        Files.writeString(dir.resolve("file"), "of the host\n");
        try (var container = shell("cat /in/file; echo $GREETING; sleep 60")
                .withFileSystemBind(dir.toString(), "/in", BindMode.READ_ONLY)
                .withEnv("GREETING", "hello")
                .waitingFor(Wait.forLogMessage(".*hello.*", 1))) {
            container.start();
            assertEquals("of the host\nhello\n", container.getLogs());
        }
    }

    @Test
    void logsAreStreamed() throws Exception {
        var waiting = new WaitingConsumer();
        var text = new ToStringConsumer();
        try (var container = shell("echo one; sleep 0.5; echo two; sleep 60").withLogConsumer(text.andThen(waiting))) {
            container.start();
            waiting.waitUntil(frame -> frame.getUtf8String().contains("two"), 20, java.util.concurrent.TimeUnit.SECONDS);
            assertEquals("one\ntwo\n", text.toUtf8String());
        }
    }

    @Test
    void networkOfItsOwn() {
        try (Network network = Network.newNetwork()) {
            try {
                network.getId();
            } catch (DockerException error) {
                Assumptions.assumeFalse(error.getHttpStatus() == 501, error.getMessage());
                throw error;
            }
            try (var server = shell(SERVER).withNetwork(network).withNetworkAliases("server");
                    var client = shell("until wget -q -O - http://server:8080/index.html; do sleep 0.2; done; sleep 60")
                            .withNetwork(network)
                            .waitingFor(Wait.forLogMessage(".*served.*", 1))) {
                server.start();
                client.start();
                assertEquals("served\n", client.getLogs(org.testcontainers.containers.output.OutputFrame.OutputType.STDOUT));
            }
        }
    }
}
