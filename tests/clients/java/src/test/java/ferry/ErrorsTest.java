package ferry;

import com.github.dockerjava.api.async.ResultCallback;
import com.github.dockerjava.api.model.HostConfig;
import com.github.dockerjava.api.model.PullResponseItem;
import com.github.dockerjava.api.model.ExposedPort;
import com.github.dockerjava.api.model.PortBinding;
import com.github.dockerjava.api.model.Ports;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.Test;

/** Refusals: their status, which the library turns into classes of exceptions, and their words. */
class ErrorsTest extends Suite {
    @Test
    void notFound() {
        refused(404, "No such container: absent", () -> inspect("absent"));
        refused(404, "No such container: absent", () -> docker.startContainerCmd("absent").exec());
        refused(404, "No such container: absent", () -> docker.removeContainerCmd("absent").exec());
        refused(404, "No such container: absent", () -> docker.logContainerCmd("absent").withStdOut(true).exec(new Output()).ended());
        refused(404, "No such image: absent:latest", () -> docker.createContainerCmd("absent").exec());
        refused(404, "No such image: absent:latest", () -> docker.inspectImageCmd("absent").exec());
        refused(404, "No such image: absent:latest", () -> docker.removeImageCmd("absent").exec());
        refused(404, "No such image: absent:latest", () -> docker.tagImageCmd("absent", "new", "tag").exec());
        refused(404, "get absent: no such volume", () -> docker.inspectVolumeCmd("absent").exec());
        refused(404, "No such exec instance: absent", () -> docker.inspectExecCmd("absent").exec());
        refused(404, "No such exec instance: absent", () -> docker.execStartCmd("absent").exec(new Output()).ended());
    }

    @Test
    void conflict() {
        String name = name("taken");
        String id = start(container("sleep", "60").withName(name));
        refused(409, "The container name \"/" + name + "\" is already in use by container \"" + id + "\"",
                () -> container("true").withName(name).exec());
        refused(409, "container is running", () -> docker.removeContainerCmd(id).exec());
        docker.pauseContainerCmd(id).exec();
        refused(409, "is already paused", () -> docker.pauseContainerCmd(id).exec());
        refused(409, "is paused, unpause the container before exec", () -> docker.execCreateCmd(id).withCmd("true").exec());
        docker.unpauseContainerCmd(id).exec();
        docker.killContainerCmd(id).exec();
        wait(id);
        refused(409, "is not running", () -> docker.killContainerCmd(id).exec());
        refused(409, "is not running", () -> docker.execCreateCmd(id).withCmd("true").exec());
    }

    @Test
    void notModified() {
        String id = start(container("sleep", "60"));
        refused(304, "", () -> docker.startContainerCmd(id).exec());
        docker.killContainerCmd(id).exec();
        wait(id);
        refused(304, "", () -> docker.stopContainerCmd(id).exec());
    }

    @Test
    void badRequest() {
        refused(400, "Minimum memory limit allowed is 6MB",
                () -> container("true").withHostConfig(HostConfig.newHostConfig().withMemory(1024L)).exec());
        refused(400, "Invalid container name", () -> container("true").withName("a name").exec());
        refused(400, "invalid reference format", () -> docker.tagImageCmd(IMAGE, "lower/UPPER", "tag").exec());
        refused(400, "invalid signal: NONSENSE", () -> {
            String id = start(container("sleep", "60"));
            docker.killContainerCmd(id).withSignal("NONSENSE").exec();
        });
        refused(400, "volume name is too short", () -> docker.createVolumeCmd().withName("x").exec());
    }

    @Test
    void startThatFails() {
        String absent = create(container("/no/such/program"));
        refused(400, "no such file or directory", () -> docker.startContainerCmd(absent).exec());
        Assertions.assertEquals(127L, inspect(absent).getState().getExitCodeLong());

        ExposedPort port = ExposedPort.tcp(80);
        String first = start(container("sleep", "60")
                .withExposedPorts(port)
                .withHostConfig(HostConfig.newHostConfig().withPortBindings(new PortBinding(Ports.Binding.empty(), port))));
        String taken = inspect(first).getNetworkSettings().getPorts().getBindings().get(port)[0].getHostPortSpec();
        String second = create(container("sleep", "60")
                .withExposedPorts(port)
                .withHostConfig(HostConfig.newHostConfig()
                        .withPortBindings(new PortBinding(Ports.Binding.bindPort(Integer.parseInt(taken)), port))));
        refused(500, "port is already allocated", () -> docker.startContainerCmd(second).exec());
    }

    @Test
    void registryThatDoesNotAnswer() {
        Throwable error = Assertions.assertThrows(Throwable.class, () -> docker.pullImageCmd("127.0.0.1:1/absent")
                .withTag("latest")
                .exec(new ResultCallback.Adapter<PullResponseItem>())
                .awaitCompletion());
        Assertions.assertTrue(error.getMessage().contains("connection refused"), error.getMessage());
    }
}
