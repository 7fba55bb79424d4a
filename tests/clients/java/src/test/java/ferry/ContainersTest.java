package ferry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.api.model.AccessMode;
import com.github.dockerjava.api.model.Bind;
import com.github.dockerjava.api.model.Capability;
import com.github.dockerjava.api.model.ChangeLog;
import com.github.dockerjava.api.model.Container;
import com.github.dockerjava.api.model.ExposedPort;
import com.github.dockerjava.api.model.HealthCheck;
import com.github.dockerjava.api.model.HostConfig;
import com.github.dockerjava.api.model.PortBinding;
import com.github.dockerjava.api.model.Ports;
import com.github.dockerjava.api.model.PruneType;
import com.github.dockerjava.api.model.RestartPolicy;
import com.github.dockerjava.api.model.Ulimit;
import com.github.dockerjava.api.model.Volume;
import com.github.dockerjava.api.model.WaitContainerCondition;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Containers from their creation to their removal. */
class ContainersTest extends Suite {
    @Test
    void settingsComeBackFromInspect(@TempDir Path dir) {
        String name = name("settings");
        var host = HostConfig.newHostConfig()
                .withMemory(64L << 20)
                .withCpuShares(512)
                .withPidsLimit(50L)
                .withCapAdd(Capability.NET_ADMIN)
                .withCapDrop(Capability.MKNOD)
                .withRestartPolicy(RestartPolicy.onFailureRestart(3))
                .withUlimits(List.of(new Ulimit("nofile", 512L, 1024L)))
                .withExtraHosts("db:10.1.2.3")
                .withDns("10.9.8.7")
                .withTmpFs(Map.of("/scratch", "size=1m"))
                .withReadonlyRootfs(true)
                .withBinds(new Bind(dir.toString(), new Volume("/in"), AccessMode.ro));
        String id = create(shell("exit 0")
                .withName(name)
                .withHostName("box")
                .withUser("1000:1000")
                .withWorkingDir("/tmp")
                .withEnv("A=1", "B=two words")
                .withLabels(Map.of(LABEL, "settings"))
                .withStopSignal("SIGINT")
                .withHostConfig(host));

        var seen = inspect(id);
        assertEquals(id, seen.getId());
        assertEquals("/" + name, seen.getName());
        assertEquals("created", seen.getState().getStatus());
        assertEquals("sh", seen.getPath());
        assertEquals(List.of("-c", "exit 0"), List.of(seen.getArgs()));
        assertEquals("box", seen.getConfig().getHostName());
        assertEquals("1000:1000", seen.getConfig().getUser());
        assertEquals("/tmp", seen.getConfig().getWorkingDir());
        assertEquals("settings", seen.getConfig().getLabels().get(LABEL));
        assertEquals(IMAGE, seen.getConfig().getImage());
        assertTrue(List.of(seen.getConfig().getEnv()).containsAll(List.of("A=1", "B=two words")));
        assertEquals(64L << 20, seen.getHostConfig().getMemory());
        assertEquals(512, seen.getHostConfig().getCpuShares());
        assertEquals(50L, seen.getHostConfig().getPidsLimit());
        assertEquals("on-failure", seen.getHostConfig().getRestartPolicy().getName());
        assertEquals(3, seen.getHostConfig().getRestartPolicy().getMaximumRetryCount());
        assertEquals("db:10.1.2.3", seen.getHostConfig().getExtraHosts()[0]);
        assertEquals("10.9.8.7", seen.getHostConfig().getDns()[0]);
        assertEquals(Map.of("/scratch", "size=1m"), seen.getHostConfig().getTmpFs());
        assertTrue(seen.getHostConfig().getReadonlyRootfs());
        assertEquals(1, seen.getMounts().size());
        assertEquals(dir.toString(), seen.getMounts().get(0).getSource());
        assertFalse(seen.getMounts().get(0).getRW());
        assertEquals(id, inspect(name).getId());
        assertEquals(id, inspect(id.substring(0, 12)).getId());
    }

