package ferry;

import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.command.CreateContainerCmd;
import com.github.dockerjava.api.command.InspectContainerResponse;
import com.github.dockerjava.api.exception.DockerException;
import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.core.DefaultDockerClientConfig;
import com.github.dockerjava.core.DockerClientConfig;
import com.github.dockerjava.core.DockerClientImpl;
import com.github.dockerjava.transport.DockerHttpClient;
import com.github.dockerjava.zerodep.ZerodepDockerHttpClient;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.function.Executable;

/**
 * What the tests have in common: the client of the engine at DOCKER_HOST, which has {@link #IMAGE}; names
 * of their own; and the removal of what they made.
 */
@Timeout(value = 60, unit = TimeUnit.SECONDS, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
abstract class Suite {
    static final String IMAGE = "busybox:latest";
    /** The label on everything that prune is tried on, so that nothing else is pruned. */
    static final String LABEL = "ferry.clients.java";

    /** Answers as they come, for what the library's commands do not do. */
    static final DockerHttpClient transport = transport();

    static final DockerClient docker = DockerClientImpl.getInstance(config(), transport);
    private static final AtomicInteger serial = new AtomicInteger();

    private final Deque<Runnable> undo = new ArrayDeque<>();

    private static DockerClientConfig config() {
        return DefaultDockerClientConfig.createDefaultConfigBuilder().build();
    }

    private static DockerHttpClient transport() {
        var config = config();
        return new ZerodepDockerHttpClient.Builder()
                .dockerHost(config.getDockerHost())
                .sslConfig(config.getSSLConfig())
                .connectionTimeout(Duration.ofSeconds(10))
                .responseTimeout(Duration.ofSeconds(45))
                .build();
    }

    @AfterEach
    void removeWhatWasMade() {
        DockerException failure = null;
        while (!undo.isEmpty()) {
            try {
                undo.pop().run();
            } catch (NotFoundException gone) {
                // The test removed it itself.
            } catch (DockerException error) {
                failure = error;
            }
        }
        if (failure != null) {
            throw failure;
        }
    }

    /** A name nothing else on the engine has. */
    static String name(String what) {
        return "java-" + ProcessHandle.current().pid() + "-" + what + "-" + serial.incrementAndGet();
    }

    void later(Runnable action) {
        undo.push(action);
    }

    CreateContainerCmd container(String... command) {
        return docker.createContainerCmd(IMAGE).withCmd(command);
    }

    CreateContainerCmd shell(String script) {
        return container("sh", "-c", script);
    }

    String create(CreateContainerCmd what) {
        String id = what.exec().getId();
        later(() -> docker.removeContainerCmd(id).withForce(true).withRemoveVolumes(true).exec());
        return id;
    }

    String start(CreateContainerCmd what) {
        String id = create(what);
        docker.startContainerCmd(id).exec();
        return id;
    }

    /** Runs a container to its end. */
    String run(CreateContainerCmd what, int status) {
        String id = start(what);
        Assertions.assertEquals(status, wait(id), () -> "exit status of a container that wrote " + logs(id).all());
        return id;
    }

    /** Runs a shell script to its end and returns its standard output. */
    String output(CreateContainerCmd what) {
        return logs(run(what, 0)).out();
    }

    static int wait(String id) {
        return docker.waitContainerCmd(id).start().awaitStatusCode(30, TimeUnit.SECONDS);
    }

    static Output logs(String id) {
        try {
            return docker.logContainerCmd(id).withStdOut(true).withStdErr(true).withTailAll().exec(new Output()).ended();
        } catch (InterruptedException error) {
            throw new AssertionError(error);
        }
    }

    static InspectContainerResponse inspect(String id) {
        return docker.inspectContainerCmd(id).exec();
    }

    /** Waits until the condition holds. */
    static void eventually(String what, BooleanSupplier condition) throws InterruptedException {
        for (int attempt = 0; attempt < 300; attempt++) {
            if (condition.getAsBoolean()) {
                return;
            }
            Thread.sleep(100);
        }
        Assertions.fail("waited in vain: " + what);
    }

    /** Expects the engine to refuse, with this status and this text in its message. */
    static void refused(int status, String message, Executable action) {
        DockerException error = Assertions.assertThrows(DockerException.class, action);
        Assertions.assertEquals(status, error.getHttpStatus(), error.getMessage());
        // The library shows the body of the answer as it is, JSON with its quotes escaped.
        String shown = error.getMessage().replace("\\\"", "\"");
        Assertions.assertTrue(shown.contains(message), shown);
    }

    /** Skips the test when the engine says that it does not have something yet. */
    static <T> T unlessMissing(java.util.function.Supplier<T> action) {
        try {
            return action.get();
        } catch (DockerException error) {
            boolean missing = error.getHttpStatus() == 501 && error.getMessage().contains("not supported by this version");
            if (missing) {
                Assumptions.abort(error.getMessage());
            }
            throw error;
        }
    }
}
