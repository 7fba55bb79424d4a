package ferry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.api.command.InspectVolumeResponse;
import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.api.model.AccessMode;
import com.github.dockerjava.api.model.Bind;
import com.github.dockerjava.api.model.HostConfig;
import com.github.dockerjava.api.model.Mount;
import com.github.dockerjava.api.model.MountType;
import com.github.dockerjava.api.model.PruneType;
import com.github.dockerjava.api.model.Volume;
import com.github.dockerjava.api.model.VolumesFrom;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** Volumes: made, listed, mounted, protected and removed. */
class VolumesTest extends Suite {
    private String volume(Map<String, String> labels) {
        String name = name("volume");
        docker.createVolumeCmd().withName(name).withLabels(labels).exec();
        later(() -> docker.removeVolumeCmd(name).exec());
        return name;
    }

    private static HostConfig binds(Bind... binds) {
        return HostConfig.newHostConfig().withBinds(binds);
    }

    @Test
    void settingsComeBackFromInspect() {
        String name = name("volume");
        var made = docker.createVolumeCmd().withName(name).withDriver("local").withLabels(Map.of(LABEL, "x")).exec();
        later(() -> docker.removeVolumeCmd(name).exec());
        assertEquals(name, made.getName());
        var seen = docker.inspectVolumeCmd(name).exec();
        assertEquals("local", seen.getDriver());
        assertEquals(Map.of(LABEL, "x"), seen.getLabels());
        assertTrue(seen.getMountpoint().endsWith("/" + name + "/_data"), seen.getMountpoint());
        // Made again, it stays the same volume.
        assertEquals(seen.getMountpoint(), docker.createVolumeCmd().withName(name).exec().getMountpoint());
    }

    @Test
    void dataOutlivesContainers() {
        String name = volume(Map.of());
        var host = binds(new Bind(name, new Volume("/data")));
        String writer = run(shell("echo kept > /data/file").withHostConfig(host), 0);
        var mount = inspect(writer).getMounts().get(0);
        assertEquals(name, mount.getName());
        assertEquals("/data", mount.getDestination().getPath());
        docker.removeContainerCmd(writer).withRemoveVolumes(true).exec();
        assertEquals("kept\n", output(shell("cat /data/file").withHostConfig(host)));
    }

    @Test
    void readOnly() {
        String name = volume(Map.of());
        var host = binds(new Bind(name, new Volume("/data"), AccessMode.ro));
        assertEquals("refused\n", output(shell("echo x 2>/dev/null > /data/x || echo refused").withHostConfig(host)));
    }

    @Test
    void contentOfTheImageIsCopied() {
        String name = volume(Map.of());
        var host = binds(new Bind(name, new Volume("/etc")));
        assertTrue(output(shell("cat /etc/passwd").withHostConfig(host)).startsWith("root:"));
    }

    @Test
    void asMounts() {
        String name = volume(Map.of());
        var host = HostConfig.newHostConfig()
                .withMounts(List.of(
                        new Mount().withType(MountType.VOLUME).withSource(name).withTarget("/v"),
                        new Mount().withType(MountType.TMPFS).withTarget("/t")));
        assertEquals("ext\ntmpfs\n", output(shell("echo x > /v/x && echo ext; stat -f -c %T /t").withHostConfig(host)));
    }

    @Test
    void volumesOfAnotherContainer() {
        String name = volume(Map.of());
        String first = run(shell("echo shared > /data/file").withHostConfig(binds(new Bind(name, new Volume("/data")))), 0);
        var host = HostConfig.newHostConfig().withVolumesFrom(new VolumesFrom(first));
        assertEquals("shared\n", output(shell("cat /data/file").withHostConfig(host)));
    }

    @Test
    void optionsOfTheDriver() {
        String name = name("tmpfs");
        docker.createVolumeCmd()
                .withName(name)
                .withDriverOpts(Map.of("type", "tmpfs", "device", "tmpfs", "o", "size=1m"))
                .exec();
        later(() -> docker.removeVolumeCmd(name).exec());
        assertEquals("tmpfs", docker.inspectVolumeCmd(name).exec().getOptions().get("type"));
        assertEquals("tmpfs\n", output(shell("stat -f -c %T /data").withHostConfig(binds(new Bind(name, new Volume("/data"))))));
    }

    @Test
    void listFilters() {
        String value = name("list");
        String first = volume(Map.of(LABEL, value));
        String second = volume(Map.of(LABEL, value));
        String used = volume(Map.of(LABEL, value));
        create(container("true").withHostConfig(binds(new Bind(used, new Volume("/data")))));
        List<String> label = List.of(LABEL + "=" + value);
        assertEquals(
                List.of(first, second, used).stream().sorted().toList(),
                names(docker.listVolumesCmd().withFilter("label", label).exec().getVolumes()));
        assertEquals(
                List.of(first, second).stream().sorted().toList(),
                names(docker.listVolumesCmd().withFilter("label", label).withDanglingFilter(true).exec().getVolumes()));
        assertEquals(
                List.of(first),
                names(docker.listVolumesCmd().withFilter("name", List.of(first)).withFilter("label", label).exec().getVolumes()));
    }

    private static List<String> names(List<InspectVolumeResponse> volumes) {
        return volumes.stream().map(InspectVolumeResponse::getName).sorted().collect(Collectors.toList());
    }

    @Test
    void volumeInUseStays() {
        String name = volume(Map.of());
        String id = create(container("true").withHostConfig(binds(new Bind(name, new Volume("/data")))));
        refused(409, "volume is in use - [" + id + "]", () -> docker.removeVolumeCmd(name).exec());
        docker.removeContainerCmd(id).exec();
        docker.removeVolumeCmd(name).exec();
        assertThrows(NotFoundException.class, () -> docker.inspectVolumeCmd(name).exec());
    }

    @Test
    void anonymousVolumeGoesWithItsContainer() {
        String id = create(container("true").withVolumes(new Volume("/anonymous")));
        String volume = inspect(id).getMounts().get(0).getName();
        assertEquals(64, volume.length());
        assertFalse(docker.inspectVolumeCmd(volume).exec().getMountpoint().isEmpty());
        docker.removeContainerCmd(id).withRemoveVolumes(true).exec();
        assertThrows(NotFoundException.class, () -> docker.inspectVolumeCmd(volume).exec());
    }

    @Test
    void pruneRemovesAnonymousVolumes() {
        String value = name("prune");
        String named = volume(Map.of(LABEL, value));
        String anonymous = docker.createVolumeCmd().withLabels(Map.of(LABEL, value)).exec().getName();
        docker.pruneCmd(PruneType.VOLUMES).withLabelFilter(LABEL + "=" + value).exec();
        assertThrows(NotFoundException.class, () -> docker.inspectVolumeCmd(anonymous).exec());
        assertEquals(named, docker.inspectVolumeCmd(named).exec().getName());
    }
}