    @Test
    void settingsHoldInside(@TempDir Path dir) throws Exception {
        Files.writeString(dir.resolve("given"), "from outside\n");
        Files.setPosixFilePermissions(dir, PosixFilePermissions.fromString("rwxr-xr-x"));
        var host = HostConfig.newHostConfig()
                .withUlimits(List.of(new Ulimit("nofile", 512L, 1024L)))
                .withExtraHosts("db:10.1.2.3")
                .withDns("10.9.8.7")
                .withTmpFs(Map.of("/scratch", ""))
                .withReadonlyRootfs(true)
                .withBinds(new Bind(dir.toString(), new Volume("/in")));
        String out = output(shell("hostname; id -u; pwd; echo $B; ulimit -n; cat /in/given; grep -c 10.1.2.3.db /etc/hosts;"
                        + " grep -c 10.9.8.7 /etc/resolv.conf; echo x > /scratch/x && echo scratch;"
                        + " echo x 2>/dev/null > /no || echo read-only")
                .withHostName("box")
                .withUser("33:33")
                .withWorkingDir("/var")
                .withEnv("B=two words")
                .withHostConfig(host.withTmpFs(Map.of("/scratch", "mode=1777"))));
        assertEquals("box\n33\n/var\ntwo words\n512\nfrom outside\n1\n1\nscratch\nread-only\n", out);
    }

    @Test
    void startPauseStopStart() throws Exception {
        String id = start(shell("trap 'exit 7' TERM; while :; do sleep 0.1; done"));
        assertTrue(inspect(id).getState().getRunning());
        assertNotEquals(0, inspect(id).getState().getPidLong());

        docker.pauseContainerCmd(id).exec();
        assertTrue(inspect(id).getState().getPaused());
        assertEquals("paused", inspect(id).getState().getStatus());
        docker.unpauseContainerCmd(id).exec();
        assertFalse(inspect(id).getState().getPaused());

        docker.stopContainerCmd(id).withTimeout(10).exec();
        var state = inspect(id).getState();
        assertEquals("exited", state.getStatus());
        assertEquals(7L, state.getExitCodeLong());

        docker.startContainerCmd(id).exec();
        String first = inspect(id).getState().getStartedAt();
        assertNotEquals(state.getStartedAt(), first);
        docker.restartContainerCmd(id).withTimeout(10).exec();
        assertTrue(inspect(id).getState().getRunning());
        assertNotEquals(first, inspect(id).getState().getStartedAt());

        docker.killContainerCmd(id).withSignal("KILL").exec();
        assertEquals(137, wait(id));
    }

    @Test
    void waitingForEachCondition() throws Exception {
        String id = create(shell("exit 3"));
        var exit = docker.waitContainerCmd(id).withCondition(WaitContainerCondition.NEXT_EXIT).start();
        // The engine has to be waiting before the container ends.
        Thread.sleep(300);
        docker.startContainerCmd(id).exec();
        assertEquals(3, exit.awaitStatusCode(20, TimeUnit.SECONDS));
        assertEquals(3, wait(id));

        var removal = docker.waitContainerCmd(id).withCondition(WaitContainerCondition.REMOVED).start();
        Thread.sleep(300);
        docker.removeContainerCmd(id).exec();
        assertEquals(3, removal.awaitStatusCode(20, TimeUnit.SECONDS));
        assertThrows(NotFoundException.class, () -> inspect(id));
    }

    @Test
    void removedWhenItEnds() throws Exception {
        String id = start(shell("sleep 0.3").withHostConfig(HostConfig.newHostConfig().withAutoRemove(true)));
        eventually("the container is removed", () -> docker.listContainersCmd()
                .withShowAll(true)
                .withIdFilter(List.of(id))
                .exec()
                .isEmpty());
    }

