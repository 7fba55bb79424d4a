package ferry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.core.DefaultDockerClientConfig;
import com.github.dockerjava.core.DockerClientImpl;
import com.github.dockerjava.zerodep.ZerodepDockerHttpClient;
import java.util.List;
import org.junit.jupiter.api.Test;

/** The engine itself. docker-java has no call for the disk usage. */
class SystemTest extends Suite {
    @Test
    void ping() {
        docker.pingCmd().exec();
    }

    @Test
    void version() {
        var version = docker.versionCmd().exec();
        assertFalse(version.getVersion().isEmpty());
        assertTrue(version.getApiVersion().matches("1\\.\\d+"));
        assertEquals("1.24", version.getMinAPIVersion());
        assertEquals("linux", version.getOperatingSystem());
        assertTrue(version.getComponents().stream().anyMatch(component -> component.getName().equals("Engine")));
    }

    @Test
    void info() {
        String running = start(container("sleep", "60"));
        create(container("true"));
        var info = docker.infoCmd().exec();
        assertTrue(info.getContainers() >= 2);
        assertTrue(info.getContainersRunning() >= 1);
        assertTrue(info.getImages() >= 1);
        assertEquals("linux", info.getOsType());
        assertTrue(info.getNCPU() > 0 && info.getMemTotal() > 0);
        assertEquals(docker.versionCmd().exec().getVersion(), info.getServerVersion());
        assertTrue(info.getPlugins().get("Volume").contains("local"));
        assertTrue(info.getPlugins().get("Network").containsAll(List.of("bridge", "host", "null")));
        assertTrue(info.getPlugins().get("Log").containsAll(List.of("json-file", "local")));
        assertTrue(info.getSecurityOptions().stream().anyMatch(option -> option.startsWith("name=seccomp")));
        assertTrue(inspect(running).getState().getRunning());
    }

    /** The oldest version the library names and the newest it knows see the same container. */
    @Test
    void olderVersionsOfTheApi() throws Exception {
        String id = create(container("true"));
        for (String version : List.of("1.24", "1.32", "1.44")) {
            var config = DefaultDockerClientConfig.createDefaultConfigBuilder().withApiVersion(version).build();
            var transport = new ZerodepDockerHttpClient.Builder().dockerHost(config.getDockerHost()).build();
            try (var client = DockerClientImpl.getInstance(config, transport)) {
                assertEquals(id, client.inspectContainerCmd(id).exec().getId());
                assertTrue(client.listImagesCmd().exec().size() > 0);
            }
        }
    }
}