    @Test
    void listFilters() {
        String value = name("list");
        Map<String, String> labels = Map.of(LABEL, value);
        String running = start(container("sleep", "60").withName(name("running")).withLabels(labels));
        String ended = run(shell("exit 4").withName(name("ended")).withLabels(labels), 4);
        String fresh = create(container("true").withName(name("fresh")).withLabels(labels));

        assertEquals(List.of(running), ids(docker.listContainersCmd().withLabelFilter(labels).exec()));
        assertEquals(
                List.of(fresh, ended, running),
                ids(docker.listContainersCmd().withShowAll(true).withLabelFilter(labels).exec()));
        assertEquals(
                List.of(ended),
                ids(docker.listContainersCmd().withShowAll(true).withLabelFilter(labels).withExitedFilter(4).exec()));
        assertEquals(List.of(), ids(docker.listContainersCmd().withLabelFilter(labels).withExitedFilter(4).exec()));
        assertEquals(
                List.of(fresh),
                ids(docker.listContainersCmd().withLabelFilter(labels).withStatusFilter(List.of("created")).exec()));
        assertEquals(
                List.of(fresh, ended),
                ids(docker.listContainersCmd().withShowAll(true).withLabelFilter(labels).withFilter("since", List.of(running)).exec()));
        assertEquals(
                List.of(running),
                ids(docker.listContainersCmd().withLabelFilter(labels).withAncestorFilter(List.of(IMAGE)).exec()));

        Container entry = docker.listContainersCmd().withIdFilter(List.of(running)).exec().get(0);
        assertEquals("running", entry.getState());
        assertTrue(entry.getStatus().startsWith("Up "), entry.getStatus());
        assertEquals("sleep 60", entry.getCommand());
        assertEquals(IMAGE, entry.getImage());
        assertEquals(value, entry.getLabels().get(LABEL));
        Container other = docker.listContainersCmd().withShowAll(true).withIdFilter(List.of(ended)).exec().get(0);
        assertTrue(other.getStatus().startsWith("Exited (4) "), other.getStatus());
    }

    private static List<String> ids(List<Container> containers) {
        return containers.stream().map(Container::getId).collect(Collectors.toList());
    }

    @Test
    void rename() {
        String id = create(container("true").withName(name("before")));
        String after = name("after");
        docker.renameContainerCmd(id).withName(after).exec();
        assertEquals(id, inspect(after).getId());
        assertEquals("/" + after, inspect(id).getName());
    }

    @Test
    void topShowsProcesses() throws Exception {
        String id = start(shell("sleep 71 & exec sleep 72"));
        eventually("the shell has become sleep", () -> docker.topContainerCmd(id).exec().getProcesses().length == 2
                && !Arrays.deepToString(docker.topContainerCmd(id).exec().getProcesses()).contains("sh -c"));
        var top = docker.topContainerCmd(id).exec();
        int command = List.of(top.getTitles()).indexOf("CMD");
        List<String> commands = Arrays.stream(top.getProcesses()).map(p -> p[command]).sorted().toList();
        assertEquals(List.of("sleep 71", "sleep 72"), commands);

        var chosen = docker.topContainerCmd(id).withPsArgs("-o pid,comm").exec();
        assertEquals(List.of("PID", "COMMAND"), List.of(chosen.getTitles()));
        assertEquals(2, chosen.getProcesses().length);
    }

    @Test
    void updateChangesLimits() {
        String id = start(container("sleep", "60"));
        docker.updateContainerCmd(id)
                .withMemory(96L << 20)
                .withMemorySwap(96L << 20)
                .withCpuShares(300)
                .withRestartPolicy(RestartPolicy.unlessStoppedRestart())
                .exec();
        var host = inspect(id).getHostConfig();
        assertEquals(96L << 20, host.getMemory());
        assertEquals(300, host.getCpuShares());
        assertEquals("unless-stopped", host.getRestartPolicy().getName());
    }

    @Test
    void diffListsChanges() {
        String id = run(shell("echo x > /new; rm /etc/group; echo y >> /etc/passwd"), 0);
        Map<String, Integer> changes = docker.containerDiffCmd(id).exec().stream()
                .collect(Collectors.toMap(ChangeLog::getPath, ChangeLog::getKind));
        assertEquals(Map.of("/new", 1, "/etc", 0, "/etc/group", 2, "/etc/passwd", 0), changes);
    }

    @Test
    void publishedPortAnswers() throws Exception {
        ExposedPort port = ExposedPort.tcp(8080);
        String id = start(shell("echo served > /tmp/index.html; exec httpd -f -p 8080 -h /tmp")
                .withExposedPorts(port)
                .withHostConfig(HostConfig.newHostConfig()
                        .withPortBindings(new PortBinding(Ports.Binding.bindIp("127.0.0.1"), port))));
        Ports.Binding[] bound = inspect(id).getNetworkSettings().getPorts().getBindings().get(port);
        assertEquals(1, bound.length);
        assertEquals("127.0.0.1", bound[0].getHostIp());
        int published = Integer.parseInt(bound[0].getHostPortSpec());
        assertEquals(published, docker.listContainersCmd().withIdFilter(List.of(id)).exec().get(0).getPorts()[0].getPublicPort());

        HttpRequest request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + published + "/index.html")).build();
        StringBuilder body = new StringBuilder();
        eventually("the published port answers", () -> {
            try {
                body.append(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
                return true;
            } catch (java.io.IOException | InterruptedException error) {
                return false;
            }
        });
        assertEquals("served\n", body.toString());
    }

    @Test
    void healthIsChecked() throws Exception {
        String id = start(shell("sleep 0.5; touch /tmp/ok; exec sleep 60")
                .withHealthcheck(new HealthCheck()
                        .withTest(List.of("CMD-SHELL", "test -e /tmp/ok && echo fine"))
                        .withInterval(500_000_000L)
                        .withTimeout(5_000_000_000L)
                        .withRetries(50)));
        assertEquals("starting", inspect(id).getState().getHealth().getStatus());
        eventually("healthy", () -> inspect(id).getState().getHealth().getStatus().equals("healthy"));
        var log = inspect(id).getState().getHealth().getLog();
        var last = log.get(log.size() - 1);
        assertEquals(0L, last.getExitCodeLong());
        assertEquals("fine\n", last.getOutput());
    }

    @Test
    void onFailureIsRestarted() throws Exception {
        String id = start(shell("exit 5")
                .withHostConfig(HostConfig.newHostConfig().withRestartPolicy(RestartPolicy.onFailureRestart(2))));
        eventually("two restarts", () -> inspect(id).getRestartCount() == 2
                && inspect(id).getState().getStatus().equals("exited"));
        assertEquals(5L, inspect(id).getState().getExitCodeLong());
    }

    @Test
    void pruneRemovesOnlyWhatHasTheLabel() {
        String value = name("prune");
        String marked = run(shell("echo some data > /file").withLabels(Map.of(LABEL, value)), 0);
        String other = run(container("true"), 0);
        var pruned = docker.pruneCmd(PruneType.CONTAINERS).withLabelFilter(LABEL + "=" + value).exec();
        assertTrue(pruned.getSpaceReclaimed() > 0);
        assertThrows(NotFoundException.class, () -> inspect(marked));
        assertEquals(other, inspect(other).getId());
    }

    @Test
    void resizeOfATerminal() throws Exception {
        String id = start(shell("read go; stty size").withTty(true).withStdinOpen(true));
        docker.resizeContainerCmd(id).withSize(33, 111).exec();
        var in = new java.io.PipedOutputStream();
        var output = docker.attachContainerCmd(id)
                .withStdIn(new java.io.PipedInputStream(in))
                .withStdOut(true)
                .withFollowStream(true)
                .exec(new Output());
        output.awaitStarted();
        in.write("\n".getBytes());
        in.flush();
        output.until(o -> o.all().contains("33 111"));
        in.close();
        output.close();
    }
}
